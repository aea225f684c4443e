// noVNC in Chromium, through a tcp route, to a real VNC server: pixels one way, mouse and keyboard
// the other.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Program, answers, freePort } from '../support/services.mjs';
import { temporaryFolder, until, within } from '../support/gateway.mjs';
import { openBrowser, openPage, startGateway } from './support.mjs';

const novnc = fileURLToPath(new URL('../node_modules/@novnc/novnc', import.meta.url));
const width = 640;
const height = 480;
const [keyPress, buttonPress] = [2, 4]; // codes of X events

// What little of the X protocol it takes to paint a desktop and to hear of the mouse and the keys.
class Desktop {
  events = []; // {code, detail, x, y}

  static async open(t, display) {
    const desktop = new Desktop();
    desktop.socket = net.connect(`/tmp/.X11-unix/X${display}`);
    t.after(() => desktop.socket.destroy());
    let received = Buffer.alloc(0);
    await within(new Promise((resolve, reject) => {
      desktop.socket.on('error', reject);
      desktop.socket.on('data', (bytes) => {
        received = Buffer.concat([received, bytes]);
        if (desktop.root === undefined) {
          if (received.length < 8 || received.length < 8 + 4 * received.readUInt16LE(6)) return;
          assert.equal(received[0], 1, 'the X server refuses');
          const vendor = (received.readUInt16LE(24) + 3) & ~3;
          desktop.root = received.readUInt32LE(40 + vendor + 8 * received[29]);
          received = received.subarray(8 + 4 * received.readUInt16LE(6));
          resolve();
        }
        for (; received.length >= 32; received = received.subarray(32)) {
          desktop.events.push({ code: received[0] & 0x7f, detail: received[1],
            x: received.readInt16LE(20), y: received.readInt16LE(22) });
        }
      });
      const setup = Buffer.alloc(12);
      setup.write('l');
      setup.writeUInt16LE(11, 2);
      desktop.socket.write(setup);
    }), 'a connection to the X server');
    // ChangeWindowAttributes: the event mask of the root window: KeyPress and ButtonPress.
    desktop.#request(2, desktop.root, 0x800, 1 | 4);
    return desktop;
  }

  #request(opcode, ...words) {
    const bytes = Buffer.alloc(4 + 4 * words.length);
    bytes[0] = opcode;
    bytes.writeUInt16LE(1 + words.length, 2);
    words.forEach((word, i) => bytes.writeUInt32LE(word, 4 + 4 * i));
    this.socket.write(bytes);
  }

  // ChangeWindowAttributes with the background's pixel, then ClearArea of all of it.
  paint(colour) {
    this.#request(2, this.root, 0x2, colour);
    this.#request(61, this.root, 0, 0);
  }

  event(code, what) {
    return until(() => this.events.find((event) => event.code === code), what);
  }
}

async function startVnc(t) {
  const port = await freePort();
  const server = await Program.start(t, 'Xtigervnc', [
    '-displayfd', '1', '-rfbport', String(port), '-interface', '127.0.0.1', '-localhost=1',
    '-SecurityTypes', 'None', '-geometry', `${width}x${height}`, '-depth', '24', '-ac',
    '-nolisten', 'tcp',
  ], { ready: async (program) => /^\d+$/m.test(program.output) && answers(port) });
  const [display] = /^\d+$/m.exec(server.output);
  t.after(() => {
    fs.rmSync(`/tmp/.X${display}-lock`, { force: true });
    fs.rmSync(`/tmp/.X11-unix/X${display}`, { force: true });
  });
  return { server, port, desktop: await Desktop.open(t, display) };
}

const page = `<!doctype html><title>desk</title><link rel="icon" href="data:,">
<div id="screen" style="width: ${width}px; height: ${height}px"></div>
<script type="module">
  import RFB from '/novnc/core/rfb.js';
  const address = location.href.replace('http', 'ws') + 'vnc/desk';
  window.rfb = new RFB(document.getElementById('screen'), address);
  window.told = [];
  for (const event of ['connect', 'disconnect', 'securityfailure']) {
    window.rfb.addEventListener(event, ({ detail }) => window.told.push({ event, detail }));
  }
</script>`;

test('noVNC', async (t) => {
  const { server, port, desktop } = await startVnc(t);
  const root = temporaryFolder();
  fs.writeFileSync(path.join(root, 'index.html'), page);
  const gateway = await startGateway(t, { routes: [
    { path: '/vnc/{token}', tcp: { tokens: { desk: `127.0.0.1:${port}` } } },
    { path: '/novnc/*', static: { root: novnc } },
    { path: '/*', static: { root } },
  ] });
  const browser = await openBrowser(t);
  const tab = await openPage(browser, gateway.url('/', { scheme: 'http' }));
  const told = (event) => tab.evaluate((name) =>
    window.told?.find((one) => one.event === name), event);
  const pixels = () => tab.evaluate(() => {
    const canvas = document.querySelector('#screen canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) {
      colours.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    }
    return { width: canvas.width, height: canvas.height, colours: [...colours] };
  });
  const shows = (colour) => until(async () => {
    const { colours } = await pixels();
    return colours.length === 1 && colours[0] === colour;
  }, `a desktop of the colour ${colour.toString(16)}`);

  await t.test('the canvas shows the desktop, and what changes on it', async () => {
    await until(() => told('connect'), 'noVNC is connected');
    for (const colour of [0x2e8b57, 0xb22222]) {
      desktop.paint(colour);
      await shows(colour);
    }
    const { width: canvasWidth, height: canvasHeight } = await pixels();
    assert.deepEqual([canvasWidth, canvasHeight], [width, height]);
  });

  await t.test('mouse and keyboard reach the desktop', async () => {
    const box = await tab.locator('#screen canvas').boundingBox();
    await tab.mouse.click(box.x + 100, box.y + 60);
    const press = await desktop.event(buttonPress, 'a button is pressed');
    assert.equal(press.detail, 1);
    assert.ok(Math.abs(press.x - 100) <= 1 && Math.abs(press.y - 60) <= 1,
      `at ${press.x}, ${press.y}`);
    await tab.evaluate(() => window.rfb.focus());
    await tab.keyboard.press('k');
    const key = await desktop.event(keyPress, 'a key is pressed');
    assert.equal(key.detail, 45); // the keycode of K on a PC's keyboard
  });

  await t.test('when the VNC server is gone, the page hears of it', async () => {
    await server.kill();
    const { detail } = await until(() => told('disconnect'), 'noVNC is disconnected');
    assert.equal(typeof detail.clean, 'boolean');
    const log = await gateway.waitLog({ event: 'close', route: '/vnc/{token}' });
    assert.equal(log.initiator, 'upstream');
  });
});
