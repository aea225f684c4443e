// Starts the gateway under test and watches it: logs, metrics, end.
//
// SLUICE_BINARY and SLUICE_PRESET say what is tested, as script/test sets them. Nothing here waits
// for a time to pass: it waits for log lines, for answers, for numbers in /metrics, each with a
// deadline that a slow build (a sanitizer's) is given more of.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));

export const preset = process.env.SLUICE_PRESET ?? 'release';
export const binary =
  process.env.SLUICE_BINARY ?? path.resolve(here, '../../build', preset, 'sluice');
assert.ok(fs.existsSync(binary), `there is no gateway to test: ${binary}`);

// How much slower than a release build this one is.
export const slowness = { dev: 2, asan: 5, tsan: 10 }[preset] ?? 1;
export const patienceMs = 10_000 * slowness;

// A sanitizer's memory says nothing about the gateway's.
export const memoryIsOurs = !['asan', 'tsan'].includes(preset);

// The path of a plugin that only the tests have; an error if it was not built.
export function testPlugin(name) {
  const file = path.join(path.dirname(binary), 'test-plugins', `${name}.so`);
  assert.ok(fs.existsSync(file), `${file} is missing: configure with SLUICE_TESTS=ON`);
  return file;
}

// Rejects if the promise has not settled in time.
export async function within(promise, what, ms = patienceMs) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// For what no event tells of: asks until the answer is true, and returns it.
export async function until(question, what, ms = patienceMs) {
  for (const deadline = Date.now() + ms; ; await sleep(20)) {
    const answer = await question();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
  }
}

// ---- Temporary folders: gone with the process, whatever happens to it.

const folders = new Set();
const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});
// Without a handler these would end the process before its 'exit'.
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(1));

export function temporaryFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sluice-test-'));
  folders.add(folder);
  return folder;
}

// A certificate that signs itself, for the names (and addresses) given.
export function makeCertificate(folder, ...names) {
  const cert = path.join(folder, `${names[0]}.crt`);
  const key = path.join(folder, `${names[0]}.key`);
  const subjects = names.map((name) => (/^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`));
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
    '-days', '2', '-keyout', key, '-out', cert, '-subj', `/CN=${names[0]}`,
    '-addext', `subjectAltName=${subjects.join(',')}`,
  ], { stdio: 'pipe' });
  return { cert, key, pem: fs.readFileSync(cert) };
}

// ---- Metrics

// The samples of one scrape.
export class Metrics {
  constructor(text) {
    this.text = text;
    this.samples = [];
    for (const line of text.split('\n')) {
      const match = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (!match) continue;
      const labels = {};
      for (const [, name, value] of (match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
        labels[name] = value;
      }
      this.samples.push({ name: match[1], labels, value: Number(match[3]) });
    }
  }

  // The sum over the samples with this name and these labels, whatever others they have.
  get(name, labels = {}) {
    return this.samples
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([k, v]) => sample.labels[k] === String(v)))
      .reduce((sum, sample) => sum + sample.value, 0);
  }

  // Every series by name and labels, without the values.
  series() {
    return this.samples.map(({ name, labels }) => `${name}${JSON.stringify(labels)}`).sort();
  }
}

// A plain HTTP request on a connection of its own: {status, headers, body}.
export function request(options, body) {
  const answer = new Promise((resolve, reject) => {
    const sent = http.request({ agent: false, ...options }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => resolve({
        status: response.statusCode,
        headers: response.headers,
        body: Buffer.concat(pieces),
      }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
  return within(answer, `an answer to ${options.path}`);
}

// ---- The gateway

// The configuration that most tests begin with; `overrides` replace whole keys of it. The key
// `defaults` of the settings holds for the route /echo as well.
export function echoConfig(overrides = {}) {
  return {
    workers: 1,
    listeners: [{ address: '127.0.0.1:0' }],
    metrics: { address: '127.0.0.1:0' },
    plugins: { echo: { library: 'echo.so' } },
    routes: [{ path: '/echo', plugin: 'echo', allowed_origins: ['*'] }],
    ...overrides,
  };
}

export class Gateway {
  logs = []; // parsed
  lines = []; // as they came
  stderr = '';
  listeners = []; // {address, host, port} or {address, path}, in the order of the configuration
  expectedErrors = new Set(); // names of events that may be logged as errors
  #waiting = new Set();

  // config: an object, or the text of routes.yaml.
  // options: folder, env, shell (a command line in which "$@" is the gateway's).
  static async start(config = echoConfig(), options = {}) {
    const gateway = new Gateway(config, options);
    try {
      await within(gateway.#started(), 'the start of the gateway');
    } catch (error) {
      gateway.child.kill('SIGKILL');
      throw new Error(`${error.message}\n${gateway.lines.join('\n')}\n${gateway.stderr}`);
    }
    return gateway;
  }

  constructor(config, { folder = temporaryFolder(), env = {}, shell } = {}) {
    this.folder = folder;
    this.file = path.join(folder, 'routes.yaml');
    // JSON is YAML.
    fs.writeFileSync(this.file, typeof config === 'string' ? config : JSON.stringify(config));
    const command = [binary, 'run', '--config', this.file];
    const [program, ...args] = shell ? ['sh', '-c', shell, 'sh', ...command] : command;
    this.child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.add(this.child);
    this.exited = new Promise((resolve) => {
      this.child.on('close', (code, signal) => {
        children.delete(this.child);
        resolve({ code, signal });
        for (const waiter of this.#waiting) waiter.gone();
      });
    });
    this.child.on('error', (error) => { this.stderr += error; });
    this.child.stderr.setEncoding('utf8').on('data', (text) => { this.stderr += text; });
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => this.#read(line));
  }

  get pid() { return this.child.pid; }

  async #started() {
    const wanted = JSON.parse(fs.readFileSync(this.file, 'utf8'));
    for (let i = 0; i < wanted.listeners.length; ++i) {
      await this.waitLog(() => this.logs.filter((log) => log.event === 'listening').length > i);
    }
    for (const { address } of this.logs.filter((log) => log.event === 'listening')) {
      this.listeners.push(parseAddress(address));
    }
    if (!wanted.metrics) return;
    this.metricsAt = parseAddress((await this.waitLog({ event: 'metrics' })).address);
  }

  #read(line) {
    this.lines.push(line);
    try {
      this.logs.push(JSON.parse(line));
    } catch {
      this.logs.push({ event: 'not JSON', line });
    }
    for (const waiter of this.#waiting) waiter.look();
  }

  // The first log record, past or to come, with these fields or for which the function is true.
  waitLog(wanted) {
    const matches = typeof wanted === 'function'
      ? wanted
      : (log) => Object.entries(wanted).every(([name, value]) => log[name] === value);
    const what = `log record ${typeof wanted === 'function' ? wanted : JSON.stringify(wanted)}`;
    const found = new Promise((resolve, reject) => {
      let next = 0;
      const waiter = {
        look: () => {
          while (next < this.logs.length) {
            const log = this.logs[next++];
            if (!matches(log)) continue;
            this.#waiting.delete(waiter);
            return resolve(log);
          }
        },
        gone: () => {
          waiter.look();
          reject(new Error(`the gateway ended without: ${what}\n${this.stderr}`));
        },
      };
      this.#waiting.add(waiter);
      waiter.look();
    });
    return within(found, what);
  }

  // The record of the end of a RawSocket. Ports come back: only what was logged since it was opened
  // is about it.
  waitClose(socket) {
    return this.waitLog((log) => log.event === 'close' && log.client === socket.address &&
      Date.parse(log.ts) >= socket.openedAt);
  }

  // "ws://127.0.0.1:PORT/echo"
  url(target = '/echo', { scheme = 'ws', listener = 0 } = {}) {
    const at = this.listeners[listener];
    if (at.path) return `ws+unix:${at.path}:${target}`;
    return `${scheme}://${at.host.includes(':') ? `[${at.host}]` : at.host}:${at.port}${target}`;
  }

  // A plain request to the first listener, or to the metrics listener.
  get(target, options = {}) {
    return request({ ...this.listeners[0], ...options, path: target });
  }
  getAdmin(target, options = {}) {
    return request({ ...this.metricsAt, ...options, path: target });
  }

  async metrics() {
    const { status, body } = await this.getAdmin('/metrics');
    assert.equal(status, 200);
    return new Metrics(body.toString());
  }

  // Scrapes until the question about the metrics is answered with something true; scrapes once
  // more, since what a scrape reads first may be older than what it reads last, and returns that.
  async waitMetrics(question, what = String(question)) {
    await until(async () => question(await this.metrics()), what);
    return this.metrics();
  }

  rssBytes() {
    const status = fs.readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
  }
  cpuSeconds() {
    const fields = fs.readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }
  descriptors() {
    return fs.readdirSync(`/proc/${this.pid}/fd`).length;
  }

  kill(signal = 'SIGTERM') {
    this.child.kill(signal);
  }
  waitExit() {
    return within(this.exited, 'the end of the gateway');
  }

  // Ends it, and holds that it ends as it should and had nothing to complain about.
  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.kill();
    const { code, signal } = await this.waitExit();
    assert.deepEqual({ code, signal, stderr: this.stderr }, { code: 0, signal: null, stderr: '' });
    assert.equal(this.logs.at(-1)?.event ?? this.lines.at(-1), 'stopped');
    const errors = this.logs.filter((log) => log.level === 'error' || log.event === 'not JSON');
    assert.deepEqual(errors.filter((log) => !this.expectedErrors.has(log.event)), []);
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

function parseAddress(address) {
  if (address.startsWith('unix:')) return { address, path: address.slice(5), socketPath: address.slice(5) };
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return { address, host, port: Number(address.slice(colon + 1)) };
}

// One gateway for the tests of a describe() or a file; use it inside of tests only. The hooks of
// the tests start it and end it.
export function sharedGateway(config, options) {
  const holder = {};
  before(async () => {
    try {
      const made = typeof config === 'function' ? config() : config;
      holder.gateway = await Gateway.start(made, options);
    } catch (error) {
      console.error(error); // the reporter tells of the tests that were cancelled, not why
      throw error;
    }
  });
  after(async () => { await holder.gateway?.stop(); });
  return new Proxy({}, {
    get(_, name) {
      const value = Reflect.get(holder.gateway, name, holder.gateway);
      return typeof value === 'function' ? value.bind(holder.gateway) : value;
    },
  });
}

// One gateway for one test.
export async function withGateway(config, body, options) {
  const gateway = await Gateway.start(config, options);
  try {
    await body(gateway);
    await gateway.stop();
  } finally {
    gateway.child.kill('SIGKILL');
  }
}

// The program with other arguments: {code, stdout, stderr}. `shell` as for Gateway.start().
export function sluice(args, { env = {}, cwd, shell } = {}) {
  const [program, ...rest] = shell ? ['sh', '-c', shell, 'sh', binary, ...args] : [binary, ...args];
  return new Promise((resolve) => {
    execFile(program, rest, { env: { ...process.env, ...env }, cwd, timeout: patienceMs },
      (error, stdout, stderr) => {
        resolve({ code: error ? error.code ?? error.signal : 0, stdout, stderr });
      });
  });
}
