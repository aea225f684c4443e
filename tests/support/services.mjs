// What stands behind the gateway in tests: TCP servers that a test plays, and programs of others.
// None outlives the tests, whatever happens to them.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { until, within } from './gateway.mjs';

// ---- Servers that a test plays

// One connection to a Server: what came is kept, or only counted and hashed.
export class Peer {
  bytes = 0;
  ending = null; // null while the stream lasts; then "end", or an error code
  #pieces = [];
  #hash = createHash('sha256');
  #wake = new Set();

  // Like most servers it ends when the other side has ended, unless it is told to be `stubborn`.
  constructor(socket, { keep = true, stubborn = false } = {}) {
    this.socket = socket;
    socket.setNoDelay?.(true);
    socket.on('data', (piece) => {
      this.bytes += piece.length;
      this.#hash.update(piece);
      if (keep) this.#pieces.push(piece);
      this.#tell();
    });
    socket.on('end', () => {
      this.ending ??= 'end';
      this.#tell();
      if (!stubborn) socket.end();
    });
    socket.on('error', (error) => { this.ending ??= error.code; this.#tell(); });
    socket.on('close', () => { this.ending ??= 'close'; this.#tell(); });
  }
  #tell() { for (const look of this.#wake) look(); }

  #until(condition, what, ms) {
    return within(new Promise((resolve) => {
      const look = () => {
        if (!condition()) return;
        this.#wake.delete(look);
        resolve();
      };
      this.#wake.add(look);
      look();
    }), what, ms);
  }

  get received() { return Buffer.concat(this.#pieces); }
  // Of everything that came.
  get digest() { return this.#hash.copy().digest('hex'); }

  // At least so many bytes of the stream; everything that came so far.
  async read(size, ms) {
    await this.#until(() => this.bytes >= size || this.ending, `${size} bytes at the upstream`, ms);
    return this.received;
  }
  // How the stream ended.
  async end(ms) {
    await this.#until(() => this.ending, 'the end of the stream at the upstream', ms);
    return this.ending;
  }
  write(bytes) { this.socket.write(bytes); }
}

export class Server {
  #peers = [];
  #takers = [];

  // options: path (a unix socket), tls ({cert, key}), port, keep, stubborn and paused for its
  // peers. It ends with the test `t`.
  static async listen(t, options = {}) {
    const server = new Server();
    const settings = { allowHalfOpen: true, pauseOnConnect: false, noDelay: true };
    const take = (socket) => server.#take(socket, options);
    server.server = options.tls
      ? tls.createServer({ ...settings, ...options.tls }, take)
      : net.createServer(settings, take);
    server.sockets = new Set();
    await new Promise((resolve, reject) => {
      server.server.on('error', reject);
      server.server.listen(options.path ? { path: options.path }
        : { port: options.port ?? 0, host: '127.0.0.1' }, resolve);
    });
    const at = server.server.address();
    server.address = options.path ? `unix:${options.path}` : `127.0.0.1:${at.port}`;
    t?.after(() => server.close());
    return server;
  }

  #take(socket, options) {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    const peer = new Peer(socket, options);
    if (options.paused) socket.pause();
    this.#peers.push(peer);
    this.#hand();
  }
  #hand() {
    while (this.#takers.length > 0 && this.#peers.length > 0) {
      this.#takers.shift()(this.#peers.shift());
    }
  }

  // The next connection.
  next() {
    const peer = new Promise((resolve) => this.#takers.push(resolve));
    this.#hand();
    return within(peer, 'a connection to the upstream');
  }
  close() {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

// A port that was free a moment ago.
export async function freePort() {
  const server = await Server.listen();
  const { port } = server.server.address();
  server.close();
  return port;
}

// ---- Programs of others

const programs = new Set();
process.on('exit', () => { for (const child of programs) child.kill('SIGKILL'); });

export class Program {
  output = '';

  // Starts it; it is killed at the end of the test `t`. `ready` says whether it can be used: a
  // function that is asked until it says so. `stdout` and `stderr` are gathered in `output`.
  static async start(t, command, args, { ready, cwd, env } = {}) {
    const program = new Program();
    program.child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    programs.add(program.child);
    program.exited = new Promise((resolve) => {
      program.child.on('error', (error) => { program.output += error; resolve(); });
      program.child.on('close', () => { programs.delete(program.child); resolve(); });
    });
    for (const stream of [program.child.stdout, program.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { program.output += text; });
    }
    t?.after(() => program.kill());
    if (ready) {
      try {
        await until(async () => await ready(program), `${command} is ready`);
      } catch (error) {
        throw new Error(`${error.message}\n${program.output}`);
      }
    }
    return program;
  }

  get pid() { return this.child.pid; }
  // As nothing but the kernel can: without a word to anybody.
  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

// Whether somebody listens there.
export function answers(port) {
  return new Promise((resolve) => {
    const socket = net.connect(typeof port === 'string' ? { path: port } : { port, host: '127.0.0.1' });
    socket.on('connect', () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });
}
