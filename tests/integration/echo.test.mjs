// Whole WebSockets between npm's ws and the gateway, over every kind of listener.
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { Client } from '../support/client.mjs';
import { RawSocket } from '../support/raw.mjs';
import { echoConfig, makeCertificate, sharedGateway, temporaryFolder, testPlugin, withGateway, within }
  from '../support/gateway.mjs';

const largest = 1024 * 1024; // the default of limits.max_message_size

// What any listener must do.
function echoesEverything(open) {
  test('text, binary, empty and large messages come back as they were', async () => {
    const client = await open();
    await client.echoes('hello');
    await client.echoes('你好，世界 🌊');
    await client.echoes('');
    await client.echoes(Buffer.alloc(0));
    await client.echoes(Buffer.from([0, 1, 2, 253, 254, 255]));
    for (const size of [125, 126, 65535, 65536, largest]) {
      await client.echoes(Buffer.alloc(size, size % 251));
    }
    await client.echoes('é'.repeat(largest / 2));
    assert.deepEqual(await client.close(1000), { code: 1000, reason: '' });
  });

  test('a fragmented message comes back whole, with a ping answered in between', async () => {
    const client = await open();
    const pong = new Promise((resolve) => client.socket.once('pong', resolve));
    client.send('one ', { fin: false });
    client.send('two ', { fin: false });
    client.socket.ping('between');
    client.send('', { fin: false });
    assert.equal((await within(pong, 'a pong')).toString(), 'between');
    assert.equal(client.messages.length, 0);
    client.send('three', { fin: true });
    assert.equal(await client.text(), 'one two three');
    await client.close();
  });

  test('a thousand messages in a row keep their order', async () => {
    const client = await open();
    for (let i = 0; i < 1000; ++i) client.send(`message ${i}`);
    for (let i = 0; i < 1000; ++i) assert.equal(await client.text(), `message ${i}`);
    await client.close();
  });
}

describe('over TCP', () => {
  const gateway = sharedGateway(() => echoConfig({
    plugins: { echo: { library: 'echo.so' }, flood: { library: testPlugin('flood') } },
    routes: [
      { path: '/echo', plugin: 'echo', allowed_origins: ['*'], subprotocols: ['v2', 'v1'] },
      { path: '/told', plugin: 'flood' },
      { path: '/room/{name}', plugin: 'echo' },
    ],
  }));
  echoesEverything(() => Client.open(gateway.url()));

  for (const code of [1000, 1001, 1011, 3000, 3999, 4000, 4999]) {
    test(`the client's close code ${code} and its reason are echoed (RFC 6455 5.5.1)`, async () => {
      const client = await Client.open(gateway.url());
      const reason = `原因 ${code}`;
      assert.deepEqual(await client.close(code, reason), { code, reason });
      const log = await gateway.waitLog({ event: 'close', code, text: reason });
      assert.equal(log.initiator, 'client');
      assert.equal(log.clean, true);
      assert.equal(log.reason, { 1000: 'normal', 1001: 'going_away' }[code] ?? 'application');
    });
  }

  for (const code of [1000, 3000, 4999]) {
    test(`the plugin's close code ${code} and its reason reach the client`, async () => {
      const client = await Client.open(gateway.url('/told'));
      client.send(`close ${code} 因为 ${code}`);
      assert.deepEqual(await client.end(), { code, reason: `因为 ${code}` });
      const log = await gateway.waitLog({ event: 'close', code, route: '/told' });
      assert.equal(log.initiator, 'plugin');
      assert.equal(log.clean, true);
    });
  }

  test('a plugin cannot close with a code of the gateway\'s own', async () => {
    const client = await Client.open(gateway.url('/told'));
    for (const code of [999, 1001, 1005, 1006, 1015, 2999, 5000]) client.send(`close ${code} no`);
    client.send('1 9');
    assert.equal(await client.text(), '00000000x');
    await client.close();
  });

  test('a close without a code is answered without one (RFC 6455 7.1.5)', async () => {
    const client = await Client.open(gateway.url());
    assert.deepEqual(await client.close(), { code: 1005, reason: '' });
  });

  test('the first of the route\'s subprotocols that the client offers is agreed on', async () => {
    for (const [offered, agreed] of [[['v1'], 'v1'], [['v1', 'v2'], 'v2'], [['v3', 'v1'], 'v1']]) {
      const client = await Client.open(gateway.url(), { protocols: offered });
      assert.equal(client.socket.protocol, agreed);
      await client.echoes(agreed);
      await client.close();
    }
  });

  test('an offer of subprotocols that cannot be answered is refused with 400', async () => {
    assert.equal((await Client.refused(gateway.url(), { protocols: ['v3'] })).status, 400);
    assert.equal((await Client.refused(gateway.url('/told'), { protocols: ['v1'] })).status, 400);
  });

  test('a ping with 125 bytes is answered with the same bytes', async () => {
    const client = await Client.open(gateway.url());
    const pong = new Promise((resolve) => client.socket.once('pong', resolve));
    client.socket.ping(Buffer.alloc(125, 7));
    assert.deepEqual(await within(pong, 'a pong'), Buffer.alloc(125, 7));
    await client.close();
  });

  test('an offer of permessage-deflate is not taken, and nothing else goes wrong', async () => {
    const client = await Client.open(gateway.url(), { perMessageDeflate: true });
    assert.equal(client.socket.extensions, '');
    await client.echoes('not compressed'.repeat(1000));
    await client.close();
  });

  test('a route with a parameter is found, percent escapes and all', async () => {
    const client = await Client.open(gateway.url('/room/%E8%81%8A%E5%A4%A9?x=1'));
    await client.echoes('in the room');
    await client.close();
  });

  test('at rest every opened connection is counted as closed', async () => {
    const metrics = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
    const opened = metrics.get('sluice_connections_opened_total');
    assert.ok(opened > 20);
    assert.equal(metrics.get('sluice_connections_closed_total'), opened);
    assert.equal(metrics.get('sluice_handshakes_total', { result: 'accepted' }), opened);
  });
});

describe('over IPv6', () => {
  const gateway = sharedGateway(echoConfig({ listeners: [{ address: '[::1]:0' }] }));
  echoesEverything(() => Client.open(gateway.url()));
});

describe('over a unix socket', () => {
  const folder = temporaryFolder();
  const gateway = sharedGateway(
    echoConfig({ listeners: [{ address: `unix:${path.join(folder, 'a.sock')}` }] }), { folder });
  echoesEverything(() => Client.open(gateway.url()));
});

describe('over TLS', () => {
  const folder = temporaryFolder();
  const one = makeCertificate(folder, 'one.test', '127.0.0.1');
  const two = makeCertificate(folder, 'two.test');
  const certificates = [one, two].map(({ cert, key }) => ({ cert, key }));
  const gateway = sharedGateway(echoConfig({
    listeners: [
      { address: '127.0.0.1:0', tls: { certificates } },
      { address: '127.0.0.1:0', tls: { certificates, min_version: '1.3' } },
    ],
  }), { folder });

  const open = (options = {}) => Client.open(
    gateway.url('/echo', { scheme: 'wss', listener: options.listener }), { ca: one.pem, ...options });

  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    describe(version, () => {
      echoesEverything(() => open({ minVersion: version, maxVersion: version }));
    });
    test(`${version} is spoken, logged and counted`, async () => {
      const number = version.slice(4);
      const count = (m) => m.get('sluice_tls_handshakes_total', { result: 'ok', version: number });
      const before = count(await gateway.metrics());
      const client = await open({ minVersion: version, maxVersion: version });
      assert.equal(client.socket._socket.getProtocol(), version);
      const metrics = await gateway.metrics();
      assert.equal(count(metrics), before + 1);
      assert.equal(metrics.get('sluice_connections_active', { tls: 'true' }), 1);
      await client.close(3007, version);
      await gateway.waitLog({ event: 'open', tls: version });
    });
  }

  test('the client\'s SNI chooses among the certificates', async () => {
    for (const [servername, certificate] of [['one.test', one], ['two.test', two], ['other.test', one]]) {
      const { subject } = await handshake({ servername });
      const name = certificate === one ? 'one.test' : 'two.test';
      assert.equal(subject.CN, name, `for ${servername}`);
    }
    assert.equal((await handshake({})).subject.CN, 'one.test');
    const client = await open({ ca: two.pem, servername: 'two.test' });
    await client.echoes('to two.test');
    await client.close();
  });

  test('min_version 1.3 refuses TLS 1.2', async () => {
    await assert.rejects(handshake({ listener: 1, maxVersion: 'TLSv1.2' }), /alert protocol version/);
    const { version } = await handshake({ listener: 1 });
    assert.equal(version, 'TLSv1.3');
  });

  test('TLS 1.1 is refused everywhere', async () => {
    await assert.rejects(
      handshake({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
      /alert protocol version/);
  });

  test('ALPN: http/1.1 is chosen, and a list without it is refused (RFC 7301 3.2)', async () => {
    assert.equal((await handshake({ ALPNProtocols: ['h2', 'http/1.1'] })).alpn, 'http/1.1');
    assert.equal((await handshake({})).alpn, false);
    for (const ALPNProtocols of [['h2'], ['ftp', 'smtp'], ['http/1.0']]) {
      await assert.rejects(handshake({ ALPNProtocols }), /no application protocol/);
    }
  });

  test('a plain request to the TLS port is no reason to fall over', async () => {
    const before = await gateway.metrics();
    await assert.rejects(gateway.get('/echo'));
    await gateway.waitMetrics((m) => m.get('sluice_tls_handshakes_total', { result: 'failed' }) >
      before.get('sluice_tls_handshakes_total', { result: 'failed' }));
    const client = await open();
    await client.echoes('still here');
    await client.close();
  });

  test('a client that ends the stream within the TLS handshake is counted', async () => {
    const failed = (m) => m.get('sluice_tls_handshakes_total', { result: 'failed' });
    const aborted = (m) => m.get('sluice_handshakes_total', { result: 'aborted' });
    const before = await gateway.metrics();
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.write(Buffer.from('16030102000100', 'hex'));
    raw.end();
    await raw.readEnd();
    const metrics = await gateway.metrics();
    assert.deepEqual([failed(metrics), aborted(metrics)], [failed(before) + 1, aborted(before) + 1]);
  });

  // A TLS handshake and nothing more: what was agreed on.
  function handshake({ listener = 0, ...options }) {
    const { host, port } = gateway.listeners[listener];
    return within(new Promise((resolve, reject) => {
      const socket = tls.connect({ host, port, rejectUnauthorized: false, ...options }, () => {
        resolve({
          subject: socket.getPeerCertificate().subject,
          version: socket.getProtocol(),
          alpn: socket.alpnProtocol,
        });
        socket.destroy();
      });
      socket.on('error', reject);
    }), 'a TLS handshake');
  }
});

test('a TLS handshake that does not end is given up after requests.handshake_timeout', async () => {
  const folder = temporaryFolder();
  const { cert, key } = makeCertificate(folder, 'localhost');
  await withGateway(echoConfig({
    listeners: [{ address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } }],
    requests: { handshake_timeout: '200ms' },
  }), async (gateway) => {
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.write(Buffer.from('16030102000100', 'hex'));
    await raw.readEnd();
    const metrics = await gateway.metrics();
    assert.equal(metrics.get('sluice_tls_handshakes_total', { result: 'timeout' }), 1);
    assert.equal(metrics.get('sluice_handshakes_total', { result: 'timeout' }), 1);
  }, { folder });
});
