// Opening handshakes that no browser sends, over raw sockets. The numbers are the kinds of attack:
// wrong versions (1), bodies (6), h2c (7), keys (8), smuggling (9), malformed fields (10), sizes
// (11), lists (12), origins (13), line breaks (17), paths (18), authorities (19), methods (20, 21),
// slow clients (22).
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

// Row, what it is, the bytes, the status.
const table = [
  ['-', 'a good handshake', upgrade(), 101],
  ['-', 'lists and names in any case', upgrade('/echo', {
    Upgrade: 'WebSocket', Connection: null, connection: ['keep-alive', 'foo , uPGRADE'] }), 101],

  ['1', 'version 8', upgrade('/echo', { 'Sec-WebSocket-Version': '8' }), 426],
  ['1', 'version 99', upgrade('/echo', { 'Sec-WebSocket-Version': '99' }), 426],
  ['1', 'version 13 twice', upgrade('/echo', { 'Sec-WebSocket-Version': ['13', '13'] }), 426],
  ['1', 'versions 13 and 8', upgrade('/echo', { 'Sec-WebSocket-Version': '13, 8' }), 426],
  ['1', 'version 013', upgrade('/echo', { 'Sec-WebSocket-Version': '013' }), 426],
  ['1', 'no version', upgrade('/echo', { 'Sec-WebSocket-Version': null }), 426],

  ['6', 'POST', upgrade('/echo', {}, { method: 'POST' }), 405],
  ['6', 'HEAD', upgrade('/echo', {}, { method: 'HEAD' }), 405],
  ['6', 'PUT', upgrade('/echo', {}, { method: 'PUT' }), 405],
  ['6', 'a body by length', raw(`${also('Content-Length: 5')}hello`), 400],
  ['6', 'a body in chunks', raw(`${also('Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\n\r\n`), 400],

  ['7', 'h2c', upgrade('/echo', {
    Upgrade: 'h2c', Connection: 'Upgrade, HTTP2-Settings', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }), 426],
  ['7', 'h2c for a file', upgrade('/files/', {
    Upgrade: 'h2c', Connection: 'Upgrade, HTTP2-Settings', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }), 200],
  ['7', 'websocket and h2c', upgrade('/echo', { Upgrade: 'websocket, h2c' }), 426],
  ['7', 'websocket and h2c for a file', upgrade('/files/', { Upgrade: 'websocket, h2c' }), 200],
  ['7', 'websocket/13', upgrade('/echo', { Upgrade: 'websocket/13' }), 426],
  ['7', 'no Upgrade', upgrade('/echo', { Upgrade: null }), 426],
  ['7', 'no Connection', upgrade('/echo', { Connection: null }), 400],
  ['7', 'Connection: close', upgrade('/echo', { Connection: 'close' }), 400],
  ['7', 'HTTP/1.0', upgrade('/echo', {}, { version: '1.0' }), 426],

  ['8', 'no key', upgrade('/echo', { 'Sec-WebSocket-Key': null }), 400],
  ['8', 'an empty key', upgrade('/echo', { 'Sec-WebSocket-Key': '' }), 400],
  ['8', 'a key of 15 bytes', upgrade('/echo', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAA' }), 400],
  ['8', 'a key of 17 bytes', upgrade('/echo', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAAA=' }), 400],
  ['8', 'a key that is no base64', upgrade('/echo', { 'Sec-WebSocket-Key': '????????????????????????' }), 400],
  ['8', 'two keys', upgrade('/echo', { 'Sec-WebSocket-Key': [key, key] }), 400],

  ['9', 'both lengths', get('/echo', 'Content-Length: 4', 'Transfer-Encoding: chunked'), 400],
  ['9', 'two lengths', get('/files/', 'Content-Length: 4', 'Content-Length: 5'), 400],
  ['9', 'the same length twice', get('/files/', 'Content-Length: 0, 0'), 400],
  ['9', 'length +5', get('/files/', 'Content-Length: +5'), 400],
  ['9', 'length 0x5', get('/files/', 'Content-Length: 0x5'), 400],
  ['9', 'length -1', get('/files/', 'Content-Length: -1'), 400],
  ['9', 'an empty length', get('/files/', 'Content-Length:'), 400],
  ['9', 'a length of 30 digits', get('/files/', `Content-Length: ${'9'.repeat(30)}`), 400],
  ['9', 'xchunked', get('/files/', 'Transfer-Encoding: xchunked'), 400],
  ['9', 'chunked twice', get('/files/', 'Transfer-Encoding: chunked, chunked'), 400],
  ['9', 'identity', get('/files/', 'Transfer-Encoding: identity'), 400],
  ['9', 'bare LF', raw(goodText.replaceAll('\r\n', '\n')), 400],
  ['9', 'one bare LF', raw(goodText.replace('localhost\r\n', 'localhost\n')), 400],
  ['9', 'a bare CR in a value', also('X-A: a\rX-B: b'), 400],
  ['9', 'CR LF CR X', raw(`${goodText.slice(0, -2)}\rX\r\n\r\n`), 400],
  ['9', 'LF LF at the end', raw(`${goodText.slice(0, -4)}\n\n`), 400],

  ['10', 'obs-fold', also('X-A: a', ' b'), 400],
  ['10', 'a fold before the first field', raw(goodText.replace('\r\nHost', '\r\n Host')), 400],
  ['10', 'a space before the colon', also('X-A : a'), 400],
  ['10', 'a tab before the colon', also('X-A\t: a'), 400],
  ['10', 'NUL in a value', also('X-A: a\0b'), 400],
  ['10', 'a control character in a value', also('X-A: a\x01b'), 400],
  ['10', 'DEL in a value', also('X-A: a\x7fb'), 400],
  ['10', 'NUL in a name', also('X\0A: a'), 400],
  ['10', 'an empty name', also(': a'), 400],
  ['10', 'no colon', also('X-A'), 400],
  ['10', 'a name that is no token', also('X@A: a'), 400],

  ['11', '10,000 fields', also(...Array.from({ length: 10_000 }, (_, i) => `X-${i}: ${i}`)), 431],
  ['11', '101 fields', also(...Array.from({ length: 96 }, (_, i) => `X-${i}: ${i}`)), 431],
  ['11', '100 fields', also(...Array.from({ length: 95 }, (_, i) => `X-${i}: ${i}`)), 101],
  ['11', 'a field of 1 MB', also(`X-A: ${'a'.repeat(1_000_000)}`), 431],
  ['11', 'a field name of 1 MB', also(`${'X'.repeat(1_000_000)}: a`), 431],
  ['11', 'a target of 100 KB', upgrade(`/${'a'.repeat(100_000)}`), 414],
  ['11', 'a query of 100 KB', upgrade(`/echo?${'a'.repeat(100_000)}`), 414],
  ['11', 'a target over the limit by 1', upgrade(`/echo?${'a'.repeat(8192 - 5)}`), 414],
  ['11', 'a target at the limit', upgrade(`/echo?${'a'.repeat(8192 - 6)}`), 101],

  ['12', 'extensions with 10,000 parameters', upgrade('/echo', {
    'Sec-WebSocket-Extensions': `x${'; a'.repeat(9_000)}` }), 101],
  ['12', 'extensions with odd quotes', upgrade('/echo', {
    'Sec-WebSocket-Extensions': 'a; b="\\"; c="", constructor; __proto__="' }), 101],
  ['12', 'permessage-deflate with wrong bits', upgrade('/echo', {
    'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=99' }), 101],
  ['12', '4,000 subprotocols', upgrade('/protocols', {
    'Sec-WebSocket-Protocol': Array.from({ length: 4000 }, (_, i) => `p${i}`).join(',') }), 400],
  ['12', 'the subprotocol "constructor"', upgrade('/protocols', {
    'Sec-WebSocket-Protocol': 'constructor, __proto__' }), 400],
  ['12', 'quotes in a subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': '"chat"' }), 400],
  ['12', 'a subprotocol twice', upgrade('/protocols', { 'Sec-WebSocket-Protocol': 'chat, chat' }), 400],
  ['12', 'an empty subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': '' }), 400],
  ['12', 'a good subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': 'x, chat' }), 101],
  ['12', 'a good subprotocol over two fields', upgrade('/protocols', {
    'Sec-WebSocket-Protocol': ['x', 'chat'] }), 101],

  ['13', 'another origin', upgrade('/same', { Origin: 'https://evil.com' }), 403],
  ['13', 'the origin null', upgrade('/same', { Origin: 'null' }), 403],
  ['13', 'the same origin', upgrade('/same', { Host: 'me.com', Origin: 'http://me.com' }), 101],
  ['13', 'the same origin with its port', upgrade('/same', { Host: 'me.com:80', Origin: 'http://me.com' }), 101],
  ['13', 'another port', upgrade('/same', { Host: 'me.com:81', Origin: 'http://me.com' }), 403],
  ['13', 'the host as a prefix', upgrade('/same', { Host: 'me.com', Origin: 'http://me.com.evil.com' }), 403],
  ['13', 'the host as a suffix', upgrade('/same', { Host: 'me.com', Origin: 'http://evilme.com' }), 403],
  ['13', 'the host as a user', upgrade('/same', { Host: 'me.com', Origin: 'http://me.com@evil.com' }), 403],
  ['13', 'no origin', upgrade('/same'), 101],
  ['13', 'a listed origin', upgrade('/listed', { Origin: 'https://good.com' }), 101],
  ['13', 'a listed origin in capitals', upgrade('/listed', { Origin: 'HTTPS://GOOD.com:443' }), 101],
  ['13', 'a listed origin as a prefix', upgrade('/listed', { Origin: 'https://good.com.evil.com' }), 403],
  ['13', 'a listed origin with a path', upgrade('/listed', { Origin: 'https://good.com/x' }), 403],
  ['13', 'a listed origin, another scheme', upgrade('/listed', { Origin: 'http://good.com' }), 403],
  ['13', 'a listed origin, another port', upgrade('/listed', { Origin: 'https://good.com:8443' }), 403],
  ['13', 'the same origin where others are listed', upgrade('/listed', {
    Host: 'me.com', Origin: 'http://me.com' }), 403],
  ['13', 'null where it is listed', upgrade('/listed', { Origin: 'null' }), 101],
  ['13', 'two origins', upgrade('/listed', { Origin: ['https://good.com', 'https://evil.com'] }), 403],
  ['13', 'no origin where one is required', upgrade('/browsers'), 403],

  ['17', 'an escaped line break in the path', upgrade('/echo%0d%0aX-A:%20a'), 400],
  ['17', 'an escaped NUL in the path', upgrade('/echo%00'), 400],
  ['17', 'a line break in Host', upgrade('/echo', { Host: 'a\r\n b' }), 400],
  ['17', 'a space in the target', upgrade('/ec ho'), 400],
  ['17', 'a CR in the target', upgrade('/ec\rho'), 400],
  ['17', 'a tab in the target', upgrade('/ec\tho'), 400],
  ['17', 'a CR in a subprotocol', upgrade('/protocols', { 'Sec-WebSocket-Protocol': 'ch\rat' }), 400],

  ['18', 'dot segments', upgrade('/files/../echo'), 101],
  ['18', 'escaped dot segments', upgrade('/files/%2e%2E/echo'), 101],
  ['18', 'two slashes', upgrade('//echo'), 101],
  ['18', 'an escaped letter', upgrade('/%65cho'), 101],
  ['18', 'above the root', upgrade('/../echo'), 400],
  ['18', 'above the root, escaped', upgrade('/%2e%2e/echo'), 400],
  ['18', 'a file above the folder', get('/files/../secret'), 404],
  ['18', 'a file above the folder, escaped', get('/files/%2e%2e/secret'), 404],
  ['18', 'a file above the folder, slash escaped', get('/files/..%2fsecret'), 400],
  ['18', 'an escaped slash', upgrade('/files%2F..%2Fecho'), 400],
  ['18', 'an escaped backslash', upgrade('/files%5C..%5Cecho'), 400],
  ['18', 'a backslash', upgrade('/files\\..\\echo'), 400],
  ['18', 'a dot segment with a parameter', upgrade('/files/..;/echo'), 400],
  ['18', 'a parameter', upgrade('/echo;x=1'), 404],
  ['18', 'a fragment', upgrade('/echo#x'), 400],
  ['18', 'other capitals', upgrade('/ECHO'), 404],
  ['18', 'overlong UTF-8', upgrade('/%c0%afecho'), 400],
  ['18', 'UTF-8 that is not escaped', upgrade('/\xc3\xa9'), 400],
  ['18', 'a broken escape', upgrade('/echo%2'), 400],
  ['18', 'escaped twice', upgrade('/%252e%252e/echo'), 404],
  ['18', 'no slash', upgrade('echo'), 400],

  ['19', 'absolute form', upgrade('http://localhost/echo'), 101],
  ['19', 'absolute form, another host', upgrade('http://evil.com/echo'), 400],
  ['19', 'absolute form with a user', upgrade('http://me@localhost/echo'), 400],
  ['19', 'absolute form of another scheme', upgrade('ftp://localhost/echo'), 400],
  ['19', 'two Hosts', upgrade('/echo', { Host: ['localhost', 'localhost'] }), 400],
  ['19', 'an empty Host', upgrade('/echo', { Host: '' }), 400],
  ['19', 'no Host', upgrade('/echo', { Host: null }), 400],
  ['19', 'a Host that is a list', upgrade('/echo', { Host: 'a.test, b.test' }), 400],
  ['19', 'a Host with a user', upgrade('/echo', { Host: 'me@localhost' }), 400],
  ['19', 'a Host with a path', upgrade('/echo', { Host: 'localhost/echo' }), 400],
  ['19', 'a port out of range', upgrade('/echo', { Host: 'localhost:65536' }), 400],
  ['19', 'the host of a route, in capitals', upgrade('/host', { Host: 'A.Test:8080' }), 101],
  ['19', 'not the host of the route', upgrade('/host', { Host: 'b.test' }), 404],
  ['19', 'the host of the route as a prefix', upgrade('/host', { Host: 'a.test.evil.com' }), 404],

  ['20', 'CONNECT', head('CONNECT localhost:80 HTTP/1.1', 'Host: localhost:80'), 501],
  ['20', 'CONNECT with a path', upgrade('/echo', {}, { method: 'CONNECT' }), 501],
  ['20', 'an unknown method', upgrade('/echo', {}, { method: 'FETCH' }), 501],
  ['20', 'a method in small letters', upgrade('/echo', {}, { method: 'get' }), 501],
  ['20', 'TRACE', head('TRACE /files/ HTTP/1.1', 'Host: localhost'), 405],
  ['20', 'OPTIONS *', head('OPTIONS * HTTP/1.1', 'Host: localhost'), 404],
  ['20', 'GET *', head('GET * HTTP/1.1', 'Host: localhost'), 400],

  ['21', 'the preface of HTTP/2', raw('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 505],
  ['21', 'HTTP/2.0', upgrade('/echo', {}, { version: '2.0' }), 505],
  ['21', 'HTTP/0.9', raw('GET /echo\r\n\r\n'), 400],
  ['21', 'HTTP/1.2', upgrade('/echo', {}, { version: '1.2' }), 505],
  ['21', 'HTTP/11', raw(goodText.replace('HTTP/1.1', 'HTTP/11')), 400],

  ['-', 'TLS on a plain port', Buffer.from('16030100c8010000c403032e3a5b', 'hex'), 400],
  ['-', 'no path of ours', upgrade('/nowhere'), 404],
  ['-', 'a WebSocket where files are', upgrade('/files/'), 404],
  ['-', 'a plain request where a WebSocket is', get('/echo'), 426],
  ['-', 'a plain request to no path of ours', get('/'), 404],
];

// ---- What is done with each of them

const ofRow = (row, what) => `row ${row}: ${what}`;

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

function checkRefusal(row, response, method) {
  const { status, headers, body } = response;
  if (status === 200) return;
  assert.match(headers['content-type'] ?? '', /^text\/plain/, 'the reason is text');
  if (method !== 'HEAD') {
    assert.ok(body.trim().length > 5 && body.length < 200, `a short body says why: ${body}`);
  }
  if (status === 426 && row === '1') assert.equal(headers['sec-websocket-version'], '13');
  if (status === 426) assert.equal(headers.upgrade, 'websocket');
  if (status === 405) assert.ok(headers.allow);
  assert.equal(headers['sec-websocket-accept'], undefined);
}

describe('every handshake has its answer', () => {
  for (const [row, what, bytes, wanted] of table) {
    test(`${ofRow(row, what)} → ${wanted}`, async () => {
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
          checkRefusal(row, response, bytes.toString('latin1', 0, 4).trim());
        }
        if (status === 400 && ['9', '10'].includes(row)) {
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

describe('slow clients (row 22)', () => {
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
