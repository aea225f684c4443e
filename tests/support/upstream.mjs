// The upstream that the tests play: requests as they come, and answers as no upstream should give.
import { after } from 'node:test';
import { Client } from './client.mjs';
import { until } from './gateway.mjs';
import { RawSocket, acceptKey, closeFrame, frame, upgrade } from './raw.mjs';
import { Server } from './services.mjs';

function parseHead(bytes) {
  const text = bytes.toString('latin1');
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [line, ...fields] = text.slice(0, end).split('\r\n');
  const headers = {};
  for (const field of fields) {
    const colon = field.indexOf(':');
    headers[field.slice(0, colon).toLowerCase()] = field.slice(colon + 1).trim();
  }
  return { line, headers, size: end + 4 };
}

export class Upstream {
  asked = 0; // connections so far

  static async start(options) {
    const upstream = new Upstream();
    upstream.server = await Server.listen(null, options);
    upstream.server.server.on('connection', () => { ++upstream.asked; });
    upstream.address = upstream.server.address;
    after(() => upstream.server.close());
    return upstream;
  }

  nextPeer() { return this.server.next(); }

  // The next connection, when its request is there: {peer, line, headers, size}.
  async next() {
    const peer = await this.nextPeer();
    return { peer, ...await until(() => parseHead(peer.received), 'a request at the upstream') };
  }

  // A client's upgrade and the upstream's end of it, which has not answered.
  async attempt(gateway, { target = '/app/x', fields = {}, more = '' } = {}) {
    const client = await RawSocket.connect(gateway.listeners[0]);
    client.write(Buffer.concat([upgrade(target, fields), Buffer.from(more)]));
    return { client, ...await this.next() };
  }

  // An open WebSocket.
  async open(gateway, options) {
    const { client, peer, headers, size } = await this.attempt(gateway, options);
    peer.write(switching(headers));
    const { status } = await client.readResponse();
    if (status !== 101) throw new Error(`answered with ${status}`);
    return { client, peer, size };
  }

  // For hostileTable: somebody who does nothing wrong, at an upstream that does neither.
  async serveHonestly(gateway) {
    const opened = Client.open(gateway.url('/app/honest'));
    const { peer, headers } = await this.next();
    peer.write(switching(headers));
    const client = await opened;
    peer.write(frame('text', 'honest', { masked: false }));
    if (await client.text() !== 'honest') throw new Error('another message than the honest one');
    const closed = client.close(1000);
    peer.write(closeFrame(1000, '', { masked: false }));
    await closed;
    peer.socket.end(); // RFC 6455 7.1.1: the server is the one to end the stream
    await peer.end();
    peer.socket.destroy();
  }
}

// A 101; in `fields`, null leaves one out and a list repeats it.
export function switching(headers, fields = {}, line = 'HTTP/1.1 101 Switching Protocols') {
  const all = {
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Accept': acceptKey(headers['sec-websocket-key'] ?? ''),
    ...fields,
  };
  let text = `${line}\r\n`;
  for (const [name, value] of Object.entries(all)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null) text += `${name}: ${one}\r\n`;
    }
  }
  return `${text}\r\n`;
}
