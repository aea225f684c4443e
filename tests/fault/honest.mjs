// Clients that do nothing wrong, and hold the gateway to it: every echo must be the next one that is
// due, byte for byte. A connection that ends takes with it what is under way, and nothing else.
//
// They pause like people do: the times in here are their pace, nothing is waited for in them.
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { request } from '../support/gateway.mjs';
import { Random, message, size } from './payload.mjs';

// What all of them found. A violation is something that must not be.
export class Findings {
  violations = [];
  sent = new Map(); // by route: messages
  received = new Map();
  opened = 0;
  refused = new Map(); // by status, or error code
  ended = []; // {client, openedAt, code, route, name}: connections that this side did not close

  count(map, key, by = 1) { map.set(key, (map.get(key) ?? 0) + by); }
  violation(text) { if (this.violations.length < 20) this.violations.push(text); }
}

export class HonestClient {
  echoes = 0;
  #random;
  #expected = []; // sent and not yet echoed
  #number = 0;
  #stopping = false;
  #wake = () => {};

  // at: {url, route, options (of ws)}; bytes: message boundaries carry no meaning; steady: must never
  // be refused or lose its connection; slow: does not read for a while now and then.
  constructor(name, at, findings, seed, { bytes = false, steady = false, slow = false } = {}) {
    Object.assign(this, { name, at, findings, bytes, steady, slow });
    this.#random = new Random(seed);
  }

  async run() {
    while (!this.#stopping) {
      const socket = await this.#open();
      if (socket === null) {
        if (this.steady) return this.findings.violation(`${this.name} was refused`);
        await sleep(this.#random.between(50, 300));
        continue;
      }
      await this.#talk(socket);
    }
  }

  // Says goodbye when what is under way has come back.
  stop() {
    this.#stopping = true;
    this.#wake();
  }

  async #open() {
    const socket = new WebSocket(this.at.url, { perMessageDeflate: false, ...this.at.options });
    socket.on('message', (data, binary) => this.#receive(data, binary));
    this.ended = new Promise((resolve) => socket.once('close', (code) => resolve(code)));
    this.openedAt = Date.now();
    const outcome = await new Promise((resolve) => {
      socket.once('open', () => resolve('open'));
      socket.on('error', (error) => resolve(error.code ?? error.message));
      socket.once('unexpected-response', (sent, response) => {
        resolve(response.statusCode);
        sent.destroy();
      });
    });
    if (outcome !== 'open') {
      this.findings.count(this.findings.refused, outcome);
      return null;
    }
    ++this.findings.opened;
    this.client = `${socket._socket.localAddress}:${socket._socket.localPort}`;
    return socket;
  }

  async #talk(socket) {
    this.#expected = [];
    const over = this.ended.then((code) => ({ code }));
    for (;;) {
      this.#burst(socket);
      if (this.slow && this.#random.next() < 0.1) await this.#rest(socket, over);
      const end = await Promise.race([over, this.#echoed().then(() => null)]);
      if (end) return this.#lost(end.code);
      if (this.#stopping) break;
      await sleep(this.#random.between(1, 30));
    }
    socket.close(1000);
    const { code } = await over;
    if (code !== 1000) this.findings.violation(`${this.name} closed with 1000 and got ${code}`);
  }

  #burst(socket) {
    const count = this.slow ? this.#random.between(8, 40) : this.#random.between(1, 12);
    for (let i = 0; i < count && socket.readyState === WebSocket.OPEN; ++i) {
      const text = !this.bytes && this.#random.next() < 0.5;
      const length = size(this.#random) * (this.slow ? 4 : 1);
      const data = message(this.name, this.#number++, length, text);
      this.#expected.push({ bytes: Buffer.from(data), binary: !text });
      socket.send(data);
      this.findings.count(this.findings.sent, this.at.route);
    }
  }

  async #rest(socket, over) {
    socket.pause();
    await Promise.race([over, sleep(this.#random.between(500, 2000))]);
    socket.resume();
  }

  #echoed() {
    if (this.#expected.length === 0) return Promise.resolve();
    return new Promise((resolve) => { this.#wake = resolve; });
  }

  #receive(data, binary) {
    ++this.echoes;
    this.findings.count(this.findings.received, this.at.route);
    if (this.bytes) this.#receiveBytes(data);
    else this.#receiveMessage(data, binary);
    if (this.#expected.length === 0) this.#wake();
  }

  #receiveMessage(data, binary) {
    const due = this.#expected.shift();
    if (due && due.binary === binary && due.bytes.equals(data)) return;
    this.findings.violation(`${this.name} (${this.at.route}): got ${data.length} bytes ` +
      `"${data.subarray(0, 40)}", due was "${due?.bytes.subarray(0, 40)}" (${due?.bytes.length})`);
  }

  #receiveBytes(data) {
    let rest = data;
    while (rest.length > 0) {
      const due = this.#expected[0];
      const taken = Math.min(rest.length, due?.bytes.length ?? 0);
      if (!due || !due.bytes.subarray(0, taken).equals(rest.subarray(0, taken))) {
        return this.findings.violation(`${this.name} (${this.at.route}): other bytes than were due`);
      }
      rest = rest.subarray(taken);
      due.bytes = due.bytes.subarray(taken);
      if (due.bytes.length === 0) this.#expected.shift();
    }
  }

  #lost(code) {
    const { name, client, openedAt, at: { route } } = this;
    this.findings.ended.push({ name, client, openedAt, code, route });
    if (this.steady) this.findings.violation(`${name} (${route}) lost its connection: ${code}`);
  }
}

// Posts bodies to an http route. The answer is the body, an honest 502, 503 or 504, or an error where
// the upstream or the connection broke.
export class HonestPoster {
  echoes = 0;
  #random;
  #stopping = false;

  constructor(name, gateway, findings, seed) {
    Object.assign(this, { name, gateway, findings });
    this.#random = new Random(seed);
  }
  stop() { this.#stopping = true; }

  async run() {
    for (let number = 0; !this.#stopping; ++number) {
      await this.#post(message(this.name, number, size(this.#random), false));
      await sleep(this.#random.between(5, 50));
    }
  }

  async #post(body) {
    const options = { ...this.gateway.listeners[0], path: '/pages/echo', method: 'POST' };
    try {
      const answer = await request(options, body);
      if (answer.status !== 200) {
        this.findings.count(this.findings.refused, answer.status);
      } else if (answer.body.equals(body)) {
        ++this.echoes;
      } else {
        this.findings.violation(`${this.name}: an answer of ${answer.body.length} bytes differs`);
      }
    } catch (error) {
      this.findings.count(this.findings.refused, error.code ?? error.message);
    }
  }
}
