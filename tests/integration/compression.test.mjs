// permessage-deflate (RFC 7692) with npm's ws as the client.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { WebSocketServer } from 'ws';
import { Client } from '../support/client.mjs';
import { echoConfig, Gateway, withGateway } from '../support/gateway.mjs';

test('each mode echoes what was compressed, and counts it', async () => {
  const gateway = await Gateway.start(echoConfig({
    routes: ['off', 'shared', 'dedicated'].map((mode) => (
      { path: `/${mode}`, plugin: 'echo', compression: mode })),
  }));
  try {
    for (const mode of ['off', 'shared', 'dedicated']) {
      const client = await Client.open(gateway.url(`/${mode}`), { perMessageDeflate: { threshold: 0 } });
      assert.equal(client.socket.extensions, mode === 'off' ? '' : 'permessage-deflate', mode);
      for (let i = 0; i < 5; ++i) await client.echoes('compressible '.repeat(1000 * i + 30));
      await client.echoes(Buffer.alloc(100_000, 7));
      await client.close(1000);
    }
    const metrics = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
    for (const route of ['/shared', '/dedicated']) {
      for (const direction of ['client_to_upstream', 'upstream_to_client']) {
        const bytes = (stage) => metrics.get('sluice_compression_bytes_total', { route, direction, stage });
        assert.ok(bytes('raw') > 200_000, `${route} ${direction}`);
        assert.ok(bytes('compressed') < bytes('raw') / 10, `${route} ${direction}`);
      }
    }
    assert.equal(metrics.get('sluice_compression_bytes_total', { route: '/off' }), 0);
  } finally {
    await gateway.stop();
  }
});

// An upstream that compresses what it is sent back, and tells what it has agreed to.
async function withUpstream(t, perMessageDeflate, route, body) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate, maxPayload: 0 });
  await once(server, 'listening');
  t.after(() => server.close());
  const agreed = [];
  server.on('connection', (socket) => {
    agreed.push(socket.extensions);
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  const upstream = `127.0.0.1:${server.address().port}`;
  const { http, ...rest } = route;
  await withGateway(echoConfig({
    routes: [{ path: '/*', http: { upstream, ...http }, ...rest }, { path: '/echo', plugin: 'echo' }],
  }), (gateway) => body(gateway, agreed));
}

const zeros = Buffer.alloc(1_000_000); // max_ratio begins above 1 MiB
const text = 'compressible '.repeat(20_000);
const all = { threshold: 0 };

test('passthrough: both ends agree with each other, and the gateway inflates nothing', async (t) => {
  await withUpstream(t, all, { compression: 'passthrough' }, async (gateway, agreed) => {
    const client = await Client.open(gateway.url('/app'), { perMessageDeflate: all, maxPayload: 0 });
    assert.equal(client.socket.extensions, 'permessage-deflate');
    assert.deepEqual(agreed, ['permessage-deflate']);
    for (const data of [text, zeros, 'a', text]) await client.echoes(data);
    const metrics = await gateway.metrics();
    assert.ok(metrics.get('sluice_wire_bytes_total', { route: '/*' }) < 100_000);
    assert.equal(metrics.get('sluice_compression_bytes_total'), 0);
    await client.close(1000);
  });
});

test('passthrough: an upstream that wants no compression has none, nor has its client', async (t) => {
  await withUpstream(t, false, { compression: 'passthrough' }, async (gateway, agreed) => {
    const client = await Client.open(gateway.url('/app'), { perMessageDeflate: all });
    assert.equal(client.socket.extensions, '');
    assert.deepEqual(agreed, ['']);
    await client.echoes(text);
    await client.close(1000);
  });
});

for (const mode of ['shared', 'dedicated']) {
  test(`each side of an http route compresses for itself (${mode})`, async (t) => {
    await withUpstream(t, all, { http: { compression: mode } }, async (gateway, agreed) => {
      const client = await Client.open(gateway.url('/app'), { perMessageDeflate: all, maxPayload: 0 });
      assert.equal(client.socket.extensions, '');
      assert.deepEqual(agreed, ['permessage-deflate']);
      for (const data of [text, zeros, 'a', text]) await client.echoes(data);
      await client.close(1000);
    });
    await withUpstream(t, false, { compression: mode }, async (gateway, agreed) => {
      const client = await Client.open(gateway.url('/app'), { perMessageDeflate: all, maxPayload: 0 });
      assert.equal(client.socket.extensions, 'permessage-deflate');
      assert.deepEqual(agreed, ['']);
      for (const data of [text, zeros, 'a', text]) await client.echoes(data);
      await client.close(1000);
    });
  });
}
