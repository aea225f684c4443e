// /metrics: the numbers agree with what was done, and nothing a client sends becomes a label.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { Client, serveHonestClient } from '../support/client.mjs';
import { echoConfig, request, sharedGateway, temporaryFolder, testPlugin, until, withGateway }
  from '../support/gateway.mjs';
import { RawSocket, closeFrame, frame, upgrade } from '../support/raw.mjs';

const gateway = sharedGateway(() => echoConfig({
  plugins: { echo: { library: 'echo.so' }, flood: { library: testPlugin('flood') } },
  routes: [
    { path: '/echo', plugin: 'echo', allowed_origins: ['*'], subprotocols: ['chat'] },
    { path: '/flood', name: 'the "flood"', plugin: 'flood' },
  ],
}));

test('messages, frames and bytes of both directions are counted while they flow', async () => {
  const of = (m, name, labels) => m.get(`sluice_${name}_total`, { route: '/echo', ...labels });
  const raw = await RawSocket.open(gateway.listeners[0]);
  const frames = [
    frame('text', 'héllo'), frame('binary', Buffer.alloc(200)),
    frame('text', 'ab', { fin: false }), frame('ping', 'p'), frame('continuation', 'cd', { fin: false }),
    frame('continuation', 'e'), frame('pong', 'unasked'),
  ];
  for (const one of frames) raw.write(one);
  for (let i = 0; i < 4; ++i) await raw.readFrame();
  const m = await gateway.waitMetrics((m) =>
    of(m, 'frames', { direction: 'client_to_upstream', opcode: 'pong' }) === 1);

  const up = { direction: 'client_to_upstream' };
  const down = { direction: 'upstream_to_client' };
  for (const direction of [up, down]) {
    assert.equal(of(m, 'messages', { ...direction, type: 'text' }), 2);
    assert.equal(of(m, 'messages', { ...direction, type: 'binary' }), 1);
    assert.equal(of(m, 'payload_bytes', direction), 6 + 200 + 5);
    assert.equal(m.get('sluice_message_size_bytes_count', direction), 3);
    assert.equal(m.get('sluice_message_size_bytes_sum', direction), 211);
  }
  const opcodes = (direction) => ['text', 'binary', 'continuation', 'ping', 'pong', 'close']
    .map((opcode) => of(m, 'frames', { ...direction, opcode }));
  assert.deepEqual(opcodes(up), [2, 1, 2, 1, 1, 0]);
  assert.deepEqual(opcodes(down), [2, 1, 0, 0, 1, 0]);
  assert.equal(of(m, 'wire_bytes', up), frames.reduce((sum, one) => sum + one.length, 0));
  assert.equal(of(m, 'wire_bytes', down), 2 + 6 + 4 + 200 + 2 + 5 + 2 + 1);
  raw.write(closeFrame(4321));
  await raw.readClose();
  await raw.readEnd();
  const after = await gateway.metrics();
  for (const direction of [up, down]) {
    assert.equal(of(after, 'close_frames', { ...direction, code: '4xxx' }), 1);
    assert.equal(of(after, 'frames', { ...direction, opcode: 'close' }), 1);
  }
});

test('opened − closed = active, at every moment that is at rest', async () => {
  const clients = [];
  for (let i = 0; i < 10; ++i) clients.push(await Client.open(gateway.url()));
  const rest = (m) => m.get('sluice_connections_opened_total') -
    m.get('sluice_connections_closed_total');
  let metrics = await gateway.metrics();
  assert.deepEqual([metrics.get('sluice_connections_active'), rest(metrics)], [10, 10]);
  assert.equal(metrics.get('sluice_connections_active', { transport: 'h1', tls: 'false' }), 10);
  for (const client of clients.slice(5)) await client.close();
  clients[0].socket.terminate();
  metrics = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 4);
  assert.equal(rest(metrics), 4);
  for (const client of clients.slice(1, 5)) await client.close();
  metrics = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
  assert.equal(rest(metrics), 0);
  assert.equal(metrics.get('sluice_connection_duration_seconds_count'),
    metrics.get('sluice_connections_closed_total'));
  assert.equal(metrics.get('sluice_handshake_duration_seconds_count'),
    metrics.get('sluice_connections_opened_total'));
});

test('bufferedAmount is shown while a client does not read, and is gone with it', async () => {
  const raw = await RawSocket.open(gateway.listeners[0], '/flood');
  raw.socket.pause();
  raw.write(frame('text', '80 100000'));
  const labels = { route: 'the \\"flood\\"', direction: 'upstream_to_client' };
  const shown = await gateway.waitMetrics((m) => m.get('sluice_buffered_amount_bytes', labels) > 0);
  const sum = shown.get('sluice_buffered_amount_bytes', labels);
  assert.equal(shown.get('sluice_buffered_amount_max_bytes', labels), sum);
  assert.equal(shown.get('sluice_connection_buffered_amount_bytes_sum', labels), sum);
  assert.equal(shown.get('sluice_connection_buffered_amount_bytes_count', labels), 1);
  raw.destroy();
  const gone = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
  assert.equal(gone.get('sluice_buffered_amount_bytes'), 0);
  assert.equal(gone.get('sluice_connection_buffered_amount_bytes_count'), 0);
});

test('what clients make up brings forth no series', async () => {
  const before = await gateway.metrics();
  for (let i = 0; i < 100; ++i) {
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.write(upgrade(i % 2 ? `/echo?made-up=${i}` : `/made-up/${i}`, {
      Origin: `https://made-up-${i}.test`, 'User-Agent': `made-up/${i}`,
      'Sec-WebSocket-Protocol': `chat, made-up-${i}`, Host: `made-up-${i}.test`,
    }));
    const { status } = await raw.readResponse();
    assert.equal(status, i % 2 ? 101 : 404);
    if (i % 2) {
      raw.write(closeFrame(4000 + i, `made-up-${i}`));
      await raw.readClose();
    }
    raw.destroy();
  }
  const after = await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
  assert.deepEqual(after.series().filter((name) => !before.series().includes(name)), [
    // The one combination that had not happened yet.
  ]);
  assert.equal(after.series().length, before.series().length);
});

test('no addresses, queries, origins or subprotocols are shown', async () => {
  const client = await Client.open(gateway.url('/echo?token=secret-in-query'),
    { origin: 'https://secret-origin.test', protocols: ['chat'] });
  const { text } = await gateway.metrics();
  assert.doesNotMatch(text, /secret|token|127\.0\.0\.1|\bchat\b/);
  await client.close();
});

test('the format is Prometheus\' own', async () => {
  const { headers, body } = await gateway.getAdmin('/metrics');
  assert.match(headers['content-type'], /^text\/plain; version=0\.0\.4/);
  const lines = body.toString().split('\n');
  assert.equal(lines.pop(), '', 'it ends with a line feed');
  const described = new Set();
  for (const line of lines) {
    const head = /^# (HELP|TYPE) (\S+) /.exec(line);
    if (head) {
      described.add(head[2]);
      continue;
    }
    assert.match(line, /^[a-z_0-9]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? [-+\d.e]+$|^.* (\+Inf|NaN)$/);
    const name = /^[a-z_0-9]+/.exec(line)[0];
    assert.ok(described.has(name) || described.has(name.replace(/_(bucket|sum|count)$/, '')), name);
  }
  // Ask the tool of those who read it, where there is one.
  try {
    execFileSync('promtool', ['check', 'metrics'], { input: body, stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (error) {
    if (error.code !== 'ENOENT') assert.fail(error.stderr.toString());
  }
});

test('while new clients are refused for lack of memory, /readyz is 503 and /healthz is not', async () => {
  await withGateway(echoConfig({ memory: { budget: '1MiB' } }), async (short) => {
    await short.waitLog({ event: 'overload' });
    const { status, body } = await short.getAdmin('/readyz');
    assert.deepEqual([status, body.toString()], [503, 'memory is short\n']);
    assert.equal((await short.getAdmin('/healthz')).status, 200);
  });
});

test('the metrics listener answers its paths, to GET and HEAD, and nothing else', async () => {
  for (const [target, status] of [['/metrics', 200], ['/healthz', 200], ['/readyz', 200],
    ['/', 404], ['/echo', 404], ['/metrics/', 404], ['/metrics?x=1', 200]]) {
    assert.equal((await gateway.getAdmin(target)).status, status, target);
    assert.equal((await gateway.getAdmin(target, { method: 'HEAD' })).status, status, target);
  }
  assert.equal((await gateway.getAdmin('/metrics', { method: 'POST' })).status, 405);
  for (const target of ['/metrics', '/healthz', '/readyz']) {
    assert.equal((await gateway.get(target)).status, 404, 'not where the clients are');
  }
  const raw = await RawSocket.connect(gateway.metricsAt);
  raw.write(upgrade('/echo'));
  assert.equal((await raw.readResponse()).status, 404);
  raw.destroy();
});

test('what has enough connections of its own closes the next, and says so', async () => {
  const config = echoConfig({ metrics: { address: '127.0.0.1:0', max_connections: 2 } });
  await withGateway(config, async (small) => {
    const kept = [];
    for (let i = 0; i < 2; ++i) {
      const raw = await RawSocket.connect(small.metricsAt);
      raw.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
      assert.equal((await raw.readResponse()).status, 200);
      kept.push(raw);
    }
    const third = await RawSocket.connect(small.metricsAt);
    await third.readEnd();
    const { address, max_connections: most } = await small.waitLog({ event: 'listener full' });
    assert.deepEqual([address, most], [`127.0.0.1:${small.metricsAt.port}`, 2]);
    kept[0].write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const { body } = await kept[0].readResponse();
    assert.match(String(body), /^sluice_limit_rejections_total\{limit="service_connections"\} 1$/m);
    for (const raw of kept) raw.destroy();
    await until(async () => (await request({ ...small.metricsAt, path: '/healthz' }).catch(() => ({}))).status === 200,
      'there is room again');
    await serveHonestClient(small);
  });
});

test('a plain request that is refused counts as a response, not as a handshake', async () => {
  const root = temporaryFolder();
  const config = echoConfig({
    max_connections: 1,
    routes: [{ path: '/echo', plugin: 'echo', allowed_origins: ['*'] }, { path: '/*', static: { root } }],
  });
  await withGateway(config, async (full) => {
    const client = await Client.open(full.url());
    assert.equal((await full.get('/index.html')).status, 503);
    const metrics = await full.metrics();
    assert.equal(metrics.get('sluice_http_responses_total', { route: '/*', code: '5xx' }), 1);
    assert.equal(metrics.get('sluice_handshakes_total', { route: '/*' }), 0);
    await client.close(1000);
  });
});

test('what a handshake is refused for is counted by route and result', async () => {
  const config = echoConfig({
    routes: [
      { path: '/echo', plugin: 'echo', allowed_origins: ['https://a.test'], subprotocols: ['chat'] },
    ],
    requests: { handshake_timeout: '200ms' },
  });
  await withGateway(config, async (fresh) => {
    const ask = async (bytes) => {
      const raw = await RawSocket.connect(fresh.listeners[0]);
      raw.write(bytes);
      await raw.readResponse();
      raw.destroy();
    };
    await ask(upgrade('/echo', { Origin: 'https://b.test' }));
    await ask(upgrade('/echo', { 'Sec-WebSocket-Version': '12' }));
    await ask(upgrade('/echo', { 'Sec-WebSocket-Protocol': 'other' }));
    await ask(upgrade('/echo', { 'Sec-WebSocket-Key': 'short' }));
    await ask(upgrade('/echo', {}, { method: 'POST' }));
    await ask(upgrade('/echo', { Upgrade: null }));
    await ask(upgrade('/nowhere'));
    await ask(Buffer.from('nonsense\r\n\r\n'));
    await ask(upgrade().subarray(0, 50));
    const left = await RawSocket.connect(fresh.listeners[0]);
    left.socket.end(upgrade().subarray(0, 50));
    await left.readEnd();
    await serveHonestClient(fresh, { protocols: ['chat'] });
    const metrics = await fresh.metrics();
    const counted = {};
    for (const { name, labels, value } of metrics.samples) {
      if (name !== 'sluice_handshakes_total' || value === 0) continue;
      counted[`${labels.route} ${labels.result}`] = value;
    }
    assert.deepEqual(counted, {
      '/echo accepted': 1, '/echo rejected_origin': 1, '/echo rejected_version': 1,
      '/echo rejected_subprotocol': 1, '/echo bad_request': 1, '/echo method_not_allowed': 1,
      '/echo not_websocket': 1, 'none no_route': 1, 'none bad_request': 1, 'none timeout': 1,
      'none aborted': 1,
    });
  });
});
