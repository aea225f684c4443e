// The demonstration page that is shipped: everything a visitor can do with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeCertificate, temporaryFolder, until } from '../support/gateway.mjs';
import { openBrowser, startGateway, startShipped, www } from './support.mjs';

// A new page that collects what should not happen: requests to other hosts, errors, console errors.
async function visitorAt(browser, address) {
  const page = await browser.newPage();
  const problems = [];
  const host = new URL(address).host;
  const isOurs = (url) => url.startsWith('data:') || new URL(url).host === host;
  page.on('request', (request) => {
    if (!isOurs(request.url())) problems.push(`request: ${request.url()}`);
  });
  page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(`console: ${message.text()}`);
  });
  await page.goto(address);
  return { page, problems };
}

const state = (page) => page.locator('#ready-state');
const events = (page, kind) => page.locator(`#log li[data-event="${kind}"] span`);

async function shows(locator, text) {
  await until(async () => (await locator.allTextContents()).includes(text),
              `the page shows ${text}`);
}

async function showsLike(locator, pattern) {
  await until(async () => (await locator.allTextContents()).some((text) => pattern.test(text)),
              `the page shows ${pattern}`);
}

// The first visit: connect, send, compare, close.
async function visit(page) {
  await shows(state(page), '–');
  await page.click('#connect');
  await shows(state(page), '1 OPEN');
  await shows(events(page, 'onopen'), 'protocol: none, extensions: none');

  assert.equal(await page.inputValue('#message'), '发送数据');
  await page.click('#send');
  await shows(events(page, 'sent'), '发送数据');
  await shows(events(page, 'onmessage'), '发送数据');
  await shows(page.locator('#received'), '12');

  await page.click('#send-binary');
  await showsLike(events(page, 'onmessage'),
                  /^1,024 bytes: .*the echo is the same, byte for byte$/s);

  await page.fill('#close-code', '3001');
  await page.fill('#close-reason', '再见');
  await page.click('#close');
  await shows(events(page, 'onclose'), 'code: 3001, reason: "再见", wasClean: true');
  await shows(state(page), '3 CLOSED');
}

test('the demonstration page', async (t) => {
  const gateway = await startShipped(t);
  const browser = await openBrowser(t);
  const home = gateway.url('/', { scheme: 'http' });

  await t.test('connects, echoes and closes, and asks nobody else for anything', async () => {
    const { page, problems } = await visitorAt(browser, home);
    // Each state is seen by an observer, since CONNECTING lasts only for a moment.
    await page.evaluate(() => {
      window.states = [];
      const shown = document.getElementById('ready-state');
      new MutationObserver(() => window.states.push(shown.textContent))
        .observe(shown, { childList: true, characterData: true, subtree: true });
    });
    await visit(page);
    const states = await page.evaluate(() => window.states);
    assert.deepEqual(states.slice(0, 2), ['0 CONNECTING', '1 OPEN']);
    assert.equal(states.at(-1), '3 CLOSED');
    assert.deepEqual(problems, []);

    await gateway.waitLog({
      event: 'close', initiator: 'client', code: 3001, text: '再见', clean: true,
      messages_in: 2, messages_out: 2,
    });
    await page.close();
  });

  await t.test('shows bufferedAmount rise and drain while it sends 8 MB', async () => {
    const { page, problems } = await visitorAt(browser, home);
    await page.click('#connect');
    await shows(state(page), '1 OPEN');
    await page.click('#send-large');
    await showsLike(events(page, 'onmessage'), /^all 128 messages came back, byte for byte/);
    const peak = (await page.textContent('#buffered-peak')).replaceAll(',', '');
    assert.ok(Number(peak) > 1024 * 1024, `the largest bufferedAmount shown: ${peak}`);
    await shows(page.locator('#buffered-amount'), '0');
    await shows(page.locator('#received'), '8,388,608');
    assert.deepEqual(problems, []);
    await page.close();
  });

  await t.test('logs onerror and onclose 1006 for a path without a route', async () => {
    const { page } = await visitorAt(browser, home);
    await page.fill('#url', gateway.url('/nowhere'));
    await page.click('#connect');
    await shows(events(page, 'onclose'), 'code: 1006, reason: none, wasClean: false');
    assert.equal(await events(page, 'onerror').count(), 1);
    assert.equal(await events(page, 'onopen').count(), 0);
    await page.close();
  });

  await t.test('speaks English and Chinese', async () => {
    const { page, problems } = await visitorAt(browser, home);
    await shows(page.locator('#connect'), 'Connect');
    await page.click('#language');
    await shows(page.locator('#connect'), '连接');
    assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
    const english = await page.locator('[data-text]').evaluateAll((elements) => elements
      .filter((element) => element.textContent && !/\p{Script=Han}/u.test(element.textContent))
      .map((element) => element.dataset.text));
    assert.deepEqual(english, []);
    await page.click('#language');
    await shows(page.locator('#connect'), 'Connect');
    assert.deepEqual(problems, []);
    await page.close();
  });

  await t.test('works when it is opened from a file', async () => {
    const { page, problems } = await visitorAt(browser, `file://${www}/index.html`);
    assert.equal(await page.inputValue('#url'), 'ws://localhost:9998/echo');
    await page.fill('#url', `ws://localhost:${gateway.listeners[0].port}/echo`);
    await visit(page);
    assert.deepEqual(problems, []);
    await gateway.waitLog({ event: 'open', origin: 'null' });
    await page.close();
  });
});

test('the demonstration page over TLS', async (t) => {
  const { cert, key } = makeCertificate(temporaryFolder(), 'localhost');
  const gateway = await startGateway(t, {
    listeners: [{ address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } }],
    routes: [{ path: '/echo', plugin: 'echo' }, { path: '/*', static: { root: www } }],
  });
  const browser = await openBrowser(t, { ignoreHTTPSErrors: true });
  const host = `localhost:${gateway.listeners[0].port}`;

  const { page, problems } = await visitorAt(browser, `https://${host}/`);
  assert.equal(await page.inputValue('#url'), `wss://${host}/echo`);
  await visit(page);
  assert.deepEqual(problems, []);
  await gateway.waitLog({ event: 'open', tls: 'TLSv1.3', origin: `https://${host}` });
});
