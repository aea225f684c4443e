// tcp routes: bytes, their back-pressure and their ends, with upstreams that the tests play.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../support/client.mjs';
import { frame, RawSocket } from '../support/raw.mjs';
import { Program, Server, freePort } from '../support/services.mjs';
import { echoConfig, makeCertificate, memoryIsOurs, patienceMs, slowness,
  temporaryFolder, until, withGateway, within } from '../support/gateway.mjs';

const kilobyte = 1024;
const megabyte = 1024 * kilobyte;
const longMs = 6 * patienceMs; // for 64 MB
const up = 'client_to_upstream';
const down = 'upstream_to_client';
const highWatermark = 256 * kilobyte; // the default
const read = 65 * kilobyte; // what one read may bring on top

const large = randomBytes(64 * megabyte);
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
const largeDigest = digest(large);

const tcpConfig = (tcp, overrides = {}, route = {}) =>
  echoConfig({ routes: [{ path: '/tcp', tcp, allowed_origins: ['*'], ...route }], ...overrides });

// A gateway in front of a server that the test plays.
async function withServer(t, options, body, { tcp = {}, overrides = {}, route = {} } = {}) {
  const server = await Server.listen(t, options);
  await withGateway(tcpConfig({ upstream: server.address, ...tcp }, overrides, route),
    (gateway) => body(gateway, server));
}

const openClient = async (gateway, server, options) => {
  const [client, peer] = await Promise.all([
    Client.open(gateway.url('/tcp'), { maxPayload: 0, ...options }), server.next()]);
  return { client, peer };
};

// What the client is sent, counted and hashed and not kept.
function hashMessages(client) {
  const got = { bytes: 0, messages: 0, largest: 0, hash: createHash('sha256') };
  client.socket.removeAllListeners('message');
  client.socket.on('message', (data, binary) => {
    assert.equal(binary, true);
    got.hash.update(data);
    got.bytes += data.length;
    got.messages += 1;
    got.largest = Math.max(got.largest, data.length);
  });
  return got;
}

// The growth of the gateway's memory while `body` runs, at its highest.
async function growth(gateway, body) {
  const before = gateway.rssBytes();
  let highest = before;
  const look = setInterval(() => { highest = Math.max(highest, gateway.rssBytes()); }, 5);
  try {
    await body();
  } finally {
    clearInterval(look);
  }
  return Math.max(highest, gateway.rssBytes()) - before;
}

function staysSmall(grown) {
  assert.ok(grown < 4 * megabyte || !memoryIsOurs, `the gateway grew by ${grown} bytes`);
}

describe('bytes', () => {
  test('messages become bytes and bytes become messages, whatever their boundaries', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(Buffer.from('ab'));
      client.send(Buffer.alloc(0));
      client.send(Buffer.from('c'), { fin: false });
      client.send(Buffer.from('d'), { fin: true });
      assert.equal((await peer.read(4)).toString(), 'abcd');
      peer.write(Buffer.from([0, 255, 10]));
      const { data, binary } = await client.next();
      assert.deepEqual([...data], [0, 255, 10]);
      assert.equal(binary, true);
      assert.deepEqual(await client.close(1000, 'bye'), { code: 1000, reason: 'bye' });
      assert.equal(await peer.end(), 'end');
    });
  });

  test('an upstream on a unix socket', async (t) => {
    await withServer(t, { path: path.join(temporaryFolder(), 'socket') },
      async (gateway, server) => {
        const { client, peer } = await openClient(gateway, server);
        client.send(Buffer.from('there'));
        assert.equal((await peer.read(5)).toString(), 'there');
        peer.write('and back');
        assert.equal((await client.next()).data.toString(), 'and back');
        await client.close();
        assert.equal(await peer.end(), 'end');
      });
  });

  test('an upstream with TLS, verified', async (t) => {
    const certificate = makeCertificate(temporaryFolder(), '127.0.0.1');
    const secret = { cert: certificate.pem, key: fs.readFileSync(certificate.key) };
    const server = await Server.listen(t, { tls: secret, keep: false });
    const upstreams = {
      good: { endpoints: [server.address], tls: { ca: certificate.cert } },
      doubtful: { endpoints: [server.address], tls: {} },
    };
    const routes = [{ path: '/tcp', tcp: { upstream: 'good' } },
      { path: '/doubtful', tcp: { upstream: 'doubtful' } }];
    await withGateway(echoConfig({ upstreams, routes }), async (gateway) => {
      const { client, peer } = await openClient(gateway, server);
      const got = hashMessages(client);
      client.send(large);
      peer.write(large);
      await peer.read(large.length, longMs);
      assert.equal(peer.digest, largeDigest);
      await until(() => got.bytes === large.length, 'all bytes back', longMs);
      assert.equal(got.hash.digest('hex'), largeDigest);
      await client.close();
      assert.equal(await peer.end(), 'end');
      assert.equal((await Client.refused(gateway.url('/doubtful'))).status, 502);
    });
  });

  for (const [form, options] of [['one frame', { pieces: large.length }],
    ['fragments of 131,000 bytes', { pieces: 131_000 }]]) {
    test(`a message of 64 MB in ${form} passes through and is never held`, async (t) => {
      await withServer(t, { keep: false }, async (gateway, server) => {
        const { client, peer } = await openClient(gateway, server);
        staysSmall(await growth(gateway, async () => {
          for (let i = 0; i < large.length; i += options.pieces) {
            client.send(large.subarray(i, i + options.pieces),
              { binary: true, fin: i + options.pieces >= large.length });
          }
          await peer.read(large.length, longMs);
        }));
        assert.equal(peer.digest, largeDigest);
        await client.close();
        assert.equal(await peer.end(), 'end');
      });
    });
  }

  test('both directions at once', async (t) => {
    await withServer(t, { keep: false }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const got = hashMessages(client);
      staysSmall(await growth(gateway, async () => {
        client.send(large);
        peer.write(large);
        await peer.read(large.length, longMs);
        await until(() => got.bytes === large.length, 'all bytes back', longMs);
      }));
      assert.equal(peer.digest, largeDigest);
      assert.equal(got.hash.digest('hex'), largeDigest);
      assert.ok(got.largest <= read, `a message of ${got.largest} bytes`);
      await client.close();
    });
  });

  test('text frames are refused with 1003 on a route of bytes', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(Buffer.from('bytes'));
      client.send('text');
      client.send(Buffer.from('more'));
      assert.equal((await client.end()).code, 1003);
      assert.equal(await peer.end(), 'end');
      assert.equal(peer.received.toString(), 'bytes');
      const log = await gateway.waitLog({ event: 'close', reason: 'unsupported_data' });
      assert.equal(log.initiator, 'gateway');
    });
  });

  test('connections to the upstream have TCP_NODELAY', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      peer.socket.on('data', (bytes) => peer.socket.write(bytes));
      // With Nagle's algorithm the second byte of each pair waits for a delayed acknowledgement.
      const started = performance.now();
      for (let i = 0; i < 50; ++i) {
        client.send(Buffer.from('a'));
        await new Promise(setImmediate);
        client.send(Buffer.from('b'));
        for (let bytes = 0; bytes < 2;) bytes += (await client.next()).data.length;
      }
      assert.ok(performance.now() - started < 50 * 30 * slowness, 'small writes are held up');
      await client.close();
    });
  });
});

describe('text', () => {
  const text = 'aé你🌊z\n€𝄞ßё漢'.repeat(20);

  test('characters of several bytes are never cut, wherever the stream is', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const bytes = Buffer.from(text);
      for (const size of [1, 2, 3, 5, 7]) {
        const { client, peer } = await openClient(gateway, server);
        for (let i = 0; i < bytes.length; i += size) {
          peer.write(bytes.subarray(i, i + size));
          await new Promise(setImmediate);
        }
        let got = '';
        while (got.length < text.length) got += await client.text(); // ws refuses invalid UTF-8
        assert.equal(got, text);
        client.send(text);
        assert.equal((await peer.read(bytes.length)).toString(), text);
        await client.close();
      }
    }, { tcp: { frames: 'text' } });
  });

  test('what is no UTF-8 is the upstream\'s fault, and so is an end inside of a character',
    async (t) => {
      await withServer(t, {}, async (gateway, server) => {
        for (const bytes of [[0x61, 0xff], [0xe4, 0xbd]]) {
          const { client, peer } = await openClient(gateway, server);
          peer.socket.end(Buffer.from(bytes));
          assert.equal((await client.end()).code, 1014);
        }
        const closed = () => gateway.logs.filter((log) => log.event === 'close');
        const logs = await until(() => closed().length >= 2 && closed(), 'two records');
        assert.deepEqual(logs.map((log) => [log.initiator, log.reason]),
          [['upstream', 'upstream_failed'], ['upstream', 'upstream_failed']]);
      }, { tcp: { frames: 'text' } });
    });

  test('binary frames are refused with 1003, invalid UTF-8 with 1007', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(Buffer.from('bytes'));
      assert.equal((await client.end()).code, 1003);
      assert.equal(await peer.end(), 'end');
      assert.equal(peer.bytes, 0);

      const raw = await RawSocket.open(gateway.listeners[0], '/tcp');
      raw.write(frame('text', Buffer.from([0xc3, 0x28])));
      assert.equal((await raw.readClose()).code, 1007);
      raw.destroy();
    }, { tcp: { frames: 'text' } });
  });
});

describe('back-pressure', () => {
  test('an upstream that does not read: the bytes wait at the client', async (t) => {
    await withServer(t, { keep: false, paused: true }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      staysSmall(await growth(gateway, async () => {
        client.send(large);
        const metrics = await gateway.waitMetrics((m) =>
          m.get('sluice_backpressure_paused_connections', { direction: up }) === 1,
          'the client is not read');
        const waiting = metrics.get('sluice_buffered_amount_bytes', { direction: up, layer: 'app' });
        assert.ok(waiting > highWatermark / 4, `${waiting} bytes wait in the gateway`);
        assert.ok(waiting <= highWatermark + 2 * read, `${waiting} bytes wait in the gateway`);
        assert.equal(metrics.get('sluice_buffered_amount_bytes', { direction: up, layer: 'tls' }), 0);
        assert.equal(metrics.get('sluice_backpressure_paused_connections', { direction: down }), 0);
        const before = metrics.get('sluice_payload_bytes_total', { direction: up });
        await sleep(300); // nothing may happen
        const after = await gateway.metrics();
        assert.equal(after.get('sluice_payload_bytes_total', { direction: up }), before);
        assert.ok(client.socket.bufferedAmount > large.length / 4);
        // The other direction goes on.
        peer.write('still there');
        assert.equal((await client.next()).data.toString(), 'still there');
        peer.socket.resume();
        await peer.read(large.length, longMs);
      }));
      assert.equal(peer.digest, largeDigest);
      await gateway.waitMetrics((m) =>
        m.get('sluice_buffered_amount_bytes', { direction: up }) === 0 &&
        m.get('sluice_backpressure_paused_connections', { direction: up }) === 0);
      await client.close();
    });
  });

  test('a client that does not read: the bytes wait at the upstream', async (t) => {
    await withServer(t, { keep: false }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const got = hashMessages(client);
      client.socket.pause();
      staysSmall(await growth(gateway, async () => {
        peer.write(large);
        const metrics = await gateway.waitMetrics((m) =>
          m.get('sluice_backpressure_paused_connections', { direction: down }) === 1,
          'the upstream is not read');
        const waiting =
          metrics.get('sluice_buffered_amount_bytes', { direction: down, layer: 'app' });
        assert.ok(waiting > highWatermark / 4, `${waiting} bytes wait in the gateway`);
        assert.ok(waiting <= highWatermark + 2 * read, `${waiting} bytes wait in the gateway`);
        assert.equal(metrics.get('sluice_backpressure_paused_connections', { direction: up }), 0);
        assert.ok(peer.socket.writableLength > large.length / 4);
        // The other direction goes on.
        client.send(Buffer.from('still there'));
        await peer.read(11);
        client.socket.resume();
        await until(() => got.bytes === large.length, 'everything', longMs);
      }));
      assert.equal(got.hash.digest('hex'), largeDigest);
      await client.close();
    });
  });

  test('neither reads, and then both do: nothing is stuck', async (t) => {
    await withServer(t, { keep: false, paused: true }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const got = hashMessages(client);
      client.socket.pause();
      client.send(large);
      peer.write(large);
      await gateway.waitMetrics((m) =>
        m.get('sluice_backpressure_paused_connections', { direction: up }) === 1 &&
        m.get('sluice_backpressure_paused_connections', { direction: down }) === 1);
      peer.socket.resume();
      client.socket.resume();
      await peer.read(large.length, longMs);
      await until(() => got.bytes === large.length, 'everything', longMs);
      assert.equal(peer.digest, largeDigest);
      assert.equal(got.hash.digest('hex'), largeDigest);
      await client.close();
    });
  });

  test('small watermarks hold nothing up', async (t) => {
    await withServer(t, { keep: false }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const got = hashMessages(client);
      const bytes = large.subarray(0, 8 * megabyte);
      client.send(bytes);
      peer.write(bytes);
      await peer.read(bytes.length, longMs);
      await until(() => got.bytes === bytes.length, 'everything', longMs);
      assert.equal(peer.digest, digest(bytes));
      assert.equal(got.hash.digest('hex'), digest(bytes));
      await client.close();
    }, { route: { buffers: { high_watermark: '4KiB', low_watermark: '1KiB' } } });
  });
});

describe('ends', () => {
  test('the upstream ends: everything it sent, then 1000', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const got = hashMessages(client);
      client.socket.pause();
      peer.socket.end(large);
      await gateway.waitMetrics((m) =>
        m.get('sluice_backpressure_paused_connections', { direction: down }) === 1);
      client.socket.resume();
      assert.deepEqual(await within(client.closed, 'the close event', longMs),
        { code: 1000, reason: '' });
      assert.equal(got.bytes, large.length);
      assert.equal(got.hash.digest('hex'), largeDigest);
      assert.equal(await peer.end(), 'end');
      const log = await gateway.waitLog({ event: 'close' });
      assert.deepEqual([log.initiator, log.reason, log.clean], ['upstream', 'normal', true]);
    });
  });

  test('the upstream ends its direction only: the client may still say what it has to', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const peerComes = server.next();
      const raw = await RawSocket.open(gateway.listeners[0], '/tcp');
      const peer = await peerComes;
      peer.socket.end('that is all');
      assert.equal((await raw.readFrame()).payload.toString(), 'that is all');
      assert.equal((await raw.readFrame()).code, 1000);
      raw.write(frame('binary', 'one more, '));
      assert.equal((await peer.read(10)).toString(), 'one more, ');
      assert.equal(peer.ending, null);
      raw.write(Buffer.concat([frame('binary', 'and the last'), frame('close', Buffer.from([3, 232]))]));
      assert.equal(await peer.end(), 'end');
      assert.equal(peer.received.toString(), 'one more, and the last');
      assert.equal((await raw.readEnd()).ending, 'end');
    });
  });

  test('the upstream ends its direction in the midst of 64 MB, and takes its time with the rest',
    async (t) => {
      await withServer(t, { keep: false, paused: true }, async (gateway, server) => {
        const { client, peer } = await openClient(gateway, server);
        client.send(large);
        await gateway.waitMetrics((m) =>
          m.get('sluice_backpressure_paused_connections', { direction: up }) === 1);
        peer.socket.end('bye');
        for (let i = 0; i < 6; ++i) { // altogether far longer than timeouts.close
          peer.socket.resume();
          await sleep(20);
          peer.socket.pause();
          await sleep(250);
        }
        peer.socket.resume();
        assert.equal(await peer.end(longMs), 'end');
        assert.equal(peer.digest, largeDigest);
        assert.equal((await client.end()).code, 1000);
      }, { route: { timeouts: { close: '500ms' } } });
    });

  test('the upstream resets: 1014, never 1000', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      peer.write('before');
      assert.equal((await client.next()).data.toString(), 'before');
      peer.socket.resetAndDestroy();
      assert.equal((await client.end()).code, 1014);
      const log = await gateway.waitLog({ event: 'close' });
      assert.deepEqual([log.initiator, log.reason], ['upstream', 'upstream_failed']);
      const metrics = await gateway.metrics();
      assert.equal(metrics.get('sluice_connections_closed_total',
        { initiator: 'upstream', reason: 'upstream_failed' }), 1);
    });
  });

  test('the client closes behind 64 MB: all of it, then FIN', async (t) => {
    await withServer(t, { keep: false, paused: true }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(large);
      client.socket.close(1000);
      await gateway.waitMetrics((m) =>
        m.get('sluice_backpressure_paused_connections', { direction: up }) === 1);
      peer.socket.resume();
      assert.equal(await peer.end(longMs), 'end');
      assert.equal(peer.bytes, large.length);
      assert.equal(peer.digest, largeDigest);
      assert.equal((await client.end()).code, 1000);
    });
  });

  test('a slow upstream gets what the client left behind', async (t) => {
    await withServer(t, { keep: false, paused: true }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const bytes = large.subarray(0, 200 * kilobyte); // under the watermark: the client is not held
      for (let i = 0; i < 15; ++i) client.send(bytes);
      await client.close();
      peer.socket.resume();
      assert.equal(await peer.end(longMs), 'end');
      assert.equal(peer.bytes, 15 * bytes.length);
      peer.socket.end();
    }, { route: { buffers: { high_watermark: '8MiB' } } });
  });

  test('the client vanishes: the upstream is closed', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      for (const leave of ['destroy', 'reset']) {
        const peerComes = server.next();
        const raw = await RawSocket.open(gateway.listeners[0], '/tcp');
        const peer = await peerComes;
        raw.write(frame('binary', 'last words'));
        await peer.read(10);
        raw[leave]();
        assert.equal(await peer.end(), 'end');
        assert.equal(peer.received.toString(), 'last words');
        peer.socket.end();
        const log = await gateway.waitClose(raw);
        assert.deepEqual([log.code, log.clean], [1006, false]);
        assert.equal(log.reason, leave === 'reset' ? 'reset' : 'lost');
      }
    });
  });

  test('an upstream that does not close is left after timeouts.close', async (t) => {
    await withServer(t, { stubborn: true }, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      const before = gateway.descriptors();
      await client.close();
      assert.equal(await peer.end(), 'end');
      await until(() => gateway.descriptors() <= before - 2, 'both sockets of the gateway closed');
      const metrics = await gateway.metrics();
      assert.equal(metrics.get('sluice_upstream_connections'), 0);
    }, { route: { timeouts: { close: '300ms' } } });
  });

  test('an upstream that is killed under load: 1014, and 502 for who comes next', async (t) => {
    const port = await freePort();
    const hang = `require('net').createServer((s) => { s.pause(); s.write('x'); })
      .listen(${port}, '127.0.0.1', () => console.log('listening'))`;
    const start = () => Program.start(t, process.execPath, ['-e', hang],
      { ready: (program) => program.output.includes('listening') });
    const program = await start();
    await withGateway(tcpConfig({ upstream: `127.0.0.1:${port}` }), async (gateway) => {
      const clients = [];
      for (let i = 0; i < 20; ++i) clients.push(await Client.open(gateway.url('/tcp')));
      const heap = gateway.descriptors();
      for (const client of clients) client.send(large.subarray(0, 4 * megabyte));
      for (const client of clients) await client.next();
      await gateway.waitMetrics((m) =>
        m.get('sluice_backpressure_paused_connections', { direction: up }) === clients.length);
      await program.kill();
      for (const client of clients) assert.equal((await client.end()).code, 1014);
      await until(() => gateway.descriptors() <= heap - 2 * clients.length, 'all sockets closed');
      assert.equal((await Client.refused(gateway.url('/tcp'))).status, 502);
      await start();
      const client = await Client.open(gateway.url('/tcp'));
      assert.equal((await client.next()).data.toString(), 'x');
      await client.close();
    });
  });

  test('a client that is being answered when the gateway ends gets 1001, its bytes arrive', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(Buffer.from('before the end'));
      await peer.read(14);
      gateway.kill();
      assert.equal((await client.end()).code, 1001);
      assert.equal(await peer.end(), 'end');
      peer.socket.end();
    });
  });
});

describe('before the 101', () => {
  test('a dead port is a 502', async () => {
    const port = await freePort();
    await withGateway(tcpConfig({ upstream: `127.0.0.1:${port}` }), async (gateway) => {
      const { status, body } = await Client.refused(gateway.url('/tcp'));
      assert.equal(status, 502);
      assert.ok(!body.includes(String(port)), body);
      const metrics = await gateway.metrics();
      assert.equal(metrics.get('sluice_handshakes_total', { result: 'upstream_failed' }), 1);
      assert.ok(metrics.get('sluice_upstream_connect_failures_total', { reason: 'refused' }) > 0);
    });
  });

  test('an upstream that does not answer is a 504', async (t) => {
    // A backlog that is full: the kernel answers nobody any more.
    const port = await freePort();
    const deaf = `import socket, time
s = socket.socket(); s.bind(('127.0.0.1', ${port})); s.listen(0); print('listening', flush=True)
time.sleep(600)`;
    await Program.start(t, '/usr/bin/python3', ['-c', deaf],
      { ready: (program) => program.output.includes('listening') });
    const fillers = [];
    for (let i = 0; i < 3; ++i) fillers.push(net.connect({ port, host: '127.0.0.1' }));
    for (const filler of fillers) filler.on('error', () => {});
    t.after(() => { for (const filler of fillers) filler.destroy(); });
    await within(new Promise((resolve) => fillers[0].once('connect', resolve)), 'a full backlog');
    const upstreams = {
      deaf: { endpoints: [`127.0.0.1:${port}`], connect_timeout: '300ms', connect_attempts: 1 },
    };
    await withGateway(tcpConfig({ upstream: 'deaf' }, { upstreams }), async (gateway) => {
      assert.equal((await Client.refused(gateway.url('/tcp'))).status, 504);
      const metrics = await gateway.metrics();
      assert.equal(metrics.get('sluice_handshakes_total', { result: 'upstream_timeout' }), 1);
    });
  });

  test('the subprotocols of the route are answered', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client } = await openClient(gateway, server, { protocols: ['chat', 'binary'] });
      assert.equal(client.socket.protocol, 'binary');
      await client.close();
      assert.equal((await Client.refused(gateway.url('/tcp'), { protocols: ['chat'] })).status, 400);
    }, { route: { subprotocols: ['binary'] } });
  });
});

describe('the PROXY protocol', () => {
  test('version 1', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(Buffer.from('first'));
      const { localPort } = client.socket._socket;
      const line = `PROXY TCP4 127.0.0.1 127.0.0.1 ${localPort} ${gateway.listeners[0].port}\r\nfirst`;
      assert.equal((await peer.read(line.length)).toString(), line);
      await client.close();
    }, { tcp: { proxy_protocol: 'v1' } });
  });

  test('version 2', async (t) => {
    await withServer(t, {}, async (gateway, server) => {
      const { client, peer } = await openClient(gateway, server);
      client.send(Buffer.from('first'));
      const bytes = await peer.read(28 + 5);
      const head = Buffer.concat([Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
        Buffer.from([0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1])]);
      assert.deepEqual(bytes.subarray(0, 24), head);
      assert.equal(bytes.readUInt16BE(24), client.socket._socket.localPort);
      assert.equal(bytes.readUInt16BE(26), gateway.listeners[0].port);
      assert.equal(bytes.toString('latin1', 28), 'first');
      await client.close();
    }, { tcp: { proxy_protocol: 'v2' } });
  });
});

test('a listener with TLS: 64 MB each way', async (t) => {
  const { cert, key, pem } = makeCertificate(temporaryFolder(), '127.0.0.1');
  await withServer(t, { keep: false }, async (gateway, server) => {
    const [client, peer] = await Promise.all([
      Client.open(gateway.url('/tcp', { scheme: 'wss' }), { ca: pem, maxPayload: 0 }),
      server.next()]);
    const got = hashMessages(client);
    client.send(large);
    peer.write(large);
    await peer.read(large.length, longMs);
    await until(() => got.bytes === large.length, 'everything', longMs);
    assert.equal(peer.digest, largeDigest);
    assert.equal(got.hash.digest('hex'), largeDigest);
    await client.close();
  }, { overrides: {
    listeners: [{ address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } }],
  } });
});
