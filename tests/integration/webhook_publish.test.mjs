// What is published to a channel of many kinds of subscribers.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client } from '../support/client.mjs';
import { Gateway, request } from '../support/gateway.mjs';
import { Backend, adminOf, event, webhookConfig } from '../support/webhook.mjs';

const subscribe = Buffer.concat([
  event('OPEN'), event('TEXT', 'c:{"type":"subscribe","channel":"news"}')]);
const grip = { 'Sec-WebSocket-Extensions': 'grip' };
let backend, gateway, admin;

before(async () => {
  backend = await Backend.start(({ body, answer }) =>
    answer(body.toString().startsWith('OPEN') ? subscribe : '', grip));
  const config = webhookConfig({ upstream: backend.address });
  const [plain] = config.routes;
  for (const mode of ['shared', 'dedicated']) {
    config.routes.push({ ...plain, path: `/${mode}`, compression: { mode } });
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

async function publish(...contents) {
  const items = contents.map((content) => ({ channel: 'news', formats: { 'ws-message': { content } } }));
  const { status, body } = await request({ ...admin, method: 'POST', path: '/publish/' },
    JSON.stringify({ items }));
  assert.equal(status, 200, body);
  return JSON.parse(body);
}

const terms = {
  plain: ['/ws', false],
  shared: ['/shared', { threshold: 0 }],
  'a window of 9 bits': ['/shared', { threshold: 0, serverMaxWindowBits: 9 }],
  dedicated: ['/dedicated', { threshold: 0 }],
  'no compression where there may be': ['/shared', false],
};
const open = (kind) => {
  const [path, perMessageDeflate] = terms[kind];
  return Client.open(gateway.url(path), { perMessageDeflate, maxPayload: 0 });
};
const subscribers = (count) => gateway.waitMetrics((metrics) =>
  metrics.get('sluice_connections_active') === count, `${count} subscribers`);

// More than leave together at the end of a turn (ws/prepared_message.h), and fewer.
for (const each of [1, 12]) {
  test(`each of ${5 * each} subscribers gets every message whole, whatever it has agreed to`, async () => {
    const clients = [];
    for (let i = 0; i < each; ++i) {
      for (const kind of Object.keys(terms)) clients.push(await open(kind));
    }
    await subscribers(clients.length);
    const before = await gateway.metrics();
    const texts = ['short', 'ünïcödé '.repeat(700), '', JSON.stringify(Array(9000).fill('news'))];
    for (const text of texts) {
      const { matched, dropped } = await publish(text);
      assert.deepEqual({ matched, dropped }, { matched: clients.length, dropped: 0 });
    }
    await publish('first', 'second');
    for (const client of clients) {
      for (const text of [...texts, 'first', 'second']) assert.equal(await client.text(), text);
    }
    const sent = (metrics) => metrics.get('sluice_messages_total', { direction: 'upstream_to_client' });
    assert.equal(sent(await gateway.metrics()) - sent(before), clients.length * (texts.length + 2));
    for (const client of clients) assert.equal((await client.close(1000)).code, 1000);
    await subscribers(0);
  });
}

test('one that does not read, and one that leaves, take nothing from the others', async () => {
  const slow = await Client.open(gateway.url('/slow'));
  const others = [];
  for (let i = 0; i < 40; ++i) others.push(await open(Object.keys(terms)[i % 5]));
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
  slow.socket.terminate();
  for (const other of others) await other.close(1000);
  await subscribers(0);
});
