// Rows 2 to 5, 14, 15, 44, 45, 50 and 51: upstreams that answer as none should, clients that reach
// for what is behind the gateway, and names that change.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocketServer } from 'ws';
import { Client } from '../support/client.mjs';
import { echoConfig, memoryIsOurs, sluice, temporaryFolder, testPlugin, until }
  from '../support/gateway.mjs';
import { RawSocket, acceptKey, frame, upgrade } from '../support/raw.mjs';
import { Server } from '../support/services.mjs';
import { each, hostileTable } from './table.mjs';
import { Upstream, switching } from '../support/upstream.mjs';

const upstream = await Upstream.start();
const elsewhere = await Server.listen();
const named = http.createServer((_, response) => response.end('ok'));
new WebSocketServer({ server: named }).on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});
await once(named.listen(0, '127.0.0.1'), 'listening');
after(() => { elsewhere.close(); named.close(); named.closeAllConnections(); });
let reached = 0;
elsewhere.server.on('connection', () => { ++reached; });

const folder = temporaryFolder();
const names = path.join(folder, 'names');
// LD_PRELOAD takes no path with a space, as a clone's may be.
const preloaded = path.join(folder, 'names.so');
fs.symlinkSync(testPlugin('names'), preloaded);
const { port } = named.address();
const setNames = (...addresses) => {
  fs.writeFileSync(`${names}.new`, ['changing.test', ...addresses].join(' ') + '\n');
  fs.renameSync(`${names}.new`, names);
};
setNames('127.0.0.1');

const megabyte = 1024 * 1024;
const smuggled = 'GET /app/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n';

// What a client is told if the upstream answers its upgrade so, and that the upstream is left:
// "502, upstream closed".
async function told(gateway, reply, options) {
  const { client, peer, headers, size } = await upstream.attempt(gateway, options);
  if (options?.more) await sleep(50); // nothing may happen
  assert.equal(peer.bytes, size, 'nothing was sent ahead of the 101');
  peer.write(reply(headers));
  const { status, headers: fields } = await client.readResponse();
  client.end();
  const { bytes } = await client.readEnd();
  await peer.end();
  peer.socket.destroy();
  client.destroy();
  assert.equal(peer.bytes, size, 'nothing was sent behind the answer');
  return `${status}${fields.upgrade ? ` with Upgrade: ${fields.upgrade}` : ''}, ` +
    `${bytes.length ? `${bytes.length} more bytes, ` : ''}upstream closed`;
}

const invalid = async (gateway) =>
  (await gateway.metrics()).get('sluice_upstream_handshake_invalid_total');

// The fields that the upstream is sent with an upgrade.
async function passed(gateway, fields, listener = 0) {
  const client = await RawSocket.connect(gateway.listeners[listener]);
  client.write(upgrade('/app/x', fields));
  const { peer, headers } = await upstream.next();
  peer.socket.destroy();
  client.destroy();
  return headers;
}

// What the next client of the route whose upstream has a name gets: "served", or the status.
async function namedAnswer(gateway) {
  const { status } = await gateway.get('/named/x');
  return status === 200 ? 'served' : `${status}`;
}

const lookups = () => fs.readFileSync(`${names}.asked`, 'utf8').split('\n').length;

// Gives the name other addresses, and waits until the gateway has asked for them.
async function rename(...addresses) {
  setNames(...addresses);
  const before = lookups();
  // The first may have begun before; when the second has, the first one's answer is in use.
  await until(() => lookups() > before + 1, 'the name is looked up again');
}

// 127.1.0.1 and so on, where nobody listens.
const nobody = (count) => Array.from({ length: count }, (_, i) => `127.1.${(i + 1) >> 8}.${(i + 1) & 255}`);

const other = acceptKey('AAAAAAAAAAAAAAAAAAAAAA==');
const own = (headers) => acceptKey(headers['sec-websocket-key']);

hostileTable('Upstreams', {
  config: () => echoConfig({
    listeners: [{ address: '127.0.0.1:0' }, { address: `unix:${folder}/proxy.sock` }],
    trusted_proxies: ['unix'],
    upstreams: { named: { endpoints: [`changing.test:${port}`], dns_refresh: '1s', max_idle_connections: 'off' } },
    routes: [
      { path: '/echo', plugin: 'echo' },
      { path: '/app/*', http: { upstream: upstream.address }, allowed_origins: ['*'] },
      { path: '/named/*', http: { upstream: 'named' }, allowed_origins: ['*'] },
      { path: '/token', tcp: { tokens: { good: upstream.address } } },
      { path: '/token/{token}', tcp: { tokens: { good: upstream.address } } },
    ],
  }),
  options: {
    folder,
    env: {
      LD_PRELOAD: preloaded,
      SLUICE_TEST_NAMES: names,
      ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:verify_asan_link_order=0`,
    },
  },
  honest: (gateway) => upstream.serveHonestly(gateway),
}, [
  ...['200 OK', '403 Forbidden', '426 Upgrade Required'].map((status) => ({
    row: 2, input: `a request behind the upgrade, answered with ${status}`,
    expected: `${status.slice(0, 3)}, upstream closed`,
    run: (gateway) => told(gateway, () => `HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`, { more: smuggled }),
  })),

  { row: 3, input: '200 with Upgrade: websocket', expected: '200, upstream closed',
    run: (gateway) => told(gateway,
      (headers) => switching(headers, { 'Content-Length': '0' }, 'HTTP/1.1 200 OK')) },

  ...each(4, {
    'a 101 for a plain GET': upgrade('/app/x', { Upgrade: null, Connection: null }),
    'a 101 for a POST': Buffer.from('POST /app/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n'),
    'a 101 for Upgrade: h2c': upgrade('/app/x', { Upgrade: 'h2c' }),
  }, '502, upstream closed', async (gateway, bytes) => {
    const client = await RawSocket.connect(gateway.listeners[0]);
    client.write(bytes);
    const { peer } = await upstream.next();
    peer.write(switching({ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' }));
    const { status } = await client.readResponse();
    client.destroy();
    await peer.end();
    peer.socket.destroy();
    return `${status}, upstream closed`;
  }),

  ...each(5, {
    'no Sec-WebSocket-Accept': { 'Sec-WebSocket-Accept': null }, 'the accept of another key': { 'Sec-WebSocket-Accept': other },
    'two accepts, the first right': (headers) => ({ 'Sec-WebSocket-Accept': [own(headers), other] }),
    'the right accept twice': (headers) => ({ 'Sec-WebSocket-Accept': [own(headers), own(headers)] }),
    'no Upgrade': { Upgrade: null }, 'Upgrade: websocket twice': { Upgrade: ['websocket', 'websocket'] },
    'Upgrade: websocket, h2c': { Upgrade: 'websocket, h2c' }, 'no Connection': { Connection: null },
    'a subprotocol that was not offered': { 'Sec-WebSocket-Protocol': 'amqp' },
    'two subprotocols': { 'Sec-WebSocket-Protocol': ['chat', 'mqtt'] },
    'an extension that was not offered': { 'Sec-WebSocket-Extensions': 'x-odd' },
  }, '502, upstream closed, counted', async (gateway, fields) => {
    const before = await invalid(gateway);
    const seen = await told(gateway,
      (headers) => switching(headers, typeof fields === 'function' ? fields(headers) : fields),
      { fields: { 'Sec-WebSocket-Protocol': 'chat, mqtt' } });
    return seen + (await invalid(gateway) === before + 1 ? ', counted' : ', not counted');
  }),

  { row: 14, input: 'Connection: X-Forwarded-For, X-Auth-User, Cookie', expected: 'ours is there, the others are not',
    async run(gateway) {
      const headers = await passed(gateway, {
        Connection: 'Upgrade, X-Forwarded-For, X-Auth-User, Cookie', 'X-Auth-User': 'root', Cookie: 'a=1',
        'X-Forwarded-For': '10.0.0.1' });
      const left = ['x-auth-user', 'cookie'].filter((name) => name in headers);
      return headers['x-forwarded-for'] === '127.0.0.1' && left.length === 0 && headers.connection === 'Upgrade'
        ? 'ours is there, the others are not' : JSON.stringify(headers);
    } },
  { row: 15, input: 'spoofed X-Forwarded-*, Forwarded, X_Forwarded_Proto', expected: 'nothing of them passes',
    async run(gateway) {
      const headers = await passed(gateway, {
        'X-Forwarded-For': '10.6.6.6', 'X-Forwarded-Proto': '10.6.6.6', 'X-Forwarded-Host': '10.6.6.6',
        'X-Forwarded-User': '10.6.6.6', 'X-Real-IP': '10.6.6.6', Forwarded: 'for=10.6.6.6', X_Forwarded_Proto: '10.6.6.6' });
      const found = Object.entries(headers).filter(([name, value]) => value.includes('10.6.6.6') || name.includes('_'));
      return found.length === 0 ? 'nothing of them passes' : JSON.stringify(found);
    } },
  { row: 15, input: 'the same from a trusted proxy', expected: 'passes, X_Forwarded_Proto does not',
    async run(gateway) {
      const headers = await passed(gateway, {
        'X-Forwarded-For': '10.6.6.6', 'X-Forwarded-Proto': 'https', X_Forwarded_Proto: 'https' }, 1);
      return headers['x-forwarded-for'].startsWith('10.6.6.6') && headers['x-forwarded-proto'] === 'https' &&
        !('x_forwarded_proto' in headers) ? 'passes, X_Forwarded_Proto does not' : JSON.stringify(headers);
    } },

  ...each(44, { '301': '301 Moved', '302': '302 Found', '307': '307 Temporary Redirect' },
    '502, upstream closed, nobody else asked', async (gateway, status) => {
      const before = reached;
      const seen = await told(gateway, () =>
        `HTTP/1.1 ${status}\r\nLocation: http://${elsewhere.address}/\r\nContent-Length: 0\r\n\r\n`,
      { fields: { Authorization: 'Basic secret' } });
      return `${seen}, ${reached === before ? 'nobody else' : 'another'} asked`;
    }).map((entry) => ({ ...entry, input: `a redirect with ${entry.input}` })),

  { row: 45, input: `a message of ${memoryIsOurs ? '3 GB' : '300 MB'} in one frame`, expected: 'passed on whole, less than 4 MiB more',
    async run(gateway) {
      const size = (memoryIsOurs ? 3000 : 300) * 1_000_000;
      const { client, peer } = await upstream.open(gateway);
      const before = gateway.rssBytes();
      let most = 0;
      let came = 0;
      peer.socket.removeAllListeners('data').on('data', (piece) => { came += piece.length; }).resume();
      client.write(frame('binary', '', { length: size }));
      const block = Buffer.alloc(1_000_000);
      for (let sent = 0; sent < size; sent += block.length) {
        await new Promise((resolve) => client.socket.write(block, resolve));
        if (sent % 50_000_000 === 0) most = Math.max(most, gateway.rssBytes() - before);
      }
      await until(() => came >= size, 'all of it', 60_000);
      client.destroy();
      await peer.end();
      peer.socket.destroy();
      return `${came > size && came < size * 1.001 ? 'passed on whole' : `${came} bytes`}, ` +
        `${most < 4 * megabyte || !memoryIsOurs ? 'less than 4 MiB' : `${most} bytes`} more`;
    } },

  ...each(50, {
    '?token=ADDRESS': `/token?token=${elsewhere.address}`,
    '/token/ADDRESS': `/token/${elsewhere.address}`,
    '?token=169.254.169.254:80': '/token?token=169.254.169.254:80',
    'a token of 4,000 bytes': `/token?token=${'a'.repeat(4000)}`,
  }, '404, nobody asked', async (gateway, target) => {
    const [before, asked] = [reached, upstream.asked];
    const { status } = await Client.refused(gateway.url(target));
    return `${status}, ${reached === before && upstream.asked === asked ? 'nobody' : 'somebody'} asked`;
  }),
  ...each(50, {
    'Host: ADDRESS': upgrade('/app/x', { Host: elsewhere.address }),
    '?target=ADDRESS': upgrade(`/app/x?target=http://${elsewhere.address}/`),
    'absolute form with ADDRESS': upgrade(`http://${elsewhere.address}/app/x`, { Host: elsewhere.address }),
  }, 'the configured upstream asked, nobody else', async (gateway, bytes) => {
    const before = reached;
    const client = await RawSocket.connect(gateway.listeners[0]);
    client.write(bytes);
    const { peer } = await upstream.next();
    peer.socket.destroy();
    client.destroy();
    return `the configured upstream asked, ${reached === before ? 'nobody else' : 'somebody else too'}`;
  }),
  ...each(50, {
    'a name of 300 bytes in the configuration': `${'a.'.repeat(150)}test:80`,
    'a parameter in the place of an upstream': '{host}:80',
    'a URL in the place of an address': 'http://127.0.0.1:80',
  }, 'check: 2, with the place', async (_, address) => {
    const file = path.join(folder, 'check.yaml');
    fs.writeFileSync(file, `listeners: [{ address: "127.0.0.1:0" }]\nroutes:\n  - path: /x\n    http: { upstream: "${address}" }\n`);
    const { code, stderr } = await sluice(['check', file]);
    return `check: ${code}, ${/check\.yaml:4:\d+: /.test(stderr) ? 'with the place' : stderr}`;
  }),

  { row: 51, input: 'a name without an address, then with 1,000, with 1,000 and the good one last, with another, as before',
    expected: 'served, served, 502, 502, served; the open socket stays',
    async run(gateway) {
      const client = await Client.open(gateway.url('/named/ws'));
      const seen = [];
      for (const addresses of [[], ['127.0.0.1', ...nobody(999)], [...nobody(999), '127.0.0.1'],
        nobody(1), ['127.0.0.1']]) {
        await rename(...addresses);
        seen.push(await namedAnswer(gateway));
      }
      await client.echoes('still there');
      await client.close(1000);
      return `${seen.join(', ')}; the open socket stays`;
    } },
]);
