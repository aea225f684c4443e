// GRIP with the libraries that backends use: an Express app with @fanoutio/serve-grip, which
// publishes with @fanoutio/grip.
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import express from 'express';
import { Publisher, WebSocketMessageFormat, validateSig } from '@fanoutio/grip';
import { ServeGrip } from '@fanoutio/serve-grip/node';
import { Client } from '../support/client.mjs';
import { Gateway, request, until } from '../support/gateway.mjs';
import { adminOf, webhookConfig } from '../support/webhook.mjs';

const key = 'changeme';
const prefix = 'app-';
let gateway, admin, server, serveGrip;
const seen = []; // {id, event} of the app

// A chat: "/join ROOM", "/leave ROOM", "/say ROOM TEXT", "/close CODE", "/meta VALUE"; the rest is
// echoed.
async function chat(req, res) {
  assert.equal(req.grip.isProxied, true);
  assert.equal(await validateSig(req.headers['grip-sig'], key, 'sluice'), true);
  const { wsContext } = req.grip;
  if (wsContext.isOpening()) {
    if (req.query.refuse) return res.status(403).send('not you');
    wsContext.accept();
    wsContext.subscribe('all');
  }
  while (wsContext.canRecv()) {
    let message;
    try {
      message = wsContext.recvRaw();
    } catch {
      seen.push({ id: wsContext.id, event: 'disconnect' });
      break;
    }
    if (message === null) {
      seen.push({ id: wsContext.id, event: 'close', code: wsContext.closeCode });
      wsContext.close();
      break;
    }
    if (typeof message !== 'string') {
      wsContext.sendBinary(message);
      continue;
    }
    const [, command, room, text] = /^\/(\w+) (\S+) ?(.*)$/.exec(message) ?? [];
    if (command === 'join') wsContext.subscribe(room);
    else if (command === 'leave') wsContext.unsubscribe(room);
    else if (command === 'close') wsContext.close(Number(room));
    else if (command === 'detach') wsContext.detach();
    else if (command === 'meta') wsContext.meta.name = room;
    else if (command === 'say') {
      await serveGrip.getPublisher().publishFormats(room, new WebSocketMessageFormat(text));
    } else wsContext.send(wsContext.meta.name ? `${wsContext.meta.name}: ${message}` : message);
  }
  res.end();
}

before(async () => {
  const app = express();
  app.use((req, res, next) => serveGrip(req, res, next));
  app.post('/ws', (req, res, next) => chat(req, res).catch(next));
  server = http.createServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  gateway = await Gateway.start(webhookConfig(
    { upstream: `127.0.0.1:${server.address().port}`, grip: { key, issuer: 'sluice', channel_prefix: prefix } },
    { workers: 2, admin: { address: '127.0.0.1:0', key } }));
  admin = await adminOf(gateway);
  serveGrip = new ServeGrip({
    grip: {
      control_uri: `http://${admin.host}:${admin.port}/`, control_iss: 'app', key,
      verify_iss: 'sluice',
    },
    gripProxyRequired: true,
    prefix,
  });
});
after(async () => {
  await gateway?.stop();
  server?.closeAllConnections();
  server?.close();
});

// Waits until what was said before has been dealt with.
async function settled(client) {
  client.send('settled?');
  for (;;) if ((await client.text()).endsWith('settled?')) return;
}

function publish(body, headers = {}) {
  return request({
    ...admin, method: 'POST', path: '/publish/',
    headers: { Authorization: `Bearer ${key}`, ...headers },
  }, JSON.stringify(body));
}

test('text and binary, in order, through serve-grip', async () => {
  const client = await Client.open(gateway.url('/ws'));
  for (let i = 0; i < 50; ++i) client.send(`message ${i}`);
  for (let i = 0; i < 50; ++i) assert.equal(await client.text(), `message ${i}`);
  await client.echoes(Buffer.from([0, 255, 13, 10]));
  await client.echoes('ünïcödé');
  await client.echoes('');
  client.send('/meta ann');
  client.send('hello');
  assert.equal(await client.text(), 'ann: hello');
  client.send('again'); // in another request
  assert.equal(await client.text(), 'ann: again');
  const { code } = await client.close(4000, 'bye');
  assert.equal(code, 4000);
  await until(() => seen.some(({ event }) => event === 'close'), 'the app to hear of it');
});

test('an app that refuses', async () => {
  const { status, body } = await Client.refused(gateway.url('/ws?refuse=1'));
  assert.deepEqual({ status, body }, { status: 403, body: 'not you' });
});

test('close codes of the app, and its close without a code', async () => {
  for (const [asked, code] of [[4001, 4001], [1000, 1000], [0, 1000]]) {
    const client = await Client.open(gateway.url('/ws'));
    client.send(`/close ${asked}`);
    assert.equal((await client.end()).code, code);
  }
});

test('a client that vanishes is told to the app', async () => {
  const before = seen.length;
  const client = await Client.open(gateway.url('/ws'));
  await settled(client);
  client.socket.terminate();
  await until(() => seen.slice(before).some(({ event }) => event === 'disconnect'), 'a disconnect');
});

test('rooms: who has joined hears what is published, on every worker', async () => {
  const clients = await Promise.all(Array.from({ length: 6 }, () => Client.open(gateway.url('/ws'))));
  for (const client of clients.slice(0, 4)) client.send('/join room');
  await Promise.all(clients.map(settled));
  clients[5].send('/say room hello');
  for (const client of clients.slice(0, 4)) assert.equal(await client.text(), 'hello');
  clients[0].send('/leave room');
  await settled(clients[0]);
  const publisher = new Publisher({ control_uri: `http://${admin.host}:${admin.port}/`, key });
  await publisher.publishFormats(`${prefix}room`, new WebSocketMessageFormat(new Uint8Array([1, 2])));
  for (const client of clients.slice(1, 4)) {
    assert.deepEqual(await client.next(), { data: Buffer.from([1, 2]), binary: true });
  }
  await settled(clients[0]);
  await settled(clients[5]);
  for (const client of clients) {
    assert.deepEqual(client.messages, []);
    await client.close();
  }
});

test('a receipt says what became of it', async () => {
  const item = { channel: `${prefix}receipt`, formats: { 'ws-message': { content: 'x' } } };
  const receipt = async (...items) => {
    const { status, headers, body } = await publish({ items });
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'application/json');
    return JSON.parse(body);
  };
  const nobody = { message: 'Published', matched: 0, written: 0, queued: 0, dropped: 0 };
  assert.deepEqual(await receipt(item), nobody);
  const clients = await Promise.all([1, 2, 3].map(() => Client.open(gateway.url('/ws'))));
  for (const client of clients) client.send('/join receipt');
  await Promise.all(clients.map(settled));
  assert.deepEqual(await receipt(item), { ...nobody, matched: 3, written: 3 });
  assert.deepEqual(await receipt(item, item), { ...nobody, matched: 6, written: 6 });
  for (const client of clients) assert.equal(await client.text(), 'x');

  // One that does not read: what the kernel does not take is queued.
  clients[0].socket._socket.pause();
  const large = { channel: `${prefix}receipt`, formats: { 'ws-message': { content: 'y'.repeat(500_000) } } };
  const stuck = await until(async () => {
    const { matched, written, queued, dropped } = await receipt(large);
    assert.equal(matched, 3);
    assert.equal(written + queued + dropped, 3);
    return queued > 0 && written > 0;
  }, 'something queued');
  assert.ok(stuck);
  clients[0].socket._socket.resume();
  for (const client of clients) await client.close();
});

test('a publisher closes, and has the app asked', async () => {
  const client = await Client.open(gateway.url('/ws'));
  client.send('/join ends');
  await settled(client);
  const send = (format) => publish({ items: [{ channel: `${prefix}ends`, 'ws-message': format }] });
  assert.equal((await send({ action: 'refresh' })).status, 200);
  await settled(client);
  await send({ action: 'close', code: 4001, reason: 'bye' });
  assert.deepEqual(await client.end(), { code: 4001, reason: 'bye' });
});

test('a detached client still hears what is published', async () => {
  const client = await Client.open(gateway.url('/ws'));
  const before = seen.length;
  client.send('/detach now');
  await until(() => seen.slice(before).some(({ event }) => event === 'close'), 'the app to be done');
  client.send('nobody hears this');
  await publish({ items: [{ channel: `${prefix}all`, 'ws-message': { content: 'news' } }] });
  assert.equal(await client.text(), 'news');
  assert.equal((await client.close()).code, 1005);
});

test('items come in the order that their ids say, and once', async () => {
  const client = await Client.open(gateway.url('/ws'));
  client.send('/join order');
  await settled(client);
  const send = (id, previous) => publish({
    items: [{ channel: `${prefix}order`, id, 'prev-id': previous, 'ws-message': { content: id } }],
  });
  for (const [id, previous] of [['1', '0'], ['3', '2'], ['3', '2'], ['2', '1'], ['1', '0'], ['4', '3']]) {
    await send(id, previous);
  }
  for (const id of ['1', '2', '3', '4']) assert.equal(await client.text(), id);
  await settled(client);
  assert.deepEqual(client.messages, []);
  await client.close();
});

test('who may publish', async () => {
  const status = async (options, body = '{"items":[]}') => (await request(
    { ...admin, method: 'POST', path: '/publish', headers: { Authorization: `Bearer ${key}` }, ...options },
    body)).status;
  assert.equal(await status({}), 200);
  assert.equal(await status({}, '{'), 400);
  assert.equal(await status({}, '{"items":[{}]}'), 400);
  assert.equal(await status({ headers: {} }), 401);
  assert.equal(await status({ headers: { Authorization: 'Bearer wrong' } }), 401);
  const authorization = { Authorization: `Bearer ${key}` };
  assert.equal(await status({ headers: { ...authorization, Origin: 'http://evil.example' } }), 403);
  assert.equal(await status({ headers: { ...authorization, Host: 'evil.example' } }), 403);
  assert.equal(await status({ headers: { ...authorization, Host: 'localhost' } }), 200);
  assert.equal(await status({ headers: { ...authorization, Accept: 'image/png' } }), 406);
  assert.equal(await status({ method: 'GET' }, undefined), 405);
  assert.equal(await status({}, ' '.repeat(5_000_000)), 413);
  const text = await publish({ items: [] }, { Accept: 'text/plain' });
  assert.equal(text.body.toString(), 'Published\n');
  const basic = Buffer.from(`any:${key}`).toString('base64');
  assert.equal(await status({ headers: { Authorization: `Basic ${basic}` } }), 200);
});
