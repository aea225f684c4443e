// What goes wrong, one thing after the other, and how it is seen that it did. Each fault waits for what it
// is to bring about; the times in here are how long a fault lasts.
import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { memoryIsOurs, preset, within } from '../support/gateway.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

// A program of this folder that can be stopped, killed and started again. onDeath is told if it ends by
// itself.
class Part {
  constructor(file, args, onDeath) { Object.assign(this, { file, args, onDeath }); }

  start() {
    this.child = fork(path.join(here, this.file), this.args.map(String), {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      execArgv: [],
    });
    const { child } = this;
    this.exited = once(child, 'exit');
    this.exited.then(() => { if (!child.killed) this.onDeath(this.file); });
    child.on('error', () => {}); // a message to one that has been killed
    return this;
  }
  signal(name) { process.kill(this.child.pid, name); }
  tell(message) { this.child.send(message, () => {}); }
  async ask(message) {
    const answer = once(this.child, 'message');
    this.tell(message);
    await within(answer, `an answer to ${JSON.stringify(message)}`);
  }
  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

// An upstream; it keeps its ports over restarts.
export class Backend extends Part {
  static start(onDeath) { return new Backend('backend.mjs', [0, 0], onDeath).start(); }
  async start() {
    super.start();
    const [line] = await within(once(this.child.stdout, 'data'), 'an upstream is ready');
    [this.httpPort, this.tcpPort] = this.args = `${line}`.trim().split(' ').slice(1).map(Number);
    return this;
  }
}

export class WildClients extends Part {
  constructor(seed, gateway, onDeath) {
    super('wild.mjs', [seed, ...gateway.listeners.map(({ port }) => port)], onDeath);
  }
}

// gateway, backends (those that may be killed), wild, random.
export class Faults {
  done = new Map(); // how often, by name

  constructor(parts) { Object.assign(this, parts); }

  // Those of upstreams and all others at the same time, each kind one after the other, until the time is
  // over. `between` is asked after each.
  async run(untilMs, between) {
    await Promise.all([this.ofUpstreams(), this.ofOthers()].map((all) => this.#repeat(all, untilMs, between)));
  }

  ofUpstreams() {
    return {
      'an upstream is killed and restarted': () => this.killOne(),
      'an upstream is stopped and continued': () => this.stopOne(),
      'both upstreams are killed and restarted': () => this.killAll(),
    };
  }

  ofOthers() {
    const all = {
      'the gateway is stopped and continued': () => this.stopGateway(),
      'descriptors are short': () => this.shortOfDescriptors(),
      'clients fall silent, then are gone': () => this.silenceClients(),
      'memory is short': () => this.shortOfMemory(),
    };
    // A sanitizer's memory is not the gateway's: it has no budget then. UBSan cannot look at memory
    // without a descriptor.
    if (!memoryIsOurs) delete all['memory is short'];
    if (preset === 'asan') delete all['descriptors are short'];
    return all;
  }

  async #repeat(faults, untilMs, between) {
    const all = Object.entries(faults);
    for (let i = 0; Date.now() < untilMs || i < all.length; ++i) {
      const [name, fault] = all[i % all.length];
      await fault();
      this.done.set(name, (this.done.get(name) ?? 0) + 1);
      await between(name);
      await sleep(this.random.between(100, 600));
    }
  }

  async killOne() {
    const backend = this.random.one(this.backends);
    await backend.kill();
    await sleep(this.random.between(0, 1500));
    await backend.start();
  }

  async killAll() {
    await Promise.all(this.backends.map((backend) => backend.kill()));
    await sleep(this.random.between(0, 1000));
    await Promise.all(this.backends.map((backend) => backend.start()));
  }

  async stopOne() {
    const backend = this.random.one(this.backends);
    backend.signal('SIGSTOP');
    await sleep(this.random.between(500, 2000));
    backend.signal('SIGCONT');
  }

  async stopGateway() {
    this.gateway.kill('SIGSTOP');
    await sleep(this.random.between(300, 1500));
    this.gateway.kill('SIGCONT');
  }

  // Nobody says that they are gone: pings and deadlines find out. Then they all reset at once.
  async silenceClients() {
    const timeouts = (metrics) => metrics.get('sluice_pong_timeouts_total');
    await this.wild.ask({ idle: 3 }); // all others may be busy, or on their way, just now
    const before = timeouts(await this.gateway.metrics());
    this.wild.signal('SIGSTOP');
    await this.gateway.waitMetrics((metrics) => timeouts(metrics) > before);
    await this.wild.kill();
    await this.wild.start();
  }

  // The kernel gives no more than are open already; a flood of clients wants some.
  async shortOfDescriptors() {
    const { gateway } = this;
    const shed = (metrics) => metrics.get('sluice_limit_rejections_total', { limit: 'descriptors' }) +
      metrics.get('sluice_accept_errors_total');
    const before = shed(await gateway.metrics());
    const limits = this.#descriptorLimit();
    this.#descriptorLimit(`${gateway.descriptors() + 10}:${limits.hard}`);
    this.wild.tell({ flood: 200 });
    await sleep(this.random.between(1000, 2500));
    this.#descriptorLimit(`${limits.soft}:${limits.hard}`);
    this.wild.tell({ calm: true });
    await gateway.waitMetrics((metrics) => shed(metrics) > before);
  }

  #descriptorLimit(limit) {
    const args = ['--pid', String(this.gateway.pid)];
    if (limit) return execFileSync('prlimit', [...args, `--nofile=${limit}`]);
    const text = execFileSync('prlimit', [...args, '--nofile', '--raw', '--noheadings', '-o', 'SOFT,HARD']);
    const [soft, hard] = `${text}`.trim().split(/\s+/);
    return { soft, hard };
  }

  // More than the budget is sent by clients that never finish their messages.
  async shortOfMemory() {
    const evicted = (metrics) => metrics.get('sluice_overload_actions_total', { action: 'evict' });
    const before = evicted(await this.gateway.metrics());
    this.wild.tell({ storm: 100 });
    await this.gateway.waitMetrics((metrics) => evicted(metrics) > before);
    this.wild.tell({ calm: true });
    await this.gateway.waitMetrics((metrics) => metrics.get('sluice_overload_level') === 0);
  }
}
