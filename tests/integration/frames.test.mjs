// Frames that no browser sends, over raw sockets: what the peer sees on the wire, what the log and
// the metrics say, and that others are served all the while.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { serveHonestClient } from '../support/client.mjs';
import { echoConfig, memoryIsOurs, sharedGateway, testPlugin, until } from '../support/gateway.mjs';
import { RawSocket, closeFrame, frame } from '../support/raw.mjs';

const gateway = sharedGateway(() => echoConfig({
  plugins: { echo: { library: 'echo.so' }, flood: { library: testPlugin('flood') } },
  routes: [
    { path: '/echo', plugin: 'echo' },
    { path: '/small', plugin: 'echo', limits: { max_message_size: '1000B', max_fragments: 10 } },
    { path: '/huge', plugin: 'echo', timeouts: { message: '300ms', close: '300ms' },
      limits: { max_message_size: '1GiB' }, buffers: { limit: '1GiB' } },
    { path: '/calm', plugin: 'echo',
      limits: { messages_per_second: 50, control_frames_per_second: 20 } },
    { path: '/thin', plugin: 'echo', limits: { bytes_per_second: '10KiB' } },
    { path: '/told', plugin: 'flood', timeouts: { close: '300ms' } },
  ],
}));

const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const text = (bytes, options) => frame('text', hex(bytes), options);
const many = (count, one) => Buffer.concat(Array.from({ length: count }, (_, i) => one(i)));
const start = frame('text', 'a', { fin: false });
const then = (...frames) => Buffer.concat(frames);

// Kind, what it is, the bytes, the close code on the wire, the reason in log and metrics, the route.
// The code 0 stands for a Close frame without a code, null for none at all.
const table = [
  ['mask', 'a frame without a mask', frame('text', 'a', { masked: false }), 1002, 'protocol_error'],
  ['mask', 'an empty frame without a mask', frame('text', '', { masked: false }), 1002, 'protocol_error'],
  ['mask', 'a ping without a mask', frame('ping', '', { masked: false }), 1002, 'protocol_error'],
  ['mask', 'a Close frame without a mask', closeFrame(1000, '', { masked: false }), 1002, 'protocol_error'],

  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) =>
    ['opcode', opcode.toString(16), frame(opcode, 'a'), 1002, 'protocol_error']),
  ...[1, 2, 4, 7].map((rsv) =>
    ['reserved bits', `${rsv}`, frame('text', 'a', { rsv }), 1002, 'protocol_error']),
  ['reserved bits', 'on a ping', frame('ping', 'a', { rsv: 4 }), 1002, 'protocol_error'],
  ['reserved bits', 'on a continuation', then(start, frame('continuation', 'b', { rsv: 4 })),
    1002, 'protocol_error'],
  ['order', 'a continuation of nothing', frame('continuation', 'a'), 1002, 'protocol_error'],
  ['order', 'a continuation of nothing, unfinished', frame('continuation', 'a', { fin: false }),
    1002, 'protocol_error'],
  ['order', 'a continuation after the end', then(start, frame('continuation', 'b'),
    frame('continuation', 'c')), 1002, 'protocol_error'],
  ['order', 'text inside a message', then(start, frame('text', 'b')), 1002, 'protocol_error'],
  ['order', 'binary inside a message', then(start, frame('binary', 'b', { fin: false })),
    1002, 'protocol_error'],

  ['control frame', 'a ping of 126 bytes', frame('ping', Buffer.alloc(126)), 1002, 'protocol_error'],
  ['control frame', 'a pong of 64 KiB', frame('pong', Buffer.alloc(65536)), 1002, 'protocol_error'],
  ['control frame', 'a Close frame of 126 bytes', closeFrame(1000, 'x'.repeat(124)), 1002, 'protocol_error'],
  ['control frame', 'a fragment of a ping', frame('ping', 'a', { fin: false }), 1002, 'protocol_error'],
  ['control frame', 'a fragment of a Close frame', closeFrame(1000, '', { fin: false }), 1002, 'protocol_error'],
  ['control frame', 'a ping that says 2^62', frame('ping', 'a', { length: 2n ** 62n }), 1002, 'protocol_error'],

  ['length', '2^63', text('61', { length: 2n ** 63n }), 1002, 'protocol_error'],
  ['length', '2^64 - 1', text('61', { length: 2n ** 64n - 1n }), 1002, 'protocol_error'],
  ['length', '2^63 - 1', text('61', { length: 2n ** 63n - 1n }), 1009, 'message_too_big'],
  ['length', '2^63 - 1 after a byte', then(start, frame('continuation', '', { length: 2n ** 63n - 1n })),
    1009, 'message_too_big'],
  ...[31n, 32n].flatMap((bits) => [-1n, 0n, 1n].map((more) =>
    ['length', `2^${bits} + ${more}`, text('61', { length: 2n ** bits + more }), 1009, 'message_too_big'])),
  ['length', 'the limit and 1', text('61', { length: 1024 * 1024 + 1 }), 1009, 'message_too_big'],
  ['length', '125 in 16 bits', frame('text', 'a'.repeat(125), { lengthBytes: 2 }), 1002, 'protocol_error'],
  ['length', '0 in 16 bits', frame('text', '', { lengthBytes: 2 }), 1002, 'protocol_error'],
  ['length', '65535 in 64 bits', frame('text', 'a'.repeat(65535), { lengthBytes: 8 }), 1002, 'protocol_error'],
  ['length', '5 in 64 bits', frame('text', 'hello', { lengthBytes: 8 }), 1002, 'protocol_error'],

  ['length', '4 GB announced, over the limit', text('61', { length: 4n * 1024n ** 3n }),
    1009, 'message_too_big'],
  ['silence', '1 GiB announced, 1 byte sent', frame('binary', 'a', { length: 1024 ** 3 }),
    1008, 'message_timeout', '/huge'],
  ['silence', 'half a header', frame('binary', 'a', { length: 1024 ** 3 }).subarray(0, 5),
    1008, 'message_timeout', '/huge'],
  ['silence', 'a message without its end', frame('binary', 'a', { fin: false }),
    1008, 'message_timeout', '/huge'],

  ['fragments', 'endless empty fragments', then(frame('text', '', { fin: false }),
    many(2000, () => frame('continuation', '', { fin: false }))), 1008, 'policy'],
  ['fragments', 'endless fragments of a byte', then(start,
    many(2000, () => frame('continuation', 'b', { fin: false }))), 1008, 'policy'],
  ['fragments', '11 fragments where 10 are allowed', then(start,
    many(10, () => frame('continuation', 'b', { fin: false }))), 1008, 'policy', '/small'],
  ['fragments', 'fragments over the limit', many(3, (i) =>
    frame(i ? 'continuation' : 'binary', Buffer.alloc(400), { fin: false })),
    1009, 'message_too_big', '/small'],
  ['length', 'one byte over the limit', frame('binary', Buffer.alloc(1001)), 1009, 'message_too_big', '/small'],

  ['UTF-8', 'a lone continuation byte', text('80'), 1007, 'invalid_data'],
  ['UTF-8', 'ff', text('61 ff'), 1007, 'invalid_data'],
  ['UTF-8', 'a surrogate', text('ed a0 80'), 1007, 'invalid_data'],
  ['UTF-8', 'an overlong slash', text('c0 af'), 1007, 'invalid_data'],
  ['UTF-8', 'an overlong NUL', text('e0 80 80'), 1007, 'invalid_data'],
  ['UTF-8', 'above U+10FFFF', text('f4 90 80 80'), 1007, 'invalid_data'],
  ['UTF-8', 'five bytes', text('f8 88 80 80 80'), 1007, 'invalid_data'],
  ['UTF-8', 'a character cut off at the end', text('e4 bd'), 1007, 'invalid_data'],
  ['UTF-8', 'cut off at the end of the last fragment', then(start, frame('continuation', hex('e4 bd'))),
    1007, 'invalid_data'],
  ['UTF-8', 'wrong behind a cut', then(frame('text', hex('e4 bd'), { fin: false }),
    frame('continuation', hex('41'))), 1007, 'invalid_data'],
  ['UTF-8', 'wrong inside of a frame that has not ended', text('61 f4 90', { length: 1000 }),
    1007, 'invalid_data'],
  ['UTF-8', 'wrong inside of a message that has not ended', then(
    text('ce ba e1 bd b9 cf 83 ce bc ce b5 f4', { fin: false }),
    frame('continuation', hex('90'), { fin: false })), 1007, 'invalid_data'],

  ['close', 'an empty Close frame', frame('close'), 0, 'normal'],
  ['close', 'a Close frame of 1 byte', frame('close', 'a'), 1002, 'protocol_error'],
  ...[0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535].map((code) =>
    ['close', `close code ${code}`, closeFrame(code), 1002, 'protocol_error']),
  ...[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    .map((code) => ['close', `close code ${code}`, closeFrame(code, 'why'), code, {
      1000: 'normal', 1001: 'going_away', 1002: 'protocol_error', 1007: 'invalid_data',
      1008: 'policy', 1009: 'message_too_big' }[code] ?? 'application']),
  ['close', 'a reason that is no UTF-8', closeFrame(1000, hex('c3 28')), 1007, 'invalid_data'],
  ['close', 'a reason that is cut off', closeFrame(1000, hex('e4 bd')), 1007, 'invalid_data'],
  ['close', 'a Close frame inside of a message', then(start, closeFrame(1000)), 1000, 'normal'],
  ['close', 'data after the Close frame', then(closeFrame(1000), frame('text', 'late'),
    frame(3, 'and wrong'), closeFrame(4000)), 1000, 'normal'],

  ['flood', 'a flood of pings', many(200, () => frame('ping', Buffer.alloc(125))), 1008, 'rate_limited'],
  ['flood', 'a flood of pongs', many(200, () => frame('pong')), 1008, 'rate_limited'],
  ['flood', 'pings between fragments', then(start, many(21, () => frame('ping'))),
    1008, 'rate_limited', '/calm'],
  ['flood', 'a flood of messages', many(60, () => frame('text', 'a')), 1008, 'rate_limited', '/calm'],
  ['flood', 'a flood of bytes', many(20, () => frame('binary', Buffer.alloc(1000))),
    1008, 'rate_limited', '/thin'],
  ['flood', 'a flood of bytes in one message', many(20, (i) =>
    frame(i ? 'continuation' : 'binary', Buffer.alloc(1000), { fin: false })),
    1008, 'rate_limited', '/thin'],
];

describe('every offence ends with its close code', () => {
  for (const [kind, what, bytes, code, reason, route = '/echo'] of table) {
    test(`${kind}: ${what} → ${code} ${reason}`, async () => {
      // Byte by byte, unless there are too many of them to wait for.
      for (const pieceSize of bytes.length > 500 ? [0, 997] : [0, 1]) {
        const socket = await RawSocket.open(gateway.listeners[0], route);
        if (pieceSize) {
          await socket.writeInPieces(bytes, pieceSize);
        } else {
          socket.write(bytes);
        }
        const close = await socket.readClose();
        assert.equal(close.code ?? 0, code, close.reason);
        if (code >= 1002 && Buffer.byteLength(close.reason) === 0) assert.fail('no reason was given');
        // RFC 6455 7.1.1: the server ends the stream first. One that waits for the answer to its
        // Close frame in vain cuts it, and in the middle of a frame nobody can answer.
        const { ending, bytes: rest } = await socket.readEnd();
        assert.equal(rest.length, 0);
        assert.equal(ending, reason === 'message_timeout' ? 'ECONNRESET' : 'end');
        socket.destroy();
        const log = await gateway.waitClose(socket);
        assert.equal(log.reason, reason);
        // Nobody but the client has closed if it sent a good Close frame.
        const good = /^(close code|an empty Close|data after|a Close frame inside)/.test(what) &&
          reason !== 'protocol_error' || what === 'close code 1002';
        assert.deepEqual([log.initiator, log.clean], good ? ['client', true] : ['gateway', false]);
      }
    });
  }

  test('the metrics have counted what the log tells', async () => {
    const metrics = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
    const wanted = {};
    for (const [, , , , reason] of table) wanted[reason] = (wanted[reason] ?? 0) + 2;
    for (const [reason, count] of Object.entries(wanted)) {
      assert.equal(metrics.get('sluice_connections_closed_total', { reason }), count, reason);
    }
    const closes = gateway.logs.filter((log) => log.event === 'close');
    for (const initiator of ['client', 'gateway']) {
      assert.equal(metrics.get('sluice_connections_closed_total', { initiator }),
        closes.filter((log) => log.initiator === initiator).length);
    }
    for (const kind of ['protocol_error', 'invalid_data']) {
      assert.equal(metrics.get('sluice_protocol_errors_total', { kind }),
        metrics.get('sluice_connections_closed_total', { initiator: 'gateway', reason: kind }));
    }
    const limit = (name) => metrics.get('sluice_limit_rejections_total', { limit: name });
    assert.equal(limit('control_frames'), 6);
    assert.equal(limit('messages_per_second'), 2);
    assert.equal(limit('bytes_per_second'), 4);
    assert.equal(limit('fragments'), 6);
    assert.equal(limit('message_size'), wanted.message_too_big - 2); // one is the client's own code
  });

  test('an honest client is served, and no descriptor is left open', async () => {
    await serveHonestClient(gateway);
    await until(() => gateway.descriptors() < 40, 'the descriptors of the clients are closed');
  });
});

test('what is announced takes no memory before it comes', { skip: !memoryIsOurs && 'a sanitizer\'s memory' }, async () => {
  const before = gateway.rssBytes();
  const sockets = [];
  for (let i = 0; i < 50; ++i) {
    const socket = await RawSocket.open(gateway.listeners[0], '/huge');
    socket.write(frame('binary', 'a', { length: 1024 ** 3 }));
    sockets.push(socket);
  }
  for (const socket of sockets) assert.equal((await socket.readClose()).code, 1008);
  assert.ok(gateway.rssBytes() - before < 16 * 1024 * 1024);
  for (const socket of sockets) socket.destroy();
});

test('a message may come slowly, as long as it comes', async () => {
  const socket = await RawSocket.open(gateway.listeners[0]);
  const bytes = frame('text', '慢慢来 '.repeat(50));
  await socket.writeInPieces(bytes);
  assert.equal((await socket.readFrame()).payload.toString(), '慢慢来 '.repeat(50));
  socket.destroy();
});

test('limits are not reached by what stays under them', async () => {
  const socket = await RawSocket.open(gateway.listeners[0], '/small');
  socket.write(frame('binary', Buffer.alloc(1000)));
  assert.equal((await socket.readFrame()).payload.length, 1000);
  socket.write(many(10, (i) => frame(i ? 'continuation' : 'binary', Buffer.alloc(100), { fin: i === 9 })));
  assert.equal((await socket.readFrame()).payload.length, 1000);
  socket.destroy();
  const calm = await RawSocket.open(gateway.listeners[0], '/calm');
  calm.write(then(many(50, () => frame('text', 'a')), many(20, () => frame('ping', 'b'))));
  for (let i = 0; i < 70; ++i) assert.notEqual((await calm.readFrame()).opcode, 'close');
  calm.destroy();
});

describe('ends of the stream', () => {
  test('an end without a Close frame is told as lost', async () => {
    const socket = await RawSocket.open(gateway.listeners[0]);
    socket.end();
    assert.equal((await socket.readEnd()).bytes.length, 0);
    const log = await gateway.waitClose(socket);
    assert.deepEqual([log.reason, log.code, log.clean], ['lost', 1006, false]);
  });

  test('an end in the middle of a message too', async () => {
    const socket = await RawSocket.open(gateway.listeners[0]);
    socket.socket.end(frame('text', 'half', { length: 100 }));
    await socket.readEnd();
    const log = await gateway.waitClose(socket);
    assert.deepEqual([log.reason, log.messages_in], ['lost', 0]);
  });

  test('the echo of what came before the end is still sent', async () => {
    const socket = await RawSocket.open(gateway.listeners[0]);
    socket.socket.end(then(frame('text', 'last words'), closeFrame(1001)));
    assert.equal((await socket.readFrame()).payload.toString(), 'last words');
    assert.equal((await socket.readFrame()).code, 1001);
    assert.equal((await socket.readEnd()).ending, 'end');
  });

  test('a reset is told as one', async () => {
    const socket = await RawSocket.open(gateway.listeners[0]);
    socket.reset();
    const log = await gateway.waitClose(socket);
    assert.deepEqual([log.initiator, log.reason, log.code], ['network', 'reset', 1006]);
  });

  test('data after our Close frame is read and thrown away until the peer answers it', async () => {
    const socket = await RawSocket.open(gateway.listeners[0], '/told');
    socket.write(then(frame('text', 'close 3000 enough'), many(100, () => frame('text', '1 9'))));
    const close = await socket.readFrame();
    assert.deepEqual([close.opcode, close.code, close.reason], ['close', 3000, 'enough']);
    socket.write(closeFrame(3000));
    assert.deepEqual((await socket.readEnd()).bytes.length, 0);
    const log = await gateway.waitClose(socket);
    assert.deepEqual([log.initiator, log.reason, log.clean], ['plugin', 'application', true]);
  });

  test('a client that never answers our Close frame is cut after timeouts.close', async () => {
    const socket = await RawSocket.open(gateway.listeners[0], '/told');
    socket.write(frame('text', 'close 1000 bye'));
    assert.equal((await socket.readClose()).code, 1000);
    const log = await gateway.waitClose(socket);
    assert.deepEqual([log.initiator, log.reason, log.clean], ['plugin', 'close_timeout', false]);
    await socket.readEnd();
  });

  test('an honest client is served', async () => {
    await serveHonestClient(gateway);
    await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
  });
});
