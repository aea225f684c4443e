// TLS 1.3 as a hostile client speaks it: the handshake is Node's, the records behind it are ours, so
// that they can be as many, as small and of whatever kind a test wants (RFC 8446 5.2, 7.3).
import { createCipheriv, createHmac } from 'node:crypto';
import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { within } from '../support/gateway.mjs';

export const contentTypes = { alert: 21, handshake: 22, data: 23 };

function expandLabel(secret, label, length) {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

export class ForgedTls {
  received = Buffer.alloc(0); // what Node has decrypted
  ending = null; // how the server's bytes ended: "end" or an error code
  alert = null; // the server's, as Node names it
  #sequence = 0n;

  static async connect(at, options) {
    const forged = new ForgedTls();
    forged.raw = net.connect({ host: at.host, port: at.port, noDelay: true });
    // Node has no say about what goes over the wire once it is ours.
    const wire = new Duplex({
      read() {},
      write: (bytes, _, done) => (forged.raw.writable ? forged.raw.write(bytes, done) : done()),
    });
    forged.raw.on('data', (bytes) => wire.push(bytes));
    forged.raw.on('end', () => { forged.ending ??= 'end'; wire.push(null); });
    forged.raw.on('error', (error) => { forged.ending ??= error.code; });
    forged.closed = new Promise((resolve) => forged.raw.on('close', resolve));
    forged.secure = tls.connect({
      socket: wire, rejectUnauthorized: false, minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256',
      ...options,
    });
    forged.secure.on('keylog', (line) => {
      const [label, , secret] = line.toString().trim().split(' ');
      if (label === 'CLIENT_TRAFFIC_SECRET_0') forged.#use(Buffer.from(secret, 'hex'));
    });
    forged.secure.on('data', (bytes) => { forged.received = Buffer.concat([forged.received, bytes]); });
    await within(new Promise((resolve, reject) => {
      forged.secure.once('secureConnect', resolve);
      forged.secure.once('error', reject);
    }), 'a TLS connection');
    forged.secure.on('error', (error) => { forged.alert ??= error.code; });
    return forged;
  }

  #use(secret) {
    this.secret = secret;
    this.key = expandLabel(secret, 'key', 16);
    this.iv = expandLabel(secret, 'iv', 12);
    this.#sequence = 0n;
  }

  // One record; without content it is an empty one.
  record(content, type = contentTypes.data) {
    const inner = Buffer.concat([Buffer.from(content), Buffer.from([type])]);
    const head = Buffer.from([23, 3, 3, 0, 0]);
    head.writeUInt16BE(inner.length + 16, 3);
    const nonce = Buffer.from(this.iv);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ this.#sequence++, 4);
    const cipher = createCipheriv('aes-128-gcm', this.key, nonce).setAAD(head);
    return Buffer.concat([head, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
  }

  // New keys of ours; with `asked` the server has to take new ones as well (RFC 8446 4.6.3).
  keyUpdate(asked) {
    const bytes = this.record(Buffer.from([24, 0, 0, 1, asked ? 1 : 0]), contentTypes.handshake);
    this.#use(expandLabel(this.secret, 'traffic upd', 32));
    return bytes;
  }

  write(bytes) {
    if (this.raw.writable) this.raw.write(bytes);
  }
  end() { return within(this.closed, 'the end of the stream'); }
  destroy() { this.raw.destroy(); this.secure.destroy(); }
}
