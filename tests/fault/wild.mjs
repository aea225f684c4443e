// Clients that vanish, stall and send garbage, in a process of their own, so that it can be stopped
// and killed with all of them: wild.mjs SEED PLAIN_PORT TLS_PORT.
//
// The test tells it what else to do: {storm: n} opens n clients each of which sends most of a large
// message and then nothing, {flood: n} opens n connections, {idle: n} opens n WebSockets that answer no
// ping and is answered when they stand; {calm: true} ends all of these.
//
// The times in here are how long each misbehaves; nothing is waited for in them.
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import zlib from 'node:zlib';
import { closeFrame, frame, upgrade } from '../support/raw.mjs';
import { Random } from './payload.mjs';

const [seed, plainPort, tlsPort] = process.argv.slice(2).map(Number);
const random = new Random(seed);
const routes = ['/wild', '/wild/ws', '/wild/tcp', '/wild/hook'];
const bomb = zlib.deflateRawSync(Buffer.alloc(64 << 20), { finishFlush: zlib.constants.Z_SYNC_FLUSH })
  .subarray(0, -4);

// A connection, when it stands or has failed. Nobody minds what becomes of it.
function connect(secure) {
  const raw = net.connect(secure ? tlsPort : plainPort, '127.0.0.1');
  const socket = secure ? tls.connect({ socket: raw, rejectUnauthorized: false }) : raw;
  socket.raw = raw;
  for (const one of [raw, socket]) one.on('error', () => {});
  return new Promise((resolve) => {
    socket.once(secure ? 'secureConnect' : 'connect', () => resolve(socket));
    socket.once('close', () => resolve(socket));
  });
}

// Behind the opening handshake. Reads what comes, unless it is paused.
async function open(route = random.one(routes), fields = {}) {
  const socket = await connect(random.next() < 0.3);
  socket.write(upgrade(route, fields));
  await new Promise((resolve) => {
    socket.once('data', resolve);
    socket.once('close', resolve);
    socket.resume();
  });
  return socket;
}

function over(socket, ms) {
  if (socket.destroyed) return Promise.resolve();
  return Promise.race([new Promise((resolve) => { socket.once('close', resolve); }), sleep(ms)]);
}

const vanish = (socket) => socket.raw.resetAndDestroy();

const violations = [
  () => frame(random.one(['text', 'binary']), 'x', { rsv: random.between(1, 7) }),
  () => frame(random.between(3, 7), 'x'),
  () => frame('text', 'x', { masked: false }),
  () => frame('text', Buffer.from([0xce, 0xff, 0x80])),
  () => frame('binary', 'x', { length: 2n ** 62n }),
  () => frame('continuation', 'x'),
  () => frame('ping', Buffer.alloc(126)),
  () => frame('ping', 'x', { fin: false }),
  () => closeFrame(random.one([0, 999, 1005, 1006, 2000, 5000])),
  () => frame('binary', Buffer.alloc(2 << 20)),
  () => Buffer.concat(Array.from({ length: 300 }, () => frame('ping', 'x'))),
  () => Buffer.concat(Array.from({ length: 1100 }, () => frame('text', 'x', { fin: false }))),
  () => randomBytes(random.between(1, 4000)),
];

const behaviours = {
  async vanishesInTheMiddle() {
    const socket = await open();
    for (let i = random.between(1, 20); i > 0; --i) socket.write(frame('binary', randomBytes(500)));
    await sleep(random.between(0, 100));
    if (random.next() < 0.5) vanish(socket);
    else socket.destroy();
  },
  async doesNotRead() {
    const socket = await open(random.one(['/wild', '/wild/ws', '/wild/tcp']));
    socket.pause();
    for (let i = 0; i < 40; ++i) socket.write(frame('binary', randomBytes(60_000)));
    await over(socket, random.between(1000, 6000));
    if (random.next() < 0.3) { // it was only slow
      socket.resume();
      socket.write(closeFrame(1000));
      await over(socket, 3000);
    }
    vanish(socket);
  },
  async sendsGarbageForHttp() {
    const socket = await connect(false);
    socket.write(random.one([
      () => randomBytes(random.between(1, 2000)),
      () => 'GET / HTTP/9.9\r\n\r\n',
      () => `GET /wild HTTP/1.1\r\nHost: a\r\n${'x: y\r\n'.repeat(500)}\r\n`,
      () => upgrade('/nowhere'),
      () => upgrade('/wild', { 'Sec-WebSocket-Key': 'short' }),
      () => upgrade('/wild', { 'Sec-WebSocket-Version': '8' }),
    ])());
    socket.resume();
    await over(socket, 500);
    vanish(socket);
  },
  async sendsGarbageForTls() {
    const { raw } = await connect(true);
    raw.write(randomBytes(random.between(1, 600)));
    await over(raw, 1000);
    raw.resetAndDestroy();
  },
  async breaksTheProtocol() {
    const socket = await open();
    socket.write(random.one(violations)());
    await over(socket, 2000);
    vanish(socket);
  },
  async sendsBombs() {
    const socket = await open('/wild', { 'Sec-WebSocket-Extensions': 'permessage-deflate' });
    socket.write(frame('binary', bomb, { rsv: 4 }));
    await over(socket, 5000);
    vanish(socket);
  },
  async trickles() {
    const socket = await connect(false);
    for (const byte of upgrade(random.one(routes)).toString().slice(0, 60)) {
      if (socket.destroyed) break;
      socket.write(byte);
      await sleep(50);
    }
    vanish(socket);
  },
  async leavesAMessageUnfinished() {
    const socket = await open();
    socket.write(frame('binary', 'the beginning', { length: 100_000 }));
    await over(socket, random.between(500, 6000));
    vanish(socket);
  },
  async doesNotAnswerPings() {
    const socket = await open();
    await over(socket, 8000);
    vanish(socket);
  },
  async leavesDuringTheHandshake() {
    const socket = await connect(random.next() < 0.5);
    socket.write(upgrade(random.one(routes)));
    vanish(socket);
  },
};

async function misbehave() {
  for (;;) {
    await behaviours[random.one(Object.keys(behaviours))]();
    await sleep(random.between(0, 200));
  }
}

// ---- What the test asks for

const asked = new Set();

async function hold(opening) {
  const socket = await opening;
  asked.add(socket);
  socket.once('close', () => asked.delete(socket));
  return socket;
}

process.on('message', async ({ storm = 0, flood = 0, idle = 0, calm = false }) => {
  for (let i = 0; i < storm; ++i) {
    hold(open('/wild')).then((socket) => {
      socket.write(frame('binary', Buffer.alloc(1_000_000), { length: 1 << 20 }));
    });
  }
  for (let i = 0; i < flood; ++i) hold(connect(false)).then((socket) => socket.resume());
  for (let standing = 0; standing < idle;) {
    const socket = await hold(open('/wild'));
    if (!socket.destroyed) ++standing;
  }
  if (idle) process.send({ idle });
  if (calm) for (const socket of asked) vanish(socket);
});
process.on('disconnect', () => process.exit());

for (let i = 0; i < 25; ++i) misbehave();
