// The access records: whole, redacted, and one line each whatever a client sends.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Client, serveHonestClient } from '../support/client.mjs';
import { binary, echoConfig, sharedGateway, temporaryFolder, testPlugin, until, withGateway }
  from '../support/gateway.mjs';
import { RawSocket, frame, upgrade } from '../support/raw.mjs';

const gateway = sharedGateway(echoConfig({
  routes: [
    { path: '/echo', plugin: 'echo', allowed_origins: ['*'], subprotocols: ['chat'] },
    { path: '/named/{x}', name: 'a name', plugin: 'echo', allowed_origins: ['*'] },
  ],
}));

test('a record at the open and one at the close tell everything', async () => {
  const client = await Client.open(gateway.url('/echo?token=secret'),
    { protocols: ['chat'], origin: 'https://page.example' });
  const address = `127.0.0.1:${client.socket._socket.localPort}`;
  await client.echoes('12345');
  await client.echoes(Buffer.alloc(100));
  await client.close(4002, 'that is all');

  const open = await gateway.waitLog({ event: 'open', client: address });
  const { port } = gateway.listeners[0];
  assert.match(open.ts, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.ok(open.handshake_ms >= 0 && open.handshake_ms < 10_000);
  const { ts: _, handshake_ms: __, conn, ...fields } = open;
  assert.deepEqual(fields, {
    level: 'info', event: 'open', client: address, route: '/echo', host: `127.0.0.1:${port}`,
    path: '/echo?[redacted]', origin: 'https://page.example', protocol: 'chat',
    extensions: '', tls: '',
  });

  const close = await gateway.waitLog({ event: 'close', client: address });
  assert.ok(close.duration_ms >= 0 && close.duration_ms < 60_000);
  const { ts: ___, duration_ms: ____, buffered_max: buffered, ...rest } = close;
  assert.ok(buffered >= 0);
  assert.deepEqual(rest, {
    level: 'info', event: 'close', conn, client: address, route: '/echo', initiator: 'client',
    reason: 'application', code: 4002, text: 'that is all', why: '', clean: true,
    messages_in: 2, messages_out: 2, bytes_in: 105, bytes_out: 105,
  });
});

test('a refusal has a record with its reason', async () => {
  await Client.refused(gateway.url('/nowhere?key=secret'));
  const log = await gateway.waitLog({ event: 'refused', path: '/nowhere?[redacted]' });
  const { ts: _, conn: __, client, ...rest } = log;
  assert.match(client, /^127\.0\.0\.1:\d+$/);
  assert.deepEqual(rest, {
    level: 'info', event: 'refused', route: 'none', method: 'GET', path: '/nowhere?[redacted]',
    status: 404, why: 'no route for this path',
  });
});

// The rows of docs/logs.md: the level and the names of the fields by event.
function documentedEvents() {
  const document = fs.readFileSync(new URL('../../docs/logs.md', import.meta.url), 'utf8');
  const rows = [...document.matchAll(/^\| `([^`]+)` \| (.+?) \| (.*?) ?\| .+ \|$/gm)];
  return new Map(rows.map(([, event, level, fields]) =>
    [event, { level, fields: [...fields.matchAll(/`(\w+)`/g)].map(([, name]) => name) }]));
}

test('docs/logs.md describes every record, with all of its fields', async () => {
  const config = echoConfig({
    log: { level: 'debug' },
    plugins: { echo: { library: 'echo.so' }, thrower: { library: testPlugin('thrower') } },
    routes: [
      { path: '/echo', plugin: 'echo' },
      { path: '/throw', plugin: 'thrower' },
      { path: '/*', static: { root: '.' } },
    ],
  });
  await withGateway(config, async (gateway) => {
    gateway.expectedErrors.add('plugin failed');
    await serveHonestClient(gateway);
    assert.equal((await gateway.get('/nothing')).status, 404);
    await Client.refused(gateway.url('/nothing'));
    await Client.refused(gateway.url('/throw?open'));
    await gateway.stop();
    const events = documentedEvents();
    for (const { ts: _, level, event, ...fields } of gateway.logs) {
      const documented = events.get(event);
      assert.ok(documented, `${event} is not described`);
      assert.deepEqual(Object.keys(fields), documented.fields, event);
      assert.ok([level, 'the plugin\'s'].includes(documented.level), `${event}: ${level}`);
    }
    const seen = new Set(gateway.logs.map((log) => log.event));
    for (const event of ['started', 'plugin loaded', 'listening', 'metrics', 'open', 'close', 'request',
      'refused', 'plugin failed', 'signal', 'draining', 'stopped']) assert.ok(seen.has(event), event);
  });
});

test('a named route goes by its name', async () => {
  const client = await Client.open(gateway.url('/named/%E8%81%8A'));
  await client.close();
  const log = await gateway.waitLog({ event: 'close', route: 'a name' });
  assert.equal(log.initiator, 'client');
});

test('nothing that a client sends breaks a line or forges a field', async () => {
  const before = gateway.lines.length;
  const odd = 'http://x\xff\xfe"},{"level":"error\\u000a\x80\xe4\xbd';
  for (const bytes of [
    upgrade('/echo', { Origin: odd }),
    upgrade('/named/a%22%7D%E2%80%A8%C2%85x?"', { Origin: '{"a":1}', 'User-Agent': odd }),
    upgrade('/named/%0a%7B%22event%22'),
    upgrade('/nowhere/%22,%22event%22:%22open'),
    Buffer.from('GET /\x00\x1b[31m HTTP/1.1\r\nHost: \x07\r\n\r\n', 'latin1'),
  ]) {
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.write(bytes);
    const { status } = await raw.readResponse();
    if (status === 101) {
      raw.write(frame('close', Buffer.concat([Buffer.from([15, 160]), Buffer.from('a\n"}\u2028\u0085\x7f')])));
      await raw.readClose();
    }
    raw.destroy();
  }
  await serveHonestClient(gateway, { protocols: ['chat'] });
  await gateway.waitLog({ event: 'close', text: 'bye' });
  const lines = gateway.lines.slice(before);
  assert.equal(gateway.logs.filter((log) => log.event === 'not JSON').length, 0);
  for (const line of lines) {
    assert.match(line, /^[\x20-\x7e]*$/, 'printable ASCII');
    assert.ok(['open', 'close', 'refused'].includes(JSON.parse(line).event));
  }
  // Two sockets with a Close frame of the test's own, two more records for each, and the refusals.
  assert.equal(lines.filter((line) => JSON.parse(line).event === 'close').length, 3);
  assert.equal(lines.length, 3 * 2 + 3);
  const close = gateway.logs.find((log) => log.code === 4000);
  assert.equal(close.text, 'a\n"}\u2028\u0085\x7f');
});

test('log.format: text writes lines for people', async () => {
  const config = echoConfig({
    log: { format: 'text' },
    routes: [{ path: '/echo', plugin: 'echo', allowed_origins: ['*'] }],
  });
  await withTextGateway(config, async ({ lines, port, waitLine }) => {
    const raw = await RawSocket.open({ host: '127.0.0.1', port }, '/echo?secret',
      { Origin: 'http://a b=c" level=error \x1b[31m'.replace('\x1b', '\xc2\x9b') });
    raw.write(frame('close', Buffer.concat([Buffer.from([15, 160]), Buffer.from('再见\n\x1b[0m')])));
    await raw.readClose();
    raw.destroy();
    const open = await waitLine(/ open /);
    assert.match(open, /^\d{4}-\d\d-\d\dT[\d:.]+Z info {4}open conn=\d+ client=127\.0\.0\.1:\d+ route=\/echo /);
    assert.match(open, / path=\/echo\?\[redacted\] origin="http:\/\/a b=c\\" level=error /);
    const close = await waitLine(/ close /);
    assert.match(close, / code=4000 text="再见\\n\\u001b\[0m" why="" clean=true /);
    for (const line of lines) assert.doesNotMatch(line, /[\x00-\x1f\x7f-\x9f]/);
  });
});

test('log.query_strings: show shows them; log.access: false writes no records', async () => {
  await withGateway(echoConfig({ log: { query_strings: 'show' } }), async (shown) => {
    await (await Client.open(shown.url('/echo?a=1'))).close();
    assert.equal((await shown.waitLog({ event: 'open' })).path, '/echo?a=1');
  });
  await withGateway(echoConfig({ log: { access: false } }), async (silent) => {
    await serveHonestClient(silent);
    await Client.refused(silent.url('/nowhere'));
    await silent.stop();
    const events = silent.logs.map((log) => log.event);
    for (const event of ['open', 'close', 'refused']) assert.ok(!events.includes(event), event);
  });
});

test('a plugin\'s own log lines and failures are in the log', async () => {
  const config = echoConfig({
    plugins: { echo: { library: 'echo.so' }, thrower: { library: testPlugin('thrower') } },
    routes: [{ path: '/echo', plugin: 'echo' }, { path: '/throw', plugin: 'thrower' }],
  });
  await withGateway(config, async (throwing) => {
    throwing.expectedErrors.add('plugin failed');
    const client = await Client.open(throwing.url('/throw'));
    client.send('throw');
    assert.equal((await client.end()).code, 1011);
    const log = await throwing.waitLog({ event: 'plugin failed' });
    assert.deepEqual([log.level, log.route, log.why], ['error', '/throw', 'thrown by on_message']);
    const close = await throwing.waitLog({ event: 'close', reason: 'plugin_failed' });
    assert.equal(close.initiator, 'plugin');
    assert.equal((await Client.refused(throwing.url('/throw?open'))).status, 500);
    await serveHonestClient(throwing);
  });
});

// A gateway that logs as text: Gateway reads JSON only.
async function withTextGateway(config, body) {
  const file = path.join(temporaryFolder(), 'routes.yaml');
  fs.writeFileSync(file, JSON.stringify(config));
  const child = spawn(binary, ['run', '--config', file], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more) => { text += more; });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const waitLine = (wanted) => until(
    () => text.split('\n').slice(0, -1).find((line) => wanted.test(line)), `${wanted} in the log`);
  try {
    const port = Number(/address=127\.0\.0\.1:(\d+)/.exec(await waitLine(/ listening /))[1]);
    await body({ get lines() { return text.split('\n').slice(0, -1); }, port, waitLine });
    child.kill();
    assert.equal(await ended, 0);
    assert.match(text, /stopped\n$/);
  } finally {
    child.kill('SIGKILL');
  }
}
