// A backend of a webhook route that a test writes down request by request, and the gateway for it.
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { within } from './gateway.mjs';

export const eventsType = 'application/websocket-events';

// "TEXT 2\r\nhi\r\n"
export function event(type, content = '') {
  const bytes = Buffer.from(content);
  if (bytes.length === 0) return Buffer.from(`${type}\r\n`);
  return Buffer.concat([
    Buffer.from(`${type} ${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}

export function closeContent(code, reason = '') {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(code);
  return Buffer.concat([bytes, Buffer.from(reason)]);
}

// Requests come one by one out of next(): {method, url, headers, body, answer(...)}; or `serve` is
// called with each.
export class Backend {
  requests = 0;
  open = 0; // of the connections
  #waiting = [];
  #takers = [];

  static async start(serve, port = 0) {
    const backend = new Backend();
    backend.serve = serve;
    backend.server = http.createServer((request, response) => backend.#take(request, response));
    backend.server.on('connection', (socket) => {
      ++backend.open;
      socket.on('close', () => { --backend.open; });
    });
    backend.server.listen(port, '127.0.0.1');
    await once(backend.server, 'listening');
    return backend;
  }

  get port() { return this.server.address().port; }
  get address() { return `127.0.0.1:${this.port}`; }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  async #take(request, response) {
    const pieces = [];
    try {
      for await (const piece of request) pieces.push(piece);
    } catch {
      return; // the gateway gave it up
    }
    ++this.requests;
    const { method, url, headers } = request;
    const taken = {
      method, url, headers, response, body: Buffer.concat(pieces),
      answer: (body = '', fields = {}, status = 200) => {
        response.writeHead(status, { 'Content-Type': eventsType, ...fields });
        response.end(body);
      },
    };
    if (this.serve) return this.serve(taken);
    const taker = this.#takers.shift();
    if (taker) taker(taken); else this.#waiting.push(taken);
  }

  next(what = 'a request to the backend') {
    const ready = this.#waiting.shift();
    if (ready) return Promise.resolve(ready);
    return within(new Promise((resolve) => this.#takers.push(resolve)), what);
  }
  // The next request has this body, byte for byte.
  async expect(body) {
    const request = await this.next();
    assert.equal(request.body.toString('latin1'), Buffer.from(body).toString('latin1'));
    return request;
  }
  get idle() { return this.#waiting.length === 0; }
}

// The gateway's configuration: one route, /ws, with this target; `route` and `rest` add to it.
export function webhookConfig(webhook, { route = {}, ...rest } = {}) {
  return {
    workers: 1,
    listeners: [{ address: '127.0.0.1:0' }],
    metrics: { address: '127.0.0.1:0' },
    admin: { address: '127.0.0.1:0' },
    routes: [{ path: '/ws', allowed_origins: ['*'], webhook, ...route }],
    ...rest,
  };
}

// Where the admin listener is: {host, port}.
export async function adminOf(gateway) {
  const { address } = await gateway.waitLog({ event: 'admin' });
  const { hostname, port } = new URL(`http://${address}`);
  return { host: hostname, port: Number(port) };
}
