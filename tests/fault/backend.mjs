// An upstream that echoes in every way that a route can reach it. It runs as a process of its own, so that
// it can be killed: backend.mjs HTTP_PORT TCP_PORT (0: a free one). Says "ready HTTP_PORT TCP_PORT".
//
//   HTTP_PORT   WebSockets; POST /hook (webhook, protocol: message); POST /pages (plain HTTP)
//   TCP_PORT    raw bytes
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { WebSocketServer } from 'ws';

const [httpPort, tcpPort] = process.argv.slice(2).map(Number);

const web = http.createServer(async (request, response) => {
  const pieces = [];
  try {
    for await (const piece of request) pieces.push(piece);
  } catch {
    return; // the gateway gave it up
  }
  const event = request.headers['sluice-event'];
  if (event === 'open' || event === 'close') return response.writeHead(204).end();
  const type = request.headers['content-type'] ?? 'application/octet-stream';
  return response.writeHead(200, { 'Content-Type': type }).end(Buffer.concat(pieces));
});

const bufferedMax = 1 << 20;
const sockets = new WebSocketServer({ server: web, perMessageDeflate: false });
sockets.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, binary) => {
    // Like any server that minds its memory: it does not read what it cannot answer.
    socket.send(data, { binary }, () => { if (socket.bufferedAmount < bufferedMax) socket.resume(); });
    if (socket.bufferedAmount >= bufferedMax) socket.pause();
  });
});

const bytes = net.createServer({ allowHalfOpen: true }, (socket) => {
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.pipe(socket);
});

web.listen(httpPort, '127.0.0.1');
bytes.listen(tcpPort, '127.0.0.1');
await Promise.all([once(web, 'listening'), once(bytes, 'listening')]);
console.log(`ready ${web.address().port} ${bytes.address().port}`);

// Nothing that the tests started outlives them.
process.on('disconnect', () => process.exit());
