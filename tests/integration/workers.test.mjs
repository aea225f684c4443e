// Several workers at once; this file runs under ThreadSanitizer too. What crosses threads: accepted
// sockets, counters that are scraped, the shutdown, plugins' instances.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, serveHonestClient } from '../support/client.mjs';
import { echoConfig, preset, sharedGateway, testPlugin, until, withGateway }
  from '../support/gateway.mjs';
import { RawSocket, frame, upgrade } from '../support/raw.mjs';

const workers = 4;
const sockets = preset === 'tsan' ? 80 : 200;

const config = () => echoConfig({
  workers,
  plugins: {
    echo: { library: 'echo.so' }, chat: { library: 'chat.so' }, flood: { library: testPlugin('flood') },
  },
  routes: [
    { path: '/echo', plugin: 'echo' },
    { path: '/chat/{room}', plugin: 'chat' },
    { path: '/flood', plugin: 'flood', slow_consumer: 'drop_oldest' },
    { path: '/full', plugin: 'echo', limits: { max_connections: 10 } },
  ],
});

const gateway = sharedGateway(config);

// The worker that has a connection stands in the upper bits of its number.
const workerOf = (log) => Math.floor(log.conn / 2 ** 40);

// Scrapes one after the other until it is told to stop; returns how many there were.
function scrapeOn(scraped) {
  let stopped = false;
  const scraping = (async () => {
    for (let count = 0; ; ++count) {
      if (stopped) return count;
      const metrics = await scraped.metrics();
      assert.equal(metrics.get('process_threads') > workers, true);
    }
  })();
  return () => { stopped = true; return scraping; };
}

test('many sockets echo on all workers while /metrics is scraped', async () => {
  const idle = gateway.descriptors() + 2;  // and the connections of the last scrapes
  const stopScraping = scrapeOn(gateway);
  const clients = await Promise.all(
    Array.from({ length: sockets }, () => Client.open(gateway.url())));
  await Promise.all(clients.map(async (client, number) => {
    for (let i = 0; i < 20; ++i) {
      await client.echoes(`${number} ${i}`);
      await client.echoes(Buffer.alloc(number * 10, i));
    }
  }));

  const metrics = await gateway.metrics();
  assert.equal(metrics.get('sluice_connections_active', { route: '/echo' }), sockets);
  for (const direction of ['client_to_upstream', 'upstream_to_client']) {
    assert.equal(metrics.get('sluice_messages_total', { direction }), sockets * 40);
  }
  const opens = Array(workers).fill(0);
  for (const log of gateway.logs.filter(({ event }) => event === 'open')) ++opens[workerOf(log)];
  assert.deepEqual(opens, Array(workers).fill(sockets / workers), 'each has its share');
  for (let loop = 0; loop < workers; ++loop) {
    await gateway.waitMetrics((m) => m.get('sluice_event_loop_lag_seconds_count', { loop }) > 0);
  }

  await Promise.all(clients.map((client) => client.close(1000)));
  assert.ok(await stopScraping() > 0);
  await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0 &&
    m.get('sluice_connections_closed_total', { reason: 'normal' }) === sockets);
  // A socket that has closed weighs on its worker until its client's end of stream has come.
  await until(() => gateway.descriptors() <= idle, 'the sockets are gone');
});

// On a gateway of its own: a socket that lingers from another test would weigh on its worker.
test('the next socket goes to the worker that has the fewest', async () => {
  await withGateway(config(), async (fresh) => {
    const open = async () => {
      const client = await Client.open(fresh.url());
      const port = client.socket._socket.localPort;
      const log = await fresh.waitLog({ event: 'open', client: `127.0.0.1:${port}` });
      return { client, worker: workerOf(log) };
    };
    const opened = [];
    for (let i = 0; i < 3 * workers; ++i) opened.push(await open());
    const [first, ...leaving] = opened.filter(({ worker }) => worker === 2);
    assert.equal(leaving.length, 2);

    const descriptors = fresh.descriptors();
    for (const { client } of leaving) await client.close();
    await until(() => fresh.descriptors() <= descriptors - 2, 'the worker has let go of them');
    await first.client.echoes('the turn that closed them has ended');
    for (let i = 0; i < 2; ++i) assert.equal((await open()).worker, 2);
  });
});

test('a storm of clients that come and go in every way leaves nothing behind', async () => {
  const stopScraping = scrapeOn(gateway);
  const before = await gateway.metrics();
  const opened = (m) => m.get('sluice_connections_opened_total');
  const ways = [
    async () => { // politely
      const client = await Client.open(gateway.url());
      await client.echoes('hello');
      await client.close(1000);
    },
    async () => { // without a word
      const raw = await RawSocket.open(gateway.listeners[0]);
      raw.write(frame('text', 'never read'));
      raw.reset();
    },
    async () => { // in the middle of the handshake
      const raw = await RawSocket.connect(gateway.listeners[0]);
      raw.write(upgrade().subarray(0, 40));
      raw.reset();
    },
    async () => { // with an offence
      const raw = await RawSocket.open(gateway.listeners[0]);
      raw.write(frame('text', 'no mask', { masked: false }));
      assert.equal((await raw.readClose()).code, 1002);
      raw.destroy();
    },
    async () => { // in a room with others
      const client = await Client.open(gateway.url('/chat/storm'));
      client.send('anybody here?');
      await client.next();
      client.socket.terminate();
    },
    async () => { // with a flood that it does not read
      const raw = await RawSocket.open(gateway.listeners[0], '/flood');
      raw.socket.pause();
      raw.write(frame('text', '100 10000'));
      raw.socket.destroy();
    },
    async () => { await Client.refused(gateway.url('/nowhere')); },
  ];
  const rounds = preset === 'tsan' ? 5 : 20;
  for (let round = 0; round < rounds; ++round) {
    await Promise.all(Array.from({ length: 28 }, (_, i) => ways[i % ways.length]()));
  }
  assert.ok(await stopScraping() > 0);
  const metrics = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0 &&
    opened(m) >= opened(before) + rounds * 4 * 4);
  assert.equal(metrics.get('sluice_connections_closed_total'), opened(metrics));
  await until(() => gateway.descriptors() < 60, 'the descriptors of the clients are closed');
  await serveHonestClient(gateway);
});

test('max_connections of a route holds over all workers', async () => {
  const clients = [];
  const attempts = await Promise.allSettled(Array.from({ length: 40 }, async () => {
    clients.push(await Client.open(gateway.url('/full')));
  }));
  const failed = attempts.filter(({ status }) => status === 'rejected');
  for (const { reason } of failed) assert.match(String(reason), /503/);
  const metrics = await gateway.metrics();
  const active = metrics.get('sluice_connections_active', { route: '/full' });
  assert.equal(active, clients.length);
  assert.equal(clients.length, 10);
  for (const client of clients) await client.close();
});

test('SIGTERM in the middle of all of it', async () => {
  await withGateway(config(), async (ending) => {
    const clients = await Promise.all(
      Array.from({ length: sockets }, () => Client.open(ending.url())));
    let coming = true;
    const echoing = clients.map(async (client) => {
      client.socket.on('message', (data) => {
        if (client.socket.readyState === 1) client.send(data);
      });
      client.send('round and round');
      assert.equal((await client.end()).code, 1001);
    });
    // Others come and go, until nobody listens any more.
    const storm = (async () => {
      while (coming) {
        await Client.open(ending.url()).then((client) => client.socket.terminate(), () => {});
      }
    })();
    await ending.waitMetrics((m) => m.get('sluice_messages_total') > 20 * sockets);
    ending.kill();
    await Promise.all(echoing);
    coming = false;
    await storm;
    assert.equal((await ending.waitExit()).code, 0);
  });
});
