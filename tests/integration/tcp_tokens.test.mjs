// tcp routes whose clients say by a token where they go: a map in routes.yaml, a file in
// websockify's format.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../support/client.mjs';
import { Server, freePort } from '../support/services.mjs';
import { echoConfig, sluice, temporaryFolder, until, withGateway } from '../support/gateway.mjs';

// A server that says its name to everybody.
async function named(t, name, options) {
  const server = await Server.listen(t, options);
  server.server.on('connection', (socket) => socket.write(name));
  return server;
}

async function nameAt(gateway, target) {
  const client = await Client.open(gateway.url(target));
  const { data } = await client.next();
  await client.close();
  return data.toString();
}

const statusAt = async (gateway, target) => (await Client.refused(gateway.url(target))).status;

// As an editor does it: a new file takes the place of the old one.
function replace(file, text) {
  fs.writeFileSync(`${file}.new`, text);
  fs.renameSync(`${file}.new`, file);
}

test('a map of tokens, in the path or in the query', async (t) => {
  const one = await named(t, 'one');
  const two = await named(t, 'two', { path: path.join(temporaryFolder(), 'socket') });
  const tokens = { a: one.address, 'b c': two.address, dead: `127.0.0.1:${await freePort()}` };
  const routes = [{ path: '/vnc/{token}', tcp: { tokens } }, { path: '/vnc', tcp: { tokens } }];
  await withGateway(echoConfig({ routes }), async (gateway) => {
    assert.equal(await nameAt(gateway, '/vnc/a'), 'one');
    assert.equal(await nameAt(gateway, '/vnc/b%20c'), 'two');
    assert.equal(await nameAt(gateway, '/vnc/a?token=b+c'), 'one');
    assert.equal(await nameAt(gateway, '/vnc?token=a'), 'one');
    assert.equal(await nameAt(gateway, '/vnc?x=y&token=b%20c&token=a'), 'two');
    assert.equal(await nameAt(gateway, '/vnc?token=b+c'), 'two');
    assert.equal(await statusAt(gateway, '/vnc/dead'), 502);
    for (const target of ['/vnc/A', '/vnc/x', '/vnc', '/vnc?token=', '/vnc?token=x', '/vnc?tokens=a',
      `/vnc?token=${one.address}`, `/vnc/${encodeURIComponent(one.address)}`]) {
      const { status, body } = await Client.refused(gateway.url(target));
      assert.equal(status, 404, target);
      assert.ok(!body.includes('127.0.0.1'), body);
    }
    const metrics = await gateway.metrics();
    assert.equal(metrics.get('sluice_handshakes_total', { result: 'no_route' }), 8);
    const queries = gateway.lines.filter((line) => line.includes('?'));
    assert.deepEqual(queries.filter((line) => !line.includes('?[redacted]')), []);
  });
});

test('a token file is read again when it changes', async (t) => {
  const one = await named(t, 'one');
  const two = await named(t, 'two');
  const socket = path.join(temporaryFolder(), 'socket');
  await named(t, 'three', { path: socket });
  const file = path.join(temporaryFolder(), 'tokens');
  fs.writeFileSync(file, `# desks\n\na: ${one.address}\nlost: ${one.address}\n`);
  const routes = [{ path: '/vnc/{token}', tcp: { token_file: file } }];
  await withGateway(echoConfig({ workers: 3, routes }), async (gateway) => {
    assert.equal(await nameAt(gateway, '/vnc/a'), 'one');
    assert.equal(await statusAt(gateway, '/vnc/b'), 404);

    const open = await Client.open(gateway.url('/vnc/a')); // not touched by what follows
    replace(file, `a: ${two.address}\r\nb: ${one.address}\r\nc: unix_socket:${socket}\r\n`);
    await until(async () => await nameAt(gateway, '/vnc/a') === 'two', 'the new file');
    assert.equal(await nameAt(gateway, '/vnc/b'), 'one');
    assert.equal(await nameAt(gateway, '/vnc/c'), 'three');
    assert.equal(await statusAt(gateway, '/vnc/lost'), 404);
    assert.equal((await open.next()).data.toString(), 'one');
    assert.equal((await open.close(1000)).code, 1000);
    assert.equal((await gateway.waitLog({ event: 'token file read' })).tokens, 3);

    // Broken, then gone: what was good stays.
    replace(file, `a: ${one.address}\nnonsense\n`);
    const ask = (event, fields) => until(async () => {
      assert.equal(await nameAt(gateway, '/vnc/a'), 'two');
      return gateway.logs.find((log) => log.event === event && log.why?.includes(fields));
    }, fields);
    const broken = await ask('token file not read', 'line 2');
    assert.equal(broken.level, 'warning');
    assert.equal(broken.kept, 3);
    fs.rmSync(file);
    await ask('token file not read', 'No such file');
    await sleep(1200); // it is looked at again, and nothing has changed
    assert.equal(await nameAt(gateway, '/vnc/c'), 'three');
    assert.equal(gateway.logs.filter((log) => log.why?.includes('No such file')).length, 1);
    replace(file, `a: ${one.address}\n`);
    await until(async () => await nameAt(gateway, '/vnc/a') === 'one', 'the file that came back');
    assert.equal(await statusAt(gateway, '/vnc/c'), 404);

    // A file adds no labels to the metrics.
    const metrics = await gateway.metrics();
    const series = metrics.series().filter((name) => name.startsWith('sluice_upstream'));
    assert.equal(series.filter((name) => name.includes(one.address)).join(), '');
    assert.ok(series.some((name) => name.includes('on demand')), series.join('\n'));
  });
});

test('a token file that cannot be used ends the start', async () => {
  const folder = temporaryFolder();
  const file = path.join(folder, 'tokens');
  const routes = [{ path: '/vnc/{token}', tcp: { token_file: file } }];
  fs.writeFileSync(path.join(folder, 'routes.yaml'), JSON.stringify(echoConfig({ routes })));
  const start = () => sluice(['run', '--config', path.join(folder, 'routes.yaml')]);
  const missing = await start();
  assert.equal(missing.code, 2);
  assert.match(missing.stderr + missing.stdout, /token_file .*No such file/);
  fs.writeFileSync(file, 'a: 127.0.0.1:1\n\nb 127.0.0.1:1\n');
  const broken = await start();
  assert.equal(broken.code, 2);
  assert.match(broken.stderr + broken.stdout, /token_file .*line 3: expected/);
});
