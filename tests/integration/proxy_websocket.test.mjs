// WebSockets through http routes: npm's ws at both ends, and what must look as if nobody stood
// between them.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { describe, test } from 'node:test';
import { WebSocketServer } from 'ws';
import { Client } from '../support/client.mjs';
import { closeFrame, frame, RawSocket } from '../support/raw.mjs';
import { Program, freePort } from '../support/services.mjs';
import { echoConfig, makeCertificate, memoryIsOurs, patienceMs, slowness, temporaryFolder, until,
  withGateway, within } from '../support/gateway.mjs';

const kilobyte = 1024;
const megabyte = 1024 * kilobyte;
const longMs = 6 * patienceMs; // for 64 MB
const up = 'client_to_upstream';
const down = 'upstream_to_client';
const highWatermark = 256 * kilobyte; // the default
const read = 65 * kilobyte; // what one read may bring on top

const large = randomBytes(64 * megabyte);
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
const largeDigest = digest(large);

const proxyConfig = (upstream, { http: target = {}, route = {}, ...overrides } = {}) => echoConfig({
  routes: [{ path: '/app/*', http: { upstream, ...target }, allowed_origins: ['*'], ...route }],
  ...overrides,
});

// An upstream that the test plays, with npm's ws.
class Upstream {
  #sockets = [];
  #takers = [];
  requests = [];

  static async listen(t, options = {}) {
    const upstream = new Upstream();
    upstream.server = new WebSocketServer(
      { port: 0, host: '127.0.0.1', perMessageDeflate: false, maxPayload: 0, ...options });
    upstream.server.on('connection', (socket, request) => {
      upstream.requests.push(request);
      upstream.#sockets.push(new Peer(socket, request));
      upstream.#hand();
    });
    if (!options.server) {
      await new Promise((resolve) => { upstream.server.once('listening', resolve); });
    }
    upstream.address = `127.0.0.1:${upstream.server.address().port}`;
    t.after(() => {
      for (const socket of upstream.server.clients) socket.terminate();
      upstream.server.close();
    });
    return upstream;
  }
  #hand() {
    while (this.#takers.length > 0 && this.#sockets.length > 0) {
      this.#takers.shift()(this.#sockets.shift());
    }
  }
  next() {
    const peer = new Promise((resolve) => this.#takers.push(resolve));
    this.#hand();
    return within(peer, 'a WebSocket at the upstream');
  }
}

// The upstream's end of one WebSocket.
class Peer {
  messages = [];
  pings = 0;
  pongs = 0;
  #wake = () => {};

  constructor(socket, request) {
    this.socket = socket;
    this.request = request;
    socket.on('error', (error) => { this.error = error; });
    socket.on('message', (data, binary) => {
      this.messages.push({ data, binary });
      this.#wake();
    });
    socket.on('ping', () => { ++this.pings; });
    socket.on('pong', () => { ++this.pongs; });
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }
  next(what = 'a message at the upstream', ms = patienceMs) {
    return within(new Promise((resolve) => {
      this.#wake = () => {
        if (this.messages.length === 0) return;
        this.#wake = () => {};
        resolve(this.messages.shift());
      };
      this.#wake();
    }), what, ms);
  }
  end() { return within(this.closed, 'the close event at the upstream'); }
}

const open = async (gateway, upstream, options) => {
  const [client, peer] = await Promise.all([
    Client.open(gateway.url('/app/socket'), { maxPayload: 0, ...options }), upstream.next()]);
  return { client, peer };
};

async function withUpstream(t, body, config = {}, options = {}) {
  const upstream = await Upstream.listen(t, options);
  await withGateway(proxyConfig(upstream.address, config), (gateway) => body(gateway, upstream));
}

// The growth of the gateway's memory while `body` runs, at its highest.
async function growth(gateway, body) {
  const before = gateway.rssBytes();
  let highest = before;
  const look = setInterval(() => { highest = Math.max(highest, gateway.rssBytes()); }, 5);
  try {
    await body();
  } finally {
    clearInterval(look);
  }
  return Math.max(highest, gateway.rssBytes()) - before;
}

function staysSmall(grown) {
  assert.ok(grown < 4 * megabyte || !memoryIsOurs, `the gateway grew by ${grown} bytes`);
}

// The gateway has stopped one direction, holds a watermark of it and nothing of the other.
async function waitsOnlyThere(gateway, direction) {
  const other = direction === up ? down : up;
  const metrics = await gateway.waitMetrics((now) =>
    now.get('sluice_backpressure_paused_connections', { direction }) === 1, 'one direction waits');
  const waiting = metrics.get('sluice_buffered_amount_bytes', { direction });
  assert.ok(waiting > highWatermark / 4, `${waiting} bytes wait`);
  assert.ok(waiting <= highWatermark + 2 * read, `${waiting} bytes wait`);
  assert.equal(metrics.get('sluice_buffered_amount_bytes', { direction: other }), 0);
  assert.equal(metrics.get('sluice_backpressure_paused_connections', { direction: other }), 0);
}

// Reads a raw socket's frames of one large message, and keeps of them only what is asked for.
class FrameReader {
  frames = []; // {opcode, fin, size}
  bytes = 0;
  hash = createHash('sha256');
  #left = 0;
  #head = Buffer.alloc(0);

  constructor(socket) {
    this.socket = socket;
    socket.on('data', (bytes) => this.#take(bytes));
  }
  #take(bytes) {
    while (bytes.length > 0) {
      if (this.#left === 0) {
        this.#head = Buffer.concat([this.#head, bytes]);
        if (this.#head.length < 2) return;
        const form = this.#head[1] === 126 ? 2 : this.#head[1] === 127 ? 8 : 0;
        if (this.#head.length < 2 + form) return;
        const size = form === 0 ? this.#head[1] : form === 2 ? this.#head.readUInt16BE(2)
          : Number(this.#head.readBigUInt64BE(2));
        this.frames.push({ opcode: this.#head[0] & 15, fin: this.#head[0] >= 0x80, size });
        this.#left = size;
        bytes = this.#head.subarray(2 + form);
        this.#head = Buffer.alloc(0);
      } else {
        const piece = bytes.subarray(0, this.#left);
        this.hash.update(piece);
        this.bytes += piece.length;
        this.#left -= piece.length;
        bytes = bytes.subarray(piece.length);
      }
    }
  }
}

describe('the opening handshake', () => {
  test('path, query, Host, Origin, cookies and subprotocols pass, and an answer\'s cookies', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      upstream.server.on('headers', (headers) => {
        headers.push('Set-Cookie: session=1; Path=/', 'Set-Cookie: other=2', 'X-Served-By: app');
      });
      const client = await RawSocket.connect(gateway.listeners[0]);
      client.write([
        'GET /app/a%20b?x=%2F&&y HTTP/1.1', 'Host: Example.org:81', 'Origin: https://example.org',
        'Connection: keep-alive, Upgrade', 'Upgrade: WebSocket', 'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Cookie: a=1; b="2"',
        'Sec-WebSocket-Protocol: second, first', 'Sec-WebSocket-Extensions: permessage-deflate',
        '', ''].join('\r\n'));
      const answer = await client.readResponse();
      assert.equal(answer.status, 101);
      assert.equal(answer.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
      assert.equal(answer.headers['sec-websocket-protocol'], 'first');
      assert.equal(answer.headers['x-served-by'], 'app');
      assert.equal(answer.headers['sec-websocket-extensions'], undefined);
      const { url, headers, rawHeaders } = (await upstream.next()).request;
      assert.equal(url, '/app/a%20b?x=%2F&&y');
      assert.equal(headers.host, 'Example.org:81');
      assert.equal(headers.origin, 'https://example.org');
      assert.equal(headers.cookie, 'a=1; b="2"');
      assert.equal(headers.connection, 'Upgrade');
      assert.equal(headers['sec-websocket-protocol'], 'second, first');
      assert.equal(headers['sec-websocket-extensions'], undefined);
      assert.notEqual(headers['sec-websocket-key'], 'dGhlIHNhbXBsZSBub25jZQ==');
      assert.equal(headers['x-forwarded-for'], '127.0.0.1');
      assert.equal(headers['x-forwarded-proto'], 'http');
      assert.equal(headers['x-forwarded-host'], 'Example.org:81');
      assert.match(headers.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/);
      assert.equal(rawHeaders.filter((name) => name.toLowerCase() === 'upgrade').length, 2);
      client.destroy();
      await gateway.waitLog({ event: 'close' });
    }, {}, { handleProtocols: (offered) => [...offered][1] });
  });

  test('both cookies of an answer reach a client', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      upstream.server.on('headers', (headers) => {
        headers.push('Set-Cookie: session=1; Path=/', 'Set-Cookie: other=2');
      });
      const client = new Client(gateway.url('/app/'), [], {});
      const upgraded = new Promise((resolve) => { client.socket.once('upgrade', resolve); });
      await within(client.opened, 'a WebSocket');
      assert.deepEqual((await upgraded).headers['set-cookie'],
        ['session=1; Path=/', 'other=2']);
      await client.close();
    });
  });

  test('the upstream chooses the subprotocol, or none', async (t) => {
    await withUpstream(t, async (gateway) => {
      const client = await Client.open(gateway.url('/app/'), { protocols: ['amqp', 'mqtt'] });
      assert.equal(client.socket.protocol, 'mqtt');
      await client.close();
      const plain = await Client.open(gateway.url('/app/'));
      assert.equal(plain.socket.protocol, '');
      await plain.close();
    }, {}, { handleProtocols: () => 'mqtt' });
  });

  test('the path is rewritten, headers are set and removed', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const client = await Client.open(gateway.url('/app/lobby/socket?q=1'),
        { headers: { 'X-Secret': 'mine', 'X-Other': 'kept' } });
      const { request } = await upstream.next();
      assert.equal(request.url, '/v2/lobby/socket?q=1');
      assert.equal(request.headers.authorization, 'Bearer k');
      assert.equal(request.headers['x-secret'], undefined);
      assert.equal(request.headers['x-other'], 'kept');
      await client.close();
    }, { http: {
      rewrite: '/v2/*',
      headers: { set: { Authorization: 'Bearer k' }, remove: ['X-Secret'] },
    } });
  });

  test('what is nominated, hop-by-hop, spoofed or misspelt does not pass', async (t) => {
    // Rows 14 and 15 of the hostile inputs.
    await withUpstream(t, async (gateway, upstream) => {
      const client = await RawSocket.open(gateway.listeners[0], '/app/', {
        Connection: 'Upgrade, X-Forwarded-For, X-Auth-User, Cookie',
        'X-Auth-User': 'root',
        'X-Forwarded-For': '10.0.0.1',
        'X-Forwarded-Proto': 'https',
        X_Forwarded_Proto: 'https',
        Forwarded: 'for=10.0.0.1',
        'Proxy-Authorization': 'Basic x',
        'Keep-Alive': 'timeout=5',
        TE: 'trailers',
        Cookie: 'a=1',
      });
      const { headers } = (await upstream.next()).request;
      assert.equal(headers['x-forwarded-for'], '127.0.0.1');
      assert.equal(headers['x-forwarded-proto'], 'http');
      for (const name of ['x-auth-user', 'x_forwarded_proto', 'proxy-authorization', 'keep-alive',
        'te', 'cookie']) {
        assert.equal(headers[name], undefined, name);
      }
      assert.ok(!headers.forwarded.includes('10.0.0.1'));
      client.destroy();
      await gateway.waitLog({ event: 'close' });
    });
  });

  test('another answer than 101 reaches the client with its body, and nothing is reused', async (t) => {
    const connections = new Set();
    const server = http.createServer();
    server.on('upgrade', (request, socket) => {
      connections.add(socket);
      socket.write('HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n' +
        'Content-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot you!\n');
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    t.after(() => server.close());
    await withGateway(proxyConfig(`127.0.0.1:${server.address().port}`), async (gateway) => {
      for (let i = 1; i <= 2; ++i) {
        const { status, headers, body } = await Client.refused(gateway.url('/app/'));
        assert.equal(status, 401);
        assert.equal(headers['www-authenticate'], 'Basic realm="x"');
        assert.equal(headers['content-type'], 'text/plain');
        assert.equal(body, 'not you!\n');
        assert.equal(connections.size, i);
      }
      const { status, why } = await gateway.waitLog({ event: 'refused' });
      assert.deepEqual([status, why], [401, 'the upstream answered 401']);
      await until(() => [...connections].every((socket) => socket.destroyed || socket.readableEnded),
        'both connections are closed');
      await gateway.waitMetrics((metrics) =>
        metrics.get('sluice_handshakes_total', { result: 'upstream_refused' }) === 2 &&
        metrics.get('sluice_http_responses_total') === 0);
    });
  });

  test('a dead upstream is a 502, a silent one a 504, and never a 101', async (t) => {
    const silent = http.createServer().on('upgrade', () => {});
    await new Promise((resolve) => { silent.listen(0, '127.0.0.1', resolve); });
    t.after(() => { silent.closeAllConnections(); silent.close(); });
    const routes = [
      { path: '/dead', http: { upstream: `127.0.0.1:${await freePort()}` } },
      { path: '/silent', http: {
        upstream: `127.0.0.1:${silent.address().port}`, response_timeout: '300ms' } },
    ];
    await withGateway(echoConfig({ routes }), async (gateway) => {
      assert.equal((await Client.refused(gateway.url('/dead'))).status, 502);
      assert.equal((await Client.refused(gateway.url('/silent'))).status, 504);
      await gateway.waitMetrics((metrics) =>
        metrics.get('sluice_handshakes_total', { result: 'upstream_failed' }) === 1 &&
        metrics.get('sluice_handshakes_total', { result: 'upstream_timeout' }) === 1);
    });
  });

  test('what the client sends before the 101 reaches the upstream after it', async (t) => {
    let allow;
    const allowed = new Promise((resolve) => { allow = resolve; });
    await withUpstream(t, async (gateway, upstream) => {
      const client = await RawSocket.connect(gateway.listeners[0]);
      client.write(Buffer.concat([
        Buffer.from('GET /app/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n' +
          'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
          'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'),
        frame('text', 'early')]));
      client.write(frame('text', 'bird'));
      setTimeout(allow, 50);
      const peer = await upstream.next();
      assert.equal((await peer.next()).data.toString(), 'early');
      assert.equal((await peer.next()).data.toString(), 'bird');
      client.destroy();
      await gateway.waitLog({ event: 'close' });
    }, {}, { verifyClient: (_, done) => { allowed.then(() => done(true)); } });
  });
});

describe('frames', () => {
  test('messages of every size, both ways, in order', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      for (const size of [0, 1, 125, 126, 127, 65535, 65536, 65537, 300_000]) {
        const data = randomBytes(size);
        client.send(data);
        const there = await peer.next();
        assert.ok(there.binary && there.data.equals(data), `${size} bytes to the upstream`);
        peer.socket.send(data);
        const back = await client.next();
        assert.ok(back.binary && back.data.equals(data), `${size} bytes to the client`);
      }
      for (let i = 0; i < 2000; ++i) client.send(`number ${i}`);
      for (let i = 0; i < 2000; ++i) {
        const { data, binary } = await peer.next();
        assert.equal(binary, false);
        assert.equal(data.toString(), `number ${i}`);
      }
      await client.close();
    });
  });

  test('fragments stay as they are, with pings between them', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const raw = await RawSocket.open(gateway.listeners[0], '/app/');
      const peer = await upstream.next();
      const frames = [];
      const receiver = peer.socket._receiver; // the only place where ws shows frames
      const dataMessage = receiver.dataMessage.bind(receiver);
      receiver.dataMessage = (...args) => { frames.push(receiver._payloadLength, receiver._fin); return dataMessage(...args); };
      raw.write(Buffer.concat([
        frame('text', 'He', { fin: false }), frame('ping', 'between'),
        frame('continuation', '', { fin: false }), frame('continuation', 'llo')]));
      const { data } = await peer.next();
      assert.equal(data.toString(), 'Hello');
      const pong = await raw.readFrame();
      assert.deepEqual({ opcode: pong.opcode, payload: pong.payload.toString() },
        { opcode: 'pong', payload: 'between' });
      assert.equal(peer.pings, 0); // it was answered here

      peer.socket.send('He', { fin: false });
      peer.socket.send('', { fin: false });
      peer.socket.ping('from the upstream');
      peer.socket.send('llo', { fin: true });
      const seen = [];
      for (let i = 0; i < 3; ++i) {
        const { opcode, fin, payload } = await raw.readFrame();
        seen.push([opcode, fin, payload.toString()]);
      }
      assert.deepEqual(seen, [['text', false, 'He'], ['continuation', false, ''],
        ['continuation', true, 'llo']]);
      await until(() => peer.pongs === 1, 'our pong at the upstream');
      raw.destroy();
      await gateway.waitLog({ event: 'close' });
    });
  });

  test('both sides are kept alive with pings of our own', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      let pings = 0;
      client.socket.on('ping', () => { ++pings; });
      await until(() => pings >= 2 && peer.pings >= 2, 'two pings on each side');
      assert.equal(client.socket.readyState, 1);
      assert.equal(peer.socket.readyState, 1);
      await client.close();
    }, { route: { keepalive: { ping_interval: '200ms' } } });
  });

  test('an upstream that answers no ping is a bad gateway', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      peer.socket.pause();
      assert.deepEqual(await client.end(), { code: 1014, reason: 'upstream lost' });
      const { initiator, reason, why } = await gateway.waitLog({ event: 'close' });
      assert.deepEqual([initiator, reason], ['upstream', 'upstream_failed']);
      assert.match(why, /127\.0\.0\.1:\d+: keepalive\.pong_timeout/);
    }, { route: { keepalive: { ping_interval: '300ms', pong_timeout: `${500 * slowness}ms` } } }, {});
  });

  test('text that is not UTF-8 is not passed on, from either side', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      client.socket._sender.sendFrame([Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff])]);
      assert.equal((await client.end()).code, 1007);
      assert.deepEqual(await peer.end(), { code: 1001, reason: 'text is not valid UTF-8' });
      assert.equal(peer.messages.length, 0);

      const second = await open(gateway, upstream);
      second.peer.socket._sender.sendFrame([Buffer.from([0x81, 0x02, 0xff, 0xff])]);
      assert.equal((await second.peer.end()).code, 1007);
      const end = await second.client.end();
      assert.ok([1006, 1014].includes(end.code), `${end.code}`);
    });
  });

  test('unless the route leaves it to them', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream, { skipUTF8Validation: true });
      client.socket._sender.sendFrame([Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff])]);
      assert.deepEqual([...(await peer.next()).data], [0xff, 0xff]);
      peer.socket._sender.sendFrame([Buffer.from([0x81, 0x02, 0xfe, 0xff])]);
      assert.deepEqual([...(await client.next()).data], [0xfe, 0xff]);
      await client.close();
    }, { http: { validate_utf8: false } }, { skipUTF8Validation: true });
  });
});

describe('64 MB', () => {
  for (const [form, piece] of [['one frame', large.length], ['fragments of 131,000 bytes', 131_000]]) {
    const pieces = () => {
      const list = [];
      for (let i = 0; i < large.length; i += piece) list.push(large.subarray(i, i + piece));
      return list;
    };
    const check = (frames) => {
      const wanted = pieces().map(({ length }, i, all) => (
        { opcode: i === 0 ? 2 : 0, fin: i === all.length - 1, size: length }));
      assert.deepEqual(frames, wanted);
    };

    test(`${form} to the upstream, never held whole`, async (t) => {
      await withUpstream(t, async (gateway, upstream) => {
        const { client, peer } = await open(gateway, upstream);
        staysSmall(await growth(gateway, async () => {
          pieces().forEach((data, i, all) => client.send(data, { fin: i === all.length - 1 }));
          const { data } = await peer.next('64 MB', longMs);
          assert.equal(digest(data), largeDigest);
        }));
        await client.close();
      });
    });

    test(`${form} to the client, frame for frame`, async (t) => {
      await withUpstream(t, async (gateway, upstream) => {
        const raw = await RawSocket.open(gateway.listeners[0], '/app/');
        const peer = await upstream.next();
        raw.socket.removeAllListeners('data');
        const reader = new FrameReader(raw.socket);
        staysSmall(await growth(gateway, async () => {
          pieces().forEach((data, i, all) => peer.socket.send(data, { fin: i === all.length - 1 }));
          await until(() => reader.bytes === large.length, '64 MB at the client', longMs);
        }));
        assert.equal(reader.hash.digest('hex'), largeDigest);
        check(reader.frames);
        raw.destroy();
        await gateway.waitLog({ event: 'close' });
      });
    });

    test(`${form} to an upstream that does not read for a while`, async (t) => {
      await withUpstream(t, async (gateway, upstream) => {
        const { client, peer } = await open(gateway, upstream);
        peer.socket.pause();
        staysSmall(await growth(gateway, async () => {
          pieces().forEach((data, i, all) => client.send(data, { fin: i === all.length - 1 }));
          await waitsOnlyThere(gateway, up);
          assert.ok(client.socket.bufferedAmount > megabyte);
          // The other direction goes on.
          peer.socket.send('still there');
          assert.equal(await client.text(), 'still there');
          peer.socket.resume();
          const { data } = await peer.next('64 MB', longMs);
          assert.equal(digest(data), largeDigest);
        }));
        await gateway.waitMetrics((now) =>
          now.get('sluice_buffered_amount_bytes', { direction: up }) === 0 &&
          now.get('sluice_backpressure_paused_connections', { direction: up }) === 0);
        await client.close();
      });
    });

    test(`${form} to a client that does not read for a while`, async (t) => {
      await withUpstream(t, async (gateway, upstream) => {
        const { client, peer } = await open(gateway, upstream);
        client.socket.pause();
        staysSmall(await growth(gateway, async () => {
          pieces().forEach((data, i, all) => peer.socket.send(data, { fin: i === all.length - 1 }));
          await waitsOnlyThere(gateway, down);
          assert.ok(peer.socket.bufferedAmount > megabyte);
          client.send('still there');
          assert.equal((await peer.next()).data.toString(), 'still there');
          client.socket.resume();
          const { data } = await within(client.next('64 MB'), '64 MB', longMs);
          assert.equal(digest(data), largeDigest);
        }));
        await client.close();
      });
    });
  }

  test('both ways at once through an echo, neither side waiting for the other', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      peer.socket.on('message', (data, binary) => { peer.socket.send(data, { binary }); });
      const hash = createHash('sha256');
      let bytes = 0;
      client.socket.removeAllListeners('message');
      client.socket.on('message', (data) => { hash.update(data); bytes += data.length; });
      staysSmall(await growth(gateway, async () => {
        for (let i = 0; i < large.length; i += 100_000) client.send(large.subarray(i, i + 100_000));
        await until(() => bytes === large.length, '64 MB there and back', longMs);
      }));
      assert.equal(hash.digest('hex'), largeDigest);
      await client.close();
    });
  });
});

describe('closes', () => {
  const closes = [
    { code: 1000, reason: 'bye' }, { code: 3000, reason: 'library' },
    { code: 4999, reason: 'grüße' }, { code: 1001, reason: '' }, { code: 1011, reason: 'oops' },
  ];

  for (const { code, reason } of closes) {
    test(`${code} '${reason}' of the client`, async (t) => {
      await withUpstream(t, async (gateway, upstream) => {
        const { client, peer } = await open(gateway, upstream);
        client.send('last');
        assert.deepEqual(await client.close(code, reason), { code, reason });
        assert.equal((await peer.next()).data.toString(), 'last');
        assert.deepEqual(await peer.end(), { code, reason });
        assert.equal((await gateway.waitLog({ event: 'close' })).initiator, 'client');
      });
    });

    test(`${code} '${reason}' of the upstream`, async (t) => {
      await withUpstream(t, async (gateway, upstream) => {
        const { client, peer } = await open(gateway, upstream);
        peer.socket.send('last');
        peer.socket.close(code, reason);
        assert.equal(await client.text(), 'last');
        assert.deepEqual(await client.end(), { code, reason });
        assert.deepEqual(await peer.end(), { code, reason });
        const close = await gateway.waitLog({ event: 'close' });
        assert.deepEqual([close.initiator, close.code], ['upstream', code]);
      });
    });
  }

  test('without a code it is 1005, both ways', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const first = await open(gateway, upstream);
      assert.deepEqual(await first.client.close(), { code: 1005, reason: '' });
      assert.deepEqual(await first.peer.end(), { code: 1005, reason: '' });
      const second = await open(gateway, upstream);
      second.peer.socket.close();
      assert.deepEqual(await second.client.end(), { code: 1005, reason: '' });
      assert.deepEqual(await second.peer.end(), { code: 1005, reason: '' });
    });
  });

  test('a client that vanishes is 1006 for the upstream, after all that it had sent', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      client.send(randomBytes(100_000));
      client.send('last');
      await peer.next();
      await peer.next();
      client.socket.terminate();
      assert.deepEqual(await peer.end(), { code: 1006, reason: '' });
    });
  });

  test('an upstream that vanishes is 1014 for the client', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      peer.socket.terminate();
      assert.deepEqual(await client.end(), { code: 1014, reason: 'upstream lost' });
      const close = await gateway.waitLog({ event: 'close' });
      assert.deepEqual([close.initiator, close.reason, close.code],
        ['upstream', 'upstream_failed', 1014]);
    });
  });

  test('and 1006 within a frame', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      peer.socket._socket.write(Buffer.from([0x82, 100, 1, 2, 3]));
      await gateway.waitMetrics((now) =>
        now.get('sluice_payload_bytes_total', { direction: down }) === 3);
      peer.socket.terminate();
      assert.equal((await client.end()).code, 1006);
      const close = await gateway.waitLog({ event: 'close' });
      assert.deepEqual([close.initiator, close.reason], ['upstream', 'upstream_failed']);
    });
  });

  test('a client that closes within a large frame gets the rest of it, then its answer', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const raw = await RawSocket.open(gateway.listeners[0], '/app/');
      const peer = await upstream.next();
      raw.socket.pause();
      peer.socket.send(large);
      await waitsOnlyThere(gateway, down);
      raw.write(closeFrame(1000, 'enough'));
      await gateway.waitMetrics((now) =>
        now.get('sluice_frames_total', { direction: up, opcode: 'close' }) === 1);
      raw.socket.removeAllListeners('data');
      const reader = new FrameReader(raw.socket);
      raw.socket.resume();
      await until(() => reader.frames.length === 2 && reader.bytes === large.length + 8,
        '64 MB and a Close frame', longMs);
      assert.deepEqual(reader.frames[1], { opcode: 8, fin: true, size: 8 });
      assert.deepEqual(await peer.end(), { code: 1000, reason: 'enough' });
      raw.destroy();
    });
  });

  test('a rule of the gateway closes the upstream with 1001 and its name', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      client.send('one');
      client.send('two');
      assert.deepEqual(await client.end(), { code: 1008, reason: 'rate limit' });
      assert.deepEqual(await peer.end(), { code: 1001, reason: 'rate limit' });
    }, { route: { limits: { messages_per_second: 1 } } });
  });

  test('a shutdown closes both sides with 1001 and waits for the upstream', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const { client, peer } = await open(gateway, upstream);
      gateway.kill('SIGTERM');
      assert.deepEqual(await client.end(), { code: 1001, reason: 'shutting down' });
      assert.deepEqual(await peer.end(), { code: 1001, reason: 'shutting down' });
    });
  });

  test('no descriptor is left behind', async (t) => {
    await withUpstream(t, async (gateway, upstream) => {
      const before = gateway.descriptors();
      for (let i = 0; i < 50; ++i) {
        const { client, peer } = await open(gateway, upstream);
        if (i % 4 === 0) await client.close(1000);
        if (i % 4 === 1) client.socket.terminate();
        if (i % 4 === 2) { peer.socket.close(1000); await client.end(); }
        if (i % 4 === 3) { peer.socket.terminate(); await client.end(); }
      }
      await until(() => gateway.descriptors() <= before, 'the descriptors are back');
    });
  });
});

test('TLS on both sides', async (t) => {
  const certificate = makeCertificate(temporaryFolder(), '127.0.0.1');
  const server = https.createServer({ cert: certificate.pem, key: fs.readFileSync(certificate.key) });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => server.close());
  const upstream = await Upstream.listen(t, { server, port: undefined, host: undefined });
  const config = proxyConfig('app', {
    listeners: [{ address: '127.0.0.1:0',
      tls: { certificates: [{ cert: certificate.cert, key: certificate.key }] } }],
    upstreams: { app: { endpoints: [`127.0.0.1:${server.address().port}`],
      tls: { ca: certificate.cert } } },
  });
  await withGateway(config, async (gateway) => {
    const [client, peer] = await Promise.all([
      Client.open(gateway.url('/app/', { scheme: 'wss' }), { ca: certificate.pem, maxPayload: 0 }),
      upstream.next()]);
    assert.equal(peer.request.headers['x-forwarded-proto'], 'https');
    client.send(large);
    const there = await peer.next('64 MB', longMs);
    assert.equal(digest(there.data), largeDigest);
    peer.socket.send(large);
    const { data } = await within(client.next('64 MB'), '64 MB', longMs);
    assert.equal(digest(data), largeDigest);
    assert.deepEqual(await client.close(3000, 'bye'), { code: 3000, reason: 'bye' });
    assert.deepEqual(await peer.end(), { code: 3000, reason: 'bye' });
  });
});

test('an endpoint that is found down takes its WebSockets with it, if that is wanted', async (t) => {
  let status = 200;
  const server = http.createServer((request, response) => {
    response.statusCode = status;
    response.end();
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => { server.closeAllConnections(); server.close(); });
  const upstream = await Upstream.listen(t, { server, port: undefined, host: undefined });
  await withGateway(proxyConfig('app', {
    upstreams: { app: {
      endpoints: [`127.0.0.1:${server.address().port}`],
      on_endpoint_down: 'close',
      health_check: { path: '/', interval: '100ms', unhealthy_threshold: 1 },
    } },
  }), async (gateway) => {
    const { client, peer } = await open(gateway, upstream);
    status = 500;
    assert.deepEqual(await client.end(), { code: 1014, reason: 'upstream down' });
    assert.deepEqual(await peer.end(), { code: 1001, reason: 'endpoint down' });
  });
});

test('kill -9 and restart of the upstream under load', async (t) => {
  const port = await freePort();
  const script = `
    import { WebSocketServer } from 'ws';
    const server = new WebSocketServer({ port: ${port}, host: '127.0.0.1' });
    server.on('connection', (socket) => {
      socket.on('error', () => {});
      socket.on('message', (data, binary) => socket.send(data, { binary }));
    });
    server.on('listening', () => console.log('ready'));`;
  const start = () => Program.start(t, process.execPath, ['--input-type=module', '-e', script],
    { cwd: new URL('..', import.meta.url), ready: (program) => program.output.includes('ready') });
  let upstream = await start();
  await withGateway(proxyConfig(`127.0.0.1:${port}`), async (gateway) => {
    const counts = { echoed: 0, wrong: 0, ends: {} };
    let running = true;
    const serve = async (number) => {
      for (let i = 0; running; ++i) {
        let client;
        try {
          client = await Client.open(gateway.url('/app/'));
          for (let j = 0; running; ++j) {
            const text = `${number}.${i}.${j}`;
            client.send(text);
            if (await client.text() === text) counts.echoed += 1; else counts.wrong += 1;
          }
        } catch {
          if (client) {
            const { code } = await client.end();
            counts.ends[code] = (counts.ends[code] ?? 0) + 1;
          } else {
            await new Promise((resolve) => { setTimeout(resolve, 20); });
          }
          continue;
        }
        await client.close(1000);
      }
    };
    const before = gateway.rssBytes();
    const clients = Array.from({ length: 20 }, (_, number) => serve(number));
    for (let round = 0; round < 3; ++round) {
      const wanted = counts.echoed + 2000;
      await until(() => counts.echoed > wanted, 'a load', longMs);
      await upstream.kill();
      upstream = await start();
    }
    const wanted = counts.echoed + 2000;
    await until(() => counts.echoed > wanted, 'a load after the last restart', longMs);
    running = false;
    await within(Promise.all(clients), 'the end of all clients', longMs);
    assert.equal(counts.wrong, 0);
    // Nobody was told that all is well.
    assert.deepEqual(Object.keys(counts.ends).filter((code) => !['1014', '1006'].includes(code)), []);
    assert.ok((counts.ends[1014] ?? 0) > 0, JSON.stringify(counts));
    await gateway.waitMetrics((now) => now.get('sluice_connections') === 0);
    assert.ok(gateway.rssBytes() - before < 16 * megabyte || !memoryIsOurs);
  });
});
