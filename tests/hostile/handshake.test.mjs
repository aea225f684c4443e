// Rows 1, 6 to 13, 17 to 20, 22, 26 and 48: opening handshakes, each sent to a route with an upstream, which
// must not hear of those that are refused.
import assert from 'node:assert/strict';
import { Client } from '../support/client.mjs';
import { echoConfig, slowness, until, withGateway } from '../support/gateway.mjs';
import { RawSocket, frame, upgrade } from '../support/raw.mjs';
import { each, hostileTable } from './table.mjs';
import { Upstream } from '../support/upstream.mjs';

const upstream = await Upstream.start();

const handshakeMs = 1000;

const raw = (text) => Buffer.from(text, 'latin1');
const get = (target, ...fields) =>
  raw(`GET ${target} HTTP/1.1\r\n${['Host: localhost', ...fields, '', ''].join('\r\n')}`);
const app = (fields, options) => upgrade('/app/x', fields, options);
const appText = app().toString('latin1');
const also = (...lines) => raw(appText.replace(/\r\n$/, `${lines.join('\r\n')}\r\n\r\n`));
const fields = (count) => Array.from({ length: count }, (_, i) => `X-${i}: ${i}`);

// "426", "400 and close", "101"; and what became of the upstream, if it was asked at all.
async function answer(gateway, bytes, more = () => '') {
  const asked = upstream.asked;
  const socket = await RawSocket.connect(gateway.listeners[0]);
  try {
    socket.write(bytes);
    const head = bytes.subarray(0, 5).toString() === 'HEAD ';
    const response = await socket.readResponse({ head });
    let seen = `${response.status}`;
    if (response.headers.connection === 'close') {
      socket.end(); // we have said all we had to
      const { bytes: rest } = await socket.readEnd();
      seen += rest.length === 0 ? ' and close' : ` and ${rest.length} more bytes`;
    }
    if (upstream.asked !== asked) seen += ', upstream asked';
    return seen + await more(response, socket);
  } finally {
    socket.destroy();
  }
}

const version = (response) => `, says ${response.headers['sec-websocket-version']}`;

// What the upstream is asked for, and then gives the client: "asked for /app/b".
async function forwarded(gateway, bytes) {
  const socket = await RawSocket.connect(gateway.listeners[0]);
  socket.write(bytes);
  const { peer, line, headers } = await upstream.next();
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok');
  const { status } = await socket.readResponse();
  socket.destroy();
  await peer.end();
  peer.socket.destroy();
  return { status, target: line.split(' ')[1], headers };
}

// Milliseconds for one such handshake, which is answered with `status`.
async function timeOf(gateway, bytes, status) {
  const rounds = 20;
  const start = performance.now();
  for (let i = 0; i < rounds; ++i) assert.equal(await answer(gateway, bytes), status);
  return (performance.now() - start) / rounds;
}

// Opens at /echo with the fields, and gets its echo.
const opens = (gateway, added) => answer(gateway, upgrade('/echo', added), async (response, socket) => {
  if (response.status !== 101) return '';
  socket.write(frame('text', 'hello'));
  const echo = (await socket.readFrame()).payload.toString() === 'hello' ? ', echoes' : ', silent';
  const { 'sec-websocket-extensions': extensions, 'sec-websocket-protocol': protocol } = response.headers;
  return `${echo}${extensions ? `, extension ${extensions}` : ''}${protocol ? `, protocol ${protocol}` : ''}`;
});

// Bytes one by one, for as long as the gateway listens: how it ended, and whether by the deadline.
async function drip(gateway, bytes) {
  const socket = await RawSocket.connect(gateway.listeners[0]);
  const start = performance.now();
  socket.write(bytes);
  const dripping = setInterval(() => socket.write(Buffer.from('x')), 50);
  try {
    const { status, headers } = await socket.readResponse();
    socket.end();
    await socket.readEnd();
    const took = performance.now() - start;
    const inTime = took > handshakeMs * 0.9 && took < handshakeMs * 3 ? 'at the deadline' : `after ${took} ms`;
    return `${status} and ${headers.connection} ${inTime}`;
  } finally {
    clearInterval(dripping);
    socket.destroy();
  }
}

const base64Key = 'dGhlIHNhbXBsZSBub25jZQ==';

hostileTable('Handshakes', {
  config: () => echoConfig({
    requests: { handshake_timeout: `${handshakeMs}ms` },
    routes: [
      { path: '/echo', plugin: 'echo', allowed_origins: ['*'], subprotocols: ['chat'] },
      { path: '/same', plugin: 'echo' },
      { path: '/listed', plugin: 'echo', allowed_origins: ['https://good.com'] },
      { path: '/browsers', plugin: 'echo', require_origin: true },
      { path: '/app/*', http: { upstream: upstream.address }, allowed_origins: ['*'] },
      { path: '/admin', plugin: 'echo' },
    ],
  }),
}, [
  ...each(1, {
    'version 8': ['8'], 'version 99': ['99'], 'version 13 twice': ['13', '13'], 'version 13, 8': ['13, 8'],
  }, '426, says 13', (gateway, value) =>
    answer(gateway, app({ 'Sec-WebSocket-Version': value }), version)),

  ...each(6, {
    'POST with Upgrade': app({}, { method: 'POST' }), 'PUT with Upgrade': app({}, { method: 'PUT' }),
    'HEAD with Upgrade': app({}, { method: 'HEAD' }),
  }, '405', answer),
  ...each(6, {
    'an upgrade with Content-Length': raw(`${also('Content-Length: 5')}hello`),
    'an upgrade in chunks': raw(`${also('Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\n\r\n`),
  }, '400 and close', answer),

  ...each(7, { 'Upgrade: h2c': 'h2c', 'Upgrade: websocket, h2c': 'websocket, h2c' },
    '200 as plain HTTP, no Upgrade at the upstream', async (gateway, value) => {
      const { status, headers } = await forwarded(gateway, app({
        Upgrade: value, Connection: 'Upgrade, HTTP2-Settings', 'HTTP2-Settings': 'AAMAAABkAARAAAAAAAIAAAAA' }));
      const passed = ['upgrade', 'http2-settings', 'sec-websocket-key'].filter((name) => name in headers);
      return `${status} as plain HTTP, ${passed.join(', ') || 'no Upgrade'} at the upstream`;
    }),
  { row: 7, input: 'Upgrade: h2c for a plugin', expected: '426',
    run: (gateway) => answer(gateway, upgrade('/same', { Upgrade: 'h2c' })) },

  ...each(8, {
    'no key': null, 'an empty key': '', 'a key of 15 bytes': 'AAAAAAAAAAAAAAAAAAAA',
    'a key of 17 bytes': 'AAAAAAAAAAAAAAAAAAAAAAA=', 'a key that is no base64': '????????????????????????',
    'two keys': [base64Key, base64Key],
  }, '400', (gateway, value) => answer(gateway, app({ 'Sec-WebSocket-Key': value }))),

  ...each(9, {
    'Content-Length and Transfer-Encoding': get('/app/x', 'Content-Length: 4', 'Transfer-Encoding: chunked'),
    'two lengths': get('/app/x', 'Content-Length: 4', 'Content-Length: 5'),
    'Content-Length: +5': get('/app/x', 'Content-Length: +5'),
    'Transfer-Encoding: xchunked': get('/app/x', 'Transfer-Encoding: xchunked'),
    'a bare LF': raw(appText.replace('localhost\r\n', 'localhost\n')),
    'a bare CR': also('X-A: a\rX-B: b'),
    'CR LF CR X': raw(`${appText.slice(0, -2)}\rX\r\n\r\n`),
  }, '400 and close', answer),
  { row: 9, input: 'a chunk whose size ends with a bare LF', expected: '400 and close, body refused',
    async run(gateway) {
      const socket = await RawSocket.connect(gateway.listeners[0]);
      socket.write(raw('POST /app/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;\nhello\r\n0\r\n\r\n'));
      const { status, headers } = await socket.readResponse();
      socket.end();
      await socket.readEnd();
      const peer = await upstream.nextPeer();
      await peer.end();
      peer.socket.destroy();
      const passed = peer.received.includes('hello') ? 'passed' : 'refused';
      return `${status} and ${headers.connection}, body ${passed}`;
    } },

  ...each(10, {
    'obs-fold': also('X-A: a', ' b'), 'a space before the colon': also('X-A : a'), 'NUL in a value': also('X-A: a\0b'),
    'a control character in a value': also('X-A: a\x01b'), 'an empty name': also(': a'),
  }, '400 and close', answer),

  ...each(11, {
    '10,000 fields': also(...fields(10_000)), '101 fields': also(...fields(96)),
    'a field of 1 MB': also(`X-A: ${'a'.repeat(1_000_000)}`),
  }, '431 and close', answer),
  { row: 11, input: 'a target of 100 KB', expected: '414 and close',
    run: (gateway) => answer(gateway, upgrade(`/app/${'a'.repeat(100_000)}`)) },

  ...each(12, {
    '9,000 parameters': `x${'; a'.repeat(9_000)}`,
    '1,000 offers': Array.from({ length: 1000 }, (_, i) => `constructor; p${i}=1`).join(', '),
  }, '101, echoes', (gateway, value) => opens(gateway, { 'Sec-WebSocket-Extensions': value })),
  ...each(12, { 'odd quotes': 'a; b="\\"; c="", constructor; __proto__="' },
    '400', (gateway, value) => opens(gateway, { 'Sec-WebSocket-Extensions': value })),
  ...each(12, {
    'subprotocols constructor, __proto__': 'constructor, __proto__', 'a quoted subprotocol': '"chat"',
    'a subprotocol twice': 'chat, chat', '4,000 subprotocols': Array.from({ length: 4000 }, (_, i) => `p${i}`).join(','),
  }, '400', (gateway, value) => opens(gateway, { 'Sec-WebSocket-Protocol': value })),
  { row: 12, input: 'lists that fill a head, over and over', expected: 'cost next to nothing',
    async run(gateway) {
      const long = upgrade('/echo', {
        'Sec-WebSocket-Extensions': 'x;a="\\'.repeat(2500),
        'Sec-WebSocket-Protocol': Array.from({ length: 1500 }, (_, i) => `a${i}`).join(',') });
      const short = await timeOf(gateway, upgrade('/echo', { 'Sec-WebSocket-Protocol': 'a' }), '400');
      // A look back for each byte would be a million times a million.
      const more = await timeOf(gateway, long, '400') - short;
      return more < 5 * slowness ? 'cost next to nothing' : `cost ${more} ms more`;
    } },

  ...each(13, {
    'another origin with cookies': ['/same', 'https://evil.com'], 'Origin: null': ['/same', 'null'],
    'the host as a prefix': ['/listed', 'https://good.com.evil.com'],
    'the host as a suffix': ['/listed', 'https://evilgood.com'],
    'another scheme': ['/listed', 'http://good.com'], 'another port': ['/listed', 'https://good.com:8443'],
    'no origin where one is required': ['/browsers', null],
  }, '403', (gateway, [route, origin]) =>
    answer(gateway, upgrade(route, { Host: 'me.com', Origin: origin, Cookie: 'session=1' }))),
  ...each(13, {
    'the listed origin': ['/listed', 'https://good.com'], 'the same origin': ['/same', 'http://me.com'],
    'no origin': ['/same', null],
  }, '101', (gateway, [route, origin]) => answer(gateway, upgrade(route, { Host: 'me.com', Origin: origin }))),

  ...each(17, {
    '%0d%0a in the path': upgrade('/app/x%0d%0aX-A:%20a'), 'CR in the path': upgrade('/app/x\rX: y'),
    'LF in the path': upgrade('/app/x\nX: y'), 'a line break in Host': app({ Host: 'a\r\n b' }),
    'CR in a subprotocol': app({ 'Sec-WebSocket-Protocol': 'a\rX: y' }),
  }, '400 and close', answer),
  { row: 17, input: '%0d%0a in the query', expected: 'forwarded escaped', // it is data there
    async run(gateway) {
      const { target } = await forwarded(gateway, get('/app/x?a=%0d%0aX-A:%20a'));
      return target === '/app/x?a=%0d%0aX-A:%20a' ? 'forwarded escaped' : target;
    } },

  ...each(18, {
    '/app/../../admin': '/app/../../admin', '/%2e%2e/admin': '/%2e%2e/admin', '%2F': '/app/..%2Fadmin',
    '%5C': '/app/%5Cadmin', 'a backslash': '/app\\admin', '%00': '/app/%00', 'a fragment': '/app/x#y',
    'overlong UTF-8': '/app/%c0%ae%c0%ae/admin', '..;/': '/app/..;/admin',
  }, '400 and close', (gateway, target) => answer(gateway, upgrade(target))),
  ...each(18, { 'other capitals': '/ADMIN', 'a parameter': '/admin;x' }, '404',
    (gateway, target) => answer(gateway, upgrade(target))),
  ...each(18, {
    '/chat/../admin reaches /admin alone': '/app/../admin', '//admin': '//admin', '/app/%2e%2E/admin': '/app/%2e%2E/admin',
  }, '101', (gateway, target) => answer(gateway, upgrade(target))), // and the upstream of /app is not asked
  ...[['/app/a/../b?c/../d', '/app/b?c/../d'], ['/app//x', '/app/x'], ['/app/%61', '/app/a'], ['/app/x;y', '/app/x;y'],
    ['/app/%3F', '/app/%3F']].map(([sent, wanted]) =>
    ({ row: 18, input: sent, expected: `forwarded as ${wanted}`,
      run: async (gateway) => `forwarded as ${(await forwarded(gateway, get(sent))).target}` })),

  ...each(19, {
    'absolute form, another Host': upgrade('http://inner.example/app/x', { Host: 'outer.example' }),
    'two Hosts': app({ Host: ['localhost', 'localhost'] }), 'an empty Host': app({ Host: '' }), 'no Host': app({ Host: null }),
    'a user in the Host': app({ Host: 'me@localhost' }),
  }, '400 and close', answer),
  { row: 19, input: 'absolute form', expected: 'forwarded as /app/x',
    run: async (gateway) => `forwarded as ${(await forwarded(gateway, get('http://localhost/app/x'))).target}` },

  ...each(20, {
    'CONNECT': raw('CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\nGET / HTTP/1.1\r\n\r\n'),
    'CONNECT with a path': app({}, { method: 'CONNECT' }),
  }, '501 and close', answer),

  { row: 22, input: 'a head that trickles in', expected: '408 and close at the deadline',
    run: (gateway) => drip(gateway, app().subarray(0, 30)) },
  { row: 22, input: 'a field that trickles in', expected: '408 and close at the deadline',
    run: (gateway) => drip(gateway, raw(`${appText.slice(0, -2)}X-A: `)) },
  { row: 22, input: 'nothing at all', expected: 'closed without an answer',
    async run(gateway) {
      const socket = await RawSocket.connect(gateway.listeners[0]);
      const { ending, bytes } = await socket.readEnd();
      socket.destroy();
      assert.equal(ending, 'end');
      return bytes.length === 0 ? 'closed without an answer' : bytes.toString();
    } },

  { row: 26, input: 'PROXY, version 1, from a stranger', expected: '501 and close', // an unknown method
    run: (gateway) => answer(gateway, raw(`PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n${appText}`)) },
  { row: 26, input: 'PROXY, version 2, of 65535 bytes', expected: '400 and close',
    run: (gateway) => answer(gateway, Buffer.concat([
      Buffer.from('0d0a0d0a000d0a515549540a2111ffff', 'hex'), Buffer.alloc(65535)])) },

  { row: 48, input: 'more clients than max_connections', expected: '503 before the 101, Retry-After: 1',
    async run() {
      let seen;
      await withGateway(echoConfig({ max_connections: 1 }), async (small) => {
        const client = await Client.open(small.url());
        const { status, headers } = await Client.refused(small.url());
        await client.close(1000);
        await until(async () => (await small.get('/nowhere')).status === 404, 'there is room again');
        seen = `${status} before the 101, Retry-After: ${headers['retry-after']}`;
      });
      return seen;
    } },
]);
