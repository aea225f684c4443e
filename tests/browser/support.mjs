// What the browser tests share: gateways that end with the test, Chromium, and pages of other
// origins.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { echoConfig, Gateway, patienceMs, temporaryFolder } from '../support/gateway.mjs';

const shipped = fileURLToPath(new URL('../../config', import.meta.url));
export const www = path.join(shipped, 'www');

export async function startGateway(t, config, options) {
  const gateway = await Gateway.start(echoConfig(config), options);
  t.after(() => gateway.stop());
  return gateway;
}

// Runs what a new user runs: the routes.yaml that is shipped, and not the one that is written.
export function startShipped(t) {
  return startGateway(t, {}, {
    shell: `exec "$1" run --config '${shipped}/routes.yaml'`,
    env: { SLUICE_ADDRESS: '127.0.0.1:0', SLUICE_METRICS_ADDRESS: '127.0.0.1:0' },
  });
}

// Chromium with a profile of its own, that asks nobody for anything by itself.
export async function openBrowser(t, options = {}) {
  const profile = temporaryFolder();
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    locale: 'en-US',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--no-proxy-server',
    ],
    ...options,
  });
  context.setDefaultTimeout(patienceMs);
  t.after(async () => {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
  });
  return context;
}

export async function openPage(browser, address) {
  const page = await browser.newPage();
  await page.goto(address);
  return page;
}

// The address of a file with this text.
export function writePage(text) {
  const file = path.join(temporaryFolder(), 'page.html');
  fs.writeFileSync(file, text);
  return `file://${file}`;
}

// The address of a server that answers everything with this text.
export async function servePage(t, text) {
  const server = http.createServer((_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' });
    response.end(text);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}/`;
}
