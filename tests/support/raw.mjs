// A WebSocket client that does what no client should: bytes on a socket, frames as they are asked
// for, and everything that came back.
import { createHash, randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { within } from './gateway.mjs';

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

// The bytes of a frame. `length` announces another length than the payload's, `lengthBytes` (0, 2
// or 8) writes it in another form than the shortest.
export function frame(opcode, payload = '', options = {}) {
  const { fin = true, rsv = 0, masked = true, length, lengthBytes } = options;
  const body = Buffer.from(payload);
  const size = BigInt(length ?? body.length);
  const form = lengthBytes ?? (size < 126n ? 0 : size < 65536n ? 2 : 8);
  const head = Buffer.alloc(2 + form);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | (opcodes[opcode] ?? opcode);
  head[1] = (masked ? 0x80 : 0) | (form === 0 ? Number(size) : form === 2 ? 126 : 127);
  if (form === 2) head.writeUInt16BE(Number(size), 2);
  if (form === 8) head.writeBigUInt64BE(size, 2);
  if (!masked) return Buffer.concat([head, body]);
  const mask = randomBytes(4);
  for (let i = 0; i < body.length; ++i) body[i] ^= mask[i % 4];
  return Buffer.concat([head, mask, body]);
}

export function closeFrame(code, reason = '', options) {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return frame('close', Buffer.concat([payload, Buffer.from(reason)]), options);
}

// An opening handshake as text. In `fields`, null leaves a field out and a list repeats it.
export function upgrade(target = '/echo', fields = {}, { method = 'GET', version = '1.1' } = {}) {
  const all = {
    Host: 'localhost',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    ...fields,
  };
  let text = `${method} ${target} HTTP/${version}\r\n`;
  for (const [name, value] of Object.entries(all)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null) text += `${name}: ${one}\r\n`;
    }
  }
  return Buffer.from(`${text}\r\n`, 'latin1');
}

export function acceptKey(key) {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

export class RawSocket {
  #received = Buffer.alloc(0);
  #wake = () => {};
  #open = true;
  ending = null; // how the peer's bytes ended: "end" or an error code

  // at: {port, host} or {path}; with `secure`, options of tls.connect.
  static async connect(at, secure) {
    const raw = new RawSocket();
    raw.openedAt = Date.now();
    const where = at.path ? { path: at.path } : { port: at.port, host: at.host };
    raw.socket = secure ? tls.connect({ ...where, ...secure }) : net.connect(where);
    const connected = new Promise((resolve, reject) => {
      raw.socket.once(secure ? 'secureConnect' : 'connect', resolve);
      raw.socket.once('error', reject);
    });
    raw.#watch();
    await within(connected, 'a connection');
    raw.address = `${raw.socket.localAddress}:${raw.socket.localPort}`;
    return raw;
  }

  // Connected, and the opening handshake done.
  static async open(at, target = '/echo', fields = {}, secure) {
    const raw = await RawSocket.connect(at, secure);
    raw.write(upgrade(target, fields));
    const { status, body } = await raw.readResponse();
    if (status !== 101) throw new Error(`the handshake was answered with ${status}: ${body}`);
    return raw;
  }

  #watch() {
    this.socket.setNoDelay?.(true);
    this.socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#wake();
    });
    this.socket.on('end', () => { this.ending ??= 'end'; });
    this.socket.on('error', (error) => { this.ending ??= error.code; });
    this.socket.on('close', () => {
      this.ending ??= 'close';
      this.#open = false;
      this.#wake();
    });
    this.socket.on('end', () => this.#wake());
  }

  write(bytes) {
    if (this.socket.writable) this.socket.write(bytes);
  }

  // In pieces, each a segment of its own as far as the kernel has it so.
  async writeInPieces(bytes, size = 1) {
    for (let i = 0; i < bytes.length && this.socket.writable && this.ending === null; i += size) {
      this.socket.write(bytes.subarray(i, i + size));
      await new Promise(setImmediate);
    }
  }

  // Waits until take(received) returns something: {value, size}; drops the first `size` bytes.
  #take(take, what) {
    const taken = new Promise((resolve, reject) => {
      const look = () => {
        const found = take(this.#received);
        if (found) {
          this.#wake = () => {};
          this.#received = this.#received.subarray(found.size);
          resolve(found.value);
        } else if (this.ending !== null) {
          reject(new Error(`the stream ended (${this.ending}) before ${what}; ` +
            `there is ${JSON.stringify(this.#received.toString('latin1').slice(0, 200))}`));
        }
      };
      this.#wake = look;
      look();
    });
    return within(taken, what);
  }

  read(size) {
    return this.#take((bytes) => bytes.length >= size && { value: bytes.subarray(0, size), size },
      `${size} bytes`);
  }

  // {status, reason, headers (names in lower case), body}
  async readResponse({ head = false } = {}) {
    const text = await this.#take((bytes) => {
      const end = bytes.indexOf('\r\n\r\n');
      return end >= 0 && { value: bytes.toString('latin1', 0, end), size: end + 4 };
    }, 'a response');
    const [first, ...rest] = text.split('\r\n');
    const [, status, reason] = /^HTTP\/1\.1 (\d+) ?(.*)$/.exec(first);
    const headers = {};
    for (const line of rest) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const length = head || status === '101' || status === '304' ? 0 : headers['content-length'];
    const body = (await this.read(Number(length ?? 0))).toString();
    return { status: Number(status), reason, headers, body };
  }

  // {opcode, fin, payload, code, reason}; code and reason of a Close frame.
  readFrame() {
    return this.#take((bytes) => {
      if (bytes.length < 2) return null;
      const form = bytes[1] === 126 ? 2 : bytes[1] === 127 ? 8 : 0;
      const start = 2 + form;
      if (bytes.length < start) return null;
      const size = form === 0 ? bytes[1] : form === 2 ? bytes.readUInt16BE(2)
        : Number(bytes.readBigUInt64BE(2));
      if (bytes.length < start + size) return null;
      const payload = bytes.subarray(start, start + size);
      const opcode = Object.keys(opcodes).find((name) => opcodes[name] === (bytes[0] & 15));
      const value = { opcode, fin: bytes[0] >= 0x80, payload };
      if (opcode === 'close' && size >= 2) {
        value.code = payload.readUInt16BE();
        value.reason = payload.toString('utf8', 2);
      }
      return { value, size: start + size };
    }, 'a frame');
  }

  // The next Close frame; what comes before it is passed over.
  async readClose() {
    for (;;) {
      const received = await this.readFrame();
      if (received.opcode === 'close') return received;
    }
  }

  // Everything up to the end of the stream; "end" if that was orderly, else an error code.
  async readEnd() {
    await this.#take(() => this.ending !== null && { value: true, size: 0 }, 'the end of the stream');
    return { ending: this.ending, bytes: this.#received };
  }

  // Our end of the stream; the peer's may go on.
  end() { this.socket.end(); }
  reset() { this.socket.resetAndDestroy(); }
  destroy() { this.socket.destroy(); }
  get closed() { return !this.#open; }
}
