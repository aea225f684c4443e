// WebSocket-over-HTTP with a backend that is written down request by request.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '../support/client.mjs';
import { memoryIsOurs, until, withGateway } from '../support/gateway.mjs';
import { RawSocket, frame } from '../support/raw.mjs';
import { Backend, closeContent, event, eventsType, webhookConfig } from '../support/webhook.mjs';

// A gateway in front of a backend, for one test.
async function withBackend(body, { webhook = {}, ...rest } = {}) {
  const backend = await Backend.start();
  try {
    await withGateway(webhookConfig({ upstream: backend.address, ...webhook }, rest),
      (gateway) => body(gateway, backend));
  } finally {
    await backend.stop();
  }
}

// An open client; the backend has answered OPEN and `events`.
async function open(gateway, backend, { fields = {}, events = '', ...options } = {}) {
  const opening = Client.open(gateway.url('/ws'), options);
  const request = await backend.expect('OPEN\r\n');
  request.answer(`OPEN\r\n${events}`, fields);
  return { client: await opening, request };
}

test('a handshake, messages and a close, byte for byte', () => withBackend(async (gateway, backend) => {
  const { client, request } = await open(gateway, backend, {
    protocols: ['one', 'two'],
    fields: { 'Sec-WebSocket-Protocol': 'two', 'Set-Meta-User': 'alice', 'X-Powered-By': 'x' },
    events: 'TEXT 2\r\nhi\r\n',
    headers: { Cookie: 'a=1', 'Grip-Sig': 'forged', 'Meta-User': 'forged' },
  });
  assert.equal(request.method, 'POST');
  assert.equal(request.url, '/ws');
  assert.equal(request.headers.accept, eventsType);
  assert.equal(request.headers['content-type'], eventsType);
  assert.equal(request.headers['content-length'], '6');
  assert.equal(request.headers['sec-websocket-extensions'], 'grip');
  assert.equal(request.headers['sec-websocket-version'], '13');
  assert.equal(request.headers['sec-websocket-protocol'], 'one,two');
  assert.equal(request.headers.cookie, 'a=1');
  assert.equal(request.headers['x-forwarded-for'], '127.0.0.1');
  assert.match(request.headers['connection-id'], /^[0-9a-f-]{36}$/);
  for (const name of ['upgrade', 'grip-sig', 'meta-user', 'content-bytes-replayed']) {
    assert.equal(request.headers[name], undefined, name);
  }
  assert.equal(client.socket.protocol, 'two');
  assert.equal(await client.text(), 'hi');

  client.send('');
  const empty = await backend.expect('TEXT\r\n');
  assert.equal(empty.headers['meta-user'], 'alice');
  client.send(Buffer.from([0, 1]));
  client.send('fragment', { fin: false });
  client.send('ed');
  client.socket.ping('pp'); // ours to answer
  await new Promise((resolve) => client.socket.once('pong', resolve));
  empty.answer(Buffer.concat([event('BINARY', [2, 3]), event('TEXT'), event('PING', 'x')]));
  assert.deepEqual(await client.next(), { data: Buffer.from([2, 3]), binary: true });
  assert.equal(await client.text(), '');
  const batch = await backend.expect('BINARY 2\r\n\0\x01\r\nTEXT a\r\nfragmented\r\n');
  batch.answer();

  const ended = client.close(1000, 'done');
  const close = await backend.expect(Buffer.from('CLOSE 6\r\n\x03\xe8done\r\n', 'latin1'));
  close.answer(event('CLOSE', closeContent(1000)));
  assert.deepEqual(await ended, { code: 1000, reason: 'done' });
}));

test('a client that vanishes is a DISCONNECT after the request that runs', () =>
  withBackend(async (gateway, backend) => {
    const { client } = await open(gateway, backend);
    client.send('a');
    const running = await backend.expect('TEXT 1\r\na\r\n');
    client.socket.terminate();
    await gateway.waitLog({ event: 'close' });
    assert.ok(backend.idle);
    running.answer('TEXT 1\r\nb\r\n');
    (await backend.expect('DISCONNECT\r\n')).answer();
    await until(() => backend.idle, 'nothing more');
  }));

test('what a client said before it vanished is lost with a record if the backend fails', () =>
  withBackend(async (gateway, backend) => {
    const { client } = await open(gateway, backend);
    client.send('a');
    const running = await backend.expect('TEXT 1\r\na\r\n');
    client.send('b');
    client.socket.terminate();
    await gateway.waitLog({ event: 'close' });
    running.answer();
    (await backend.expect('TEXT 1\r\nb\r\nDISCONNECT\r\n')).answer('', {}, 500);
    const { why } = await gateway.waitLog({ event: 'webhook failed' });
    assert.match(why, /^events were answered with 500/);
  }));

test('a service that has failed hears of the end of its client', () => withBackend(async (gateway, backend) => {
  const { client } = await open(gateway, backend);
  client.send('a');
  const failing = await backend.expect('TEXT 1\r\na\r\n');
  client.send('behind it');
  failing.answer('', {}, 500);
  assert.equal((await client.end()).code, 1011);
  (await backend.expect(event('CLOSE', closeContent(1011, 'backend failed')))).answer();
}));

test('what a service sends to nobody is told once for each client', () => withBackend(async (gateway, backend) => {
  const subscribe = (channel, ...filters) =>
    event('TEXT', `c:${JSON.stringify({ type: 'subscribe', channel, filters })}`);
  const meta = (name, value) => event('TEXT', `c:${JSON.stringify({ type: 'set-meta', name, value })}`);
  const cases = [
    [[event('TEXT', 'hello')], 'a message without the prefix of GRIP'],
    [[event('TEXT', 'c:{'), event('TEXT', 'c:{}')], 'a control message is malformed or of an unknown type'],
    [[subscribe('x'.repeat(1025))], 'a name in a control message is too long'],
    [[subscribe('a', 'x'.repeat(1025))], 'a name in a control message is too long'],
    [[meta('a', 'x'.repeat(4097))], 'too many meta values, or one that is too long'],
    [Array.from({ length: 21 }, (_, i) => subscribe(`${i}`)), 'too many subscriptions'],
  ];
  for (const [events] of cases) {
    const { client } = await open(gateway, backend, {
      fields: { 'Sec-WebSocket-Extensions': 'grip' },
      events: Buffer.concat([...events, event('TEXT', 'm:behind it')]).toString('latin1'),
    });
    assert.equal(await client.text(), 'behind it');
    const ended = client.close(1000);
    (await backend.next()).answer();
    await ended;
  }
  const told = gateway.logs.filter((log) => log.event === 'webhook message ignored');
  assert.deepEqual(told.map((log) => log.why), cases.map(([, why]) => why));
}));

test('the gateway ends only when the last word is said', () => withBackend(async (gateway, backend) => {
  const { client } = await open(gateway, backend);
  gateway.kill();
  const { code } = await client.end();
  assert.equal(code, 1001);
  const last = await backend.next();
  assert.deepEqual(last.body, event('CLOSE', closeContent(1001, 'shutting down')));
  assert.equal(gateway.child.exitCode, null);
  last.answer();
}));

test('refusals are relayed, and others are no mystery', () => withBackend(async (gateway, backend) => {
  const refuse = async (answer) => {
    const refused = Client.refused(gateway.url('/ws'));
    answer(await backend.next());
    return refused;
  };
  const relayed = await refuse((request) => request.answer('no entry', {
    'Content-Type': 'text/html', 'WWW-Authenticate': 'Basic realm="x"', 'X-Powered-By': 'y',
  }, 401));
  assert.equal(relayed.status, 401);
  assert.equal(relayed.body, 'no entry');
  assert.equal(relayed.headers['www-authenticate'], 'Basic realm="x"');
  assert.equal(relayed.headers['x-powered-by'], undefined);
  assert.equal((await refuse((request) => request.answer('TEXT 1\r\na\r\n'))).status, 502);
  assert.equal((await refuse((request) => request.response.destroy())).status, 502);
  const metrics = await gateway.metrics();
  assert.equal(metrics.get('sluice_handshakes_total', { result: 'upstream_refused' }), 1);
  assert.equal(metrics.get('sluice_handshakes_total', { result: 'upstream_failed' }), 2);
}));

test('a silent backend is a 504', () => withBackend(async (gateway, backend) => {
  const { status } = await Client.refused(gateway.url('/ws'));
  assert.equal(status, 504);
  assert.equal(backend.requests, 1);
}, { webhook: { response_timeout: '300ms' } }));

for (const protocol of ['websocket-events', 'message']) {
  test(`a backend that decides too late is named in the log, and hears that its client has gone: ${protocol}`, () =>
    withBackend(async (gateway, backend) => {
      const { status } = await Client.refused(gateway.url('/ws'));
      assert.equal(status, 504);
      const metrics = await gateway.metrics();
      assert.equal(metrics.get('sluice_handshakes_total', { result: 'upstream_timeout' }), 1);
      assert.equal(metrics.get('sluice_handshakes_total', { result: 'timeout' }), 0);
      const { why } = await gateway.waitLog({ event: 'refused' });
      assert.ok(why.startsWith(`${backend.address}: no decision`), why);

      const events = protocol === 'websocket-events';
      (await backend.next()).answer(events ? 'OPEN\r\n' : '');
      const last = await backend.next();
      assert.equal(events ? last.body.toString() : last.headers['sluice-event'], events ? 'DISCONNECT\r\n' : 'close');
      last.answer();
    }, { webhook: { protocol }, requests: { handshake_timeout: '600ms' } }));
}

test('a subprotocol that was not offered is not accepted', () => withBackend(async (gateway, backend) => {
  const refused = Client.refused(gateway.url('/ws'), { protocols: ['one'] });
  (await backend.next()).answer('OPEN\r\n', { 'Sec-WebSocket-Protocol': 'other' });
  assert.equal((await refused).status, 502);
}));

test('what backends close with, and what the client sees', async () => {
  const cases = [
    ['CLOSE\r\n', { code: 1005, reason: '' }],
    [event('CLOSE', closeContent(4001, 'bye')), { code: 4001, reason: 'bye' }],
    [event('CLOSE', closeContent(0)), { code: 1000, reason: '' }],
    [event('CLOSE', closeContent(1006)), { code: 1000, reason: '' }],
    ['DISCONNECT\r\n', { code: 1006, reason: '' }],
    ['OPEN\r\n', { code: 1011, reason: 'backend failed' }],
    ['TEXT 0x1\r\na\r\n', { code: 1011, reason: 'backend failed' }],
    [event('TEXT', [0xff]), { code: 1011, reason: 'backend failed' }],
  ];
  await withBackend(async (gateway, backend) => {
    for (const [events, seen] of cases) {
      const { client } = await open(gateway, backend);
      client.send('x');
      (await backend.expect('TEXT 1\r\nx\r\n')).answer(Buffer.concat([Buffer.from(events), event('TEXT', 'late')]));
      assert.deepEqual(await client.end(), seen, events.toString());
      assert.deepEqual(client.messages, []);
      if (seen.code === 1006) continue;
      // The backend hears how its client took it.
      (await backend.next()).answer();
    }
  });
});

test('contents that are accepted in part come again', () => withBackend(async (gateway, backend) => {
  const { client } = await open(gateway, backend);
  client.send('[foo][hello');
  (await backend.expect('TEXT b\r\n[foo][hello\r\n')).answer('', { 'Content-Bytes-Accepted': 5 });
  client.send(' world]');
  const again = await backend.expect('TEXT 6\r\n[hello\r\nTEXT 7\r\n world]\r\n');
  assert.equal(again.headers['content-bytes-replayed'], '6');
  again.answer('TEXT 4\r\n[ok]\r\n');
  assert.equal(await client.text(), '[ok]');
  client.send('x');
  (await backend.expect('TEXT 1\r\nx\r\n')).answer('', { 'Content-Bytes-Accepted': 2 });
  assert.equal((await client.end()).code, 1011);
  (await backend.next()).answer();
}));

test('a backend that comes back within the tries loses nothing', async () => {
  const first = await Backend.start();
  const { port } = first;
  await withGateway(webhookConfig({ upstream: first.address }), async (gateway) => {
    const { client } = await open(gateway, first);
    await first.stop();
    client.send('a');
    await gateway.waitMetrics((metrics) =>
      metrics.get('sluice_upstream_connect_failures_total', { reason: 'refused' }) > 0);
    client.send('b');
    const second = await Backend.start(undefined, port);
    try {
      const again = await second.next();
      assert.equal(again.body.toString().startsWith('TEXT 1\r\na\r\n'), true);
      again.answer('TEXT 2\r\nok\r\n');
      assert.equal(await client.text(), 'ok');
      if (!again.body.toString().includes('b')) (await second.expect('TEXT 1\r\nb\r\n')).answer();
      const closed = client.close(1000);
      (await second.next()).answer();
      await closed;
    } finally {
      await second.stop();
    }
  });
});

test('while the backend is slow, the client is not read, and nothing is lost', async () => {
  const total = 64 * 1024 * 1024;
  const size = 64 * 1024;
  const high = 256 * 1024;
  const direction = 'client_to_upstream';
  const backend = await Backend.start();
  try {
    await withGateway(webhookConfig({ upstream: backend.address }), async (gateway) => {
      const opening = RawSocket.open(gateway.listeners[0], '/ws');
      (await backend.expect('OPEN\r\n')).answer('OPEN\r\n');
      const raw = await opening;
      const before = gateway.rssBytes();
      let sent = 0;
      const payload = (index) => Buffer.alloc(size, index % 251);
      const pump = () => {
        while (sent < total / size) {
          const flows = raw.socket.write(frame('binary', payload(sent++)));
          if (!flows) return raw.socket.once('drain', pump);
        }
      };
      pump();
      // The backend sits on the first request.
      const first = await backend.next();
      const stuck = await gateway.waitMetrics((metrics) =>
        metrics.get('sluice_backpressure_paused_connections', { direction }) === 1);
      const waiting = stuck.get('sluice_buffered_amount_bytes', { direction, layer: 'app' });
      assert.ok(waiting > high && waiting < high + 3 * size, `${waiting} bytes wait`);
      await until(() => raw.socket.writableLength > 0, 'a client that cannot write on');
      if (memoryIsOurs) assert.ok(gateway.rssBytes() - before < 16 * 1024 * 1024);

      let received = 0;
      const check = (body) => {
        for (let at = 0; at < body.length; ++received) {
          const end = body.indexOf('\r\n', at);
          assert.equal(body.toString('latin1', at, end), `BINARY ${size.toString(16)}`);
          const content = body.subarray(end + 2, end + 2 + size);
          assert.ok(content.equals(payload(received)), `message ${received} differs`);
          at = end + 2 + size + 2;
        }
      };
      check(first.body);
      first.answer();
      let most = 0;
      while (received < total / size) {
        const request = await backend.next();
        check(request.body);
        most = Math.max(most, gateway.rssBytes() - before);
        request.answer();
      }
      if (memoryIsOurs) assert.ok(most < 16 * 1024 * 1024, `${most} bytes more`);
      raw.destroy();
      (await backend.expect('DISCONNECT\r\n')).answer();
    });
  } finally {
    await backend.stop();
  }
});

test('while the client does not read, the backend is not asked', () => withBackend(async (gateway, backend) => {
  const opening = RawSocket.open(gateway.listeners[0], '/ws');
  (await backend.expect('OPEN\r\n')).answer('OPEN\r\n');
  const raw = await opening;
  raw.socket.pause();
  const reply = event('BINARY', Buffer.alloc(900_000, 7));
  let asked = 0;
  backend.serve = (request) => { ++asked; request.answer(reply); };
  await gateway.waitMetrics((metrics) => {
    raw.write(frame('text', 'more'));
    return metrics.get('sluice_backpressure_paused_connections',
      { direction: 'upstream_to_client' }) === 1;
  });
  const stuck = asked;
  for (let i = 0; i < 5; ++i) {
    raw.write(frame('text', 'more'));
    await gateway.metrics();
  }
  assert.ok(asked <= stuck + 1, `asked ${asked - stuck} times more`);
  raw.socket.resume();
  await until(() => asked > stuck + 1 || backend.idle, 'asked again');
  raw.destroy();
  await gateway.waitLog({ event: 'close' });
}));
