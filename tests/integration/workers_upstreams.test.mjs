// Several workers and the upstreams that they share; this file runs under ThreadSanitizer too. What
// crosses threads here: who an endpoint's turn is, its health and its counters, names, token files,
// what is published, and endpoints that go down under their clients.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket, { WebSocketServer } from 'ws';
import { Gateway, preset, request, temporaryFolder, until, within } from '../support/gateway.mjs';
import { Backend, event } from '../support/webhook.mjs';

const workers = 3;
const sockets = preset === 'tsan' ? 30 : 90;

// An upstream that echoes: bytes, WebSocket messages and requests, each on its own port.
class Echoes {
  static async start(ports = {}) {
    const echoes = new Echoes();
    echoes.sockets = new Set();
    echoes.tcp = net.createServer((socket) => socket.pipe(socket).on('error', () => {}));
    echoes.http = http.createServer((asked, response) => asked.pipe(response));
    new WebSocketServer({ server: echoes.http }).on('connection', (socket) => {
      socket.on('message', (data, binary) => socket.send(data, { binary }));
    });
    for (const name of ['tcp', 'http']) {
      echoes[name].on('connection', (socket) => {
        echoes.sockets.add(socket);
        socket.on('error', () => {}).on('close', () => echoes.sockets.delete(socket));
      });
      echoes[name].listen(ports[name] ?? 0, '127.0.0.1');
      await once(echoes[name], 'listening');
    }
    return echoes;
  }
  get ports() { return { tcp: this.tcp.address().port, http: this.http.address().port }; }
  // As if it was killed.
  async die() {
    for (const socket of this.sockets) socket.resetAndDestroy();
    await Promise.all([this.tcp, this.http].map((server) => new Promise((r) => server.close(r))));
  }
}

async function open(url) {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  socket.received = [];
  socket.on('message', (data) => { socket.received.push(data); socket.emit('more'); });
  socket.on('error', () => {});
  socket.ended = new Promise((resolve) => socket.on('close', (code) => resolve(code)));
  const opened = await within(Promise.race([
    once(socket, 'open').then(() => true), socket.ended.then(() => false),
  ]), 'an answer to the handshake');
  return opened ? socket : null;
}

async function echoes(socket, bytes) {
  const before = Buffer.concat(socket.received).length;
  socket.send(bytes);
  while (Buffer.concat(socket.received).length < before + bytes.length) {
    await within(once(socket, 'more'), 'an echo');
  }
  assert.deepEqual(Buffer.concat(socket.received).subarray(before), bytes);
}

test('upstreams that all workers share', async (t) => {
  const [steady, shaky] = [await Echoes.start(), await Echoes.start()];
  const backend = await Backend.start(({ body, answer }) => {
    const subscribe = event('TEXT', 'c:{"type":"subscribe","channel":"all"}');
    if (body.toString().startsWith('OPEN')) {
      answer(Buffer.concat([event('OPEN'), subscribe]), { 'Sec-WebSocket-Extensions': 'grip' });
    } else {
      answer(body.toString().startsWith('CLOSE') ? body : '');
    }
  });
  const folder = temporaryFolder();
  const tokens = path.join(folder, 'tokens.cfg');
  fs.writeFileSync(tokens, `one: localhost:${steady.ports.tcp}\n`);
  const endpoints = (name) => [`localhost:${steady.ports[name]}`, `127.0.0.1:${shaky.ports[name]}`];
  const gateway = await Gateway.start({
    workers,
    listeners: [{ address: '127.0.0.1:0' }],
    metrics: { address: '127.0.0.1:0' },
    admin: { address: `unix:${folder}/admin.sock` },
    upstreams: {
      bytes: { endpoints: endpoints('tcp'), lb: 'random', dns_refresh: '1s' },
      service: {
        endpoints: endpoints('http'), health_check: { interval: '1s', timeout: '1s', path: '/' },
        on_endpoint_down: 'close',
      },
      hooks: { endpoints: [backend.address], lb: 'round_robin' },
    },
    routes: [
      { path: '/bytes', tcp: { upstream: 'bytes' } },
      { path: '/token', tcp: { token_file: tokens } },
      { path: '/service/*', http: { upstream: 'service' } },
      { path: '/hook', webhook: { upstream: 'hooks' } },
    ],
  }, { folder });
  t.after(async () => { await gateway.stop(); await steady.die(); await backend.stop(); });
  const targets = ['/bytes', '/token?token=one', '/service/ws'];
  const many = (make) => Promise.all(Array.from({ length: sockets }, (_, i) => make(i)));

  await t.test('sockets and requests of every kind, at the same time', async () => {
    const clients = await many((i) => open(gateway.url(targets[i % targets.length])));
    await Promise.all(clients.map(async (client, i) => {
      for (let round = 0; round < 5; ++round) {
        await echoes(client, Buffer.alloc(1 + i * 100 + round, i));
        const { status, body } = await request(
          { ...gateway.listeners[0], path: '/service/echo', method: 'POST' }, `${i} ${round}`);
        assert.equal(status, 200);
        assert.equal(body.toString(), `${i} ${round}`);
        await gateway.metrics();
      }
    }));
    for (const client of clients) client.close();
    assert.deepEqual(new Set(await Promise.all(clients.map((client) => client.ended))),
      new Set([1005]));
  });

  await t.test('what is published reaches the subscribers of all workers', async () => {
    const clients = await many(() => open(gateway.url('/hook')));
    const publish = (content) => request(
      { socketPath: `${folder}/admin.sock`, path: '/publish/', method: 'POST' },
      JSON.stringify({ items: [{ channel: 'all', formats: { 'ws-message': { content } } }] }));
    // A subscription is there with the answer to OPEN, which the 101 waits for.
    const receipts = await Promise.all(Array.from({ length: 10 }, (_, i) => publish(`news ${i}`)));
    for (const { status, body } of receipts) {
      assert.equal(status, 200);
      assert.equal(JSON.parse(body).matched, sockets);
    }
    await Promise.all(clients.map(async (client) => {
      while (client.received.length < 10) await within(once(client, 'more'), 'news');
      assert.deepEqual(client.received.map(String).sort(),
        Array.from({ length: 10 }, (_, i) => `news ${i}`));
    }));
    for (const client of clients) client.close();
    await Promise.all(clients.map((client) => client.ended));
  });

  await t.test('an endpoint dies and comes back under its clients', async () => {
    const clients = (await many((i) => open(gateway.url(targets[i % targets.length])))).filter(Boolean);
    const ports = shaky.ports;
    const up = (name, value) => gateway.waitMetrics((metrics) => metrics.get(
      'sluice_upstream_endpoint_up', { upstream: name, endpoint: `127.0.0.1:${ports.http}` }) === value,
      `an endpoint of ${name} that is ${value ? 'up' : 'down'}`);
    await shaky.die();
    await up('service', 0);
    // Those who were there are told; those who come are served by the other endpoint.
    const late = await many((i) => open(gateway.url(targets[i % targets.length])));
    await Promise.all(late.map((client, i) => echoes(client, Buffer.alloc(100, i))));
    const back = await Echoes.start(ports);
    await up('service', 1);
    t.after(() => back.die());
    for (const client of [...clients, ...late]) client.close();
    const codes = await Promise.all([...clients, ...late].map((client) => client.ended));
    for (const code of codes) assert.ok([1005, 1014].includes(code), `close code ${code}`);
    await until(async () => {
      const metrics = await gateway.metrics();
      return metrics.get('sluice_connections_active') === 0 &&
        metrics.get('sluice_buffered_amount_bytes') === 0;
    }, 'nothing is left');
  });

  await t.test('a shutdown with clients of every kind', async () => {
    const clients = await many((i) => open(gateway.url([...targets, '/hook'][i % 4])));
    gateway.kill();
    assert.deepEqual(new Set(await Promise.all(clients.map((client) => client.ended))), new Set([1001]));
  });
});
