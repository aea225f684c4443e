// Rows 27 to 32 and 36 to 43: frames and messages that no browser sends, clients that do not read,
// and sockets whose other end is gone.
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { Client } from '../support/client.mjs';
import { echoConfig, memoryIsOurs, slowness, testPlugin } from '../support/gateway.mjs';
import { RawSocket, closeFrame, frame } from '../support/raw.mjs';
import { Server } from '../support/services.mjs';
import { each, hostileTable } from './table.mjs';
import { Upstream } from '../support/upstream.mjs';

const upstream = await Upstream.start();
const bytes = await Server.listen(null, { stubborn: true, keep: false });
after(() => bytes.close());

const megabyte = 1024 * 1024;
const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const text = (payload, options) => frame('text', hex(payload), options);
const many = (count, one) => Buffer.concat(Array.from({ length: count }, (_, i) => one(i)));
const start = frame('text', 'a', { fin: false });
const then = (...frames) => Buffer.concat(frames);
const codes = (list, reason) => Object.fromEntries(list.map((code) => [`close code ${code}`, closeFrame(code, reason)]));

// What the client gets and what the log says: "1002, protocol_error".
async function failure(gateway, sent, route = '/echo') {
  const socket = await RawSocket.open(gateway.listeners[0], route);
  try {
    socket.write(sent);
    const close = await socket.readClose();
    const { bytes: rest } = await socket.readEnd();
    assert.equal(rest.length, 0, 'nothing is behind the Close frame');
    const { reason } = await gateway.waitClose(socket);
    return `${close.code ?? 'no code'}, ${reason}`;
  } finally {
    socket.destroy();
  }
}
const failureAt = (route) => (gateway, sent) => failure(gateway, sent, route);

// The same from an upstream: what each side is told.
async function upstreamFailure(gateway, sent) {
  const { client, peer, size } = await upstream.open(gateway);
  peer.write(sent);
  const { code } = await client.readClose();
  client.write(closeFrame(code));
  await client.readEnd();
  await peer.end();
  peer.socket.destroy();
  client.destroy();
  const told = peer.received.subarray(size);
  const payload = told.subarray(6).map((byte, i) => byte ^ told[2 + (i % 4)]);
  return `${code}, the upstream is told ${payload.readUInt16BE()}`;
}

// How much the gateway grows meanwhile, at the most: "less than 8 MiB".
async function growth(gateway, limit, body) {
  const before = gateway.rssBytes();
  let most = 0;
  const watching = setInterval(() => { most = Math.max(most, gateway.rssBytes() - before); }, 10);
  const seen = await body();
  clearInterval(watching);
  most = Math.max(most, gateway.rssBytes() - before);
  return `${seen}, ${most < limit * megabyte || !memoryIsOurs ? `less than ${limit} MiB` : `${most} bytes`} more`;
}

hostileTable('Frames and messages', {
  config: () => echoConfig({
    plugins: { echo: { library: 'echo.so' }, flood: { library: testPlugin('flood') } },
    routes: [
      { path: '/echo', plugin: 'echo' },
      { path: '/huge', plugin: 'echo', timeouts: { message: '300ms', close: '300ms' },
        limits: { max_message_size: '1GiB' }, buffers: { limit: '1GiB' } },
      { path: '/calm', plugin: 'echo', limits: { messages_per_second: 50 } },
      { path: '/thin', plugin: 'echo', limits: { bytes_per_second: '10KiB' } },
      { path: '/flood', plugin: 'flood', slow_consumer: 'close', timeouts: { close: `${600 * slowness}ms` },
        buffers: { high_watermark: '64KiB', high_watermark_timeout: '500ms', limit: '1GiB' } },
      { path: '/alive', plugin: 'echo',
        keepalive: { ping_interval: '100ms', pong_timeout: `${300 * slowness}ms`, tcp_user_timeout: '1s' } },
      { path: '/app/*', http: { upstream: upstream.address }, allowed_origins: ['*'],
        timeouts: { message: '300ms', close: '300ms' } },
      { path: '/bytes', tcp: { upstream: bytes.address }, slow_consumer: 'close',
        timeouts: { close: '300ms' }, buffers: { high_watermark: '64KiB', high_watermark_timeout: '500ms' } },
    ],
  }),
  ready: (gateway) => upstream.serveHonestly(gateway),
}, [
  ...each(27, {
    'an unmasked frame': frame('text', 'a', { masked: false }), 'an unmasked ping': frame('ping', '', { masked: false }),
    'an unmasked Close frame': closeFrame(1000, '', { masked: false }),
  }, '1002, protocol_error', failure),
  { row: 27, input: 'a masked frame of the upstream', expected: '1014, the upstream is told 1002',
    run: (gateway) => upstreamFailure(gateway, frame('text', 'masked')) },

  ...each(28, {
    ...Object.fromEntries([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`opcode ${opcode}`, frame(opcode, 'a')])),
    ...Object.fromEntries([1, 2, 4, 7].map((rsv) => [`reserved bits ${rsv}`, frame('text', 'a', { rsv })])),
    'a continuation of nothing': frame('continuation', 'a'),
    'text inside a message': then(start, frame('text', 'b')),
  }, '1002, protocol_error', failure),
  ...each(28, { 'opcode 3 of the upstream': frame(3, 'x', { masked: false }),
    'a reserved bit of the upstream': frame('text', 'x', { rsv: 4, masked: false }) },
  '1014, the upstream is told 1002', upstreamFailure),

  ...each(29, {
    'a ping of 126 bytes': frame('ping', Buffer.alloc(126)), 'a pong of 64 KiB': frame('pong', Buffer.alloc(65536)),
    'a Close frame of 126 bytes': closeFrame(1000, 'x'.repeat(124)),
    'a fragment of a ping': frame('ping', 'a', { fin: false }), 'a fragment of a Close frame': closeFrame(1000, '', { fin: false }),
  }, '1002, protocol_error', failure),

  ...each(30, {
    'length 2^63': text('61', { length: 2n ** 63n }), 'length 2^64 - 1': text('61', { length: 2n ** 64n - 1n }),
    '125 in 16 bits': frame('text', 'a'.repeat(125), { lengthBytes: 2 }),
    '65535 in 64 bits': frame('text', 'a'.repeat(65535), { lengthBytes: 8 }),
  }, '1002, protocol_error', failure),
  ...each(30, {
    'length 2^63 - 1': text('61', { length: 2n ** 63n - 1n }), 'length 2^31 - 1': text('61', { length: 2n ** 31n - 1n }),
    'length 2^31': text('61', { length: 2n ** 31n }), 'length 2^32': text('61', { length: 2n ** 32n }),
    'length 2^63 - 1 after a byte': then(start, frame('continuation', '', { length: 2n ** 63n - 1n })),
  }, '1009, message_too_big', failure),
  { row: 30, input: 'length 2^63 of the upstream', expected: '1014, the upstream is told 1002',
    run: (gateway) => upstreamFailure(gateway, frame('binary', '', { length: 2n ** 63n, masked: false })) },

  { row: 31, input: '1 GiB announced by each of 50, one byte sent', expected: '1008, message_timeout, less than 4 MiB more',
    run: (gateway) => growth(gateway, 4, async () => {
      const seen = await Promise.all(Array.from({ length: 50 }, () =>
        failure(gateway, frame('binary', 'a', { length: 1024 ** 3 }), '/huge').catch((error) => `${error}`)));
      return [...new Set(seen)].join('; ');
    }) },
  { row: 31, input: '4 GiB announced, for an upstream', expected: '1008, upstream closed, less than 1 MiB more',
    run: (gateway) => growth(gateway, 1, async () => {
      const { client, peer } = await upstream.open(gateway);
      client.write(frame('binary', 'a', { length: 4 * 1024 ** 3 }));
      const { code } = await client.readClose();
      await peer.end();
      peer.socket.destroy();
      client.destroy();
      return `${code}, upstream closed`;
    }) },

  ...each(32, {
    'endless empty fragments': then(frame('text', '', { fin: false }), many(5000, () => frame('continuation', '', { fin: false }))),
    'endless fragments of a byte': then(start, many(5000, () => frame('continuation', 'b', { fin: false }))),
  }, '1008, policy', failure),
  { row: 32, input: 'fragments of 64 KiB without end', expected: '1009, message_too_big',
    run: (gateway) => failure(gateway,
      many(40, (i) => frame(i ? 'continuation' : 'binary', Buffer.alloc(65536), { fin: false }))) },

  ...each(36, {
    'a lone continuation byte': text('80'), 'ff': text('61 ff'), 'a surrogate': text('ed a0 80'), 'an overlong slash': text('c0 af'),
    'an overlong NUL': text('e0 80 80'), 'above U+10FFFF': text('f4 90 80 80'), 'cut off at the end': text('e4 bd'),
    'wrong behind a cut': then(text('e4 bd', { fin: false }), frame('continuation', hex('41'))),
    'wrong in a frame that has not ended': text('61 f4 90', { length: 1000 }),
    'wrong in a message that has not ended': then(text('ce f4', { fin: false }), frame('continuation', hex('90'), { fin: false })),
  }, '1007, invalid_data', failure),
  { row: 36, input: 'a character cut into three frames', expected: '你, whole',
    async run(gateway) {
      const socket = await RawSocket.open(gateway.listeners[0]);
      socket.write(then(text('e4', { fin: false }), frame('continuation', hex('bd'), { fin: false }), frame('continuation', hex('a0'))));
      const { payload } = await socket.readFrame();
      socket.destroy();
      await gateway.waitClose(socket);
      return `${payload}, whole`;
    } },
  { row: 36, input: 'ff of the upstream', expected: '1014, the upstream is told 1007',
    run: (gateway) => upstreamFailure(gateway, frame('text', hex('ff'), { masked: false })) },

  ...each(37, {
    'a Close frame of 1 byte': frame('close', 'a'),
    ...codes([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]),
  }, '1002, protocol_error', failure),
  ...each(37, { 'a reason that is no UTF-8': closeFrame(1000, hex('c3 28')) }, '1007, invalid_data', failure),
  ...each(37, { 'an empty Close frame': frame('close') }, 'no code, normal', failure),
  ...each(37, { 'data and more behind a Close frame': then(closeFrame(1000), frame('text', 'late'), frame(3, 'x'), closeFrame(4000)) },
    '1000, normal', failure),
  { row: 37, input: 'no answer to our Close frame', expected: '1000, then a reset after timeouts.close',
    async run(gateway) {
      const socket = await RawSocket.open(gateway.listeners[0], '/flood');
      socket.write(frame('text', 'close 1000 bye'));
      const { code } = await socket.readClose();
      const { ending } = await socket.readEnd();
      const { reason } = await gateway.waitClose(socket);
      assert.deepEqual([ending, reason], ['ECONNRESET', 'close_timeout']);
      return `${code}, then a reset after timeouts.close`;
    } },

  { row: 38, input: 'pings of 125 bytes, no pong read', expected: '1008, rate_limited, less than 2 MiB more',
    run: (gateway) => growth(gateway, 2, () => failure(gateway, many(2000, () => frame('ping', Buffer.alloc(125))))) },
  { row: 38, input: 'pongs that nobody asked for', expected: '1008, rate_limited',
    run: (gateway) => failure(gateway, many(200, () => frame('pong'))) },

  ...each(39, { 'a flood of tiny messages': many(60, () => frame('text', 'a')) }, '1008, rate_limited', failureAt('/calm')),
  ...each(39, { 'a flood of bytes': many(20, () => frame('binary', Buffer.alloc(1000))) }, '1008, rate_limited', failureAt('/thin')),
  { row: 39, input: 'tiny messages at line rate, without a limit', expected: 'others are served at once',
    async run(gateway) {
      const flooding = await RawSocket.open(gateway.listeners[0]);
      const block = many(20_000, () => frame('text', 'a'));
      let over = false;
      const flood = (async () => {
        // It reads its echoes: what holds it back is nothing but its turn.
        flooding.socket.removeAllListeners('data');
        flooding.socket.resume();
        while (!over) await new Promise((resolve) => flooding.socket.write(block, resolve));
      })();
      const honest = await Client.open(gateway.url());
      let worst = 0;
      for (let i = 0; i < 20; ++i) {
        const sent = performance.now();
        await honest.echoes(`among them ${i}`);
        worst = Math.max(worst, performance.now() - sent);
      }
      over = true;
      await honest.close(1000);
      flooding.destroy();
      await flood;
      await gateway.waitClose(flooding);
      // The flood's writer is this process too, and shares its core.
      return worst < 500 * slowness ? 'others are served at once' : `the slowest echo took ${worst} ms`;
    } },

  { row: 40, input: 'no reader, while the plugin floods', expected: '1013, slow_consumer, less than 24 MiB more',
    run: (gateway) => growth(gateway, 24, async () => {
      const socket = await RawSocket.open(gateway.listeners[0], '/flood');
      socket.socket.pause();
      socket.write(frame('text', '150 100000'));
      const told = (m) => m.get('sluice_slow_consumer_actions_total', { route: '/flood', policy: 'close' }) === 1;
      await gateway.waitMetrics(told, 'it is told to go');
      socket.socket.resume();
      const { code } = await socket.readClose();
      socket.write(closeFrame(code));
      const { reason } = await gateway.waitClose(socket);
      socket.destroy();
      return `${code}, ${reason}`;
    }) },
  { row: 40, input: 'no reader, while the upstream floods', expected: 'upstream not read, then slow_consumer, less than 4 MiB more',
    run: (gateway) => growth(gateway, 4, async () => {
      const socket = await RawSocket.open(gateway.listeners[0], '/bytes');
      socket.socket.pause();
      const peer = await bytes.next();
      peer.write(Buffer.alloc(64 * megabyte));
      const { reason } = await gateway.waitClose(socket);
      const held = peer.socket.writableLength > 32 * megabyte ? 'not read' : 'read';
      peer.socket.destroy();
      socket.destroy();
      return `upstream ${held}, then ${reason}`;
    }) },

  { row: 41, input: 'neither side reads, both send', expected: 'slow_consumer, less than 4 MiB more',
    run: (gateway) => growth(gateway, 4, async () => {
      const socket = await RawSocket.open(gateway.listeners[0], '/bytes');
      const peer = await bytes.next();
      socket.socket.pause();
      peer.socket.pause();
      peer.write(Buffer.alloc(16 * megabyte));
      socket.write(frame('binary', Buffer.alloc(16 * megabyte)));
      const { reason } = await gateway.waitClose(socket);
      peer.socket.destroy();
      socket.destroy();
      return reason;
    }) },
  { row: 41, input: 'the upstream ends behind 4 MB', expected: 'all of it, then 1000',
    async run(gateway) {
      const socket = await RawSocket.open(gateway.listeners[0], '/bytes');
      const peer = await bytes.next();
      peer.socket.end(Buffer.alloc(4_000_000));
      let size = 0;
      for (;;) {
        const received = await socket.readFrame();
        if (received.opcode === 'close') {
          socket.write(closeFrame(1000));
          await socket.readEnd();
          socket.destroy();
          return `${size === 4_000_000 ? 'all of it' : `${size} bytes`}, then ${received.code}`;
        }
        size += received.payload.length;
      }
    } },
  { row: 41, input: 'the client ends its direction', expected: 'lost, 1006, the upstream sees the end',
    async run(gateway) {
      const socket = await RawSocket.open(gateway.listeners[0], '/bytes');
      const peer = await bytes.next();
      socket.end();
      const { reason, code } = await gateway.waitClose(socket);
      const ending = await peer.end();
      peer.socket.destroy();
      socket.destroy();
      return `${reason}, ${code}, the upstream sees the ${ending}`;
    } },

  { row: 42, input: 'a client that answers no ping', expected: 'pong_timeout, 1006',
    async run(gateway) {
      const socket = await RawSocket.open(gateway.listeners[0], '/alive');
      assert.equal((await socket.readFrame()).opcode, 'ping');
      const { reason, code } = await gateway.waitClose(socket);
      socket.destroy();
      return `${reason}, ${code}`;
    } },

  { row: 43, input: 'the masks of 1,000 frames to an upstream', expected: 'all different, every bit in use',
    async run(gateway) {
      const { client, peer, size } = await upstream.open(gateway);
      client.write(many(1000, () => frame('text', 'x')));
      const frames = (await peer.read(size + 7000)).subarray(size);
      const masks = Array.from({ length: 1000 }, (_, i) => frames.readUInt32BE(i * 7 + 2));
      client.destroy();
      await peer.end();
      peer.socket.destroy();
      const different = new Set(masks).size;
      const odd = Array.from({ length: 32 }, (_, bit) => masks.filter((mask) => (mask >>> bit) & 1).length)
        .filter((ones) => ones < 400 || ones > 600);
      return different >= 999 && odd.length === 0 ? 'all different, every bit in use'
        : `${different} different, bits set ${odd}`;
    } },
]);
