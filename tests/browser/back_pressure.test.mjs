// A plugin that does not read: the bytes wait in the browser, not in the gateway.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { memoryIsOurs, testPlugin, until, within } from '../support/gateway.mjs';
import { openBrowser, openPage, startGateway, www } from './support.mjs';

const megabyte = 1024 * 1024;
const sentBytes = 32 * megabyte;

test('back-pressure', async (t) => {
  const gateway = await startGateway(t, {
    plugins: { valve: { library: testPlugin('valve') } },
    routes: [{ path: '/valve', plugin: 'valve' }, { path: '/*', static: { root: www } }],
  });
  const browser = await openBrowser(t);
  const page = await openPage(browser, gateway.url('/', { scheme: 'http' }));
  const bufferedAmount = () => page.evaluate(() => window.socket.bufferedAmount);
  const metric = async (name) =>
    (await gateway.metrics()).get(name, { direction: 'client_to_upstream' });
  const paused = () => metric('sluice_backpressure_paused_connections');
  const grownLittle = (rssBefore) => {
    const grown = gateway.rssBytes() - rssBefore;
    assert.ok(grown < 2 * megabyte || !memoryIsOurs, `the gateway grew by ${grown} bytes`);
  };

  await t.test('a plugin that pauses makes bufferedAmount of the page grow', async () => {
    await within(page.evaluate((address) => new Promise((resolve, reject) => {
      window.socket = new WebSocket(address);
      window.socket.onopen = () => window.socket.send('pause');
      window.socket.onmessage = resolve;
      window.socket.onclose = reject;
    }), gateway.url('/valve')), 'the answer to "pause"');
    await until(async () => await paused() === 1, 'a paused connection in /metrics');
    const rssBefore = gateway.rssBytes();

    const atOnce = await page.evaluate((total) => {
      const piece = new Uint8Array(64 * 1024);
      for (let bytes = 0; bytes < total; bytes += piece.length) window.socket.send(piece);
      window.socket.send('total');
      return window.socket.bufferedAmount;
    }, sentBytes);
    assert.ok(atOnce >= sentBytes);

    // What the kernel and Chromium's own pipes take leaves; all else stays where it is.
    let amount = atOnce;
    await until(async () => {
      const before = amount;
      await sleep(500);
      amount = await bufferedAmount();
      return amount < atOnce && amount === before;
    }, 'bufferedAmount stands still');
    assert.ok(amount > sentBytes / 2, `${amount} bytes wait in the browser`);
    assert.ok(await metric('sluice_wire_bytes_total') < megabyte);
    assert.ok(await metric('sluice_buffered_amount_max_bytes') < megabyte);
    assert.equal(await paused(), 1);
    grownLittle(rssBefore);
  });

  await t.test('when it resumes, everything arrives', async () => {
    const rssBefore = gateway.rssBytes();
    const total = await within(page.evaluate((address) => new Promise((resolve) => {
      window.socket.onmessage = ({ data }) => resolve(data);
      const other = new WebSocket(address);
      other.onopen = () => { other.send('resume'); other.close(); };
    }), gateway.url('/valve')), 'the answer to "total"');
    assert.equal(Number(total), sentBytes);
    assert.equal(await bufferedAmount(), 0);
    assert.equal(await paused(), 0);
    grownLittle(rssBefore);
  });
});
