// The page that Chinese tutorials teach, against the configuration that is shipped.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { within } from '../support/gateway.mjs';
import { openBrowser, openPage, servePage, startShipped, writePage } from './support.mjs';

// The tutorial's page, with the gateway's port instead of the usual one.
function tutorial(gateway) {
  const text = fs.readFileSync(new URL('tutorial.html', import.meta.url), 'utf8');
  assert.ok(text.includes('new WebSocket("ws://localhost:9998/echo")'));
  return text.replace('localhost:9998', `localhost:${gateway.listeners[0].port}`);
}

// Opens the page, follows its link, and returns what its handlers say, up to onclose.
async function run(browser, address) {
  const page = await openPage(browser, address);
  const said = [];
  const closed = new Promise((resolve) => {
    page.on('dialog', async (dialog) => {
      said.push(dialog.message());
      await dialog.accept();
      if (dialog.message().startsWith('onclose')) resolve();
    });
  });
  await page.getByText('运行 WebSocket').click();
  await within(closed, 'onclose');
  await page.close();
  return said;
}

test('the tutorial page', async (t) => {
  const gateway = await startShipped(t);
  const browser = await openBrowser(t);
  const expected = ['浏览器支持 WebSocket', 'onopen 1', 'onmessage 发送数据', 'onclose 1005 true 3'];

  await t.test('works from a file, whose origin is null', async () => {
    assert.deepEqual(await run(browser, writePage(tutorial(gateway))), expected);
    await gateway.waitLog({ event: 'open', route: '/echo', origin: 'null' });
  });

  await t.test('works from a page of another origin', async () => {
    const address = await servePage(t, tutorial(gateway));
    assert.deepEqual(await run(browser, address), expected);
    const { origin } = new URL(address);
    await gateway.waitLog({ event: 'open', route: '/echo', origin });
  });
});
