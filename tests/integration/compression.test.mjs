// permessage-deflate (RFC 7692) with npm's ws as the client.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '../support/client.mjs';
import { echoConfig, Gateway } from '../support/gateway.mjs';

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
