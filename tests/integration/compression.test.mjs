// permessage-deflate (RFC 7692) with npm's ws as the client.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { WebSocketServer } from 'ws';
import { Client } from '../support/client.mjs';
import { echoConfig, Gateway, withGateway, within } from '../support/gateway.mjs';
import { RawSocket, upgrade } from '../support/raw.mjs';

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

test('what a refused handshake has offered is not agreed to with the next on its connection', async () => {
  const config = echoConfig({
    routes: [{ path: '/echo', plugin: 'echo', compression: 'dedicated', allowed_origins: ['https://a.test'] }],
  });
  await withGateway(config, async (gateway) => {
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.write(upgrade('/echo', { Origin: 'https://b.test', 'Sec-WebSocket-Extensions': 'permessage-deflate' }));
    assert.equal((await raw.readResponse()).status, 403);
    raw.write(upgrade('/echo', { Origin: 'https://a.test' }));
    const { status, headers } = await raw.readResponse();
    assert.deepEqual([status, headers['sec-websocket-extensions']], [101, undefined]);
    raw.destroy();
  });
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

// What the gateway has received of a message and not inflated yet, since its receiver does not read,
// stands in memory that others are received into.
for (const slow of ['client', 'upstream']) {
  test(`what a slow ${slow} has held up is inflated later, and nothing else`, async (t) => {
    const message = Buffer.from(randomBytes(2_000_000).toString('base64'));
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: all, maxPayload: 0 });
    await once(server, 'listening');
    t.after(() => server.close());
    const toUpstream = { upstream: `127.0.0.1:${server.address().port}` };
    const compressed = slow === 'client' ? { http: { ...toUpstream, compression: 'shared' } }
      : { http: toUpstream, compression: 'shared' };
    await withGateway(echoConfig({
      routes: [{ path: '/slow', ...compressed, buffers: { high_watermark: '64KiB' } },
        { path: '/echo', plugin: 'echo' }],
    }), async (gateway) => {
      const connected = once(server, 'connection');
      const client = await Client.open(gateway.url('/slow'), { perMessageDeflate: all, maxPayload: 0 });
      const [upstream] = await connected;
      const [sender, receiver] = slow === 'client' ? [upstream, client.socket] : [client.socket, upstream];
      receiver._socket.pause();
      const received = once(receiver, 'message');
      sender.send(message);
      await gateway.waitMetrics((m) => m.get('sluice_buffered_amount_bytes') > 64 * 1024);
      const other = await Client.open(gateway.url());
      for (let i = 0; i < 20; ++i) await other.echoes(randomBytes(64 * 1024));
      await other.close(1000);
      receiver._socket.resume();
      assert.ok((await within(received, 'the message'))[0].equals(message));
      await client.close(1000);
    });
  });
}
