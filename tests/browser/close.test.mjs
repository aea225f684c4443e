// Closes that the server's end begins, as the CloseEvent of Chromium tells them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testPlugin, within } from '../support/gateway.mjs';
import { openBrowser, openPage, startGateway, www } from './support.mjs';

// An open socket in a page of the gateway itself: window.socket, its CloseEvent: window.closeEvent.
async function connect(browser, gateway, route) {
  const page = await openPage(browser, gateway.url('/', { scheme: 'http' }));
  await within(page.evaluate((url) => new Promise((resolve, reject) => {
    window.socket = new WebSocket(url);
    window.socket.onopen = resolve;
    window.socket.onerror = reject;
    window.closeEvent = new Promise((done) => {
      window.socket.onclose = ({ code, reason, wasClean }) => done({ code, reason, wasClean });
    });
  }), gateway.url(route)), 'onopen');
  return page;
}

const closed = (page) => within(page.evaluate(() => window.closeEvent), 'onclose');

test('closes by the server', async (t) => {
  const gateway = await startGateway(t, {
    plugins: { echo: { library: 'echo.so' }, valve: { library: testPlugin('valve') } },
    routes: [
      { path: '/echo', plugin: 'echo', limits: { max_message_size: '64KiB' } },
      { path: '/valve', plugin: 'valve' },
      { path: '/*', static: { root: www } },
    ],
  });
  const browser = await openBrowser(t);

  await t.test('a code and a Chinese reason of a plugin arrive', async () => {
    const page = await connect(browser, gateway, '/valve');
    await page.evaluate(() => window.socket.send('close 4001 房间已满，请稍后再来'));
    assert.deepEqual(await closed(page),
                     { code: 4001, reason: '房间已满，请稍后再来', wasClean: true });
    await gateway.waitLog({
      event: 'close', route: '/valve', initiator: 'plugin', reason: 'application', code: 4001,
    });
  });

  for (const [what, size] of [['one byte', 64 * 1024 + 1], ['megabytes', 8 * 1024 * 1024]]) {
    await t.test(`a message that is too large by ${what} is closed with 1009`, async () => {
      const page = await connect(browser, gateway, '/echo');
      await page.evaluate((bytes) => window.socket.send(new Uint8Array(bytes)), size);
      const { code, reason, wasClean } = await closed(page);
      assert.deepEqual([code, reason], [1009, 'message too big']);
      // Chromium calls no close clean that left some of its bufferedAmount unsent, and the first of
      // its fragments was refused already.
      if (size < 128 * 1024) assert.equal(wasClean, true);
    });
  }

  await t.test('a message of exactly the largest size is echoed', async () => {
    const page = await connect(browser, gateway, '/echo');
    const size = await within(page.evaluate(() => new Promise((resolve) => {
      window.socket.onmessage = ({ data }) => resolve(data.size);
      window.socket.send(new Uint8Array(64 * 1024));
    })), 'the echo');
    assert.equal(size, 64 * 1024);
  });

  await t.test('SIGTERM closes with 1001, and the gateway ends with 0', async () => {
    const page = await connect(browser, gateway, '/echo');
    gateway.kill('SIGTERM');
    assert.deepEqual(await closed(page), { code: 1001, reason: 'shutting down', wasClean: true });
    assert.deepEqual(await gateway.waitExit(), { code: 0, signal: null });
    // The browser answered and went, so nobody had to be cut at a deadline.
    await gateway.waitLog({ event: 'close', reason: 'drain', code: 1001, clean: true });
  });
});
