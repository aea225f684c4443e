// SIGTERM and SIGINT: nobody new is let in, everybody gets 1001 at a message boundary, and the
// process ends with 0.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Client, WebSocket, serveHonestClient } from '../support/client.mjs';
import { Gateway, echoConfig, request, temporaryFolder, testPlugin, until, withGateway }
  from '../support/gateway.mjs';
import { RawSocket, closeFrame, frame, upgrade } from '../support/raw.mjs';

const draining = (gateway) => gateway.waitLog({ event: 'draining' });

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal} without a connection ends at once, with 0`, async () => {
    await withGateway(echoConfig(), async (gateway) => {
      gateway.kill(signal);
      assert.deepEqual(await gateway.waitExit(), { code: 0, signal: null });
      assert.equal((await gateway.waitLog({ event: 'signal' })).name, signal);
    });
  });
}

test('signals that other servers take for something do nothing, and say so', async () => {
  await withGateway(echoConfig(), async (gateway) => {
    const client = await Client.open(gateway.url());
    for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2']) {
      gateway.kill(signal);
      await gateway.waitLog({ event: 'signal', name: signal });
    }
    await client.echoes('still here');
    await client.close(1000);
  });
});

test('the end does not wait for a name server that does not answer', async () => {
  const folder = temporaryFolder();
  const names = path.join(folder, 'names');
  const preloaded = path.join(folder, 'names.so'); // LD_PRELOAD takes no path with a space
  fs.symlinkSync(testPlugin('names'), preloaded);
  fs.writeFileSync(names, 'silent.test never\n');
  const config = echoConfig({
    upstreams: { silent: { endpoints: ['silent.test:80'] } },
    routes: [{ path: '/echo', plugin: 'echo', allowed_origins: ['*'] }, { path: '/app', http: { upstream: 'silent' } }],
  });
  const options = {
    folder,
    env: {
      LD_PRELOAD: preloaded,
      SLUICE_TEST_NAMES: names,
      ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:verify_asan_link_order=0`,
    },
  };
  await withGateway(config, async (gateway) => {
    await until(() => fs.existsSync(`${names}.asked`), 'the name has been asked for');
    gateway.kill();
    assert.deepEqual(await gateway.waitExit(), { code: 0, signal: null });
    await gateway.waitLog({ event: 'stopped' });
  }, options);
});

test('every socket gets 1001', async () => {
  await withGateway(echoConfig({ workers: 2 }), async (gateway) => {
    const clients = [];
    for (let i = 0; i < 20; ++i) clients.push(await Client.open(gateway.url()));
    for (const client of clients) await client.echoes('hello');
    gateway.kill();
    for (const client of clients) {
      assert.deepEqual(await client.end(), { code: 1001, reason: 'shutting down' });
    }
    assert.equal((await gateway.waitExit()).code, 0);
    const closes = gateway.logs.filter((log) => log.event === 'close');
    assert.equal(closes.length, 20);
    for (const log of closes) {
      assert.deepEqual([log.initiator, log.reason, log.clean], ['gateway', 'drain', true]);
    }
    assert.equal((await draining(gateway)).connections, 20);
  });
});

test('on a shared port the next process takes over before the last one ends', async () => {
  const shared = (port) => echoConfig({ listeners: [{ address: `127.0.0.1:${port}`, reuse_port: true }] });
  const accepted = async (gateway) => (await gateway.metrics()).get('sluice_connections_opened_total');
  await withGateway(shared(0), async (last) => {
    const early = await Client.open(last.url());
    await withGateway(shared(last.listeners[0].port), async (next) => {
      await until(async () => {
        await serveHonestClient(last);
        return await accepted(last) > 1 && await accepted(next) > 0;
      }, 'both have clients');
      last.kill();
      assert.equal((await early.end()).code, 1001);
      await last.waitExit();

      const before = await accepted(next);
      for (let i = 0; i < 20; ++i) await serveHonestClient(last); // at the address of both
      assert.equal(await accepted(next), before + 20);
    });
  });
});

test('while it drains: /readyz 503, /healthz 200, no new connections, the last message is echoed', async () => {
  const folder = temporaryFolder();
  const config = echoConfig({
    listeners: [{ address: '127.0.0.1:0' }, { address: `unix:${path.join(folder, 's')}` }],
  });
  await withGateway(config, async (gateway) => {
    assert.deepEqual(await both(gateway), [200, 200]);
    const raw = await RawSocket.open(gateway.listeners[0]);
    raw.write(frame('text', 'the first half ', { fin: false }));
    const idle = await Client.open(gateway.url());
    await until(async () => (await gateway.metrics()).get('sluice_frames_total', {
      direction: 'client_to_upstream', opcode: 'text' }) === 1, 'the first half has arrived');

    gateway.kill();
    assert.equal((await idle.end()).code, 1001);
    assert.deepEqual(await both(gateway), [200, 503]);
    assert.equal((await gateway.metrics()).get('sluice_draining'), 1);
    await assert.rejects(request({ ...gateway.listeners[0], path: '/' }), /ECONNREFUSED/);
    await assert.rejects(RawSocket.connect(gateway.listeners[1]), /ENOENT|ECONNREFUSED/);

    // A ping may come in between, and the message may end.
    raw.write(frame('ping', 'still'));
    assert.equal((await raw.readFrame()).payload.toString(), 'still');
    raw.write(Buffer.concat([frame('continuation', 'and the second'), frame('text', 'too late')]));
    assert.equal((await raw.readFrame()).payload.toString(), 'the first half and the second');
    const close = await raw.readFrame();
    assert.deepEqual([close.opcode, close.code], ['close', 1001]);
    raw.write(closeFrame(1001));
    assert.equal((await raw.readEnd()).ending, 'end');
    assert.equal((await gateway.waitExit()).code, 0);
    assert.ok(!fs.existsSync(path.join(folder, 's')), 'the unix socket is gone');
  }, { folder });

  async function both(gateway) {
    const answers = [await gateway.getAdmin('/healthz'), await gateway.getAdmin('/readyz')];
    return answers.map(({ status }) => status);
  }
});

test('a client that does not answer is cut after timeouts.close', async () => {
  const routes = [{ path: '/echo', plugin: 'echo', timeouts: { close: '300ms' } }];
  await withGateway(echoConfig({ routes }), async (gateway) => {
    const raw = await RawSocket.open(gateway.listeners[0]);
    gateway.kill();
    assert.equal((await raw.readClose()).code, 1001);
    assert.equal((await gateway.waitExit()).code, 0);
    const log = await gateway.waitLog({ event: 'close' });
    assert.deepEqual([log.reason, log.clean], ['drain', false]);
    assert.match(log.why, /timeouts\.close/);
  });
});

test('whatever is left at shutdown.drain_timeout is cut', async () => {
  const config = echoConfig({ shutdown: { drain_timeout: '300ms' } });
  await withGateway(config, async (gateway) => {
    const silent = await RawSocket.open(gateway.listeners[0]);
    const halfway = await RawSocket.open(gateway.listeners[0]);
    halfway.write(frame('text', 'never to be ended', { fin: false }));
    const asking = await RawSocket.connect(gateway.listeners[0]);
    asking.write(upgrade().subarray(0, 20));
    await gateway.waitMetrics((m) => m.get('sluice_frames_total', {
      direction: 'client_to_upstream', opcode: 'text' }) === 1);
    gateway.kill();
    for (const raw of [silent, halfway, asking]) await raw.readEnd();
    assert.equal((await gateway.waitExit()).code, 0);
    for (const raw of [silent, halfway]) {
      const log = await gateway.waitClose(raw);
      assert.deepEqual([log.reason, log.code], ['drain', 1006]);
    }
  });
});

test('a second signal ends at once', async () => {
  await withGateway(echoConfig({ shutdown: { drain_timeout: '1h' } }), async (gateway) => {
    const raw = await RawSocket.open(gateway.listeners[0]);
    raw.write(frame('text', 'never to be ended', { fin: false }));
    await gateway.waitMetrics((m) => m.get('sluice_frames_total', {
      direction: 'client_to_upstream', opcode: 'text' }) === 1);
    gateway.kill('SIGTERM');
    await draining(gateway);
    gateway.kill('SIGINT');
    assert.equal((await gateway.waitExit()).code, 0);
    await raw.readEnd();
  });
});

// The gateway ends although its plugin does not. `connections` is how many it had left then.
async function endsStuck(drainTimeout, connections, act, overrides = {}) {
  const gateway = await Gateway.start(echoConfig({
    plugins: { stuck: { library: testPlugin('stuck') } },
    routes: [{ path: '/stuck', plugin: 'stuck' }],
    shutdown: { drain_timeout: drainTimeout },
    ...overrides,
  }));
  try {
    await act(gateway);
    assert.deepEqual(await gateway.waitExit(), { code: 1, signal: null });
    const log = await gateway.waitLog({ event: 'a worker is stuck' });
    assert.deepEqual([log.level, log.workers_left, log.connections], ['error', 1, connections]);
  } finally {
    gateway.child.kill('SIGKILL');
  }
}

test('a plugin that never returns holds nothing up after a second signal or drain_timeout', async () => {
  const ends = (drainTimeout, signals) => endsStuck(drainTimeout, 1, async (gateway) => {
    const raw = await RawSocket.open(gateway.listeners[0], '/stuck');
    raw.write(frame('text', 'never to be answered'));
    await gateway.waitLog({ event: 'plugin', text: 'stuck' });
    for (let i = 0; i < signals; ++i) {
      gateway.kill();
      await draining(gateway);
    }
  });
  await Promise.all([ends('1h', 2), ends('100ms', 1)]);
});

test('a plugin that holds the only worker keeps no listener open', async () => {
  const socket = path.join(temporaryFolder(), 'gateway.sock');
  const listeners = [{ address: '127.0.0.1:0' }, { address: `unix:${socket}` }];
  await endsStuck('1h', 1, async (gateway) => {
    const raw = await RawSocket.open(gateway.listeners[0], '/stuck');
    raw.write(frame('text', 'never to be answered'));
    await gateway.waitLog({ event: 'plugin', text: 'stuck' });
    gateway.kill();
    await draining(gateway);
    for (const listener of gateway.listeners) {
      await assert.rejects(RawSocket.connect(listener), /ECONNREFUSED|ENOENT/);
    }
    gateway.kill();
  }, { listeners });
  assert.equal(fs.existsSync(socket), false);
});

test('a plugin that holds the only worker from its first turn on does not hold up the process', async () => {
  const plugins = { stuck: { library: testPlugin('stuck'), config: { at_once: true } } };
  await endsStuck('1h', 0, async (gateway) => {
    await gateway.waitLog({ event: 'plugin', text: 'stuck' });
    gateway.kill();
    await draining(gateway);
    gateway.kill();
  }, { plugins });
});

test('a plugin whose end never returns holds nothing up after a second signal or drain_timeout', async () => {
  const ends = (drainTimeout, again) => endsStuck(drainTimeout, 0, async (gateway) => {
    const client = await Client.open(gateway.url('/stuck'));
    client.send('at the end');
    assert.equal(await client.text(), 'so be it');
    gateway.kill();
    assert.equal((await client.end()).code, 1001);
    await gateway.waitLog({ event: 'plugin', text: 'stuck' });
    if (again) gateway.kill();
  });
  await Promise.all([ends('1h', true), ends('100ms', false)]);
});

test('plain requests under way are answered, kept connections are ended', async () => {
  const folder = temporaryFolder();
  const size = 20 * 1024 * 1024;
  fs.writeFileSync(path.join(folder, 'big'), Buffer.alloc(size, 'big '));
  const routes = [{ path: '/*', static: { root: '.' } }];
  await withGateway(echoConfig({ routes, plugins: undefined }), async (gateway) => {
    const kept = await RawSocket.connect(gateway.listeners[0]);
    kept.write(Buffer.from('GET /none HTTP/1.1\r\nHost: a\r\n\r\n'));
    assert.equal((await kept.readResponse()).status, 404);
    const reading = await RawSocket.connect(gateway.listeners[0]);
    reading.socket.pause();
    reading.write(Buffer.from('GET /big HTTP/1.1\r\nHost: a\r\n\r\n'));
    await gateway.waitLog({ event: 'request', path: '/big' });
    gateway.kill();
    assert.equal((await kept.readEnd()).bytes.length, 0);
    await draining(gateway);
    reading.socket.resume();
    assert.equal((await reading.readResponse({ head: true })).headers['content-length'], `${size}`);
    const { ending, bytes } = await reading.readEnd();
    assert.deepEqual([ending, bytes.length], ['end', size]);
    assert.equal((await gateway.waitExit()).code, 0);
  }, { folder });
});

test('under load every client sees 1001, and no message is torn or lost before it', async () => {
  await withGateway(echoConfig({ workers: 2 }), async (gateway) => {
    const clients = [];
    for (let i = 0; i < 100; ++i) clients.push(await Client.open(gateway.url()));
    const working = clients.map((client, number) => echoUntilClosed(client, number));
    await gateway.waitMetrics((m) => m.get('sluice_messages_total') > 4000);
    gateway.kill();
    const rounds = await Promise.all(working);
    assert.equal((await gateway.waitExit()).code, 0);
    assert.ok(rounds.reduce((sum, n) => sum + n, 0) > 1000);
    const closes = gateway.logs.filter((log) => log.event === 'close');
    assert.equal(closes.length, 100);
    for (const log of closes) {
      assert.deepEqual([log.reason, log.clean, log.messages_in], ['drain', true, log.messages_out]);
    }
  });

  // Two messages are always under way; each echo brings forth the next. Returns the echoes.
  async function echoUntilClosed(client, number) {
    const filler = 'x'.repeat(number * 30);
    let sent = 0;
    let received = 0;
    const send = () => {
      if (client.socket.readyState === WebSocket.OPEN) client.send(`${sent++} ${filler}`);
    };
    client.socket.on('message', (data) => {
      assert.equal(data.toString(), `${received++} ${filler}`);
      send();
    });
    send();
    send();
    assert.equal((await client.end()).code, 1001);
    return received;
  }
});

test('a refused client that keeps its connection does not hold up the end', async () => {
  await withGateway(echoConfig({ shutdown: { drain_timeout: '60s' } }), async (gateway) => {
    const client = await RawSocket.connect(gateway.listeners[0]);
    client.write('GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await client.readResponse();
    // It never closes. Two seconds of lingering are for the response; patience is 10.
    gateway.kill();
    await gateway.waitExit();
    client.destroy();
  });
});
