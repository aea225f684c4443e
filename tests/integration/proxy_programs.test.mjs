// Other people's WebSocket programs behind an http route: socket.io in all its ways to connect, and
// Python's websockets.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import { describe, test } from 'node:test';
import { Server as SocketIoServer } from 'socket.io';
import { io } from 'socket.io-client';
import { Client } from '../support/client.mjs';
import { Program, freePort } from '../support/services.mjs';
import { echoConfig, patienceMs, until, withGateway, within } from '../support/gateway.mjs';

const megabyte = 1024 * 1024;
const longMs = 6 * patienceMs;

const proxyConfig = (upstream, path, route = {}) => echoConfig({
  routes: [{ path, http: { upstream }, allowed_origins: ['*'], ...route }],
});

// ---- socket.io

async function startSocketIo(t, options = {}) {
  const server = http.createServer();
  const sockets = new SocketIoServer(server, { maxHttpBufferSize: 16 * megabyte, ...options });
  sockets.on('connection', (socket) => {
    socket.on('shout', (text, done) => done(`${text}!`));
    socket.on('bytes', (bytes) => socket.emit('bytes', bytes));
    socket.on('join', (room, done) => { socket.join(room); done(); });
    socket.on('say', (room, text) => sockets.to(room).emit('said', text));
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => { sockets.close(); server.closeAllConnections(); });
  return { sockets, address: `127.0.0.1:${server.address().port}` };
}

async function connect(t, gateway, options) {
  const { host, port } = gateway.listeners[0];
  const socket = io(`http://${host}:${port}`, { reconnection: false, forceNew: true, ...options });
  t.after(() => socket.close());
  await within(new Promise((resolve, reject) => {
    socket.on('connect', resolve);
    socket.on('connect_error', reject);
  }), 'a socket.io connection');
  return socket;
}

const event = (socket, name) =>
  within(new Promise((resolve) => { socket.once(name, resolve); }), `the event ${name}`);
const ask = (socket, ...message) =>
  within(socket.emitWithAck(...message), `the answer to ${message[0]}`);

describe('socket.io through one prefix', () => {
  const ways = {
    'polling only': [{ transports: ['polling'] }, 'polling'],
    'websocket only': [{ transports: ['websocket'] }, 'websocket'],
    'polling, then an upgrade': [{}, 'websocket'],
  };
  for (const [way, [options, transport]] of Object.entries(ways)) {
    test(way, async (t) => {
      const { address, sockets } = await startSocketIo(t);
      await withGateway(proxyConfig(address, '/socket.io/*'), async (gateway) => {
        const socket = await connect(t, gateway, options);
        await until(() => socket.io.engine.transport.name === transport, `the transport ${transport}`);
        for (let i = 0; i < 20; ++i) assert.equal(await ask(socket, 'shout', `${i}`), `${i}!`);
        const bytes = randomBytes(100_000);
        const back = event(socket, 'bytes');
        socket.emit('bytes', bytes);
        assert.ok(bytes.equals(await back));
        const disconnected = event(socket, 'disconnect');
        socket.disconnect();
        assert.equal(await disconnected, 'io client disconnect');
        // Its last POST has to arrive: else the gateway waits for the answer to a poll as it ends.
        await until(() => sockets.engine.clientsCount === 0, 'the server knows of it');
      });
    });
  }

  test('one namespace, clients of each kind, a room for all', async (t) => {
    const { address, sockets } = await startSocketIo(t);
    await withGateway(proxyConfig(address, '/*'), async (gateway) => {
      const clients = await Promise.all(Object.values(ways).map(([options]) =>
        connect(t, gateway, options)));
      for (const client of clients) await ask(client, 'join', 'all');
      const heard = clients.map((client) => event(client, 'said'));
      clients[0].emit('say', 'all', 'grüße');
      assert.deepEqual(await Promise.all(heard), ['grüße', 'grüße', 'grüße']);
      assert.equal(sockets.engine.clientsCount, 3);
      // The server ends them, and each hears of it.
      const ends = clients.map((client) => event(client, 'disconnect'));
      sockets.disconnectSockets();
      assert.deepEqual(await Promise.all(ends),
        ['io server disconnect', 'io server disconnect', 'io server disconnect']);
      // A request that waits for its answer would hold up the end of the gateway.
      for (const client of clients) client.io.engine.close();
      await until(() => sockets.engine.clientsCount === 0, 'all connections are closed');
    });
  });

  test('a message of 8 MB over a WebSocket', async (t) => {
    const { address } = await startSocketIo(t);
    await withGateway(proxyConfig(address, '/socket.io/*'), async (gateway) => {
      const socket = await connect(t, gateway, { transports: ['websocket'] });
      const bytes = randomBytes(8 * megabyte);
      const back = new Promise((resolve) => { socket.once('bytes', resolve); });
      socket.emit('bytes', bytes);
      assert.ok(bytes.equals(await within(back, '8 MB', longMs)));
    });
  });
});

// ---- Python's websockets

const python = `
import asyncio, hashlib, http, sys
import websockets

async def serve(socket, path):
    try:
        async for message in socket:
            if message == 'close':
                await socket.close(4001, 'as you wish')
            elif message == 'cookie':
                await socket.send(socket.request_headers.get('Cookie', ''))
            elif message == 'fragments':
                await socket.send(['one ', 'two ', 'three'])
            elif message == 'ping':
                await (await socket.ping(b'are you there'))
                await socket.send('pong')
            elif isinstance(message, str):
                await socket.send(path + ' ' + message)
            else:
                await socket.send(hashlib.sha256(message).hexdigest())
                await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    print('closed', socket.close_code, socket.close_reason, flush=True)

async def refuse(path, headers):
    if path.endswith('/private'):
        return http.HTTPStatus.FORBIDDEN, [('Content-Type', 'text/plain')], b'members only\\n'

async def main():
    async with websockets.serve(serve, '127.0.0.1', int(sys.argv[1]), max_size=None,
                                compression='deflate', subprotocols=['b'],
                                process_request=refuse, ping_interval=0.3):
        print('ready', flush=True)
        await asyncio.Future()

asyncio.run(main())
`;

const startPython = (t, port) => Program.start(t, '/usr/bin/python3', ['-c', python, `${port}`],
  { ready: (program) => program.output.includes('ready') });

test('Python\'s websockets as the upstream', async (t) => {
  const port = await freePort();
  const upstream = await startPython(t, port);
  await withGateway(proxyConfig(`127.0.0.1:${port}`, '/py/*', { keepalive: { ping_interval: '300ms' } }),
    async (gateway) => {
      const client = await Client.open(gateway.url('/py/chat?x=1'),
        { protocols: ['a', 'b'], headers: { Cookie: 'k=v' }, maxPayload: 0, perMessageDeflate: true });
      assert.equal(client.socket.protocol, 'b');
      assert.equal(client.socket.extensions, '');
      client.send('hello');
      assert.equal(await client.text(), '/py/chat?x=1 hello');
      client.send('cookie');
      assert.equal(await client.text(), 'k=v');
      client.send('fragments');
      assert.equal(await client.text(), 'one two three');
      client.send('ping');
      assert.equal(await client.text(), 'pong');
      const bytes = randomBytes(16 * megabyte);
      client.send(bytes);
      assert.equal((await within(client.next('a digest'), 'a digest', longMs)).data.toString(),
        createHash('sha256').update(bytes).digest('hex'));
      const { data, binary } = await within(client.next('the bytes'), 'the bytes', longMs);
      assert.ok(binary && data.equals(bytes));
      client.send('close');
      assert.deepEqual(await client.end(), { code: 4001, reason: 'as you wish' });
      await until(() => upstream.output.includes('closed 4001 as you wish'), 'the clean end there');

      const other = await Client.open(gateway.url('/py/'));
      await other.close(3001, 'enough');
      await until(() => upstream.output.includes('closed 3001 enough'), 'the code of the client');
      const lost = await Client.open(gateway.url('/py/'));
      lost.socket.terminate();
      await until(() => upstream.output.includes('closed 1006'), 'the client that vanished');

      const { status, body } = await Client.refused(gateway.url('/py/private'));
      assert.deepEqual([status, body], [403, 'members only\n']);
    });
});
