// One POST a message: a Flask app, and a backend that is slow.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client } from '../support/client.mjs';
import { memoryIsOurs, request, until, withGateway } from '../support/gateway.mjs';
import { RawSocket, frame } from '../support/raw.mjs';
import { Program, answers, freePort } from '../support/services.mjs';
import { Backend, webhookConfig } from '../support/webhook.mjs';

const flaskApp = path.join(path.dirname(fileURLToPath(import.meta.url)), '../support/flask_app.py');

test('a Flask app', async (t) => {
  const port = await freePort();
  await Program.start(t, '/usr/bin/python3', [flaskApp, String(port)], { ready: () => answers(port) });
  const log = async () => JSON.parse((await request({ host: '127.0.0.1', port, path: '/log' })).body);
  const config = webhookConfig({ upstream: `127.0.0.1:${port}`, protocol: 'message' });
  await withGateway(config, async (gateway) => {
    const refused = await Client.refused(gateway.url('/ws?token=wrong'));
    assert.deepEqual([refused.status, refused.body], [403, 'who are you?']);

    const client = await Client.open(gateway.url('/ws?token=right'), { protocols: ['x', 'chat'] });
    assert.equal(client.socket.protocol, 'chat');
    assert.equal(await client.text(), 'welcome');
    for (const text of ['slow', 'silence', 'ünï', '']) client.send(text);
    assert.equal(await client.text(), 'SLOW');
    assert.equal(await client.text(), 'ÜNÏ');
    client.send('json');
    assert.deepEqual(JSON.parse(await client.text()), { count: 5 });
    client.send(Buffer.from([0, 1, 255]));
    assert.deepEqual(await client.next(), { data: Buffer.from([255, 1, 0]), binary: true });
    client.send('invalid');
    assert.deepEqual(await client.next(), { data: Buffer.from([255]), binary: true });
    client.send('last words');
    await client.close(4001, 'good bye');
    const said = ['slow', 'silence', 'ünï', '', 'json', 3, 'invalid', 'last words', 'close 4001 good%20bye'];
    await until(async () => (await log())[0].length === said.length, 'the app to hear of the close');
    assert.deepEqual((await log())[0], said);

    const failing = await Client.open(gateway.url('/ws'));
    assert.equal(await failing.text(), 'welcome');
    failing.send('fail');
    failing.send('never said');
    assert.deepEqual(await failing.end(), { code: 1011, reason: 'backend failed' });

    const vanishing = await Client.open(gateway.url('/ws'));
    assert.equal(await vanishing.text(), 'welcome');
    vanishing.socket.terminate();
    await until(async () => (await log())[2].length === 1, 'the app to hear of the end');
    assert.deepEqual((await log()).slice(1), [['fail', 'close 1011 backend%20failed'], ['close 1006 -']]);
  });
});

test('while the backend is slow, the client is not read, and nothing is lost', async () => {
  const total = 64 * 1024 * 1024;
  const size = 64 * 1024;
  const direction = 'client_to_upstream';
  const requests = [];
  let serving = null;
  const backend = await Backend.start((request) => {
    if (serving) serving(request); else requests.push(request);
  });
  const answer = (request) => request.answer('', { 'Content-Type': 'text/plain' });
  try {
    const config = webhookConfig({ upstream: backend.address, protocol: 'message' });
    await withGateway(config, async (gateway) => {
      const opening = RawSocket.open(gateway.listeners[0], '/ws');
      await until(() => requests.length > 0, 'the opening');
      answer(requests.shift());
      const raw = await opening;
      const before = gateway.rssBytes();
      const payload = (index) => Buffer.alloc(size, index % 251);
      let sent = 0;
      const pump = () => {
        while (sent < total / size) {
          if (!raw.socket.write(frame('binary', payload(sent++)))) {
            return raw.socket.once('drain', pump);
          }
        }
      };
      pump();
      await gateway.waitMetrics((metrics) =>
        metrics.get('sluice_backpressure_paused_connections', { direction }) === 1);
      await until(() => raw.socket.writableLength > 0, 'a client that cannot write on');
      assert.equal(requests.length, 1);

      let received = 0;
      let most = 0;
      serving = (request) => {
        if (request.headers['sluice-event'] === 'message') {
          assert.ok(request.body.equals(payload(received)), `message ${received} differs`);
          ++received;
          most = Math.max(most, gateway.rssBytes() - before);
        }
        answer(request);
      };
      serving(requests.shift());
      await until(() => received === total / size, 'all messages');
      if (memoryIsOurs) assert.ok(most < 16 * 1024 * 1024, `${most} bytes more`);
      raw.destroy();
      await gateway.waitLog({ event: 'close' });
    });
  } finally {
    await backend.stop();
  }
});
