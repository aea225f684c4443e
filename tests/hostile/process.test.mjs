// Rows 46, 47, 52 to 58, 60 and 62: the process, its configuration, its plugins, what it tells of
// itself, and its end.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, WebSocket, serveHonestClient } from '../support/client.mjs';
import { Gateway, echoConfig, makeCertificate, request, slowness, sluice, temporaryFolder, testPlugin, until, withGateway }
  from '../support/gateway.mjs';
import { RawSocket, closeFrame, frame, upgrade } from '../support/raw.mjs';
import { each, hostileTable } from './table.mjs';
import { Upstream, switching } from '../support/upstream.mjs';

const upstream = await Upstream.start();
const folder = temporaryFolder();
const stalledMs = 1500 + 500 * slowness; // a stall takes one second of a deadline, however long it is


// What `sluice check`, or `run`, makes of a file: its exit code, whether it says where a mistake is,
// and `why` if that is among what it says.
async function checked(text, command = ['check'], why = '') {
  const file = path.join(temporaryFolder(), 'routes.yaml');
  fs.writeFileSync(file, text);
  const start = performance.now();
  const { code, stdout, stderr } = await sluice([...command, file]);
  const took = performance.now() - start;
  fs.rmSync(file);
  if (took > 2000 * slowness) return `${code} after ${took} ms`;
  if (/"(started|listening)"/.test(stdout)) return 'started';
  assert.ok(stderr.length < 50_000, 'the message is no bomb itself');
  const place = /routes\.yaml:\d+:\d+: /.test(stderr) ? ' with the place' : '';
  return `${code}${place}${why && stderr.includes(`: ${why}`) ? `: ${why}` : ''}`;
}

const good = `listeners: [{ address: "127.0.0.1:0" }]
plugins: { echo: { library: echo.so } }
`;
const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${'bcdefghi'.split('').map((name, i) =>
  `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(', ')}]`).join('\n')}\n`;

// The plugin's answer to a message.
async function ask(gateway, target, message) {
  const client = await Client.open(gateway.url(target), { protocols: ['one', 'two', 'three'] });
  client.send(message);
  const answer = await client.text();
  await client.close(1000);
  return answer;
}

async function closeCode(gateway, target, message) {
  const client = await Client.open(gateway.url(target));
  client.send(message);
  return `${(await client.end()).code}`;
}

// The lines of the log meanwhile.
async function logged(gateway, body) {
  const before = gateway.lines.length;
  await body();
  await serveHonestClient(gateway);
  await gateway.waitLog((log) => log.event === 'close' && log.text === 'bye' && gateway.logs.indexOf(log) >= before);
  return gateway.lines.slice(before);
}

const secret = 'eyJhbGciOiJIUzI1NiJ9';

hostileTable('The process', {
  config: () => echoConfig({
    admin: { address: `unix:${folder}/admin.sock` },
    plugins: {
      echo: { library: 'echo.so' }, flood: { library: testPlugin('flood') }, probe: { library: testPlugin('probe') },
      thrower: { library: testPlugin('thrower') }, raw_thrower: { library: testPlugin('raw_thrower') },
    },
    routes: [
      { path: '/echo', plugin: 'echo', allowed_origins: ['*'] },
      { path: '/flood', plugin: 'flood' },
      { path: '/probe', plugin: 'probe', subprotocols: ['two'] },
      { path: '/throw', plugin: 'thrower' },
      { path: '/raw-throw', plugin: 'raw_thrower' },
      { path: '/(a+)+', plugin: 'echo' },
      { path: '/app/*', http: { upstream: upstream.address }, allowed_origins: ['*'] },
      { path: '/room/{room}', plugin: 'echo', allowed_origins: ['*'] },
      { path: '/stalled', plugin: 'echo', keepalive: { ping_interval: '300ms', pong_timeout: `${stalledMs}ms` } },
    ],
  }),
  options: { folder },
  ready: (gateway) => { gateway.expectedErrors.add('plugin failed').add('plugin'); },
}, [
  { row: 46, input: '100 clients with 80 descriptors', expected: 'some shed, no spinning, the first one still echoes, then served',
    async run() {
      let seen;
      await withGateway(echoConfig({ max_connections: 10_000 }), async (gateway) => {
        gateway.expectedErrors.add('out of descriptors').add('accept failed');
        const first = await Client.open(gateway.url());
        const clients = [];
        for (let i = 0; i < 100; ++i) clients.push(await RawSocket.connect(gateway.listeners[0]));
        await gateway.waitLog({ event: 'out of descriptors' });
        const cpu = gateway.cpuSeconds();
        await sleep(500);
        const spinning = gateway.cpuSeconds() - cpu > 0.25;
        await first.echoes('still here');
        const shed = clients.filter((client) => client.ending !== null).length;
        for (const client of clients) client.destroy();
        await until(() => gateway.descriptors() < 40, 'the descriptors are closed');
        await serveHonestClient(gateway);
        await first.close(1000);
        seen = `${shed > 20 ? 'some shed' : `${shed} shed`}, ${spinning ? 'spinning' : 'no spinning'}, ` +
          'the first one still echoes, then served';
      }, { shell: 'ulimit -n 80; exec "$@"' });
      return seen;
    } },

  { row: 47, input: '300 resets in the midst of a flood', expected: '300 resets in the log, others served',
    async run(gateway) {
      const sockets = [];
      for (let i = 0; i < 300; ++i) {
        const socket = await RawSocket.open(gateway.listeners[0], '/flood');
        socket.socket.pause();
        socket.write(frame('text', '3 100000'));
        sockets.push(socket);
      }
      for (const socket of sockets) socket.reset();
      let resets = 0;
      for (const socket of sockets) resets += (await gateway.waitClose(socket)).reason === 'reset';
      return `${resets} resets in the log, others served`;
    } },
  { row: 47, input: '300 clients gone before they are accepted', expected: 'others served',
    async run(gateway) {
      gateway.kill('SIGSTOP');
      for (let i = 0; i < 300; ++i) (await RawSocket.connect(gateway.listeners[0])).reset();
      gateway.kill('SIGCONT');
      await serveHonestClient(gateway);
      return 'others served';
    } },

  ...[
    ['aliases of aliases', bomb, 'aliases (*) are not supported'],
    ['an anchor', 'workers: &a 1\n', 'anchors (&) are not supported'],
    ['a merge key that merges itself', 'log: &a\n  <<: *a\n', 'merge keys (<<) are not supported'],
    ['10,000 levels of lists', `routes: ${'['.repeat(10_000)}\n`, 'nested more than 64 levels deep'],
    ['10,000 levels of mappings', `a: ${'{a: '.repeat(10_000)}`, 'nested more than 64 levels deep'],
    ['65 levels', `a: ${'['.repeat(65)}${']'.repeat(65)}\n`, 'nested more than 64 levels deep'],
    ['a duplicate key', `${good}routes: []\nroutes: []\n`, 'duplicate key "routes"'],
    ['an unknown key', `${good}rotes: []\n`, 'unknown key "rotes" (did you mean "routes"?)'],
    ['a tab', 'listeners:\n\t- address: 127.0.0.1:0\n', 'a tab in the indentation'],
    ['NUL', 'listeners:\0\n', 'a NUL byte is not allowed'],
    ['a tag', 'routes: !!python/object/apply:os.system ["true"]\n', 'tags (!) are not supported'],
    ['two documents', `${good}---\n${good}`, 'only one document is allowed'],
    ['no UTF-8', Buffer.from([0x61, 0x3a, 0x20, 0xff, 0x0a]), 'not valid UTF-8'],
  ].map(([input, text, why]) =>
    ({ row: 52, input, expected: `2 with the place: ${why}`, run: () => checked(text, ['check'], why) })),
  { row: 52, input: '100 MB', expected: '2', run: () => checked(Buffer.alloc(100_000_000, '# comment\n')) },
  { row: 52, input: 'a file that never ends', expected: '2', run: async () => `${(await sluice(['check', '/dev/zero'])).code}` },

  { row: 53, input: 'a regular expression as a path', expected: 'matches itself alone, at once',
    async run(gateway) {
      const start = performance.now();
      const statuses = [];
      for (const target of ['/(a+)+', '/aaaa', `/${'a'.repeat(5000)}!`]) statuses.push((await gateway.get(target)).status);
      assert.deepEqual(statuses, [426, 404, 404]);
      return performance.now() - start < 200 * slowness ? 'matches itself alone, at once' : 'slowly';
    } },

  ...each(54, {
    'a certificate that is not there': { listeners: [{ address: '127.0.0.1:0' },
      { address: '127.0.0.1:0', tls: { certificates: [{ cert: 'a.crt', key: 'a.key' }] } }] },
    'a plugin that is not there': { plugins: { echo: { library: 'echo.so' }, gone: { library: './gone.so' } } },
    'a folder that is not there': { routes: [{ path: '/echo', plugin: 'echo' }, { path: '/*', static: { root: 'gone' } }] },
  }, 'run: 2, nothing started', async (_, overrides) =>
    `run: ${await checked(JSON.stringify(echoConfig(overrides)), ['run', '--config'])}, nothing started`),
  { row: 54, input: 'a key of another certificate', expected: 'run: 2, nothing started',
    async run() {
      const { cert } = makeCertificate(folder, 'one.test');
      const { key } = makeCertificate(folder, 'two.test');
      const listeners = [{ address: '127.0.0.1:0' }, { address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } }];
      return `run: ${await checked(JSON.stringify(echoConfig({ listeners })), ['run', '--config'])}, nothing started`;
    } },
  { row: 54, input: 'a second listener whose port is taken', expected: 'run: 1, nothing started',
    async run(gateway) {
      const listeners = [{ address: '127.0.0.1:0' }, { address: gateway.listeners[0].address }];
      return `run: ${await checked(JSON.stringify(echoConfig({ listeners })), ['run', '--config'])}, nothing started`;
    } },

  ...each(55, {
    'a plugin that throws': ['/throw', 'throw'], 'a plugin that throws an int': ['/throw', 'throw 42'],
    'a plugin that throws through the C interface': ['/raw-throw', 'x'],
  }, '1011', (gateway, [target, message]) => closeCode(gateway, target, message)),
  { row: 55, input: 'a plugin that throws in on_open', expected: '500',
    run: async (gateway) => `${(await Client.refused(gateway.url('/throw?open'))).status}` },
  { row: 55, input: 'calls with the number of a socket that is gone', expected: 'all refused, nobody else hit',
    async run(gateway) {
      const old = await ask(gateway, '/probe', 'last');
      const client = await Client.open(gateway.url('/probe'), { protocols: ['one', 'two', 'three'] });
      client.send(`use ${old}`);
      const seen = await client.text();
      await client.close(1000);
      // accept, reject, send, close, fail, pause, resume, set_user_data: not 0; closed (3), 0 buffered
      return /^([^0 ]\S* ){8}3 0 nothing$/.test(seen) ? 'all refused, nobody else hit' : seen;
    } },
  { row: 55, input: 'calls from another thread', expected: 'all refused, the socket goes on',
    async run(gateway) {
      const client = await Client.open(gateway.url('/probe'), { protocols: ['one', 'two', 'three'] });
      client.send('thread');
      assert.equal(await client.text(), 'meanwhile');
      const seen = await client.text();
      client.send('last');
      await client.text();
      await client.close(1000);
      return /^([^0 ]\S* ){8}3 0 nothing$/.test(seen) ? 'all refused, the socket goes on' : seen;
    } },
  ...each(55, Object.fromEntries(['other_abi', 'no_entry', 'null_table', 'short_table', 'no_message'].map((name) =>
    [`a library with ${name.replace('_', ' ')}`, name])), 'check: 2', async (_, name) =>
    `check: ${await checked(JSON.stringify(echoConfig({ plugins: { echo: { library: testPlugin(name) } } })))}`),
  { row: 55, input: 'a plugin that never returns', expected: 'the other worker serves, the end is not held up: 1, and why',
    async run() {
      const gateway = await Gateway.start(echoConfig({
        workers: 2,
        plugins: { echo: { library: 'echo.so' }, stuck: { library: testPlugin('stuck') } },
        routes: [{ path: '/echo', plugin: 'echo' }, { path: '/stuck', plugin: 'stuck' }],
        shutdown: { drain_timeout: '200ms' },
      }));
      try {
        const stuck = await RawSocket.open(gateway.listeners[0], '/stuck');
        stuck.write(frame('text', 'stop'));
        await gateway.waitLog({ event: 'plugin', text: 'stuck' });
        const descriptors = gateway.descriptors();
        for (let i = 0; i < 5; ++i) {
          await serveHonestClient(gateway);
          // The next one goes to the worker that has the fewest, which must not be the stuck one.
          await until(() => gateway.descriptors() <= descriptors, 'the honest client is gone');
        }
        gateway.kill();
        const { code } = await gateway.waitExit();
        stuck.destroy();
        const why = gateway.logs.some((log) => log.event === 'a worker is stuck' && log.workers_left === 1);
        return `the other worker serves, the end is not held up: ${code}, ${why ? 'and why' : 'and no word'}`;
      } finally {
        gateway.child.kill('SIGKILL');
      }
    } },

  { row: 56, input: 'paths, hosts, origins, agents, subprotocols and codes that clients make up', expected: 'not one series more',
    async run(gateway) {
      // One of each kind first: a status or a code that was never seen may bring its label.
      const round = async (i) => {
        const made = `made-up-${i}`;
        await gateway.get(`/${made}`, { headers: { Host: `${made}.test`, 'User-Agent': made } });
        await Client.refused(gateway.url(`/echo?${made}`), { protocols: [made] });
        const socket = await RawSocket.open(gateway.listeners[0], `/room/${made}?${made}`, {
          Host: `${made}.test`, Origin: `http://${made}.test`, 'User-Agent': made });
        socket.write(closeFrame(4000 + i, made));
        await socket.readClose();
        socket.destroy();
        await gateway.waitClose(socket);
      };
      await round(0);
      const before = (await gateway.metrics()).series();
      for (let i = 1; i < 50; ++i) await round(i);
      const metrics = await gateway.metrics();
      const fresh = metrics.series().filter((one) => !before.includes(one));
      return fresh.length === 0 && !/made-up/.test(metrics.text) ? 'not one series more' : fresh.slice(0, 3).join(' ');
    } },

  ...each(57, { '/metrics': '/metrics', '/readyz': '/readyz', '/publish/': '/publish/' }, '404 at the public listener',
    async (gateway, target) => `${(await gateway.get(target)).status} at the public listener`),
  ...each(57, { 'POST': 'POST', 'DELETE': 'DELETE' }, '405 at /metrics', async (gateway, method) =>
    `${(await gateway.getAdmin('/metrics', { method })).status} at /metrics`),
  ...each(57, { 'a publish by a page of another origin': { Origin: 'https://evil.com' },
    'a publish by a page (null)': { Origin: 'null' }, 'a publish to a name that leads here': { Host: 'evil.com' } }, '403',
  async (_, headers) => `${(await request({ socketPath: `${folder}/admin.sock`, path: '/publish/', method: 'POST',
    headers: { Host: 'localhost', ...headers } }, '{"items":[]}')).status}`),
  ...each(57, { 'admin for everybody without a key': '0.0.0.0:0', 'admin at [::] without a key': '[::]:0' }, 'check: 2 with the place',
    async (_, address) => `check: ${await checked(JSON.stringify(echoConfig({ admin: { address } })))}`),
  { row: 57, input: '/metrics behind tokens and addresses', expected: 'shows none of them',
    async run(gateway) {
      const client = await Client.open(gateway.url(`/echo?token=${secret}`));
      const { text } = await gateway.metrics();
      await client.close(1000);
      return text.includes(secret) || text.includes(`127.0.0.1:${gateway.listeners[0].port}`) ? text : 'shows none of them';
    } },

  { row: 58, input: '?token=, Authorization, Cookie', expected: 'not in the log',
    async run(gateway) {
      const lines = await logged(gateway, async () => {
        for (const target of ['/echo', '/none', '/app/x']) {
          const socket = await RawSocket.connect(gateway.listeners[0]);
          socket.write(upgrade(`${target}?token=${secret}`, { Authorization: `Bearer ${secret}`, Cookie: `a=${secret}` }));
          if (target === '/app/x') (await upstream.nextPeer()).socket.destroy();
          await socket.readResponse();
          socket.destroy();
        }
      });
      return lines.find((line) => line.includes(secret)) ?? 'not in the log';
    } },
  { row: 58, input: 'Sec-WebSocket-Protocol: bearer, refused', expected: 'not in the log',
    async run(gateway) {
      const lines = await logged(gateway, () => Client.refused(gateway.url('/echo'), { protocols: [`bearer.${secret}`] }));
      return lines.find((line) => line.includes(secret)) ?? 'not in the log';
    } },
  { row: 58, input: 'Sec-WebSocket-Protocol: bearer, which the upstream takes', expected: '101, not in the log',
    async run(gateway) {
      let status;
      const lines = await logged(gateway, async () => {
        const token = `bearer.${secret}`;
        const { client, peer, headers } = await upstream.attempt(gateway, { fields: { 'Sec-WebSocket-Protocol': token } });
        peer.write(switching(headers, { 'Sec-WebSocket-Protocol': token }));
        ({ status } = await client.readResponse());
        client.destroy();
        await gateway.waitClose(client);
        peer.socket.destroy();
      });
      return `${status}, ${lines.find((line) => line.includes(secret)) ?? 'not in the log'}`;
    } },
  { row: 58, input: 'line breaks, quotes and escapes in all that is logged', expected: 'one printable JSON line each',
    async run(gateway) {
      const odd = 'http://x\xff"},{"event":"forged\x80\x9b[31m';
      const lines = await logged(gateway, async () => {
        for (const target of ['/room/a%22%7D%E2%80%A8%C2%85x', '/none/%22,%22event%22:%22forged', '/room/%0a{']) {
          const socket = await RawSocket.connect(gateway.listeners[0]);
          socket.write(upgrade(target, { Origin: odd, 'User-Agent': odd }));
          const { status } = await socket.readResponse();
          if (status === 101) {
            socket.write(frame('close', Buffer.concat([Buffer.from([15, 160]), Buffer.from('a\n"}\u2028\x7f')])));
            await socket.readClose();
          }
          socket.destroy();
          if (status === 101) await gateway.waitClose(socket);
        }
      });
      const broken = lines.find((line) => !/^[\x20-\x7e]*$/.test(line) || JSON.parse(line).event === 'forged');
      return broken ?? 'one printable JSON line each';
    } },

  { row: 60, input: 'the process is stopped for longer than pong_timeout', expected: '20 of 20 open, no pong timeouts',
    async run(gateway) {
      const pings = (m) => m.get('sluice_frames_total', { route: '/stalled', direction: 'upstream_to_client', opcode: 'ping' });
      const clients = [];
      for (let i = 0; i < 20; ++i) clients.push(await Client.open(gateway.url('/stalled')));
      const pinged = clients.map(() => 0);
      clients.forEach((client, i) => client.socket.on('ping', () => { ++pinged[i]; }));
      // Each has a ping to answer, and does so only when the gateway does not run.
      for (const client of clients) client.socket.pause();
      await gateway.waitMetrics((m) => pings(m) >= clients.length);
      gateway.kill('SIGSTOP');
      for (const client of clients) client.socket.resume();
      await sleep(stalledMs + 500);
      gateway.kill('SIGCONT');
      await until(() => clients.every((client, i) => pinged[i] >= 2 || client.socket.readyState !== WebSocket.OPEN), 'pings');
      const open = clients.filter((client) => client.socket.readyState === WebSocket.OPEN);
      for (const client of open) await client.close(1000);
      const timeouts = (await gateway.metrics()).get('sluice_pong_timeouts_total', { route: '/stalled' });
      return `${open.length} of 20 open, ${timeouts || 'no'} pong timeouts`;
    } },

  { row: 62, input: 'SIGTERM in the midst of a message', expected: 'the message is echoed whole, then 1001; exit 0',
    async run() {
      let seen;
      await withGateway(echoConfig(), async (gateway) => {
        const raw = await RawSocket.open(gateway.listeners[0]);
        raw.write(frame('text', 'one half ', { fin: false }));
        const idle = await Client.open(gateway.url());
        await gateway.waitMetrics((m) => m.get('sluice_frames_total', { direction: 'client_to_upstream', opcode: 'text' }) === 1);
        gateway.kill();
        assert.equal((await idle.end()).code, 1001);
        raw.write(Buffer.concat([frame('continuation', 'and the other'), frame('text', 'too late')]));
        const { payload } = await raw.readFrame();
        const { code } = await raw.readFrame();
        raw.write(closeFrame(1001));
        await raw.readEnd();
        const exit = await gateway.waitExit();
        const whole = payload.toString() === 'one half and the other' ? 'the message is echoed whole' : payload;
        seen = `${whole}, then ${code}; exit ${exit.code}`;
      });
      return seen;
    } },
]);
