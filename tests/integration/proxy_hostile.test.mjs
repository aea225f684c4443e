// Hostile and broken upstreams behind http routes, and clients that try to reach past the gateway:
// the rows of hostile-inputs.md that need an upstream. Afterwards an honest client is served, and
// no descriptor is left.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { acceptKey, closeFrame, frame, RawSocket, upgrade } from '../support/raw.mjs';
import { Server } from '../support/services.mjs';
import { Upstream, switching } from '../support/upstream.mjs';
import { Gateway, echoConfig, until, within } from '../support/gateway.mjs';

const upstream = await Upstream.start();

const gateway = await Gateway.start(echoConfig({
  routes: [
    { path: '/app/*', http: { upstream: upstream.address }, allowed_origins: ['*'] },
    { path: '/admin', plugin: 'echo' },
  ],
}));

const descriptors = gateway.descriptors();
after(() => gateway.stop());

const nextRequest = () => upstream.next();

async function afterwards() {
  await upstream.serveHonestly(gateway);
  await until(() => gateway.descriptors() <= descriptors, 'the descriptors are back');
}

const attempt = (fields = {}, more = '') => upstream.attempt(gateway, { fields, more });
const open = () => upstream.open(gateway);

describe('rows 3 to 5: a 101 that is none', () => {
  const other = acceptKey('AAAAAAAAAAAAAAAAAAAAAA==');
  const rows = {
    'no Sec-WebSocket-Accept': { 'Sec-WebSocket-Accept': null },
    'the accept of another key': { 'Sec-WebSocket-Accept': other },
    'two of them, the first right': (h) => ({ 'Sec-WebSocket-Accept': [acceptKey(h['sec-websocket-key']), other] }),
    'two that are the same': (h) => ({ 'Sec-WebSocket-Accept': Array(2).fill(acceptKey(h['sec-websocket-key'])) }),
    'no Upgrade': { Upgrade: null },
    'two Upgrades': { Upgrade: ['websocket', 'websocket'] },
    'another Upgrade': { Upgrade: 'h2c' },
    'one more Upgrade': { Upgrade: 'websocket, h2c' },
    'no Connection': { Connection: null },
    'another Connection': { Connection: 'keep-alive' },
    'a subprotocol that was not offered': { 'Sec-WebSocket-Protocol': 'amqp' },
    'two that were': { 'Sec-WebSocket-Protocol': ['chat', 'mqtt'] },
    'a list of them': { 'Sec-WebSocket-Protocol': 'chat, mqtt' },
    'an extension that was not offered': { 'Sec-WebSocket-Extensions': 'permessage-deflate' },
  };
  for (const [what, fields] of Object.entries(rows)) {
    test(what, async () => {
      const invalid = async () => (await gateway.metrics())
        .get('sluice_upstream_handshake_invalid_total');
      const counted = await invalid();
      const { client, peer, headers } = await attempt({ 'Sec-WebSocket-Protocol': 'chat, mqtt' });
      peer.write(switching(headers, typeof fields === 'function' ? fields(headers) : fields));
      peer.write(frame('text', 'no!', { masked: false }));
      const answer = await client.readResponse();
      assert.equal(answer.status, 502);
      assert.equal(await invalid(), counted + 1);
      client.destroy();
      await peer.end();
      peer.socket.destroy();
      await afterwards();
    });
  }

  test('a 101 of HTTP/1.0', async () => {
    const { client, peer, headers } = await attempt();
    peer.write(switching(headers, {}, 'HTTP/1.0 101 Switching Protocols'));
    assert.equal((await client.readResponse()).status, 502);
    await peer.end();
    peer.socket.destroy();
    client.destroy();
    await afterwards();
  });

  test('row 3: a 200 with Upgrade in it is a plain answer', async () => {
    const { client, peer, headers } = await attempt();
    peer.write(switching(headers, { 'Content-Length': '5' }, 'HTTP/1.1 200 OK') + 'plain');
    const answer = await client.readResponse();
    assert.equal(answer.status, 200);
    assert.equal(answer.body, 'plain');
    assert.equal(answer.headers.upgrade, undefined);
    await client.readEnd();
    assert.notEqual(await peer.end(), null);
    peer.socket.destroy();
    await afterwards();
  });

  test('row 4: a 101 that nobody asked for', async () => {
    const plain = gateway.get('/app/x');
    const { peer } = await nextRequest();
    peer.write(switching({ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' }));
    assert.equal((await plain).status, 502);
    await peer.end();
    peer.socket.destroy();
    await afterwards();
  });

  test('row 44: a redirect is not followed', async () => {
    const elsewhere = await Server.listen();
    const { client, peer } = await attempt({ Authorization: 'Basic secret' });
    peer.write(`HTTP/1.1 302 Found\r\nLocation: http://${elsewhere.address}/\r\nContent-Length: 0\r\n\r\n`);
    assert.equal((await client.readResponse()).status, 502);
    await peer.end();
    peer.socket.destroy();
    client.destroy();
    await afterwards();
    assert.equal(elsewhere.sockets.size, 0);
    elsewhere.close();
  });
});

describe('an upstream that speaks badly', () => {
  const heads = {
    'no HTTP at all': 'SSH-2.0-OpenSSH\r\n\r\n',
    'a bare line feed': 'HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\n\n',
    'a control character': 'HTTP/1.1 101 Switching\r\nUpgrade: web\x01socket\r\n\r\n',
    'an endless head': `HTTP/1.1 101 Switching\r\nX: ${'x'.repeat(200_000)}`,
    'ten thousand fields': `HTTP/1.1 101 Switching\r\n${'X: y\r\n'.repeat(10_000)}`,
    'an end in the midst of the head': null,
  };
  for (const [what, head] of Object.entries(heads)) {
    test(what, async () => {
      const { client, peer } = await attempt();
      if (head === null) peer.socket.end('HTTP/1.1 101 Switch'); else peer.write(head);
      assert.equal((await client.readResponse()).status, 502);
      await peer.end();
      peer.socket.destroy();
      client.destroy();
      await afterwards();
    });
  }

  test('an early hint before the 101, and the 101 byte by byte with a frame behind it', async () => {
    const { client, peer, headers } = await attempt();
    peer.write('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n');
    const bytes = Buffer.concat([Buffer.from(switching(headers)),
      frame('text', 'first', { masked: false })]);
    for (const byte of bytes) {
      peer.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    assert.equal((await client.readResponse()).status, 101);
    assert.equal((await client.readFrame()).payload.toString(), 'first');
    client.destroy();
    await peer.end();
    peer.socket.destroy();
    await afterwards();
  });

  test('one that closes instead of answering', async () => {
    const { client, peer } = await attempt();
    peer.socket.resetAndDestroy();
    assert.equal((await client.readResponse()).status, 502);
    client.destroy();
    await afterwards();
  });
});

describe('row 2: bytes behind the upgrade', () => {
  for (const status of ['200 OK', '403 Forbidden', '426 Upgrade Required']) {
    test(`are thrown away if the answer is ${status}`, async () => {
      const { client, peer, size } = await attempt({},
        'GET /app/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await sleep(50); // nothing may happen
      assert.equal(peer.bytes, size);
      peer.write(`HTTP/1.1 ${status}\r\nContent-Length: 2\r\n\r\nno`);
      const answer = await client.readResponse();
      assert.equal(answer.status, Number(status.slice(0, 3)));
      assert.equal(answer.body, 'no');
      assert.match(answer.headers.connection ?? '', /close/i);
      const { bytes } = await client.readEnd();
      assert.equal(bytes.length, 0);
      assert.ok(['end', 'close', 'ECONNRESET'].includes(await peer.end()));
      assert.equal(peer.bytes, size);
      peer.socket.destroy();
      await afterwards();
    });
  }
});

describe('rows 27, 28, 29, 30, 36 and 37, from the upstream', () => {
  const frames = {
    'a masked frame': [frame('text', 'masked'), 1002],
    'a reserved bit': [frame('text', 'x', { rsv: 4, masked: false }), 1002],
    'a reserved opcode': [frame(3, 'x', { masked: false }), 1002],
    'a continuation of nothing': [frame('continuation', 'x', { masked: false }), 1002],
    'a control frame in fragments': [frame('ping', 'x', { fin: false, masked: false }), 1002],
    'a control frame that is too long': [frame('ping', 'x'.repeat(126), { masked: false }), 1002],
    'a length with the top bit': [frame('binary', '', { length: 1n << 63n, masked: false }), 1002],
    'a length in the wrong form': [frame('text', 'x', { lengthBytes: 8, masked: false }), 1002],
    'text that is not UTF-8': [frame('text', Buffer.from([0xff]), { masked: false }), 1007],
    'a close code that is none': [closeFrame(1005, '', { masked: false }), 1002],
    'a close reason that is not UTF-8':
      [frame('close', Buffer.from([3, 232, 0xff]), { masked: false }), 1007],
  };
  for (const [what, [bytes, code]] of Object.entries(frames)) {
    test(what, async () => {
      const { client, peer, size } = await open();
      peer.write(bytes);
      const close = await client.readClose();
      assert.deepEqual([close.code, close.reason], [1014, 'upstream broke the protocol']);
      client.write(closeFrame(1014));
      await client.readEnd();
      // The upstream was told what was wrong, with a masked frame as a client's have to be.
      assert.equal(await peer.end(), 'end');
      const told = peer.received.subarray(size);
      assert.equal(told[0], 0x88);
      assert.equal(told[1] & 0x80, 0x80);
      const payload = told.subarray(6, 6 + (told[1] & 0x7f)).map((byte, i) => byte ^ told[2 + (i % 4)]);
      assert.equal(payload.readUInt16BE(), code);
      peer.socket.end();
      await afterwards();
    });
  }

  test('row 27: an unmasked frame of the client reaches nobody', async () => {
    const { client, peer, size } = await open();
    client.write(frame('text', 'bare', { masked: false }));
    assert.equal((await client.readClose()).code, 1002);
    client.destroy();
    await until(() => peer.bytes > size, 'a Close frame at the upstream');
    const told = peer.received.subarray(size);
    assert.equal(told[0], 0x88);
    peer.socket.destroy();
    await afterwards();
  });

  test('an upstream that floods after its Close is not listened to', async () => {
    const { client, peer } = await open();
    peer.write(closeFrame(1000, 'bye', { masked: false }));
    for (let i = 0; i < 100; ++i) peer.write(frame('text', 'late', { masked: false }));
    const close = await client.readFrame();
    assert.deepEqual([close.opcode, close.code, close.reason], ['close', 1000, 'bye']);
    client.write(closeFrame(1000));
    const { bytes } = await client.readEnd();
    assert.equal(bytes.length, 0);
    peer.socket.destroy();
    await afterwards();
  });

  test('a frame that announces gigabytes and brings one byte costs nothing', async () => {
    const { client, peer } = await open();
    const before = gateway.rssBytes();
    peer.write(Buffer.concat([Buffer.from([0x82, 127, 0, 0, 0, 4, 0, 0, 0, 0]), Buffer.from('x')]));
    await within(client.read(11), 'the header and one byte');
    assert.ok(gateway.rssBytes() - before < 1024 * 1024);
    peer.socket.destroy();
    assert.notEqual((await client.readEnd()).ending, null);
    await afterwards();
  });
});

describe('clients that try to reach past the gateway', () => {
  // What is refused before an upstream is asked.
  const refused = {
    'row 6: POST': [upgrade('/app/x', {}, { method: 'POST' }), [400, 405]],
    'row 6: a body': [upgrade('/app/x', { 'Content-Length': '3' }), [400]],
    'row 1: version 8': [upgrade('/app/x', { 'Sec-WebSocket-Version': '8' }), [426]],
    'row 8: no key': [upgrade('/app/x', { 'Sec-WebSocket-Key': null }), [400]],
    'row 17: a bare line feed in the path': [upgrade('/app/x\nX: y'), [400]],
    'row 17: an escaped line': [upgrade('/app/x%0d%0aX:y'), [400]],
    'row 17: a carriage return in a subprotocol':
      [upgrade('/app/x', { 'Sec-WebSocket-Protocol': 'a\rX: y' }), [400]],
    'row 18: %00': [upgrade('/app/%00'), [400]],
    'row 18: %2F': [upgrade('/app/..%2Fadmin'), [400]],
    'row 18: %5C': [upgrade('/app/%5Cadmin'), [400]],
    'row 18: a backslash': [upgrade('/app\\admin'), [400]],
    'row 18: a fragment': [upgrade('/app/x#y'), [400]],
    'row 18: overlong UTF-8': [upgrade('/app/%c0%ae%c0%ae/admin'), [400]],
    'row 18: above the root': [upgrade('/app/../../admin'), [400, 403, 404]],
    'row 19: two Hosts': [upgrade('/app/x', { Host: ['localhost', 'other'] }), [400]],
    'row 19: two opinions about the host':
      [upgrade('http://inner.example/app/x', { Host: 'outer.example' }), [400]],
    'row 19: no Host': [upgrade('/app/x', { Host: null }), [400]],
    'row 20: CONNECT': [Buffer.from('CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n'), [400, 404, 405, 501]],
  };
  for (const [what, [bytes, statuses]] of Object.entries(refused)) {
    test(what, async () => {
      const before = upstream.asked;
      const client = await RawSocket.connect(gateway.listeners[0]);
      client.write(bytes);
      const { status } = await client.readResponse();
      assert.ok(statuses.includes(status), `${status}`);
      client.destroy();
      assert.equal(upstream.asked, before);
      await afterwards();
    });
  }

  test('row 18: what is matched is what is forwarded', async () => {
    for (const [sent, seen] of [['/app/a/../b?c/../d', '/app/b?c/../d'], ['/app/./x', '/app/x'],
      ['/app/%61', '/app/a'], ['/app/x;y', '/app/x;y'], ['/app/%3F', '/app/%3F']]) {
      const client = await RawSocket.connect(gateway.listeners[0]);
      client.write(upgrade(sent));
      const { peer, line } = await nextRequest();
      assert.equal(line, `GET ${seen} HTTP/1.1`);
      peer.socket.destroy();
      client.destroy();
    }
    await afterwards();
  });

  test('row 7: an upgrade to something else is a plain request without Upgrade', async () => {
    for (const value of ['h2c', 'websocket, h2c']) {
      const client = await RawSocket.connect(gateway.listeners[0]);
      client.write(upgrade('/app/x', { Upgrade: value, Connection: 'Upgrade, HTTP2-Settings',
        'HTTP2-Settings': 'AAMAAABkAARAAAAAAAIAAAAA' }));
      const { peer, headers } = await nextRequest();
      assert.equal(headers.upgrade, undefined);
      assert.equal(headers['http2-settings'], undefined);
      assert.equal(headers['sec-websocket-key'], undefined);
      peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      assert.equal((await client.readResponse()).body, 'ok');
      client.destroy();
      peer.socket.end();
    }
    await afterwards();
  });
});
