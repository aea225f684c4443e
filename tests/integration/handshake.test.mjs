// Opening handshakes that no browser sends, over raw sockets: the status that answers each of them,
// and that others are served all the while.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Client, serveHonestClient } from '../support/client.mjs';
import { echoConfig, sharedGateway, temporaryFolder, testPlugin, until, withGateway }
  from '../support/gateway.mjs';
import { RawSocket, acceptKey, frame, upgrade } from '../support/raw.mjs';

const folder = temporaryFolder();
fs.mkdirSync(path.join(folder, 'www'));
fs.writeFileSync(path.join(folder, 'www/index.html'), 'the index');
fs.writeFileSync(path.join(folder, 'secret'), 'not to be served');

const gateway = sharedGateway(() => echoConfig({
  plugins: { echo: { library: 'echo.so' }, probe: { library: testPlugin('probe') } },
  routes: [
    { path: '/echo', plugin: 'echo', allowed_origins: ['*'] },
    { path: '/same', plugin: 'echo' },
    { path: '/listed', plugin: 'echo', allowed_origins: ['https://good.com', 'null'] },
    { path: '/browsers', plugin: 'echo', require_origin: true },
    { path: '/protocols', plugin: 'echo', subprotocols: ['chat'] },
    { path: '/host', host: 'a.test', plugin: 'echo' },
    { path: '/full', plugin: 'echo', limits: { max_connections: 1 } },
    { path: '/later', plugin: 'probe' },
    { path: '/files/*', static: { root: 'www' } },
  ],
}), { folder });

// ---- Requests as bytes

const key = 'dGhlIHNhbXBsZSBub25jZQ==';
const head = (...lines) => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
const get = (target, ...fields) => head(`GET ${target} HTTP/1.1`, 'Host: localhost', ...fields);
// A good handshake with lines added behind its own.
const also = (...lines) => Buffer.from(
  upgrade().toString('latin1').replace(/\r\n\r\n$/, `\r\n${lines.join('\r\n')}\r\n\r\n`), 'latin1');
const raw = (text) => Buffer.from(text, 'latin1');
const goodText = upgrade().toString('latin1');

// Kind, what it is, the bytes, the status.
const table = [
  ['good', 'a good handshake', upgrade(), 101],
  ['good', 'lists and names in any case', upgrade('/echo', {
    Upgrade: 'WebSocket', Connection: null, connection: ['keep-alive', 'foo , uPGRADE'] }), 101],

  ['version', '8', upgrade('/echo', { 'Sec-WebSocket-Version': '8' }), 426],
  ['version', '99', upgrade('/echo', { 'Sec-WebSocket-Version': '99' }), 426],
  ['version', '13 twice', upgrade('/echo', { 'Sec-WebSocket-Version': ['13', '13'] }), 426],
  ['version', '13 and 8', upgrade('/echo', { 'Sec-WebSocket-Version': '13, 8' }), 426],
  ['version', '013', upgrade('/echo', { 'Sec-WebSocket-Version': '013' }), 426],
  ['version', 'none', upgrade('/echo', { 'Sec-WebSocket-Version': null }), 426],

  ['method', 'POST', upgrade('/echo', {}, { method: 'POST' }), 405],
  ['method', 'HEAD', upgrade('/echo', {}, { method: 'HEAD' }), 405],
  ['method', 'PUT', upgrade('/echo', {}, { method: 'PUT' }), 405],
  ['body', 'by length', raw(`${also('Content-Length: 5')}hello`), 400],
  ['body', 'in chunks', raw(`${also('Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\n\r\n`), 400],

  ['upgrade', 'h2c', upgrade('/echo', {
    Upgrade: 'h2c', Connection: 'Upgrade, HTTP2-Settings', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }), 426],
  ['upgrade', 'h2c for a file', upgrade('/files/', {
    Upgrade: 'h2c', Connection: 'Upgrade, HTTP2-Settings', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }), 200],
  ['upgrade', 'websocket and h2c', upgrade('/echo', { Upgrade: 'websocket, h2c' }), 426],
  ['upgrade', 'websocket and h2c for a file', upgrade('/files/', { Upgrade: 'websocket, h2c' }), 200],
  ['upgrade', 'websocket/13', upgrade('/echo', { Upgrade: 'websocket/13' }), 426],
  ['upgrade', 'no Upgrade', upgrade('/echo', { Upgrade: null }), 426],
  ['upgrade', 'no Connection', upgrade('/echo', { Connection: null }), 400],
  ['upgrade', 'Connection: close', upgrade('/echo', { Connection: 'close' }), 400],
  ['upgrade', 'HTTP/1.0', upgrade('/echo', {}, { version: '1.0' }), 426],

  ['key', 'no key', upgrade('/echo', { 'Sec-WebSocket-Key': null }), 400],
  ['key', 'an empty key', upgrade('/echo', { 'Sec-WebSocket-Key': '' }), 400],
  ['key', 'a key of 15 bytes', upgrade('/echo', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAA' }), 400],
  ['key', 'a key of 17 bytes', upgrade('/echo', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAAA=' }), 400],
  ['key', 'a key that is no base64', upgrade('/echo', { 'Sec-WebSocket-Key': '????????????????????????' }), 400],
  ['key', 'two keys', upgrade('/echo', { 'Sec-WebSocket-Key': [key, key] }), 400],

  ['framing', 'both lengths', get('/echo', 'Content-Length: 4', 'Transfer-Encoding: chunked'), 400],
  ['framing', 'two lengths', get('/files/', 'Content-Length: 4', 'Content-Length: 5'), 400],
  ['framing', 'the same length twice', get('/files/', 'Content-Length: 0, 0'), 400],
  ['framing', 'length +5', get('/files/', 'Content-Length: +5'), 400],
  ['framing', 'length 0x5', get('/files/', 'Content-Length: 0x5'), 400],
  ['framing', 'length -1', get('/files/', 'Content-Length: -1'), 400],
  ['framing', 'an empty length', get('/files/', 'Content-Length:'), 400],
  ['framing', 'a length of 30 digits', get('/files/', `Content-Length: ${'9'.repeat(30)}`), 400],
  ['framing', 'xchunked', get('/files/', 'Transfer-Encoding: xchunked'), 400],
  ['framing', 'chunked twice', get('/files/', 'Transfer-Encoding: chunked, chunked'), 400],
  ['framing', 'identity', get('/files/', 'Transfer-Encoding: identity'), 400],
  ['framing', 'bare LF', raw(goodText.replaceAll('\r\n', '\n')), 400],
  ['framing', 'one bare LF', raw(goodText.replace('localhost\r\n', 'localhost\n')), 400],
  ['framing', 'a bare CR in a value', also('X-A: a\rX-B: b'), 400],
  ['framing', 'CR LF CR X', raw(`${goodText.slice(0, -2)}\rX\r\n\r\n`), 400],
  ['framing', 'LF LF at the end', raw(`${goodText.slice(0, -4)}\n\n`), 400],

  ['field', 'obs-fold', also('X-A: a', ' b'), 400],
  ['field', 'a fold before the first field', raw(goodText.replace('\r\nHost', '\r\n Host')), 400],
  ['field', 'a space before the colon', also('X-A : a'), 400],
  ['field', 'a tab before the colon', also('X-A\t: a'), 400],
  ['field', 'NUL in a value', also('X-A: a\0b'), 400],
  ['field', 'a control character in a value', also('X-A: a\x01b'), 400],
  ['field', 'DEL in a value', also('X-A: a\x7fb'), 400],
  ['field', 'NUL in a name', also('X\0A: a'), 400],
  ['field', 'an empty name', also(': a'), 400],
  ['field', 'no colon', also('X-A'), 400],
  ['field', 'a name that is no token', also('X@A: a'), 400],

  ['size', '10,000 fields', also(...Array.from({ length: 10_000 }, (_, i) => `X-${i}: ${i}`)), 431],
  ['size', '101 fields', also(...Array.from({ length: 96 }, (_, i) => `X-${i}: ${i}`)), 431],
  ['size', '100 fields', also(...Array.from({ length: 95 }, (_, i) => `X-${i}: ${i}`)), 101],
  ['size', 'a field of 1 MB', also(`X-A: ${'a'.repeat(1_000_000)}`), 431],
  ['size', 'a field name of 1 MB', also(`${'X'.repeat(1_000_000)}: a`), 431],
  ['size', 'a target of 100 KB', upgrade(`/${'a'.repeat(100_000)}`), 414],
  ['size', 'a query of 100 KB', upgrade(`/echo?${'a'.repeat(100_000)}`), 414],
  ['size', 'a target over the limit by 1', upgrade(`/echo?${'a'.repeat(8192 - 5)}`), 414],
  ['size', 'a target at the limit', upgrade(`/echo?${'a'.repeat(8192 - 6)}`), 101],

  ['list', 'extensions with 10,000 parameters', upgrade('/echo', {
    'Sec-WebSocket-Extensions': `x${'; a'.repeat(9_000)}` }), 101],
  ['list', 'extensions with odd quotes', upgrade('/echo', {
    'Sec-WebSocket-Extensions': 'a; b="\\"; c="", constructor; __proto__="' }), 400],
  ['list', 'permessage-deflate with wrong bits', upgrade('/echo', {
    'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=99' }), 101],
  ['list', '4,000 subprotocols', upgrade('/protocols', {
    'Sec-WebSocket-Protocol': Array.from({ length: 4000 }, (_, i) => `p${i}`).join(',') }), 400],
  ['list', 'the subprotocol "constructor"', upgrade('/protocols', {
    'Sec-WebSocket-Protocol': 'constructor, __proto__' }), 400],
  ['list', 'quotes in a subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': '"chat"' }), 400],
  ['list', 'a subprotocol twice', upgrade('/protocols', { 'Sec-WebSocket-Protocol': 'chat, chat' }), 400],
  ['list', 'an empty subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': '' }), 400],
  ['list', 'a good subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': 'x, chat' }), 101],
  ['list', 'a good subprotocol over two fields', upgrade('/protocols', {
    'Sec-WebSocket-Protocol': ['x', 'chat'] }), 101],

  ['origin', 'another origin', upgrade('/same', { Origin: 'https://evil.com' }), 403],
  ['origin', 'the origin null', upgrade('/same', { Origin: 'null' }), 403],
  ['origin', 'the same origin', upgrade('/same', { Host: 'me.com', Origin: 'http://me.com' }), 101],
  ['origin', 'the same origin with its port', upgrade('/same', { Host: 'me.com:80', Origin: 'http://me.com' }), 101],
  ['origin', 'another port', upgrade('/same', { Host: 'me.com:81', Origin: 'http://me.com' }), 403],
  ['origin', 'the host as a prefix', upgrade('/same', { Host: 'me.com', Origin: 'http://me.com.evil.com' }), 403],
  ['origin', 'the host as a suffix', upgrade('/same', { Host: 'me.com', Origin: 'http://evilme.com' }), 403],
  ['origin', 'the host as a user', upgrade('/same', { Host: 'me.com', Origin: 'http://me.com@evil.com' }), 403],
  ['origin', 'no origin', upgrade('/same'), 101],
  ['origin', 'a listed origin', upgrade('/listed', { Origin: 'https://good.com' }), 101],
  ['origin', 'a listed origin in capitals', upgrade('/listed', { Origin: 'HTTPS://GOOD.com:443' }), 101],
  ['origin', 'a listed origin as a prefix', upgrade('/listed', { Origin: 'https://good.com.evil.com' }), 403],
  ['origin', 'a listed origin with a path', upgrade('/listed', { Origin: 'https://good.com/x' }), 403],
  ['origin', 'a listed origin, another scheme', upgrade('/listed', { Origin: 'http://good.com' }), 403],
  ['origin', 'a listed origin, another port', upgrade('/listed', { Origin: 'https://good.com:8443' }), 403],
  ['origin', 'the same origin where others are listed', upgrade('/listed', {
    Host: 'me.com', Origin: 'http://me.com' }), 403],
  ['origin', 'null where it is listed', upgrade('/listed', { Origin: 'null' }), 101],
  ['origin', 'two origins', upgrade('/listed', { Origin: ['https://good.com', 'https://evil.com'] }), 403],
  ['origin', 'no origin where one is required', upgrade('/browsers'), 403],

  ['control character', 'an escaped line break in the path', upgrade('/echo%0d%0aX-A:%20a'), 400],
  ['control character', 'an escaped NUL in the path', upgrade('/echo%00'), 400],
  ['control character', 'a line break in Host', upgrade('/echo', { Host: 'a\r\n b' }), 400],
  ['control character', 'a space in the target', upgrade('/ec ho'), 400],
  ['control character', 'a CR in the target', upgrade('/ec\rho'), 400],
  ['control character', 'a tab in the target', upgrade('/ec\tho'), 400],
  ['control character', 'a CR in a subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': 'ch\rat' }), 400],

  ['path', 'dot segments', upgrade('/files/../echo'), 101],
  ['path', 'escaped dot segments', upgrade('/files/%2e%2E/echo'), 101],
  ['path', 'two slashes', upgrade('//echo'), 101],
  ['path', 'an escaped letter', upgrade('/%65cho'), 101],
  ['path', 'above the root', upgrade('/../echo'), 400],
  ['path', 'above the root, escaped', upgrade('/%2e%2e/echo'), 400],
  ['path', 'a file above the folder', get('/files/../secret'), 404],
  ['path', 'a file above the folder, escaped', get('/files/%2e%2e/secret'), 404],
  ['path', 'a file above the folder, slash escaped', get('/files/..%2fsecret'), 400],
  ['path', 'an escaped slash', upgrade('/files%2F..%2Fecho'), 400],
  ['path', 'an escaped backslash', upgrade('/files%5C..%5Cecho'), 400],
  ['path', 'a backslash', upgrade('/files\\..\\echo'), 400],
  ['path', 'a dot segment with a parameter', upgrade('/files/..;/echo'), 400],
  ['path', 'a parameter', upgrade('/echo;x=1'), 404],
  ['path', 'a fragment', upgrade('/echo#x'), 400],
  ['path', 'other capitals', upgrade('/ECHO'), 404],
  ['path', 'overlong UTF-8', upgrade('/%c0%afecho'), 400],
  ['path', 'UTF-8 that is not escaped', upgrade('/\xc3\xa9'), 400],
  ['path', 'a broken escape', upgrade('/echo%2'), 400],
  ['path', 'escaped twice', upgrade('/%252e%252e/echo'), 404],
  ['path', 'no slash', upgrade('echo'), 400],

  ['authority', 'absolute form', upgrade('http://localhost/echo'), 101],
  ['authority', 'absolute form, another host', upgrade('http://evil.com/echo'), 400],
  ['authority', 'absolute form with a user', upgrade('http://me@localhost/echo'), 400],
  ['authority', 'absolute form of another scheme', upgrade('ftp://localhost/echo'), 400],
  ['authority', 'two Hosts', upgrade('/echo', { Host: ['localhost', 'localhost'] }), 400],
  ['authority', 'an empty Host', upgrade('/echo', { Host: '' }), 400],
  ['authority', 'no Host', upgrade('/echo', { Host: null }), 400],
  ['authority', 'a Host that is a list', upgrade('/echo', { Host: 'a.test, b.test' }), 400],
  ['authority', 'a Host with a user', upgrade('/echo', { Host: 'me@localhost' }), 400],
  ['authority', 'a Host with a path', upgrade('/echo', { Host: 'localhost/echo' }), 400],
  ['authority', 'a port out of range', upgrade('/echo', { Host: 'localhost:65536' }), 400],
  ['authority', 'the host of a route, in capitals', upgrade('/host', { Host: 'A.Test:8080' }), 101],
  ['authority', 'not the host of the route', upgrade('/host', { Host: 'b.test' }), 404],
  ['authority', 'the host of the route as a prefix', upgrade('/host', { Host: 'a.test.evil.com' }), 404],

  ['method', 'CONNECT', head('CONNECT localhost:80 HTTP/1.1', 'Host: localhost:80'), 501],
  ['method', 'CONNECT with a path', upgrade('/echo', {}, { method: 'CONNECT' }), 501],
  ['method', 'an unknown method', upgrade('/echo', {}, { method: 'FETCH' }), 501],
  ['method', 'a method in small letters', upgrade('/echo', {}, { method: 'get' }), 501],
  ['method', 'TRACE', head('TRACE /files/ HTTP/1.1', 'Host: localhost'), 405],
  ['method', 'OPTIONS *', head('OPTIONS * HTTP/1.1', 'Host: localhost'), 404],
  ['method', 'GET *', head('GET * HTTP/1.1', 'Host: localhost'), 400],

  ['protocol', 'the preface of HTTP/2', raw('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 505],
  ['protocol', 'HTTP/2.0', upgrade('/echo', {}, { version: '2.0' }), 505],
  ['protocol', 'HTTP/0.9', raw('GET /echo\r\n\r\n'), 400],
  ['protocol', 'HTTP/1.2', upgrade('/echo', {}, { version: '1.2' }), 505],
  ['protocol', 'HTTP/11', raw(goodText.replace('HTTP/1.1', 'HTTP/11')), 400],

  ['protocol', 'TLS on a plain port', Buffer.from('16030100c8010000c403032e3a5b', 'hex'), 400],
  ['route', 'no path of ours', upgrade('/nowhere'), 404],
  ['route', 'a WebSocket where files are', upgrade('/files/'), 404],
  ['route', 'a plain request where a WebSocket is', get('/echo'), 426],
  ['route', 'a plain request to no path of ours', get('/'), 404],
];

// ---- What is done with each of them

async function answerTo(bytes, pieceSize) {
  const socket = await RawSocket.connect(gateway.listeners[0]);
  if (pieceSize) {
    await socket.writeInPieces(bytes, pieceSize);
  } else {
    socket.write(bytes);
  }
  const response = await socket.readResponse({ head: bytes.subarray(0, 5).toString() === 'HEAD ' });
  return { socket, ...response };
}

function checkRefusal(kind, response, method) {
  const { status, headers, body } = response;
  if (status === 200) return;
  assert.match(headers['content-type'] ?? '', /^text\/plain/, 'the reason is text');
  if (method !== 'HEAD') {
    assert.ok(body.trim().length > 5 && body.length < 200, `a short body says why: ${body}`);
  }
  if (status === 426 && kind === 'version') assert.equal(headers['sec-websocket-version'], '13');
  if (status === 426) assert.equal(headers.upgrade, 'websocket');
  if (status === 405) assert.ok(headers.allow);
  assert.equal(headers['sec-websocket-accept'], undefined);
}

describe('every handshake has its answer', () => {
  for (const [kind, what, bytes, wanted] of table) {
    test(`${kind}: ${what} → ${wanted}`, async () => {
      // Byte by byte, unless there are too many of them to wait for.
      for (const pieceSize of [0, bytes.length > 5000 ? 997 : 1]) {
        const response = await answerTo(bytes, pieceSize);
        const { socket, status } = response;
        assert.equal(status, wanted, response.body);
        if (status === 101) {
          assert.equal(response.headers['sec-websocket-accept'], acceptKey(key));
          assert.equal(response.headers['sec-websocket-extensions'], undefined);
          socket.write(frame('text', 'first'));
          assert.equal((await socket.readFrame()).payload.toString(), 'first');
        } else {
          checkRefusal(kind, response, bytes.toString('latin1', 0, 4).trim());
        }
        if (status === 400 && ['framing', 'field'].includes(kind)) {
          assert.equal(response.headers.connection, 'close');
          await socket.readEnd();
        }
        socket.destroy();
      }
    });
  }

  test('each of them was counted', async () => {
    const metrics = await gateway.metrics();
    const of = (result) => metrics.get('sluice_handshakes_total', { result });
    const count = (...statuses) => 2 * table.filter(([, , , wanted]) => statuses.includes(wanted)).length;
    assert.equal(of('accepted'), count(101));
    assert.equal(of('rejected_origin'), count(403));
    assert.equal(of('rejected_version') + of('not_websocket'), count(426));
    assert.equal(of('bad_request') + of('rejected_subprotocol'), count(400, 414, 431, 501, 505));
    assert.equal(of('rejected_subprotocol'), 2);
    assert.equal(of('method_not_allowed'), count(405) - 2); // TRACE of a file is no handshake
    assert.equal(of('no_route'), count(404));
  });

  test('an honest client is served, and no descriptor is left open', async () => {
    await serveHonestClient(gateway);
    await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
    await until(() => gateway.descriptors() < 40, 'the descriptors of the clients are closed');
  });
});

describe('requests on one connection', () => {
  const file = get('/files/');

  test('plain requests are answered one after the other (RFC 9112 9.3)', async () => {
    const socket = await RawSocket.connect(gateway.listeners[0]);
    for (let i = 0; i < 3; ++i) {
      socket.write(file);
      const { status, body } = await socket.readResponse();
      assert.deepEqual([status, body], [200, 'the index']);
    }
    socket.write(get('/nowhere'));
    assert.equal((await socket.readResponse()).status, 404);
    socket.write(file);
    assert.equal((await socket.readResponse()).status, 200);
    socket.end();
    assert.equal((await socket.readEnd()).ending, 'end');
  });

  test('pipelined requests are answered in their order (RFC 9112 9.3.2)', async () => {
    const socket = await RawSocket.connect(gateway.listeners[0]);
    const requests = [];
    for (let i = 0; i < 100; ++i) requests.push(i % 3 ? file : get(`/nowhere/${i}`));
    socket.write(Buffer.concat(requests));
    for (let i = 0; i < 100; ++i) assert.equal((await socket.readResponse()).status, i % 3 ? 200 : 404);
    socket.destroy();
  });

  test('a handshake may be the last of pipelined requests, and frames may follow it', async () => {
    const socket = await RawSocket.connect(gateway.listeners[0]);
    socket.write(Buffer.concat([file, file, upgrade(), frame('text', 'one'), frame('text', 'two')]));
    for (let i = 0; i < 2; ++i) assert.equal((await socket.readResponse()).status, 200);
    assert.equal((await socket.readResponse()).status, 101);
    assert.equal((await socket.readFrame()).payload.toString(), 'one');
    assert.equal((await socket.readFrame()).payload.toString(), 'two');
    socket.destroy();
  });

  test('what follows a refused handshake is a request, not a frame', async () => {
    const socket = await RawSocket.connect(gateway.listeners[0]);
    socket.write(Buffer.concat([upgrade('/nowhere'), file]));
    assert.equal((await socket.readResponse()).status, 404);
    assert.equal((await socket.readResponse()).body, 'the index');
    socket.write(Buffer.concat([upgrade('/nowhere'), frame('text', 'GET / HTTP/1.1\r\n\r\n')]));
    assert.equal((await socket.readResponse()).status, 404);
    assert.equal((await socket.readResponse()).status, 400);
    await socket.readEnd();
  });

  test('Connection: close is kept to, and so is HTTP/1.0', async () => {
    for (const bytes of [get('/files/', 'Connection: close'), head('GET /files/ HTTP/1.0')]) {
      const socket = await RawSocket.connect(gateway.listeners[0]);
      socket.write(Buffer.concat([bytes, file]));
      const { status, headers } = await socket.readResponse();
      assert.deepEqual([status, headers.connection], [200, 'close']);
      socket.end();
      const { ending, bytes: rest } = await socket.readEnd();
      assert.deepEqual([ending, rest.length], ['end', 0]);
    }
  });

  test('a client that ends its direction still gets its answers', async () => {
    const socket = await RawSocket.connect(gateway.listeners[0]);
    socket.socket.end(Buffer.concat([file, file]));
    for (let i = 0; i < 2; ++i) assert.equal((await socket.readResponse()).body, 'the index');
    assert.equal((await socket.readEnd()).ending, 'end');
  });

  test('a body is not taken for the next request', async () => {
    const socket = await RawSocket.connect(gateway.listeners[0]);
    const smuggled = get('/echo').toString('latin1');
    socket.write(raw(`${get('/files/', `Content-Length: ${smuggled.length}`)}${smuggled}`));
    const { headers } = await socket.readResponse();
    assert.equal(headers.connection, 'close');
    socket.end();
    assert.equal((await socket.readEnd()).bytes.length, 0);
  });

  test('the first frame may come in the segment of the handshake, or in half', async () => {
    const first = frame('text', 'with the handshake');
    for (const cut of [0, 1, 5, first.length]) {
      const socket = await RawSocket.connect(gateway.listeners[0]);
      socket.write(Buffer.concat([upgrade(), first.subarray(0, cut)]));
      assert.equal((await socket.readResponse()).status, 101);
      socket.write(first.subarray(cut));
      assert.equal((await socket.readFrame()).payload.toString(), 'with the handshake');
      socket.destroy();
    }
  });
});

test('a full route answers 503 with Retry-After, and lets in again when somebody has left', async () => {
  const client = await Client.open(gateway.url('/full'));
  const refused = await Client.refused(gateway.url('/full'));
  assert.equal(refused.status, 503);
  assert.equal(refused.headers['retry-after'], '1');
  const metrics = await gateway.metrics();
  assert.equal(metrics.get('sluice_handshakes_total', { route: '/full', result: 'rejected_limit' }), 1);
  assert.equal(metrics.get('sluice_limit_rejections_total', { limit: 'route_connections' }), 1);
  await client.close();
  await gateway.waitMetrics((m) => m.get('sluice_connections_active', { route: '/full' }) === 0);
  const next = await Client.open(gateway.url('/full'));
  await next.close();
});

describe('slow clients', () => {
  const slow = sharedGateway(() => echoConfig({
    plugins: { echo: { library: 'echo.so' }, probe: { library: testPlugin('probe') } },
    routes: [
      { path: '/echo', plugin: 'echo' },
      { path: '/later', plugin: 'probe' },
    ],
    requests: { handshake_timeout: '300ms', keep_alive_timeout: '400ms' },
  }));

  test('a request that does not end is answered with 408, however many bytes still come', async () => {
    const socket = await RawSocket.connect(slow.listeners[0]);
    socket.write(upgrade().subarray(0, 30));
    const drip = setInterval(() => socket.write(Buffer.from('x')), 20).unref();
    const { status, headers } = await socket.readResponse();
    clearInterval(drip);
    assert.deepEqual([status, headers.connection], [408, 'close']);
    socket.end();
    await socket.readEnd();
    assert.equal((await slow.metrics()).get('sluice_handshakes_total', { result: 'timeout' }), 1);
  });

  test('a second request on the connection has no longer than the first', async () => {
    const socket = await RawSocket.connect(slow.listeners[0]);
    socket.write(get('/nowhere'));
    assert.equal((await socket.readResponse()).status, 404);
    socket.write(Buffer.from('GET'));
    assert.equal((await socket.readResponse()).status, 408);
    socket.destroy();
  });

  test('a connection without a request is closed without an answer', async () => {
    const socket = await RawSocket.connect(slow.listeners[0]);
    assert.equal((await socket.readEnd()).bytes.length, 0);
    const kept = await RawSocket.connect(slow.listeners[0]);
    kept.write(get('/nowhere'));
    assert.equal((await kept.readResponse()).status, 404);
    assert.equal((await kept.readEnd()).bytes.length, 0);
  });

  test('a plugin that does not decide is answered for with 504', async () => {
    const refused = await Client.refused(slow.url('/later?later'));
    assert.equal(refused.status, 504);
    await serveHonestClient(slow);
  });
});

test('max_connections of the process answers 503 with Retry-After', async () => {
  await withGateway(echoConfig({ max_connections: 2 }), async (small) => {
    const clients = [await Client.open(small.url()), await Client.open(small.url())];
    const refused = await Client.refused(small.url());
    assert.deepEqual([refused.status, refused.headers['retry-after']], [503, '1']);
    const metrics = await small.metrics();
    assert.equal(metrics.get('sluice_limit_rejections_total', { limit: 'process_connections' }), 1);
    for (const client of clients) await client.close();
    await until(async () => (await small.get('/nowhere')).status === 404, 'there is room again');
    await serveHonestClient(small);
  });
});
