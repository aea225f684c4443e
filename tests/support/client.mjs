// npm's ws, for tests that read as prose: one promise an event.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { within } from './gateway.mjs';

export { WebSocket };

export class Client {
  messages = []; // {data: Buffer, binary}, not yet taken
  #takers = [];
  #error = null;

  // options are those of ws, and `protocols`.
  static async open(url, { protocols = [], ...options } = {}) {
    const client = new Client(url, protocols, options);
    await within(client.opened, `a WebSocket at ${url}`);
    return client;
  }

  // Refused: the status and the body of the answer.
  static async refused(url, { protocols = [], ...options } = {}) {
    const socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
    const answer = new Promise((resolve, reject) => {
      socket.on('open', () => { socket.terminate(); reject(new Error('it opened')); });
      socket.on('error', reject);
      socket.on('unexpected-response', (_, response) => {
        const connection = response.socket;
        let body = '';
        response.on('data', (text) => { body += text; });
        response.on('end', () => {
          connection.destroy(); // the gateway would keep it for the next request
          resolve({ status: response.statusCode, headers: response.headers, body });
        });
      });
    });
    return within(answer, `a refusal at ${url}`);
  }

  constructor(url, protocols, options) {
    this.socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.once('error', reject);
    });
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) => {
      this.socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.socket.on('error', (error) => { this.#error = error; });
    this.socket.on('message', (data, binary) => {
      this.messages.push({ data, binary });
      this.#hand();
    });
    this.closed.then(() => this.#hand());
  }

  #hand() {
    while (this.#takers.length > 0 && this.messages.length > 0) {
      this.#takers.shift().resolve(this.messages.shift());
    }
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    for (const taker of this.#takers.splice(0)) {
      taker.reject(this.#error ?? new Error('the WebSocket is closed'));
    }
  }

  send(data, options) { this.socket.send(data, options); }

  next(what = 'a message') {
    const message = new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
    this.#hand();
    return within(message, what);
  }

  // The next message, which is text.
  async text() {
    const { data, binary } = await this.next();
    assert.equal(binary, false);
    return data.toString();
  }

  async echoes(data) {
    const wanted = Buffer.from(data);
    this.send(data);
    const message = await this.next(`the echo of ${wanted.length} bytes`);
    assert.equal(message.binary, typeof data !== 'string');
    assert.ok(message.data.equals(wanted), `an echo of ${wanted.length} bytes differs`);
  }

  // Closes, and returns what the peer answered.
  close(code, reason) {
    this.socket.close(code, reason);
    return this.end();
  }
  end() { return within(this.closed, 'the close event'); }
}

// What every test may end with: somebody who does nothing wrong is served.
export async function serveHonestClient(gateway, options) {
  const client = await Client.open(gateway.url('/echo', options), options);
  await client.echoes('honest');
  assert.deepEqual(await client.close(1000, 'bye'), { code: 1000, reason: 'bye' });
}
