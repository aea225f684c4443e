// Rows 19 and 22 to 25: what TLS adds to the ways of being hostile.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { serveHonestClient } from '../support/client.mjs';
import { echoConfig, makeCertificate, temporaryFolder, until, within } from '../support/gateway.mjs';
import { RawSocket, frame, upgrade } from '../support/raw.mjs';
import { ForgedTls } from './forged_tls.mjs';
import { each, hostileTable } from './table.mjs';

const folder = temporaryFolder();
const certificates = [makeCertificate(folder, 'one.test', '127.0.0.1'), makeCertificate(folder, 'two.test')];
const trusted = { ca: certificates.map(({ pem }) => pem), servername: 'one.test' };

const handshakeMs = 1000;

// A forged connection whose WebSocket is open.
async function open(gateway) {
  const client = await ForgedTls.connect(gateway.listeners[0], trusted);
  client.write(client.record(upgrade('/echo', { Host: 'one.test' })));
  await until(() => client.received.includes('\r\n\r\n'), 'a 101');
  assert.match(client.received.toString(), /^HTTP\/1\.1 101 /);
  client.received = Buffer.alloc(0);
  return client;
}

// Sends the pieces one after the other until the gateway has had enough; what its log says of it.
async function flood(gateway, piece, count) {
  const client = await open(gateway);
  const address = `${client.raw.localAddress}:${client.raw.localPort}`;
  for (let i = 0; i < count && client.ending === null && client.raw.writable; ++i) {
    client.write(piece(client, i));
    if (i % 100 === 99) await new Promise(setImmediate);
  }
  client.write(client.record(frame('text', 'still there')));
  await until(() => client.ending !== null || client.received.length > 0, 'an echo, or the end');
  const seen = client.received.length > 0 ? `echoed after ${count}` : 'cut';
  client.destroy();
  const log = await gateway.waitLog({ event: 'close', client: address });
  return seen === 'cut' ? `${log.reason}, ${log.why}` : seen;
}

function openssl(args, input, wanted) {
  return within(new Promise((resolve) => {
    const child = execFile('openssl', args, { maxBuffer: 1 << 24 }, (_, stdout, stderr) => resolve(stdout + stderr));
    child.stdin.on('error', () => {});
    child.stdin.write(input);
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (more) => { text += more; if (wanted.test(text)) child.stdin.end(); });
    }
  }), `openssl ${args.join(' ')}`);
}

// The session of a file, changed so that its owner believes that he may send early data: its field
// [15] is the permission (OpenSSL leaves it out where it is 0).
function permitEarlyData(file) {
  const der = Buffer.from(fs.readFileSync(file, 'utf8').replace(/-----.*-----|\s/g, ''), 'base64');
  const sizeAt = (at) => (der[at] < 0x80 ? { size: der[at], next: at + 1 }
    : { size: der.readUIntBE(at + 1, der[at] & 0x7f), next: at + 1 + (der[at] & 0x7f) });
  const outer = sizeAt(1);
  let at = outer.next;
  const end = outer.next + outer.size;
  while (at < end && der[at] < 0xaf) {
    const { size, next } = sizeAt(at + 1);
    at = next + size;
  }
  assert.notEqual(der[at], 0xaf, 'the ticket permits none');
  const body = Buffer.concat([der.subarray(outer.next, at), Buffer.from('af0402024000', 'hex'), der.subarray(at, end)]);
  const head = Buffer.from([0x30, 0x82, body.length >> 8, body.length & 0xff]);
  const text = Buffer.concat([head, body]).toString('base64').replace(/(.{64})/g, '$1\n');
  fs.writeFileSync(file, `-----BEGIN SSL SESSION PARAMETERS-----\n${text}\n-----END SSL SESSION PARAMETERS-----\n`);
}

async function alpn(gateway, protocols) {
  const { host, port } = gateway.listeners[0];
  const socket = tls.connect({ host, port, ...trusted, ALPNProtocols: protocols });
  try {
    return await within(new Promise((resolve) => {
      socket.on('secureConnect', () => resolve(`chosen: ${socket.alpnProtocol}`));
      socket.on('error', ({ code }) => resolve(code));
    }), 'a handshake');
  } finally {
    socket.destroy();
  }
}

hostileTable('TLS', {
  config: () => echoConfig({
    listeners: [{ address: '127.0.0.1:0', tls: { certificates: certificates.map(({ cert, key }) => ({ cert, key })) } }],
    requests: { handshake_timeout: `${handshakeMs}ms` },
  }),
  honest: (gateway) => serveHonestClient(gateway, { scheme: 'wss', ...trusted }),
}, [
  { row: 19, input: 'SNI one.test, Host two.test', expected: '421',
    async run(gateway) {
      const socket = await RawSocket.connect(gateway.listeners[0], trusted);
      socket.write(upgrade('/echo', { Host: 'two.test' }));
      const { status } = await socket.readResponse();
      socket.destroy();
      return `${status}`;
    } },

  ...each(22, { 'a ClientHello that trickles in': true, 'a ClientHello that stops': false }, 'closed at the deadline',
    async (gateway, trickles) => {
      const hello = Buffer.from('16030100c8010000c40303' + '11'.repeat(180), 'hex');
      const socket = await RawSocket.connect(gateway.listeners[0]);
      const start = performance.now();
      let at = trickles ? 0 : 100;
      socket.write(hello.subarray(0, at));
      const trickling = trickles && setInterval(() => socket.write(hello.subarray(at, ++at)), 50);
      await socket.readEnd();
      clearInterval(trickling);
      socket.destroy();
      const took = performance.now() - start;
      return took > handshakeMs * 0.9 && took < handshakeMs * 3 ? 'closed at the deadline' : `closed after ${took} ms`;
    }),
  { row: 22, input: 'a head that trickles in through TLS', expected: '408 at the deadline',
    async run(gateway) {
      const socket = await RawSocket.connect(gateway.listeners[0], trusted);
      const start = performance.now();
      socket.write(upgrade('/echo').subarray(0, 30));
      const trickling = setInterval(() => socket.write(Buffer.from('x')), 50);
      const { status } = await socket.readResponse();
      clearInterval(trickling);
      socket.destroy();
      const took = performance.now() - start;
      return `${status} ${took < handshakeMs * 3 ? 'at the deadline' : `after ${took} ms`}`;
    } },

  { row: 23, input: 'an upgrade as early data, with a ticket that was made to permit it', expected: 'rejected, never handled',
    async run(gateway) {
      const session = path.join(folder, 'session');
      const early = path.join(folder, 'early');
      const at = `${gateway.listeners[0].host}:${gateway.listeners[0].port}`;
      fs.rmSync(session, { force: true });
      await openssl(['s_client', '-connect', at, '-tls1_3', '-servername', 'one.test', '-sess_out', session],
        'GET /none HTTP/1.1\r\nHost: one.test\r\n\r\n', /HTTP\/1\.1 404/);
      permitEarlyData(session);
      fs.writeFileSync(early, upgrade('/echo', { Host: 'one.test', Origin: 'https://early.test' }));
      const output = await openssl(['s_client', '-connect', at, '-tls1_3', '-servername', 'one.test', '-sess_in', session,
        '-early_data', early], '', /Early data was/);
      assert.match(output, /Reused, TLSv1\.3/); // the ticket was good
      const handled = gateway.logs.some((log) => log.origin === 'https://early.test') ||
        /HTTP\/1\.1 101/.test(output);
      return `${/Early data was (\w+)/.exec(output)?.[1]}, ${handled ? 'handled' : 'never handled'}`;
    } },

  { row: 24, input: 'TLS 1.2: renegotiation', expected: 'refused',
    async run(gateway) {
      const { host, port } = gateway.listeners[0];
      const socket = tls.connect({ host, port, ...trusted, maxVersion: 'TLSv1.2' });
      await within(new Promise((resolve) => socket.once('secureConnect', resolve)), 'a handshake');
      const error = await within(new Promise((resolve) => {
        socket.on('error', resolve);
        socket.on('close', () => resolve({ code: 'closed' }));
        socket.renegotiate({}, (failed) => resolve(failed ?? { code: 'renegotiated' }));
      }), 'an answer');
      socket.destroy();
      return /NO_RENEGOTIATION|closed/.test(error.code) ? 'refused' : error.code;
    } },
  { row: 24, input: 'TLS 1.3: 10,000 KeyUpdates that ask for ours', expected: 'tls_error, TLS flood: new keys over and over',
    run: (gateway) => flood(gateway, (client) => client.keyUpdate(true), 10_000) },
  { row: 24, input: 'TLS 1.3: 10,000 KeyUpdates that ask for nothing', expected: 'tls_error, TLS flood: new keys over and over',
    run: (gateway) => flood(gateway, (client) => client.keyUpdate(false), 10_000) },
  { row: 24, input: 'TLS 1.3: 10,000 empty records', expected: 'tls_error, TLS read: record too small',
    run: (gateway) => flood(gateway, (client) => client.record(''), 10_000) },
  { row: 24, input: 'a message in records of a byte each', expected: 'echoed',
    async run(gateway) {
      const client = await open(gateway);
      const bytes = frame('binary', Buffer.alloc(5000, 'x'));
      for (const byte of bytes) client.write(client.record([byte]));
      await until(() => client.received.length >= 5004, 'an echo');
      client.destroy();
      return client.received.subarray(4).equals(Buffer.alloc(5000, 'x')) ? 'echoed' : 'another echo';
    } },
  { row: 24, input: 'new keys for every message, 1,000 times', expected: 'echoed',
    async run(gateway) {
      const client = await open(gateway);
      for (let i = 0; i < 1000; ++i) client.write(Buffer.concat([client.keyUpdate(i % 2), client.record(frame('text', 'new'))]));
      await until(() => client.received.length >= 5000, 'the echoes');
      client.destroy();
      return 'echoed';
    } },

  ...each(25, { 'ALPN h2': ['h2'], 'ALPN ftp': ['ftp'], 'ALPN http/1.0, h2': ['http/1.0', 'h2'] },
    'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', alpn),
  ...each(25, { 'ALPN h2, http/1.1': ['h2', 'http/1.1'] }, 'chosen: http/1.1', alpn),
  { row: 25, input: 'ALPN http/1.1, then the preface of HTTP/2', expected: '505, closed',
    async run(gateway) {
      const socket = await RawSocket.connect(gateway.listeners[0], { ...trusted, ALPNProtocols: ['http/1.1'] });
      socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
      const { status } = await socket.readResponse();
      socket.end();
      await socket.readEnd();
      return `${status}, closed`;
    } },
]);
