// Pings, idle sockets, and clients that are there no more.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, WebSocket, serveHonestClient } from '../support/client.mjs';
import { echoConfig, sharedGateway, slowness, testPlugin, until, within }
  from '../support/gateway.mjs';
import { RawSocket, frame } from '../support/raw.mjs';

// Longer than what a stall of the process takes from a deadline.
const stalledMs = 2000 * slowness;
const keepalive = { ping_interval: '300ms', pong_timeout: `${600 * slowness}ms` };

const gateway = sharedGateway(() => echoConfig({
  plugins: {
    echo: { library: 'echo.so' },
    flood: { library: testPlugin('flood') },
    valve: { library: testPlugin('valve') },
  },
  routes: [
    { path: '/echo', plugin: 'echo', keepalive },
    { path: '/idle', plugin: 'echo', keepalive, timeouts: { idle: `${500 * slowness}ms` } },
    { path: '/told', plugin: 'flood', keepalive: { ping_interval: 'off' },
      timeouts: { close: '300ms' } },
    { path: '/stalled', plugin: 'echo',
      keepalive: { ping_interval: '300ms', pong_timeout: `${stalledMs}ms` } },
    { path: '/valve', plugin: 'valve', keepalive },
    { path: '/quiet', plugin: 'echo', keepalive: { ping_interval: 'off' } },
  ],
}));

// Resolves when the client has been pinged so often.
function pinged(client, count) {
  return within(new Promise((resolve) => {
    client.socket.on('ping', () => { if (--count === 0) resolve(); });
  }), 'pings');
}

test('an idle client that answers pings stays, and the round trips are measured', async () => {
  const client = await Client.open(gateway.url());
  await pinged(client, 4);
  assert.equal(client.socket.readyState, WebSocket.OPEN);
  const metrics = await gateway.waitMetrics((m) =>
    m.get('sluice_ping_rtt_seconds_count', { route: '/echo' }) >= 3);
  assert.equal(metrics.get('sluice_pong_timeouts_total'), 0);
  await client.echoes('still here');
  await client.close();
});

test('a client that never answers is cut: pong_timeout', async () => {
  const client = await Client.open(gateway.url(), { autoPong: false });
  assert.deepEqual(await client.end(), { code: 1006, reason: '' });
  const log = await gateway.waitLog({ event: 'close', reason: 'pong_timeout' });
  assert.deepEqual([log.initiator, log.code, log.clean, log.why],
    ['gateway', 1006, false, 'keepalive.pong_timeout']);
  const metrics = await gateway.metrics();
  assert.equal(metrics.get('sluice_pong_timeouts_total', { route: '/echo' }), 1);
  assert.equal(metrics.get('sluice_connections_closed_total', { reason: 'pong_timeout' }), 1);
});

test('a client that sends but answers no pings is alive', async () => {
  const client = await Client.open(gateway.url(), { autoPong: false });
  const ping = pinged(client, 1);
  for (const end = Date.now() + 1500 * slowness; Date.now() < end; await sleep(50)) {
    await client.echoes('busy');
  }
  await ping;
  await client.close();
});

test('a pong that answers nothing keeps nobody from being pinged', async () => {
  const client = await Client.open(gateway.url());
  client.socket.pong('unasked');
  await pinged(client, 2);
  await client.close();
});

test('a client that goes while the plugin does not read it is found out', async () => {
  const gone = async (leave) => {
    const raw = await RawSocket.open(gateway.listeners[0], '/valve');
    raw.write(frame('text', 'pause'));
    assert.equal((await raw.readFrame()).payload.toString(), 'paused');
    assert.equal((await raw.readFrame()).opcode, 'ping'); // which has no answer
    leave(raw);
    const log = await gateway.waitClose(raw);
    assert.deepEqual([log.initiator, log.reason], ['network', 'reset']);
  };
  await Promise.all([gone((raw) => raw.reset()), gone((raw) => raw.destroy())]);
});

test('without ping_interval nobody is pinged', async () => {
  const client = await Client.open(gateway.url('/quiet'));
  let pings = 0;
  client.socket.on('ping', () => { ++pings; });
  const other = await Client.open(gateway.url());
  await pinged(other, 3);
  assert.equal(pings, 0);
  await client.close();
  await other.close();
});

test('timeouts.idle closes with 1001, pings or not', async () => {
  const client = await Client.open(gateway.url('/idle'));
  await client.echoes('the last message');
  assert.deepEqual(await client.end(), { code: 1001, reason: 'timeouts.idle' });
  const log = await gateway.waitLog({ event: 'close', reason: 'idle_timeout' });
  assert.deepEqual([log.initiator, log.clean, log.why], ['gateway', true, 'timeouts.idle']);
});

test('timeouts.idle lets those be that talk', async () => {
  const client = await Client.open(gateway.url('/idle'));
  for (let i = 0; i < 10; ++i) {
    await client.echoes(`message ${i}`);
    await sleep(100 * slowness);
  }
  await client.close();
});

describe('timeouts.close', () => {
  test('a peer that reads and never answers is cut', async () => {
    const raw = await RawSocket.open(gateway.listeners[0], '/told');
    raw.write(frame('text', 'close 3001 go'));
    assert.equal((await raw.readClose()).code, 3001);
    assert.equal((await raw.readEnd()).ending, 'ECONNRESET');
    const log = await gateway.waitClose(raw);
    assert.deepEqual([log.reason, log.code, log.clean], ['close_timeout', 1006, false]);
  });

  test('a peer that has sent its Close frame and does not end the stream is cut', async () => {
    const raw = await RawSocket.open(gateway.listeners[0], '/told');
    raw.socket.allowHalfOpen = true; // our end stays open
    const before = gateway.descriptors();
    raw.write(frame('close', Buffer.from([3, 232])));
    assert.equal((await raw.readClose()).code, 1000);
    await until(() => gateway.descriptors() < before, 'the gateway has closed the socket');
    raw.destroy();
  });
});

test('after the process was stopped for a while, clients that answer are not cut', async () => {
  const pings = (m) => m.get('sluice_frames_total',
    { route: '/stalled', direction: 'upstream_to_client', opcode: 'ping' });
  const clients = [];
  for (let i = 0; i < 20; ++i) clients.push(await Client.open(gateway.url('/stalled')));
  // Each has a ping to answer, and does so only when the gateway does not run.
  for (const client of clients) client.socket.pause();
  await gateway.waitMetrics((m) => pings(m) === clients.length);
  gateway.kill('SIGSTOP');
  for (const client of clients) client.socket.resume();
  await Promise.all(clients.map((client) => pinged(client, 1)));
  await sleep(stalledMs + 500); // all those pongs are overdue
  gateway.kill('SIGCONT');
  await Promise.all(clients.map((client) => pinged(client, 2)));
  for (const client of clients) assert.equal(client.socket.readyState, WebSocket.OPEN);
  for (const client of clients) await client.close();
  const metrics = await gateway.metrics();
  assert.equal(metrics.get('sluice_pong_timeouts_total', { route: '/stalled' }), 0);
  await serveHonestClient(gateway);
});
