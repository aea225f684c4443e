// What is published to a channel of many kinds of subscribers.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, test } from 'node:test';
import { Client } from '../support/client.mjs';
import { Gateway, makeCertificate, request, temporaryFolder, until } from '../support/gateway.mjs';
import { Backend, adminOf, event, webhookConfig } from '../support/webhook.mjs';

const subscribe = Buffer.concat([
  event('OPEN'), event('TEXT', 'c:{"type":"subscribe","channel":"news"}')]);
const grip = { 'Sec-WebSocket-Extensions': 'grip' };
const leave = event('TEXT', 'c:{"type":"subscribe","channel":"farewell"}');
let backend, gateway, admin;

before(async () => {
  // Whoever opens listens to the news; whoever says something, to the farewell too.
  backend = await Backend.start(({ body, answer }) =>
    answer(body.toString().startsWith('OPEN') ? subscribe : leave, grip));
  const config = webhookConfig({ upstream: backend.address });
  const { cert, key } = makeCertificate(temporaryFolder(), 'localhost');
  config.listeners.push({ address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } });
  const [plain] = config.routes;
  config.routes.push({ ...plain, path: '/over-tls' });
  for (const [path, mode] of [
    ['/shared', 'shared'], ['/shared-over-tls', 'shared'], ['/dedicated', 'dedicated']]) {
    config.routes.push({ ...plain, path, compression: { mode } });
  }
  config.routes.push({ ...plain, path: '/slow', slow_consumer: 'drop_newest',
    buffers: { high_watermark: '64KiB', limit: '1MiB' } });
  gateway = await Gateway.start(config);
  admin = await adminOf(gateway);
});
after(async () => {
  await gateway?.stop();
  await backend?.stop();
});

function publish(...contents) {
  return publishItems(contents.map((content) => (
    { channel: 'news', formats: { 'ws-message': { content } } })));
}

async function publishItems(items) {
  const { status, body } = await request({ ...admin, method: 'POST', path: '/publish/' },
    JSON.stringify({ items }));
  assert.equal(status, 200, body);
  return JSON.parse(body);
}

const terms = {
  plain: ['/ws', false],
  shared: ['/shared', { threshold: 0 }],
  'a window of 9 bits': ['/shared', { threshold: 0, serverMaxWindowBits: 9 }],
  'a window of 12 bits': ['/shared', { threshold: 0, serverMaxWindowBits: 12 }],
  dedicated: ['/dedicated', { threshold: 0 }],
  'no compression where there may be': ['/shared', false],
  TLS: ['/over-tls', false, { scheme: 'wss', listener: 1 }],
  'shared, TLS': ['/shared-over-tls', { threshold: 0 }, { scheme: 'wss', listener: 1 }],
};
const kinds = Object.keys(terms);
terms.slow = ['/slow', false]; // which drops messages
const opened = [];
async function open(kind) {
  const [path, perMessageDeflate, where = {}] = terms[kind];
  const client = await Client.open(gateway.url(path, where),
    { perMessageDeflate, maxPayload: 0, rejectUnauthorized: false });
  opened.push(client);
  return client;
}
const subscribers = (count) => gateway.waitMetrics((metrics) =>
  metrics.get('sluice_connections_active') === count, `${count} subscribers`);
// A test that fails leaves nobody to the next.
afterEach(async () => {
  for (const { socket } of opened.splice(0)) socket.terminate();
  await subscribers(0);
});

// Letters that no compression makes small: frames that are lent, not copied.
const noise = (letters) => randomBytes(letters / 2).toString('hex');

// More than leave together at the end of a turn (ws/prepared_message.h), and fewer.
for (const each of [1, 8]) {
  test(`each of ${kinds.length * each} subscribers gets every message whole, whatever it has agreed to`, async () => {
    const clients = [];
    for (let i = 0; i < each; ++i) {
      for (const kind of kinds) clients.push(await open(kind));
    }
    await subscribers(clients.length);
    const before = await gateway.metrics();
    const texts = ['short', 'ünïcödé '.repeat(700), '', JSON.stringify(Array(9000).fill('news')),
      noise(40_000), noise(400_000)];
    for (const text of texts) {
      const { matched, dropped } = await publish(text);
      assert.deepEqual({ matched, dropped }, { matched: clients.length, dropped: 0 });
    }
    const together = [['first', 'second'], ['before it', noise(40_000), 'behind it']];
    for (const items of together) await publish(...items);
    const all = [...texts, ...together.flat()];
    for (const client of clients) {
      for (const text of all) assert.ok(await client.text() === text);
    }
    const sent = (metrics) => metrics.get('sluice_messages_total', { direction: 'upstream_to_client' });
    assert.equal(sent(await gateway.metrics()) - sent(before), clients.length * all.length);
    for (const client of clients) assert.equal((await client.close(1000)).code, 1000);
  });
}

test('what is lent and shared is counted for each who gets it', async () => {
  const clients = [];
  for (const kind of kinds) clients.push(await open(kind), await open(kind));
  await subscribers(clients.length);
  const before = await gateway.metrics();
  const bytes = ({ socket }) => socket._socket.bytesRead;
  const bytesBefore = new Map(clients.map((client) => [client, bytes(client)]));
  const texts = ['x', 'news '.repeat(2000), noise(40_000), noise(300_000)];
  for (const text of texts) {
    await publish(text);
    for (const client of clients) assert.ok(await client.text() === text);
  }
  const after = await gateway.metrics();
  const payload = texts.join('').length;
  for (const route of ['/ws', '/shared', '/dedicated']) {
    const grown = (name, more) => {
      const labels = { route, direction: 'upstream_to_client', ...more };
      return after.get(name, labels) - before.get(name, labels);
    };
    const here = clients.filter(({ socket }) => new URL(socket.url).pathname === route);
    const compressing = here.filter(({ socket }) => socket.extensions !== '').length;
    const arrived = here.reduce((sum, client) => sum + bytes(client) - bytesBefore.get(client), 0);
    assert.equal(grown('sluice_wire_bytes_total'), arrived, route);
    assert.equal(grown('sluice_payload_bytes_total'), here.length * payload, route);
    assert.equal(grown('sluice_messages_total'), here.length * texts.length, route);
    assert.equal(grown('sluice_compression_bytes_total', { stage: 'raw' }), compressing * payload, route);
    // All that arrived in compressed form, but for the headers of frames and what did not shrink.
    const compressed = grown('sluice_compression_bytes_total', { stage: 'compressed' });
    const atMost = arrived - (here.length - compressing) * payload;
    assert.ok(compressed <= atMost && compressed >= atMost * 0.999 - 100,
      `${route}: ${compressed} compressed bytes, at most ${atMost}`);
  }
});

test('one that reads again gets all that it was lent and the kernel had not taken', async () => {
  const slow = [];
  for (const kind of kinds) slow.push(await open(kind));
  const quick = await open('plain');
  await subscribers(slow.length + 1);
  for (const { socket } of slow) socket.pause();
  const texts = [];
  for (let queued = 0; queued < slow.length;) {
    assert.ok(texts.length < 100, 'somebody takes everything');
    const text = noise(1_000_000);
    texts.push(text);
    const receipt = await publish(text);
    ({ queued } = receipt);
    assert.equal(receipt.dropped, 0);
    assert.ok(await quick.text() === text);
  }
  for (const { socket } of slow) socket.resume();
  for (const client of slow) {
    for (const text of texts) assert.ok(await client.text() === text);
    assert.equal((await client.close(1000)).code, 1000);
  }
});

test('one that is closing is counted as dropped, and gets nothing behind its Close frame', async () => {
  const leaving = [];
  const staying = [];
  for (const kind of kinds) {
    leaving.push(await open(kind));
    staying.push(await open(kind));
  }
  await subscribers(2 * kinds.length);
  for (const { socket } of leaving) {
    socket.send('me too');
    socket.pause(); // so that it does not answer the Close frame
  }
  const farewell = { action: 'close', code: 4001, reason: 'farewell' };
  const items = [{ channel: 'farewell', formats: { 'ws-message': farewell } }];
  await until(async () => (await publishItems(items)).matched === leaving.length, 'all are told');
  for (const text of ['short', noise(40_000)]) {
    const { matched, dropped } = await publish(text);
    assert.deepEqual({ matched, dropped }, { matched: 2 * kinds.length, dropped: kinds.length });
    for (const client of staying) assert.ok(await client.text() === text);
  }
  for (const client of leaving) {
    client.socket.resume();
    assert.deepEqual(await client.end(), { code: 4001, reason: 'farewell' });
    assert.deepEqual(client.messages, []);
  }
});

test('one that does not read, and one that leaves, take nothing from the others', async () => {
  const slow = await open('slow');
  const others = [];
  for (let i = 0; i < 40; ++i) others.push(await open(kinds[i % kinds.length]));
  await subscribers(41);
  slow.socket.pause();
  const text = 'x'.repeat(50_000);
  let dropped = 0;
  let sent = 0;
  while (dropped === 0 && sent < 1000) {
    ({ dropped } = await publish(text));
    ++sent;
    for (const other of others) assert.equal(await other.text(), text);
  }
  assert.equal(dropped, 1, 'the one that does not read');
  others.pop().socket.terminate();
  await publish('after it');
  for (const other of others) assert.equal(await other.text(), 'after it');
});

test('who may not publish is told why, and the log tells of it, not more than once a second', async () => {
  const ask = async () => (await request(
    { ...admin, method: 'POST', path: '/publish/', headers: { Origin: 'http://localhost' } }, '{}')).status;
  const records = () => gateway.logs.filter(({ event }) => event === 'publish refused');
  let asked = 0;
  await until(async () => {
    assert.equal(await ask(), 403);
    ++asked;
    return records().length === 2;
  }, 'a second record');
  const [first, second] = records();
  assert.match(first.client, /^127\.0\.0\.1:\d+$/);
  assert.deepEqual([first.status, first.why], [403, '403 Forbidden: not from a web page']);
  assert.equal(first.refused_so_far, 1);
  assert.ok(second.refused_so_far > 2 && second.refused_so_far <= asked, `${second.refused_so_far} of ${asked}`);
});
