// Plain HTTP through an http route: to a Node server, to Python's and nginx, and to an upstream that
// a test plays byte by byte.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeCertificate, memoryIsOurs, patienceMs, request, sharedGateway, temporaryFolder, until,
  withGateway, within } from '../support/gateway.mjs';
import { RawSocket } from '../support/raw.mjs';
import { answers, freePort, Program, Server } from '../support/services.mjs';

// ---- The upstream that does what its path says

let bigBytes = 0; // that the last /big has written
const handlers = {
  echo: (asked, answer) => {
    answer.setHeader('Content-Type', 'application/json');
    asked.resume().on('end', () => answer.end(JSON.stringify({
      method: asked.method, url: asked.url, headers: asked.headers, raw: asked.rawHeaders,
      trailers: asked.trailers,
    })));
  },
  hash: (asked, answer) => {
    const hash = createHash('sha256');
    asked.on('data', (piece) => hash.update(piece));
    asked.on('end', () => answer.end(hash.digest('hex')));
  },
  big: (asked, answer) => {
    const size = Number(new URL(asked.url, 'http://x').searchParams.get('size'));
    answer.writeHead(200, { 'Content-Length': size });
    const piece = Buffer.alloc(64 * 1024, 'x');
    bigBytes = 0;
    const write = () => {
      while (bigBytes < size) {
        bigBytes += piece.length;
        if (!answer.write(piece)) return answer.once('drain', write);
      }
      answer.end();
    };
    write();
  },
  empty: (asked, answer) => { answer.writeHead(204, { 'X-Empty': 'yes' }).end(); },
  unmodified: (asked, answer) => { answer.writeHead(304, { ETag: '"1"' }).end(); },
  trailers: (asked, answer) => {
    answer.writeHead(200, { Trailer: 'X-Sum', 'Transfer-Encoding': 'chunked' });
    answer.write('a body');
    answer.addTrailers({ 'X-Sum': '7' });
    answer.end();
  },
  hints: (asked, answer) => {
    answer.writeEarlyHints({ link: '</style.css>; rel=preload' }, () => answer.end('after hints'));
  },
  hop: (asked, answer) => {
    answer.writeHead(200, [['Connection', 'X-Private, keep-alive'], ['X-Private', '1'],
      ['Keep-Alive', 'timeout=5'], ['Proxy-Authenticate', 'Basic'], ['X-Public', '1'],
      ['Set-Cookie', 'a=1'], ['Set-Cookie', 'b=2']].flat()).end('x');
  },
  early: (asked, answer) => { answer.writeHead(413, { 'Content-Length': 4 }).end('full'); },
  cut: (asked, answer) => {
    answer.writeHead(200, { 'Content-Length': 100 });
    answer.write('only this', () => asked.socket.destroy());
  },
  'cut-chunks': (asked, answer) => { answer.write('only this', () => asked.socket.destroy()); },
  die: (asked) => asked.socket.destroy(),
  never: () => {},
};
const app = http.createServer((asked, answer) => {
  handlers[asked.url.split(/[/?]/).filter(Boolean).at(1) ?? 'echo']?.(asked, answer);
});
app.keepAliveTimeout = 60_000;
await new Promise((resolve) => app.listen(0, '127.0.0.1', resolve));
const appAt = `127.0.0.1:${app.address().port}`;

const raw = await Server.listen();
const goneAt = `127.0.0.1:${await freePort()}`;
after(() => {
  app.close();
  app.closeAllConnections();
  raw.close();
});

const gateway = sharedGateway({
  workers: 1,
  listeners: [{ address: '127.0.0.1:0' }],
  metrics: { address: '127.0.0.1:0' },
  upstreams: {
    app: { endpoints: [appAt] },
    raw: { endpoints: [raw.address] },
    single: { endpoints: [raw.address], max_connections: 1 },
    gone: { endpoints: [goneAt], connect_attempts: 1 },
  },
  routes: [
    { path: '/app/*', http: { upstream: 'app' } },
    { path: '/rooms/{room}/*', http: { upstream: 'app', rewrite: '/app/echo/{room}/*' } },
    { path: '/rules/*', http: {
      upstream: 'app', rewrite: '/app/echo/*',
      headers: { set: { 'X-Set': 'by the gateway', Host: 'inner.example' }, remove: ['X-Secret'] },
    } },
    { path: '/raw/*', http: { upstream: 'raw', response_timeout: '1s' } },
    { path: '/single/*', http: { upstream: 'single' } },
    { path: '/gone/*', http: { upstream: 'gone' } },
    { path: '/small/*', http: { upstream: 'app', rewrite: '/app/*' },
      buffers: { high_watermark: '16KiB', low_watermark: '4KiB' } },
  ],
});

const text = ({ body }) => body.toString();
const echo = async (target, options = {}, body) =>
  JSON.parse(text(await request({ ...gateway.listeners[0], ...options, path: target }, body)));
const reused = (metrics, upstream = 'app') =>
  metrics.get('sluice_upstream_connections_reused_total', { upstream });

// ---- Requests

test('method, path, query, Host and fields come through byte for byte', async () => {
  const got = await echo("/app/echo/%C3%A4/b;c?q=%2f|'&x", {
    method: 'PATCH', headers: { Host: 'Example.ORG:81', 'x-MiXed': 'a  b', Cookie: 'a=b; c' },
  });
  assert.equal(got.method, 'PATCH');
  assert.equal(got.url, "/app/echo/%C3%A4/b;c?q=%2f|'&x");
  assert.equal(got.headers.host, 'Example.ORG:81');
  assert.equal(got.headers.cookie, 'a=b; c');
  assert.equal(got.raw[got.raw.indexOf('x-MiXed') + 1], 'a  b');
});

test('X-Forwarded-*, Forwarded and traceparent; what a client claims is not believed', async () => {
  const { headers } = await echo('/app/echo', { headers: {
    Host: 'example.org', 'X-Forwarded-For': '1.2.3.4', Forwarded: 'for=1.2.3.4',
    'X-Real-Ip': '1.2.3.4', X_Forwarded_Proto: 'https',
  } });
  assert.equal(headers['x-forwarded-for'], '127.0.0.1');
  assert.equal(headers['x-forwarded-proto'], 'http');
  assert.equal(headers['x-forwarded-host'], 'example.org');
  assert.equal(headers.forwarded, 'for=127.0.0.1;host=example.org;proto=http');
  assert.match(headers.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  assert.equal(headers['x-real-ip'], undefined);
  assert.equal(headers.x_forwarded_proto, undefined);
});

test('hop-by-hop and nominated fields stop here, in both directions', async () => {
  const client = await RawSocket.connect(gateway.listeners[0]);
  client.write('GET /app/echo HTTP/1.1\r\nHost: x\r\nConnection: X-Mine, X-Forwarded-For, Upgrade\r\n' +
    'X-Mine: 1\r\nTE: trailers\r\nKeep-Alive: timeout=9\r\nProxy-Authorization: Basic x\r\n' +
    'Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n');
  const { status, body } = await client.readResponse();
  assert.equal(status, 200);
  const { headers } = JSON.parse(body);
  for (const name of ['x-mine', 'te', 'keep-alive', 'proxy-authorization', 'upgrade', 'http2-settings']) {
    assert.equal(headers[name], undefined, name);
  }
  assert.equal(headers['x-forwarded-for'], '127.0.0.1');
  client.destroy();

  const answer = await gateway.get('/app/hop');
  assert.equal(answer.headers['x-public'], '1');
  assert.deepEqual(answer.headers['set-cookie'], ['a=1', 'b=2']);
  for (const name of ['x-private', 'keep-alive', 'proxy-authenticate']) {
    assert.equal(answer.headers[name], undefined, name);
  }
});

test('the path is rewritten, fields are set and removed', async () => {
  assert.equal((await echo('/rooms/r%201/a/b?x=1')).url, '/app/echo/r%201/a/b?x=1');
  const { headers } = await echo('/rules/', { headers: { 'X-Set': 'mine', 'X-Secret': '1' } });
  assert.equal(headers['x-set'], 'by the gateway');
  assert.equal(headers['x-secret'], undefined);
  assert.equal(headers.host, 'inner.example');
});

test('bodies with a length, in chunks and with trailers', async () => {
  const body = randomBytes(300_000);
  const digest = createHash('sha256').update(body).digest('hex');
  const at = { ...gateway.listeners[0], method: 'POST', path: '/app/hash' };
  assert.equal(text(await request({ ...at, headers: { 'Content-Length': body.length } }, body)), digest);
  assert.equal(text(await request({ ...at, headers: { 'Transfer-Encoding': 'chunked' } }, body)), digest);

  const client = await RawSocket.connect(gateway.listeners[0]);
  client.write('POST /app/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n' +
    '5;ext=1\r\nHello\r\n0\r\nX-Sum: 7\r\n\r\n');
  const got = JSON.parse((await client.readResponse()).body);
  assert.deepEqual(got.trailers, { 'x-sum': '7' });
  assert.equal(got.headers['transfer-encoding'], 'chunked');
  client.write('POST /app/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  const empty = JSON.parse((await client.readResponse()).body);
  assert.equal(empty.headers['content-length'], '0');
  client.destroy();
});

test('Expect: 100-continue is answered here', async () => {
  const sent = http.request({ ...gateway.listeners[0], agent: false, method: 'POST', path: '/app/echo',
    headers: { Expect: '100-continue', 'Content-Length': 5 } });
  sent.flushHeaders();
  await within(once(sent, 'continue'), 'a 100');
  sent.end('Hello');
  const [answer] = await within(once(sent, 'response'), 'a response');
  const got = JSON.parse(Buffer.concat(await answer.toArray()));
  assert.equal(got.headers.expect, undefined);
  assert.equal(got.headers['content-length'], '5');
});

// ---- Responses

test('HEAD, 204 and 304 have no body, and the connection goes on', async () => {
  const client = await RawSocket.connect(gateway.listeners[0]);
  const ask = async (method, target, options) => {
    client.write(`${method} ${target} HTTP/1.1\r\nHost: x\r\n\r\n`);
    return client.readResponse(options);
  };
  const head = await ask('HEAD', '/app/big?size=131072', { head: true });
  assert.deepEqual([head.status, head.headers['content-length']], [200, '131072']);
  const empty = await ask('GET', '/app/empty');
  assert.deepEqual([empty.status, empty.headers['x-empty'], empty.headers['content-length'],
    empty.headers['transfer-encoding']], [204, 'yes', undefined, undefined]);
  const unmodified = await ask('GET', '/app/unmodified');
  assert.deepEqual([unmodified.status, unmodified.headers.etag], [304, '"1"']);
  assert.equal((await ask('GET', '/app/big?size=65536')).body.length, 65536);
  client.destroy();
});

test('trailers of a response', async () => {
  const sent = http.get({ ...gateway.listeners[0], agent: false, path: '/app/trailers' });
  const [answer] = await within(once(sent, 'response'), 'a response');
  assert.equal(Buffer.concat(await answer.toArray()).toString(), 'a body');
  assert.deepEqual(answer.trailers, { 'x-sum': '7' });
});

test('103 Early Hints go ahead of the response', async () => {
  const sent = http.get({ ...gateway.listeners[0], agent: false, path: '/app/hints' });
  const coming = once(sent, 'response');
  const [hints] = await within(once(sent, 'information'), 'a 103');
  assert.equal(hints.statusCode, 103);
  assert.equal(hints.headers.link, '</style.css>; rel=preload');
  const [answer] = await within(coming, 'a response');
  assert.equal(Buffer.concat(await answer.toArray()).toString(), 'after hints');
});

test('an HTTP/1.0 client gets what it understands', async () => {
  for (const target of ['/app/trailers', '/app/hints', '/app/big?size=65536']) {
    const client = await RawSocket.connect(gateway.listeners[0]);
    client.write(`GET ${target} HTTP/1.0\r\n\r\n`);
    const { ending, bytes } = await client.readEnd();
    const [head, body] = bytes.toString('latin1').split('\r\n\r\n');
    assert.equal(ending, 'end');
    assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
    assert.doesNotMatch(head, /transfer-encoding|HTTP\/1\.1 103/i);
    assert.equal(body, { '/app/trailers': 'a body', '/app/hints': 'after hints' }[target] ?? 'x'.repeat(65536));
  }
});

test('an SSE stream: every event arrives before the next one is sent', async () => {
  const client = await RawSocket.connect(gateway.listeners[0]);
  client.write('GET /raw/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n');
  const upstream = await raw.next();
  await upstream.read(1);
  upstream.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n');
  const { headers } = await client.readResponse();
  assert.equal(headers['content-type'], 'text/event-stream');
  assert.equal(headers['transfer-encoding'], 'chunked');
  for (let i = 0; i < 5; ++i) {
    const event = `data: ${i}\n\n`;
    upstream.write(event);
    const expected = `${event.length.toString(16)}\r\n${event}\r\n`;
    assert.equal((await client.read(expected.length)).toString(), expected);
  }
  upstream.socket.end();
  assert.equal((await client.read(5)).toString(), '0\r\n\r\n');
  client.destroy();
});

test('a client that leaves takes the upstream\'s connection with it', async () => {
  for (const how of ['reset', 'destroy']) {
    const client = await RawSocket.connect(gateway.listeners[0]);
    client.write('GET /raw/events HTTP/1.1\r\nHost: x\r\n\r\n');
    const upstream = await raw.next();
    await upstream.read(1);
    upstream.write('HTTP/1.1 200 OK\r\n\r\nsome');
    await client.readResponse();
    client[how]();
    await upstream.end(); // though it has nothing more to say
  }
});

test('a client that closes its direction still gets its answer', async () => {
  const client = await RawSocket.connect(gateway.listeners[0]);
  client.write('GET /raw/half HTTP/1.1\r\nHost: x\r\n\r\n');
  client.end();
  const upstream = await raw.next();
  await upstream.read(1);
  upstream.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nHello');
  assert.match((await client.readEnd()).bytes.toString(), /\r\n\r\nHello$/);
});

// ---- Failures

test('502, 503 and 504, each with why in the log', async () => {
  const refused = async (target, status, why) => {
    const answer = await gateway.get(target);
    assert.equal(answer.status, status);
    assert.equal(answer.headers['content-type'], 'text/plain; charset=utf-8');
    const log = await gateway.waitLog((record) => record.event === 'refused' &&
      record.path === target);
    assert.match(log.why, why);
    assert.equal(log.status, status);
    return answer;
  };
  await refused('/gone/x', 502, new RegExp(`^${goneAt}: .*refused`));
  await refused('/app/die', 502, new RegExp(`^${appAt}: connection closed before the response`));
  await refused('/raw/silent', 504, new RegExp(`^${raw.address}: no response in time`));
  await (await raw.next()).end();

  // The only connection that may be.
  const busy = await RawSocket.connect(gateway.listeners[0]);
  busy.write('GET /single/1 HTTP/1.1\r\nHost: x\r\n\r\n');
  await (await raw.next()).read(1);
  const full = await refused('/single/2', 503, /max_connections/);
  assert.equal(full.headers['retry-after'], '1');
  busy.destroy();
});

test('an upstream that dies in mid-body looks like an error to the client', async () => {
  for (const target of ['/app/cut', '/app/cut-chunks']) {
    await assert.rejects(gateway.get(target), { code: 'ECONNRESET' }, target);
  }
  // An HTTP/1.0 client, for which the end of the stream is that of the body, gets a reset. Asked with
  // Python: Node may take the one for the other when both arrive together.
  const script = `
import socket, sys
s = socket.create_connection(('${gateway.listeners[0].host}', ${gateway.listeners[0].port}))
s.sendall(b'GET /app/cut-chunks HTTP/1.0\\r\\n\\r\\n')
got = b''
try:
    while piece := s.recv(65536): got += piece
    print(got, 'end')
except ConnectionResetError: print(got, 'reset')`;
  const old = await Program.start(null, '/usr/bin/python3', ['-c', script]);
  await within(old.exited, 'the end of the HTTP/1.0 client');
  assert.match(old.output, /only this' reset/);
});

test('a 101 that nobody asked for is a 502, and its connection is gone', async () => {
  const answer = gateway.get('/raw/switch');
  const upstream = await raw.next();
  await upstream.read(1);
  upstream.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
  assert.equal((await answer).status, 502);
  await upstream.end();
});

test('what is behind a response is nobody\'s: the connection is not used again', async () => {
  const smuggled = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';
  const answer = gateway.get('/raw/twice');
  const upstream = await raw.next();
  await upstream.read(1);
  upstream.write(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood${smuggled}`);
  assert.equal(text(await answer), 'good');
  await upstream.end();
});

test('the upstream answers before it has read: the client gets the answer', async () => {
  const client = await RawSocket.connect(gateway.listeners[0]);
  client.write('POST /app/early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nsome');
  const { status, body } = await client.readResponse();
  assert.deepEqual([status, body], [413, 'full']);
  client.destroy();
});

// ---- Kept connections

test('connections to the upstream are kept, and a stale one fails no request', async () => {
  const port = await freePort();
  const start = () => new Promise((resolve) => {
    const server = http.createServer((asked, answer) => answer.end('ok'));
    server.keepAliveTimeout = 60_000;
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
  await withGateway({
    workers: 1,
    listeners: [{ address: '127.0.0.1:0' }],
    metrics: { address: '127.0.0.1:0' },
    upstreams: { it: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ path: '/*', http: { upstream: 'it' } }],
  }, async (own) => {
    let server = await start();
    let connections = 0;
    server.on('connection', () => ++connections);
    for (let i = 0; i < 20; ++i) assert.equal((await own.get('/')).status, 200);
    assert.equal(connections, 1);
    const metrics = await own.metrics();
    assert.equal(reused(metrics, 'it'), 19);
    // An idle connection is no load.
    assert.equal(metrics.get('sluice_upstream_connections_active', { upstream: 'it' }), 0);

    // Restarted again and again, with requests at the very moment.
    for (let round = 0; round < 20; ++round) {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      server = await start();
      assert.equal((await own.get('/')).status, 200, `round ${round}`);
      assert.equal((await own.get('/', { method: 'POST' })).status, 200, `round ${round}`);
    }
    server.close();
    server.closeAllConnections();
  });
});

test('a kept connection that ends as the request arrives: GET is repeated, POST is not', async () => {
  for (const [method, status] of [['GET', 200], ['POST', 502]]) {
    const prepare = gateway.get('/raw/prepare');
    const kept = await raw.next();
    await kept.read(1);
    kept.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    await prepare;
    const seenBytes = kept.bytes;
    const answer = gateway.get(`/raw/${method}`, { method });
    await kept.read(seenBytes + 1);
    kept.socket.destroy();
    if (status === 200) {
      const fresh = await raw.next();
      await fresh.read(1);
      fresh.write('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok');
    }
    assert.equal((await answer).status, status);
  }
});

// ---- Back-pressure

// How much the gateway's memory grows at most while `work` runs.
async function growthWhile(work) {
  const before = gateway.rssBytes();
  let most = before;
  const timer = setInterval(() => { most = Math.max(most, gateway.rssBytes()); }, 20);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return Math.max(most, gateway.rssBytes()) - before;
}

// Until the number has not grown for a while.
async function stops(number) {
  let last = -1;
  for (let same = 0; same < 5; same = number() === last ? same + 1 : 0) {
    last = number();
    await sleep(50);
  }
}

const size = 64 * 1024 * 1024;
const bound = 8 * 1024 * 1024;

test('an upload of 64 MB to an upstream that stops reading: bounded memory, nothing lost', async () => {
  const body = randomBytes(size);
  const grown = await growthWhile(async () => {
    const sent = http.request({ ...gateway.listeners[0], agent: false, method: 'PUT', path: '/raw/up',
      headers: { 'Content-Length': size } });
    let written = 0;
    const write = () => {
      while (written < size) {
        const piece = body.subarray(written, written += 64 * 1024);
        if (!sent.write(piece)) return sent.once('drain', write);
      }
      sent.end();
    };
    write();
    const upstream = await raw.next();
    upstream.socket.pause();
    // It stops taking: what is under way is between the two, in kernels.
    await stops(() => written);
    assert.ok(written < size - bound, `${written} bytes went somewhere`);
    upstream.socket.resume();
    await upstream.read(size + 1, patienceMs * 3);
    const bytes = upstream.received;
    const start = bytes.indexOf('\r\n\r\n') + 4;
    await until(() => upstream.bytes === start + size, 'the whole upload', patienceMs * 3);
    assert.ok(upstream.received.subarray(start).equals(body));
    upstream.write('HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    const [answer] = await within(once(sent, 'response'), 'a response');
    assert.equal(answer.statusCode, 201);
    answer.resume();
  });
  if (memoryIsOurs) assert.ok(grown < bound, `memory grew by ${grown}`);
});

for (const [route, what] of [['app', 'the usual watermarks'], ['small', 'small ones']]) {
  test(`a download of 64 MB by a client that stops reading, with ${what}`, async () => {
    const grown = await growthWhile(async () => {
      const sent = http.get({ ...gateway.listeners[0], agent: false, path: `/${route}/big?size=${size}` });
      const [answer] = await within(once(sent, 'response'), 'a response');
      answer.pause();
      await stops(() => bigBytes);
      assert.ok(bigBytes < size - bound, `${bigBytes} bytes went somewhere`);
      let got = 0;
      answer.on('data', (piece) => { got += piece.length; });
      answer.resume();
      await within(once(answer, 'end'), 'the whole download', patienceMs * 3);
      assert.equal(got, size);
    });
    if (memoryIsOurs) assert.ok(grown < bound, `memory grew by ${grown}`);
  });
}

// ---- TLS to the upstream

test('an upstream with TLS: its certificate is verified, bodies come whole', async (t) => {
  const folder = temporaryFolder();
  const { cert, key, pem } = makeCertificate(folder, 'localhost', '127.0.0.1');
  const { createServer } = await import('node:https');
  const body = randomBytes(5_000_000);
  const secure = createServer({ cert: pem, key: fs.readFileSync(key) }, (asked, answer) => {
    asked.pipe(answer);
  });
  await new Promise((resolve) => secure.listen(0, '127.0.0.1', resolve));
  t.after(() => { secure.close(); secure.closeAllConnections(); });
  const at = `127.0.0.1:${secure.address().port}`;
  await withGateway({
    workers: 1,
    listeners: [{ address: '127.0.0.1:0' }],
    upstreams: {
      known: { endpoints: [at], tls: { ca: cert } },
      unknown: { endpoints: [at], tls: {}, connect_attempts: 1 },
    },
    routes: [
      { path: '/known/*', http: { upstream: 'known' } },
      { path: '/unknown/*', http: { upstream: 'unknown' } },
    ],
  }, async (own) => {
    for (let i = 0; i < 3; ++i) {
      const answer = await request({ ...own.listeners[0], method: 'PUT', path: '/known/',
        headers: { 'Content-Length': body.length } }, body);
      assert.equal(answer.status, 200);
      assert.ok(answer.body.equals(body));
    }
    assert.equal((await own.get('/unknown/')).status, 502);
  });
});

// ---- Servers of others

describe('Debian\'s servers', () => {
  const folder = temporaryFolder();
  const big = randomBytes(3_000_000);
  fs.mkdirSync(path.join(folder, 'www'));
  fs.writeFileSync(path.join(folder, 'www/big.bin'), big);
  fs.writeFileSync(path.join(folder, 'www/index.html'), '<h1>index</h1>');

  const config = (port) => ({
    workers: 1,
    listeners: [{ address: '127.0.0.1:0' }],
    metrics: { address: '127.0.0.1:0' },
    upstreams: { it: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ path: '/www/*', http: { upstream: 'it', rewrite: '/*' } }],
  });
  const files = async (own) => {
    const whole = await own.get('/www/big.bin');
    assert.ok(whole.body.equals(big));
    assert.equal((await own.get('/www/')).body.toString(), '<h1>index</h1>');
    const head = await own.get('/www/big.bin', { method: 'HEAD' });
    assert.deepEqual([head.headers['content-length'], head.body.length], [String(big.length), 0]);
    assert.equal((await own.get('/www/none')).status, 404);
    return whole;
  };

  test('python3 -m http.server, which speaks HTTP/1.0', async (t) => {
    const port = await freePort();
    await Program.start(t, '/usr/bin/python3', ['-m', 'http.server', '--bind', '127.0.0.1', String(port)],
      { cwd: path.join(folder, 'www'), ready: () => answers(port) });
    await withGateway(config(port), async (own) => {
      await files(own);
      assert.equal(reused(await own.metrics(), 'it'), 0);
    });
  });

  test('nginx, which keeps connections', async (t) => {
    const port = await freePort();
    const file = path.join(folder, 'nginx.conf');
    fs.chmodSync(folder, 0o755);
    fs.writeFileSync(file, `
      daemon off; master_process off; pid ${folder}/pid; error_log stderr;
      events {}
      http {
        access_log off; gzip on; gzip_min_length 1; gzip_proxied any;
        client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b; fastcgi_temp_path ${folder}/c;
        uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;
        server { listen 127.0.0.1:${port}; root ${folder}/www; }
      }`);
    await Program.start(t, '/usr/sbin/nginx', ['-c', file], { ready: () => answers(port) });
    await withGateway(config(port), async (own) => {
      const whole = await files(own);
      assert.equal(whole.headers.server.split('/')[0], 'nginx');
      assert.equal(reused(await own.metrics(), 'it'), 3);
      const part = await own.get('/www/big.bin', { headers: { Range: 'bytes=10-19' } });
      assert.deepEqual([part.status, part.body], [206, big.subarray(10, 20)]);
      const etag = await own.get('/www/big.bin', { headers: { 'If-None-Match': whole.headers.etag } });
      assert.equal(etag.status, 304);
      const gzip = await own.get('/www/index.html', { headers: { 'Accept-Encoding': 'gzip' } });
      assert.equal(gzip.headers['content-encoding'], 'gzip');
    });
  });
});
