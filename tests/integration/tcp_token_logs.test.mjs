// The {token} of a tcp route is a secret: no record of the log shows it, however the request ends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '../support/client.mjs';
import { Server } from '../support/services.mjs';
import { echoConfig, request, withGateway } from '../support/gateway.mjs';

test('tokens in the path are in no record, whatever the answer', async (t) => {
  const server = await Server.listen(t);
  // One that other segments begin with, and one that other segments are.
  const tokens = { v: server.address, 'vnc-secret': server.address };
  const routes = [{
    path: '/vnc/{token}', tcp: { tokens }, allowed_origins: ['https://page.example'],
  }];
  await withGateway(echoConfig({ routes }), async (gateway) => {
    const { host, port } = gateway.listeners[0];
    const statuses = [];
    for (const token of ['v', 'vnc-secret', 'unknown']) {
      const target = `/vnc/${token}`;
      const origin = 'https://page.example';
      if (token === 'unknown') {
        statuses.push((await Client.refused(gateway.url(target), { origin })).status);
      } else {
        await (await Client.open(gateway.url(target), { origin })).close();
      }
      const elsewhere = 'https://elsewhere.example';
      statuses.push((await Client.refused(gateway.url(target), { origin: elsewhere })).status);
      statuses.push((await request({ host, port, path: target })).status);
    }
    assert.deepEqual(statuses, [403, 426, 403, 426, 404, 403, 426]);
    // The next request of a connection is none of the route's.
    await Client.refused(gateway.url('/v'));
    await gateway.waitLog({ event: 'refused', path: '/v' });
    const paths = gateway.logs.filter(({ path }) => path?.startsWith('/vnc')).map(({ path }) => path);
    assert.deepEqual([...new Set(paths)], ['/vnc/[redacted]']);
    assert.equal(paths.length, 9);
  });
});
