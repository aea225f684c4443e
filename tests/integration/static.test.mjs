// Files, end to end.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { echoConfig, memoryIsOurs, sharedGateway, temporaryFolder, until }
  from '../support/gateway.mjs';
import { RawSocket } from '../support/raw.mjs';

const folder = temporaryFolder();
const www = path.join(folder, 'www');
const big = randomBytes(30 * 1024 * 1024);
fs.mkdirSync(path.join(www, 'docs'), { recursive: true });
fs.writeFileSync(path.join(www, 'index.html'), '<h1>the index</h1>');
fs.writeFileSync(path.join(www, 'docs/index.html'), '<h1>the docs</h1>');
fs.writeFileSync(path.join(www, 'digits.txt'), '0123456789');
fs.writeFileSync(path.join(www, '聊天.txt'), '你好');
fs.writeFileSync(path.join(www, 'empty.css'), '');
fs.writeFileSync(path.join(www, 'big.bin'), big);
fs.writeFileSync(path.join(folder, 'secret.txt'), 'secret');
fs.symlinkSync('../secret.txt', path.join(www, 'link.txt'));
fs.symlinkSync('digits.txt', path.join(www, 'inside.txt'));

const gateway = sharedGateway(echoConfig({
  routes: [
    { path: '/echo', plugin: 'echo' },
    { path: '/*', static: { root: 'www' } },
    { path: '/below/the/*', static: { root: 'www/docs' } },
  ],
}), { folder });

const text = ({ body }) => body.toString();
const get = (target, headers) => gateway.get(target, { headers });

test('an index, a folder\'s index, files with their types', async () => {
  const index = await get('/');
  assert.deepEqual([index.status, text(index)], [200, '<h1>the index</h1>']);
  assert.equal(index.headers['content-type'], 'text/html; charset=utf-8');
  assert.equal(index.headers['x-content-type-options'], 'nosniff');
  assert.equal(text(await get('/docs/')), '<h1>the docs</h1>');
  assert.equal(text(await get('/below/the/index.html')), '<h1>the docs</h1>');
  assert.equal(text(await get('/digits.txt?with=query')), '0123456789');
  assert.equal(text(await get(encodeURI('/聊天.txt'))), '你好');
  const empty = await get('/empty.css');
  assert.deepEqual([empty.status, empty.headers['content-length'], text(empty)], [200, '0', '']);
  assert.equal(empty.headers['content-type'], 'text/css; charset=utf-8');
});

test('a folder without its slash is redirected to (RFC 9110 15.4.2)', async () => {
  const { status, headers } = await get('/docs?a=1');
  assert.deepEqual([status, headers.location], [301, '/docs/?a=1']);
});

test('HEAD has the head of GET and no body (RFC 9110 9.3.2)', async () => {
  const raw = await RawSocket.connect(gateway.listeners[0]);
  raw.write(Buffer.from('HEAD /digits.txt HTTP/1.1\r\nHost: a\r\n\r\n'));
  const { status, headers } = await raw.readResponse({ head: true });
  assert.deepEqual([status, headers['content-length']], [200, '10']);
  raw.write(Buffer.from('GET /digits.txt HTTP/1.1\r\nHost: a\r\n\r\n'));
  assert.equal((await raw.readResponse()).body, '0123456789');
  raw.destroy();
});

test('304 for what the client has (RFC 9110 13.1)', async () => {
  const { headers } = await get('/digits.txt');
  for (const condition of [
    { 'If-None-Match': headers.etag },
    { 'If-None-Match': `"other", W/${headers.etag.replace(/^W\//, '')}` },
    { 'If-None-Match': '*' },
    { 'If-Modified-Since': headers['last-modified'] },
  ]) {
    const again = await get('/digits.txt', condition);
    assert.deepEqual([again.status, text(again), again.headers.etag], [304, '', headers.etag]);
  }
  for (const condition of [
    { 'If-None-Match': '"other"' },
    { 'If-None-Match': '"other"', 'If-Modified-Since': headers['last-modified'] },
    { 'If-Modified-Since': 'Thu, 01 Jan 1970 00:00:00 GMT' },
    { 'If-Modified-Since': 'some day' },
  ]) assert.equal((await get('/digits.txt', condition)).status, 200);
  fs.writeFileSync(path.join(www, 'changing.txt'), 'before');
  const before = await get('/changing.txt');
  fs.writeFileSync(path.join(www, 'changing.txt'), 'after the change');
  const after = await get('/changing.txt', { 'If-None-Match': before.headers.etag });
  assert.deepEqual([after.status, text(after)], [200, 'after the change']);
});

test('ranges (RFC 9110 14)', async () => {
  for (const [range, status, body, where] of [
    ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
    ['bytes=5-', 206, '56789', 'bytes 5-9/10'],
    ['bytes=-2', 206, '89', 'bytes 8-9/10'],
    ['bytes=8-100', 206, '89', 'bytes 8-9/10'],
    ['bytes=-100', 206, '0123456789', 'bytes 0-9/10'],
    ['bytes=3-2', 200, '0123456789'],
    ['lines=0-3', 200, '0123456789'],
    ['bytes=a-b', 200, '0123456789'],
    ['bytes=99999999999999999999-', [200, 416]],
    ['bytes=10-', 416, undefined, 'bytes */10'],
    ['bytes=-0', 416, undefined, 'bytes */10'],
  ]) {
    const answer = await get('/digits.txt', { Range: range });
    assert.ok([status].flat().includes(answer.status), `${range}: ${answer.status}`);
    if (body) assert.equal(text(answer), body, range);
    if (where) assert.equal(answer.headers['content-range'], where, range);
  }
  const { headers } = await get('/digits.txt');
  const current = await get('/digits.txt', { Range: 'bytes=0-0', 'If-Range': headers.etag });
  assert.equal(current.status, headers.etag.startsWith('W/') ? 200 : 206);
  assert.equal((await get('/digits.txt', { Range: 'bytes=0-0', 'If-Range': '"old"' })).status, 200);
});

test('what is not there is 404, and no way leads out of the folder', async () => {
  for (const target of ['/nothing', '/digits.txt/', '/digits.txt/x', '/docs/nothing', '/link.txt',
    '/../secret.txt', '/docs/../../secret.txt', '/%2e%2e/secret.txt', '/..%2fsecret.txt',
    '/..%5csecret.txt', '/docs/..;/../secret.txt', '/.%2e/secret.txt', '/%252e%252e/secret.txt',
    '/%c0%ae%c0%ae/secret.txt', '//../secret.txt', '/below/the/../../../secret.txt',
    '/below/the/..%2f..%2fsecret.txt', `/${'a'.repeat(300)}`, `/${'a/'.repeat(2000)}`]) {
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.write(Buffer.from(`GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`));
    const { status, body } = await raw.readResponse();
    assert.ok([400, 404].includes(status), `${target}: ${status}`);
    assert.doesNotMatch(body, /^secret/);
    raw.destroy();
  }
  assert.equal(text(await get('/inside.txt')), '0123456789');
});

test('other methods are refused with 405', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const { status, headers } = await gateway.get('/digits.txt', { method });
    assert.deepEqual([status, headers.allow], [405, 'GET, HEAD']);
  }
});

test('one connection serves many files', async () => {
  const raw = await RawSocket.connect(gateway.listeners[0]);
  for (let i = 0; i < 50; ++i) {
    raw.write(Buffer.from('GET /digits.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=1-3\r\n\r\n'));
    assert.equal((await raw.readResponse()).body, '123');
  }
  raw.destroy();
});

test('30 MB arrive whole at a client that reads slowly, and take no memory', async () => {
  const before = gateway.rssBytes();
  const raw = await RawSocket.connect(gateway.listeners[0]);
  raw.socket.removeAllListeners('data');
  raw.socket.pause();
  // The second request stands behind the file.
  raw.write(Buffer.from('GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n' +
    'GET /digits.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'));
  await gateway.waitLog({ event: 'request', path: '/big.bin' });
  await gateway.waitMetrics(() => true);
  if (memoryIsOurs) assert.ok(gateway.rssBytes() - before < 4 * 1024 * 1024);

  const hash = createHash('sha256');
  let seen = 0;
  let held = Buffer.alloc(0);
  for await (const piece of raw.socket) {
    held = Buffer.concat([held, piece]);
    if (seen === 0) { // the head
      const end = held.indexOf('\r\n\r\n');
      if (end < 0) continue;
      assert.match(held.toString('latin1', 0, end), /Content-Length: 31457280/i);
      held = held.subarray(end + 4);
    }
    const taken = held.subarray(0, big.length - seen);
    hash.update(taken);
    seen += taken.length;
    held = held.subarray(taken.length);
    await new Promise(setImmediate);
  }
  assert.equal(hash.digest('hex'), createHash('sha256').update(big).digest('hex'));
  assert.match(held.toString('latin1'), /^HTTP\/1\.1 200 .*\r\n\r\n0123456789$/s);
});

test('clients that leave in the middle of a file leave nothing behind', async () => {
  const before = gateway.descriptors();
  const sockets = [];
  for (let i = 0; i < 20; ++i) {
    const raw = await RawSocket.connect(gateway.listeners[0]);
    raw.socket.pause();
    raw.write(Buffer.from('GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n'));
    sockets.push(raw);
  }
  await until(() => gateway.descriptors() >= before + 40, 'all files are open');
  for (const raw of sockets) raw.reset();
  await until(() => gateway.descriptors() <= before, 'all files are closed');
  assert.equal((await get('/')).status, 200);
});
