// Who may open a socket, and which subprotocol is agreed on, as Chromium sees it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { within } from '../support/gateway.mjs';
import { openBrowser, openPage, servePage, startGateway, writePage, www } from './support.mjs';

const blank = '<!doctype html><meta charset="utf-8"><title>blank</title>';

// Opens a socket in the page, closes it if it opens, and gives back its events and its protocol.
function attempt(page, url, protocols = []) {
  return within(page.evaluate(([address, offered]) => new Promise((resolve) => {
    const socket = new WebSocket(address, offered);
    const seen = [];
    socket.onopen = () => { seen.push('open'); socket.close(1000); };
    socket.onerror = () => seen.push('error');
    socket.onclose = ({ code, wasClean }) => {
      seen.push(`close ${code} ${wasClean}`);
      resolve({ seen, protocol: socket.protocol });
    };
  }), [url, protocols]), 'onclose');
}

const opened = ['open', 'close 1000 true'];
const failed = ['error', 'close 1006 false'];

test('allowed_origins', async (t) => {
  const gateway = await startGateway(t, {
    routes: [
      { path: '/same', plugin: 'echo' },
      { path: '/disk', plugin: 'echo', allowed_origins: ['null'] },
      { path: '/*', static: { root: www } },
    ],
  });
  const browser = await openBrowser(t);
  const own = await openPage(browser, gateway.url('/', { scheme: 'http' }));
  const other = await openPage(browser, await servePage(t, blank));
  const file = await openPage(browser, writePage(blank));
  const counted = (route, times) => gateway.waitMetrics((metrics) => metrics.get(
    'sluice_handshakes_total', { route, result: 'rejected_origin' }) === times);

  await t.test('by default lets in the pages of the same origin', async () => {
    assert.deepEqual((await attempt(own, gateway.url('/same'))).seen, opened);
    await counted('/same', 0);
  });

  await t.test('by default refuses pages of other origins, and counts them', async () => {
    assert.deepEqual((await attempt(other, gateway.url('/same'))).seen, failed);
    await counted('/same', 1);
    await gateway.waitLog({ event: 'refused', status: 403, why: 'origin not allowed' });
  });

  await t.test('by default refuses pages from files, and counts them', async () => {
    assert.deepEqual((await attempt(file, gateway.url('/same'))).seen, failed);
    await counted('/same', 2);
  });

  await t.test('that lists "null" lets in pages from files, and no others', async () => {
    assert.deepEqual((await attempt(file, gateway.url('/disk'))).seen, opened);
    assert.deepEqual((await attempt(other, gateway.url('/disk'))).seen, failed);
    await counted('/disk', 1);
  });
});

test('subprotocols', async (t) => {
  const gateway = await startGateway(t, {
    routes: [
      { path: '/speaks', plugin: 'echo', subprotocols: ['a', 'b'] },
      { path: '/mute', plugin: 'echo' },
      { path: '/*', static: { root: www } },
    ],
  });
  const browser = await openBrowser(t);
  const page = await openPage(browser, gateway.url('/', { scheme: 'http' }));

  await t.test('the route chooses among those that the page offers', async () => {
    assert.deepEqual(await attempt(page, gateway.url('/speaks'), ['b', 'a']),
                     { seen: opened, protocol: 'a' });
    assert.deepEqual(await attempt(page, gateway.url('/speaks'), ['c', 'b']),
                     { seen: opened, protocol: 'b' });
  });

  await t.test('a page that offers none gets none', async () => {
    assert.deepEqual(await attempt(page, gateway.url('/speaks')), { seen: opened, protocol: '' });
  });

  await t.test('an offer that the route cannot answer fails', async () => {
    assert.deepEqual((await attempt(page, gateway.url('/speaks'), ['c'])).seen, failed);
    assert.deepEqual((await attempt(page, gateway.url('/mute'), ['a'])).seen, failed);
    await gateway.waitMetrics((metrics) => metrics.get(
      'sluice_handshakes_total', { result: 'rejected_subprotocol' }) === 2);
  });
});
