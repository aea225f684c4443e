// Rows 22, 33 to 35, 48 and 49: compression that is meant to hurt, addresses that want too much, and
// memory that runs short.
import { deflateRawSync, constants } from 'node:zlib';
import { Client } from '../support/client.mjs';
import { echoConfig, memoryIsOurs, testPlugin } from '../support/gateway.mjs';
import { RawSocket, frame, upgrade } from '../support/raw.mjs';
import { each, hostileTable } from './table.mjs';

const offer = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' };
const compressed = (data) =>
  deflateRawSync(data, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: 1 << 30 }).subarray(0, -4);
const message = (payload, options) => frame('binary', payload, { rsv: 4, ...options });

async function failure(gateway, sent, route = '/shared') {
  const socket = await RawSocket.open(gateway.listeners[0], route, offer);
  try {
    socket.write(sent);
    const { code } = await socket.readClose();
    await socket.readEnd();
    const { reason } = await gateway.waitClose(socket);
    return `${code}, ${reason}`;
  } finally {
    socket.destroy();
  }
}

// The answer to an offer, without what every answer has.
async function agreed(gateway, offers) {
  const socket = await RawSocket.connect(gateway.listeners[0]);
  socket.write(upgrade('/shared', { 'Sec-WebSocket-Extensions': offers }));
  const { status, headers } = await socket.readResponse();
  socket.destroy();
  return `${status} ${headers['sec-websocket-extensions'] ?? 'without'}`;
}

const storedFlood = Buffer.concat(Array.from({ length: 300_000 }, () => Buffer.from([0, 0, 0, 0xff, 0xff])));

const terms = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';

hostileTable('Compression', {
  config: echoConfig({
    memory: { compression: '1MiB' },
    routes: [
      { path: '/echo', plugin: 'echo' },
      { path: '/shared', plugin: 'echo', compression: 'shared' },
      { path: '/dedicated', plugin: 'echo', compression: 'dedicated' },
    ],
  }),
}, [
  ...each(33, {
    '200 MB of zeros in 200 KB': message(compressed(Buffer.alloc(200_000_000))),
    '200 MB in fragments': Buffer.concat([
      message(compressed(Buffer.alloc(200_000_000)), { fin: false }), frame('continuation', '')]),
  }, '1009, message_too_big', failure),
  { row: 33, input: 'that bomb, 20 times at once', expected: '20 times 1009, less than 24 MiB',
    async run(gateway) {
      const before = gateway.rssBytes();
      const bomb = message(compressed(Buffer.alloc(50_000_000)));
      const seen = await Promise.all(Array.from({ length: 20 }, () => failure(gateway, bomb)));
      const grown = memoryIsOurs ? (gateway.rssBytes() - before) / 1024 / 1024 : 0;
      const all = seen.filter((one) => one === '1009, message_too_big').length;
      return `${all} times 1009, ${grown < 24 ? 'less than 24' : grown} MiB`;
    } },
  { row: 34, input: '100 sockets with context takeover', expected: 'echo all, memory.compression holds',
    async run(gateway) {
      const clients = await Promise.all(Array.from({ length: 100 }, () =>
        Client.open(gateway.url('/dedicated'), { perMessageDeflate: { threshold: 0 } })));
      for (const client of clients) await client.echoes('context '.repeat(200));
      // The gauge is a tick of the worker old.
      const metrics = await gateway.waitMetrics((m) =>
        m.get('sluice_compression_memory_bytes', { state: 'used' }) > 0);
      const used = metrics.get('sluice_compression_memory_bytes', { state: 'used' });
      const limit = metrics.get('sluice_compression_memory_bytes', { state: 'limit' });
      const without = metrics.get('sluice_limit_rejections_total', { limit: 'compression_memory' });
      for (const client of clients) await client.close(1000);
      return used <= limit && without > 0 ? 'echo all, memory.compression holds'
        : `${used} of ${limit}, ${without} without`;
    } },
  ...each(35, {
    'window bits of 7, of 99, twice': 'permessage-deflate; server_max_window_bits=7, '
      + 'permessage-deflate; client_max_window_bits=99, '
      + 'permessage-deflate; server_max_window_bits=9; server_max_window_bits=9',
    'an unknown parameter': 'permessage-deflate; constructor',
  }, '101 without', agreed),
  { row: 35, input: 'a bad offer, then a good one', expected: `101 ${terms}; server_max_window_bits=9`,
    run: (gateway) => agreed(gateway, 'permessage-deflate; server_max_window_bits=99, '
      + 'permessage-deflate; server_max_window_bits=9') },
  ...each(35, {
    'a stream that is none': message(Buffer.from([0xff, 0xff, 0xff])),
    'a stream that stops': message(compressed(Buffer.from('Hello, Hello')).subarray(0, 4)),
    'a reference to before the first byte': message(Buffer.from([0xf2, 0x00, 0x11, 0x00, 0x00])),
    'text that is no UTF-8': frame('text', compressed(Buffer.from([0x61, 0xff])), { rsv: 4 }),
  }, '1007, invalid_data', failure),
  ...each(35, {
    'RSV1 on a continuation': Buffer.concat([
      message(compressed('a'), { fin: false }), frame('continuation', 'b', { rsv: 4 })]),
    'RSV1 on a ping': frame('ping', 'a', { rsv: 4 }),
    'RSV2': frame('binary', 'a', { rsv: 2 }),
  }, '1002, protocol_error', failure),
  { row: 35, input: 'stored blocks without content', expected: '1009, message_too_big',
    run: (gateway) => failure(gateway, message(storedFlood)) },
]);

hostileTable('One address', {
  config: echoConfig({ clients: { max_connections_per_ip: 6, max_handshakes_per_ip: 3 } }),
}, [
  { row: 22, input: '6 connections that say nothing', expected: '3 are closed at once, and counted',
    async run(gateway) {
      const sockets = [];
      const accepted = (await gateway.metrics()).get('sluice_connections_accepted_total');
      for (let i = 0; i < 3; ++i) sockets.push(await RawSocket.connect(gateway.listeners[0]));
      await gateway.waitMetrics((m) => m.get('sluice_connections_accepted_total') >= accepted + 3);
      let closed = 0;
      for (let i = 0; i < 3; ++i) {
        const socket = await RawSocket.connect(gateway.listeners[0]);
        await socket.readEnd();
        closed += 1;
        socket.destroy();
      }
      const metrics = await gateway.metrics();
      const counted = metrics.get('sluice_limit_rejections_total', { limit: 'client_handshakes' });
      for (const socket of sockets) socket.destroy();
      return `${closed} are closed at once${counted >= closed ? ', and counted' : ''}`;
    } },
  { row: 48, input: '7 WebSockets', expected: '6 open, 503 for the next, which may come back',
    async run(gateway) {
      const clients = [];
      for (let i = 0; i < 6; ++i) clients.push(await Client.open(gateway.url()));
      const { status, headers } = await Client.refused(gateway.url());
      for (const client of clients) await client.echoes('still here');
      for (const client of clients) await client.close(1000);
      return `6 open, ${status} for the next, which may come back${headers['retry-after'] ? '' : ' never'}`;
    } },
]);

if (memoryIsOurs) {
  hostileTable('Memory', {
    config: echoConfig({
      memory: { budget: '96MiB' },
      plugins: { echo: { library: 'echo.so' }, flood: { library: testPlugin('flood') } },
      routes: [
        { path: '/echo', plugin: 'echo' },
        { path: '/flood', plugin: 'flood', buffers: { high_watermark: '32MiB', limit: '1GiB' } },
      ],
    }),
  }, [
    { row: 49, input: '12 clients that read nothing of 16 MB each', expected: 'the slowest go, the honest stay',
      async run(gateway) {
        const honest = await Client.open(gateway.url());
        const slow = [];
        for (let i = 0; i < 12; ++i) {
          const socket = await RawSocket.open(gateway.listeners[0], '/flood');
          socket.socket.pause();
          slow.push(socket);
        }
        // Only now: the first ones fill so much that the last would be refused.
        for (const socket of slow) socket.write(frame('text', '16 1048576'));
        await gateway.waitMetrics((m) => m.get('sluice_overload_actions_total', { action: 'evict' }) > 0);
        await gateway.waitLog({ event: 'close', reason: 'overload', why: 'memory.budget' });
        await honest.echoes('still here');
        for (const socket of slow) socket.destroy();
        await gateway.waitMetrics((m) => m.get('sluice_overload_level') === 0);
        await honest.close(1000);
        return 'the slowest go, the honest stay';
      } },
  ]);
}
