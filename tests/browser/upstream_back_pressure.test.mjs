// An upstream that does not read, whatever it speaks: the bytes wait in the browser, not in the
// gateway, /metrics shows in which direction, and nothing is lost.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocketServer } from 'ws';
import { memoryIsOurs, until, within } from '../support/gateway.mjs';
import { openBrowser, openPage, startGateway, www } from './support.mjs';

const megabyte = 1024 * 1024;
const sentBytes = 64 * megabyte;
const pieceBytes = 64 * 1024;

// Each has the bytes that it got, a hash of them, and open(): from then on it reads.
class Sink {
  bytes = 0;
  hash = createHash('sha256');
  take(piece) {
    this.bytes += piece.length;
    this.hash.update(piece);
  }
}

// The server lives as long as the process, longer than the gateway in front of it.
async function listen(server) {
  server.unref();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${server.address().port}`;
}

async function tcpSink() {
  const sink = new Sink();
  const server = net.createServer((socket) => {
    socket.pause();
    socket.on('data', (piece) => sink.take(piece));
    socket.on('error', () => {});
    sink.open = () => socket.resume();
  });
  sink.route = { path: '/sink', tcp: { upstream: await listen(server) } };
  return sink;
}

async function webSocketSink() {
  const sink = new Sink();
  const server = http.createServer();
  new WebSocketServer({ server }).on('connection', (socket) => {
    socket.pause();
    socket.on('message', (piece) => sink.take(piece));
    sink.open = () => socket.resume();
  });
  sink.route = { path: '/sink', http: { upstream: await listen(server) } };
  return sink;
}

async function webhookSink() {
  const sink = new Sink();
  let opened;
  const open = new Promise((resolve) => { opened = resolve; });
  const server = http.createServer(async (request, response) => {
    if (request.headers['sluice-event'] === 'message') await open;
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    if (request.headers['sluice-event'] === 'message') sink.take(Buffer.concat(pieces));
    response.writeHead(204).end();
  });
  sink.open = opened;
  sink.route = {
    path: '/sink',
    webhook: { upstream: await listen(server), protocol: 'message' },
  };
  return sink;
}

for (const [kind, makeSink] of [['tcp', tcpSink], ['http', webSocketSink], ['webhook', webhookSink]]) {
  test(`a ${kind} upstream that does not read`, async (t) => {
    const sink = await makeSink();
    const gateway = await startGateway(t, {
      routes: [sink.route, { path: '/*', static: { root: www } }],
    });
    const page = await openPage(await openBrowser(t), gateway.url('/', { scheme: 'http' }));
    const bufferedAmount = () => page.evaluate(() => window.socket.bufferedAmount);
    const metric = async (name, direction = 'client_to_upstream') =>
      (await gateway.metrics()).get(name, { direction, route: '/sink' });

    await within(page.evaluate((address) => new Promise((resolve, reject) => {
      window.socket = new WebSocket(address);
      window.socket.onopen = resolve;
      window.socket.onclose = reject;
    }), gateway.url('/sink')), 'an open socket');
    const rssBefore = gateway.rssBytes();
    const expected = createHash('sha256');
    for (let at = 0; at < sentBytes; at += pieceBytes) {
      expected.update(Buffer.alloc(pieceBytes, (at / pieceBytes) % 251));
    }
    const atOnce = await page.evaluate(([total, size]) => {
      for (let at = 0; at < total; at += size) {
        window.socket.send(new Uint8Array(size).fill((at / size) % 251));
      }
      return window.socket.bufferedAmount;
    }, [sentBytes, pieceBytes]);

    // What the kernels and Chromium's own pipes take leaves; all else stays where it is.
    let amount = atOnce;
    await until(async () => {
      const before = amount;
      await sleep(500);
      amount = await bufferedAmount();
      return amount < atOnce && amount === before;
    }, 'bufferedAmount stands still');
    assert.ok(amount > sentBytes / 2, `${amount} bytes wait in the browser`);
    assert.equal(await metric('sluice_backpressure_paused_connections'), 1);
    assert.equal(await metric('sluice_backpressure_paused_connections', 'upstream_to_client'), 0);
    const waiting = await metric('sluice_buffered_amount_bytes');
    assert.ok(waiting > 0 && waiting < megabyte, `${waiting} bytes wait in the gateway`);
    const grown = gateway.rssBytes() - rssBefore;
    assert.ok(grown < 4 * megabyte || !memoryIsOurs, `the gateway grew by ${grown} bytes`);

    sink.open();
    await until(() => sink.bytes >= sentBytes, 'all bytes at the upstream', 60_000);
    assert.equal(sink.bytes, sentBytes);
    assert.equal(sink.hash.digest('hex'), expected.digest('hex'));
    await until(async () => await bufferedAmount() === 0, 'nothing waits in the browser');
    await until(async () => await metric('sluice_buffered_amount_bytes') === 0, 'nothing waits');
    assert.equal(await metric('sluice_backpressure_paused_connections'), 0);
  });
}
