// Three minutes under load in which everything goes wrong that can: upstreams are killed and restarted,
// clients vanish, stall and send garbage, memory and descriptors are short, and processes are stopped
// and continued. Meanwhile honest clients hold the gateway to every byte, and at the end the books are
// balanced: descriptors, memory, the log and the metrics.
//
// SLUICE_FAULT_SECONDS says how long (180), SLUICE_FAULT_SEED repeats the choices of a run as far as
// the timing lets it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gateway, makeCertificate, memoryIsOurs, slowness, temporaryFolder, until } from '../support/gateway.mjs';
import { Backend, Faults, WildClients } from './faults.mjs';
import { Findings, HonestClient, HonestPoster } from './honest.mjs';
import { Random } from './payload.mjs';

const seconds = Number(process.env.SLUICE_FAULT_SECONDS ?? 180);
const seed = Number(process.env.SLUICE_FAULT_SEED ?? Date.now() % 2 ** 31);
const megabyte = 1 << 20;
const memorySlack = 8 * megabyte;
const wildRoutes = ['/wild', '/wild/ws', '/wild/tcp', '/wild/hook'];

function config({ cert, key }, steady, shaky) {
  const upstream = (endpoints) => ({
    endpoints: endpoints.map((port) => `127.0.0.1:${port}`),
    connect_timeout: '2s',
    idle_timeout: '2s',
    outlier_detection: { base_ejection_time: '200ms', max_ejection_time: '500ms' },
  });
  const targets = (name) => [
    { path: `/${name}/ws`, http: { upstream: `${name}-http` } },
    { path: `/${name}/tcp`, tcp: { upstream: `${name}-tcp` } },
    { path: `/${name}/hook`, webhook: { upstream: `${name}-http`, protocol: 'message', rewrite: '/hook' } },
  ];
  return {
    workers: 2,
    listeners: [
      { address: '127.0.0.1:0' },
      { address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } },
    ],
    metrics: { address: '127.0.0.1:0' },
    requests: { handshake_timeout: `${3 * slowness}s` },
    ...(memoryIsOurs ? { memory: { budget: '80MiB' } } : {}),
    plugins: { echo: { library: 'echo.so' } },
    upstreams: {
      'steady-http': upstream([steady.httpPort]),
      'steady-tcp': upstream([steady.tcpPort]),
      'shaky-http': upstream(shaky.map((backend) => backend.httpPort)),
      'shaky-tcp': upstream(shaky.map((backend) => backend.tcpPort)),
    },
    defaults: {
      keepalive: { ping_interval: `${2 * slowness}s`, pong_timeout: `${4 * slowness}s` },
      timeouts: { message: `${4 * slowness}s`, close: `${2 * slowness}s` },
    },
    routes: [
      { path: '/echo', plugin: 'echo' },
      { path: '/deflated', plugin: 'echo', compression: 'shared' },
      { path: '/dedicated', plugin: 'echo', compression: 'dedicated' },
      ...targets('steady'),
      ...targets('shaky'),
      { path: '/pages/*', http: { upstream: 'shaky-http', rewrite: '/pages' } },
      { path: '/wild', plugin: 'echo', compression: 'shared' },
      { path: '/wild/ws', http: { upstream: 'shaky-http' } },
      { path: '/wild/tcp', tcp: { upstream: 'shaky-tcp' } },
      { path: '/wild/hook', webhook: { upstream: 'shaky-http', protocol: 'message', rewrite: '/hook' } },
    ],
  };
}

// The honest clients of all routes, in both ways of connecting.
function honestClients(gateway, findings, random) {
  const at = (route, listener = 0, options = {}) => ({
    route,
    url: gateway.url(route, { scheme: listener ? 'wss' : 'ws', listener }),
    options: { rejectUnauthorized: false, ...options },
  });
  const deflate = { perMessageDeflate: { threshold: 64 } };
  const kinds = [
    [6, at('/echo'), { steady: true }],
    [3, at('/echo', 1), { steady: true }],
    [3, at('/echo'), { steady: true, slow: true }],
    [3, at('/deflated', 0, deflate), { steady: true }],
    [3, at('/dedicated', 1, deflate), { steady: true }],
    [4, at('/steady/ws'), { steady: true }],
    [2, at('/steady/ws', 1), { steady: true, slow: true }],
    [4, at('/steady/tcp'), { steady: true, bytes: true }],
    [3, at('/steady/hook'), { steady: true }],
    [6, at('/shaky/ws'), {}],
    [2, at('/shaky/ws', 1), {}],
    [6, at('/shaky/tcp'), { bytes: true }],
    [4, at('/shaky/hook'), {}],
  ];
  const clients = kinds.flatMap(([count, where, habits]) => Array.from({ length: count }, (_, i) =>
    new HonestClient(`${where.route.slice(1)}-${where.url.split(':')[0]}${habits.slow ? '-slow' : ''}-${i}`,
      where, findings, random.between(1, 2 ** 31), habits)));
  for (let i = 0; i < 3; ++i) {
    clients.push(new HonestPoster(`poster-${i}`, gateway, findings, random.between(1, 2 ** 31)));
  }
  return clients;
}

// Why a connection of an honest client may end that the client did not close: its upstream's death.
// A tcp upstream that is killed while nothing waits in its socket ends its stream like one that is done.
const endings = {
  '/shaky/ws': { upstream_failed: [1014] },
  '/shaky/tcp': { upstream_failed: [1014], normal: [1000] },
  '/shaky/hook': { upstream_failed: [1014, 1011] },
};

test(`everything goes wrong for ${seconds} s, seed ${seed}`, async (t) => {
  const random = new Random(seed);
  const findings = new Findings();
  const onDeath = (file) => findings.violation(`${file} has ended by itself`);
  const steady = await Backend.start(onDeath);
  const shaky = [await Backend.start(onDeath), await Backend.start(onDeath)];
  const certificate = makeCertificate(temporaryFolder(), 'localhost', '127.0.0.1');
  const gateway = await Gateway.start(config(certificate, steady, shaky));
  gateway.expectedErrors.add('out of descriptors').add('accept failed');
  const wild = new WildClients(seed, gateway, onDeath);
  const resting = gateway.descriptors();

  const clients = honestClients(gateway, findings, random);
  const running = Promise.all(clients.map((client) => client.run()));
  const allGoOn = async (after) => {
    const before = clients.map((client) => client.echoes);
    const waiting = () => clients.filter((client, i) => client.echoes === before[i]);
    await until(() => waiting().length === 0, `every honest client has another echo after: ${after}`)
      .catch((error) => {
        findings.violation(`${error.message}: not ${waiting().map((client) => client.name).join(', ')}`);
      });
  };

  // With the honest clients alone.
  const memory = async () => {
    await wild.kill();
    await gateway.waitMetrics((metrics) => wildRoutes.every((route) =>
      metrics.get('sluice_connections_active', { route }) === 0), 'the wild clients are gone');
    return gateway.rssBytes();
  };
  let before;
  let behind;
  try {
    await allGoOn('the start');
    wild.start();
    const faults = new Faults({ gateway, backends: shaky, wild, random });
    // What malloc and the pools keep of the worst that they have seen, they have after a part of it.
    await faults.run(Date.now() + seconds * 1000 / 3, allGoOn);
    before = await memory();
    wild.start();
    await faults.run(Date.now() + seconds * 1000 * 2 / 3, allGoOn);
    behind = await memory();

    for (const client of clients) client.stop();
    await running;
    await gateway.waitMetrics((metrics) => metrics.get('sluice_connections_active') === 0, 'all are gone');
    print(faults, findings, gateway);
    console.log(`memory: ${before >> 10} KiB after a third of the time, ${behind >> 10} KiB at its end\n`);
  } catch (error) {
    for (const client of clients) client.stop();
    gateway.child.kill('SIGKILL');
    throw error;
  } finally {
    for (const part of [steady, ...shaky, wild]) part.child?.kill('SIGKILL');
  }

  await t.test('honest clients lost, got twice or got out of order: nothing', () => {
    assert.deepEqual(findings.violations, []);
  });

  await t.test('each of their connections that ended early has its reason in the log', () => {
    const odd = findings.ended.filter(({ client, openedAt, code, route }) => {
      const record = gateway.logs.find((log) => log.event === 'close' && log.client === client &&
        log.route === route && Date.parse(log.ts) >= openedAt);
      return !endings[route]?.[record?.reason]?.includes(code);
    });
    assert.deepEqual(odd, []);
  });

  await t.test('descriptors are back where they were', async () => {
    await until(() => gateway.descriptors() <= resting, `no more than ${resting} descriptors`);
  });

  await t.test('memory is back where it was', { skip: !memoryIsOurs }, () => {
    assert.ok(behind < before + memorySlack, `${behind} bytes, and ${before} after a third of the time`);
  });

  await t.test('every close has a reason, and the log has what the metrics count', async () => {
    balance(gateway, await gateway.metrics(), findings);
  });

  await t.test('it ends as it should', () => gateway.stop());
});

const sum = (list, value) => list.reduce((total, one) => total + value(one), 0);

function balance(gateway, metrics, findings) {
  const records = (event) => gateway.logs.filter((log) => log.event === event);
  const closes = records('close');

  assert.deepEqual(closes.filter((log) => !log.reason || !log.initiator), [], 'closes without a reason');
  assert.equal(new Set(closes.map((log) => log.conn)).size, closes.length, 'a connection closed twice');
  assert.equal(closes.length, records('open').length, 'opened and closed');
  assert.equal(metrics.get('sluice_connections_opened_total'), closes.length);
  assert.equal(metrics.get('sluice_handshakes_total', { result: 'accepted' }), closes.length);
  assert.equal(metrics.get('sluice_connections_closed_total'), closes.length);

  // By route, initiator and reason.
  for (const { labels, value } of metrics.samples.filter(({ name }) => name === 'sluice_connections_closed_total')) {
    const { route, initiator, reason } = labels;
    const logged = closes.filter((log) => log.route === route && log.initiator === initiator && log.reason === reason);
    assert.equal(logged.length, value, `closed ${JSON.stringify(labels)}`);
  }

  // Traffic, by route.
  const kinds = [['client_to_upstream', 'messages_in', 'bytes_in'], ['upstream_to_client', 'messages_out', 'bytes_out']];
  for (const route of new Set(closes.map((log) => log.route))) {
    const mine = closes.filter((log) => log.route === route);
    for (const [direction, messages, bytes] of kinds) {
      assert.equal(metrics.get('sluice_messages_total', { route, direction }), sum(mine, (log) => log[messages]),
        `messages ${direction} of ${route}`);
      assert.equal(metrics.get('sluice_payload_bytes_total', { route, direction }), sum(mine, (log) => log[bytes]),
        `bytes ${direction} of ${route}`);
    }
  }

  // What the honest clients say of the routes that are theirs alone and lost nothing.
  for (const [route, sent] of findings.sent) {
    if (route in endings) continue;
    assert.equal(metrics.get('sluice_messages_total', { route, direction: 'client_to_upstream' }), sent, `${route} sent`);
    assert.equal(metrics.get('sluice_messages_total', { route, direction: 'upstream_to_client' }),
      findings.received.get(route), `${route} received`);
  }

  for (const name of ['sluice_buffered_amount_bytes', 'sluice_backpressure_paused_connections',
    'sluice_upstream_connections_active']) {
    assert.equal(metrics.get(name), 0, name);
  }
}

function print(faults, findings, gateway) {
  const reasons = new Map();
  for (const { event, initiator, reason } of gateway.logs) {
    if (event === 'close') findings.count(reasons, `${reason} (${initiator})`);
  }
  const lines = (map) => [...map].map(([name, value]) => `${String(value).padStart(9)}  ${name}`);
  console.log(['', 'faults', ...lines(faults.done),
    'messages echoed to honest clients', ...lines(findings.received),
    `${findings.opened} connections of theirs, ${findings.ended.length} of which were lost with their upstream`,
    'refusals that they saw', ...lines(findings.refused),
    'ends of WebSockets', ...lines(reasons), ''].join('\n'));
}
