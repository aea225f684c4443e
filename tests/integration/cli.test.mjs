// The command line: what it prints, and what it exits with (0; 1 for a failure at run time; 2 for
// usage or configuration).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Gateway, echoConfig, makeCertificate, memoryIsOurs, sluice, temporaryFolder, testPlugin,
  withGateway } from '../support/gateway.mjs';

// Writes routes.yaml into a folder of its own and returns its path.
function file(config, folder = temporaryFolder()) {
  const name = path.join(folder, 'routes.yaml');
  fs.writeFileSync(name, typeof config === 'string' ? config : JSON.stringify(config));
  return name;
}

// What only a gateway that runs says.
const started = /"(started|listening)"/;

const broken = `listeners:
  - address: 127.0.0.1:0
plugins:
  echo: { library: echo.so }
routes:
  - path: /echo
    plugin: ecko
    timeouts: { idel: 5s }
  - path: /slow
    plugin: echo
    timeout: { close: 5 }
    limits: { max_message_size: 5parsec }
`;

describe('sluice --version, --help', () => {
  test('--version tells version, revision and ABI', async () => {
    const { code, stdout, stderr } = await sluice(['--version']);
    assert.match(stdout, /^sluice \d+\.\d+\.\d+\S* \(\S+, plugin ABI \d+\)\n$/);
    assert.deepEqual([code, stderr], [0, '']);
  });

  test('--help tells of the commands, the signals and the exit codes', async () => {
    const { code, stdout } = await sluice(['--help']);
    assert.equal(code, 0);
    for (const word of ['run', 'check', 'healthcheck', 'SIGTERM', 'Exit codes']) {
      assert.ok(stdout.includes(word), word);
    }
    for (const command of ['run', 'check', 'healthcheck']) {
      assert.equal((await sluice([command, '--help'])).code, 0);
    }
  });

  for (const args of [[], ['fly'], ['run', '--fast'], ['check'], ['run', '--config']]) {
    test(`"sluice ${args.join(' ')}" is a mistake: 2, and a word about it`, async () => {
      const { code, stdout, stderr } = await sluice(args);
      assert.equal(code, 2);
      assert.equal(stdout, '');
      assert.ok(stderr.length > 10);
    });
  }
});

describe('a configuration with mistakes', () => {
  for (const command of [['check'], ['run', '--config']]) {
    test(`${command[0]}: all of them at once, with place and suggestion; 2, nothing started`, async () => {
      const name = file(broken);
      const { code, stdout, stderr } = await sluice([...command, name]);
      assert.equal(code, 2);
      assert.equal(stdout, '');
      const places = [...stderr.matchAll(/routes\.yaml:(\d+):(\d+): /g)].map(([, line, column]) =>
        `${line}:${column}`);
      for (const place of ['7:13', '8:17', '11:5', '12:33']) {
        assert.ok(places.includes(place), `${place} in\n${stderr}`);
      }
      assert.match(stderr, /8:17: unknown key "idel" \(did you mean "idle"\?\)/);
      assert.match(stderr, /11:5: unknown key "timeout" \(did you mean "timeouts"\?\)/);
      assert.match(stderr, /7:13: .*"?ecko"?.*echo/);
    });
  }

  test('a file that is not there', async () => {
    const { code, stderr } = await sluice(['run', '--config', '/nowhere/routes.yaml']);
    assert.equal(code, 2);
    assert.match(stderr, /\/nowhere\/routes\.yaml/);
  });
});

describe('sluice check', () => {
  test('a good file is ok, and nothing is started', async () => {
    const name = file(echoConfig());
    assert.deepEqual(await sluice(['check', name]),
      { code: 0, stdout: `${name}: ok, 1 route\n`, stderr: '' });
  });

  test('several mistakes outside of the file are told at once', async () => {
    const name = file(echoConfig({
      plugins: { echo: { library: 'echo.so' }, gone: { library: './gone.so' } },
      listeners: [{ address: '127.0.0.1:0', tls: { certificates: [{ cert: 'a.crt', key: 'a.key' }] } }],
      routes: [{ path: '/echo', plugin: 'echo' }, { path: '/*', static: { root: 'nowhere' } }],
    }));
    const { code, stderr } = await sluice(['check', name]);
    assert.equal(code, 2);
    for (const what of ['gone.so', 'a.crt', 'nowhere']) assert.ok(stderr.includes(what), what);
  });
});

describe('what the file names does not fit: 2, and why', () => {
  const plugins = (library) => echoConfig({ plugins: { echo: { library } } });
  for (const [what, config, why] of [
    ['a plugin that is not there', plugins('nowhere.so'), /nowhere\.so/],
    ['a plugin path that is not there', plugins('./nowhere.so'), /nowhere\.so/],
    ['a plugin of another ABI', plugins(testPlugin('other_abi')), /other_abi\.so.*ABI/],
    ['a library that is no plugin', plugins(testPlugin('no_entry')), /no_entry\.so.*sluice_plugin_entry/],
    ['a plugin without a table', plugins(testPlugin('null_table')), /null_table\.so/],
    ['a plugin with a short table', plugins(testPlugin('short_table')), /short_table\.so/],
    ['a plugin without on_message', plugins(testPlugin('no_message')), /no_message\.so.*on_message/],
    ['a plugin that is a folder', plugins('/tmp'), /\/tmp/],
    ['a folder that is not there', echoConfig({
      routes: [{ path: '/*', static: { root: 'nowhere' } }], plugins: undefined }), /nowhere/],
    ['a certificate that is not there', echoConfig({
      listeners: [{ address: '127.0.0.1:0', tls: { certificates: [{ cert: 'a.crt', key: 'a.key' }] } }],
    }), /a\.crt/],
  ]) {
    for (const command of [['check'], ['run', '--config']]) {
      test(`${command[0]}: ${what}`, async () => {
        const { code, stdout, stderr } = await sluice([...command, file(config)]);
        assert.match(stderr, why);
        assert.equal(code, 2);
        assert.doesNotMatch(stdout, started);
      });
    }
  }

  test('run: a plugin that does not start', async () => {
    const { code, stderr } = await sluice(['run', '--config', file(plugins(testPlugin('no_start')))]);
    assert.equal(code, 2);
    assert.match(stderr, /echo|no_start/);
  });

  test('a key that is another certificate\'s', async () => {
    const folder = temporaryFolder();
    const { cert } = makeCertificate(folder, 'one.test');
    const { key } = makeCertificate(folder, 'two.test');
    const listeners = [{ address: '127.0.0.1:0', tls: { certificates: [{ cert, key }] } }];
    const { code, stderr } = await sluice(['check', file(echoConfig({ listeners }), folder)]);
    assert.equal(code, 2);
    assert.match(stderr, /two\.test\.key/);
  });
});

test('a private key with a passphrase is an error, and nobody is asked', async () => {
  const folder = temporaryFolder();
  const { cert, key } = makeCertificate(folder, 'one.test');
  const locked = path.join(folder, 'locked.key');
  execFileSync('openssl', ['pkey', '-in', key, '-out', locked, '-aes256', '-passout', 'pass:secret']);
  const listeners = [{ address: '127.0.0.1:0', tls: { certificates: [{ cert, key: locked }] } }];
  const { code, stderr } = await sluice(['check', file(echoConfig({ listeners }), folder)],
    { shell: 'echo secret | setsid --wait "$@"' });
  assert.match(stderr, /locked\.key: .*passphrase/);
  assert.equal(code, 2);
});

describe('sluice run', () => {
  test('a port in use is a failure at run time: 1', async () => {
    const taken = net.createServer();
    await new Promise((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${taken.address().port}`;
    try {
      for (const config of [
        echoConfig({ listeners: [{ address }] }),
        echoConfig({ listeners: [{ address }], workers: 2 }), // the main thread listens
        echoConfig({ metrics: { address } })]) {
        const { code, stdout, stderr } = await sluice(['run', '--config', file(config)]);
        assert.equal(code, 1);
        assert.doesNotMatch(stdout, started);
        assert.match(stderr, new RegExp(`${address}.*in use`));
      }
    } finally {
      taken.close();
    }
  });

  test('an address that is not ours, and a unix socket in no folder: 1', async () => {
    for (const address of ['192.0.2.1:0', 'unix:/nowhere/at/all.sock']) {
      const config = echoConfig({ listeners: [{ address }] });
      assert.equal((await sluice(['run', '--config', file(config)])).code, 1);
    }
  });

  test('variables of the environment fill in values', async () => {
    const config = echoConfig({ metrics: { address: '${SLUICE_TEST_HOST:-0.0.0.0}:0' } });
    await withGateway(config, async (gateway) => {
      assert.equal(gateway.metricsAt.host, '127.0.0.1');
    }, { env: { SLUICE_TEST_HOST: '127.0.0.1' } });
  });

  test('a unix socket that a killed gateway left behind is taken over; a live one is not', async () => {
    const folder = temporaryFolder();
    const address = `unix:${path.join(folder, 'gateway.sock')}`;
    const config = echoConfig({ listeners: [{ address }] });
    const killed = await Gateway.start(config, { folder });
    killed.kill('SIGKILL');
    await killed.waitExit();
    await withGateway(config, async () => {
      const { code, stderr } = await sluice(['run', '--config', file(config)]);
      assert.equal(code, 1);
      assert.match(stderr, /gateway\.sock.*in use/);
    }, { folder });
  });

  test('without a metrics listener it runs all the same', async () => {
    await withGateway(echoConfig({ metrics: undefined }), async (gateway) => {
      assert.equal((await gateway.get('/nowhere')).status, 404);
    });
  });
});

describe('what the system refuses at the start', () => {
  const two = file(echoConfig({ workers: 2 }));
  const run = (shell) => sluice(['run', '--config', two], { shell });
  // Threads get a stack of this size.
  const noThreads = { skip: !memoryIsOurs && 'sanitizers have threads and memory of their own' };

  for (const [limit, missing] of [
    [10, 'an event loop'], [12, 'an event loop'], [22, 'worker 1 of 2'], [28, 'worker 2 of 2'],
  ]) {
    test(`${limit} descriptors: 1, and what to raise`, async () => {
      const { code, stdout, stderr } = await run(`ulimit -n ${limit}; exec "$@"`);
      assert.equal(stderr, `sluice: cannot start ${missing}: Too many open files: raise the limit of ` +
        'open files (ulimit -n, LimitNOFILE=)\n');
      assert.equal(code, 1);
      assert.doesNotMatch(stdout, started);
    });
  }

  test('no threads: 1, and what to raise', noThreads, async () => {
    const { code, stdout, stderr } = await run('ulimit -s 34359738368; exec "$@"');
    assert.match(stderr, /^sluice: cannot start worker \d of 2: .*: raise the limit of threads .*ulimit -u.*TasksMax=/);
    assert.equal(code, 1);
    assert.doesNotMatch(stdout, started);
  });

  test('check says so too', async () => {
    const { code, stderr } = await sluice(['check', two], { shell: 'ulimit -n 12; exec "$@"' });
    assert.match(stderr, /^sluice: cannot start an event loop: .*ulimit -n/);
    assert.equal(code, 1);
  });

  test('no threads to look up names with: a name without an address', noThreads, async () => {
    const config = echoConfig({
      upstreams: { app: { endpoints: ['app.invalid:80'] } },
      routes: [{ path: '/echo', plugin: 'echo' }, { path: '/tcp', tcp: { upstream: 'app' } }],
    });
    await withGateway(config, async (gateway) => {
      const { why } = await gateway.waitLog({ event: 'upstream name not resolved' });
      assert.match(why, /^resolve app\.invalid: no threads for it: /);
      assert.equal((await gateway.get('/nowhere')).status, 404);
    }, { shell: 'ulimit -s 1048576; ulimit -v 2600000; exec "$@"' });
  });
});

describe('script/server', () => {
  const script = fileURLToPath(new URL('../../script/server', import.meta.url));

  // A clone in which everything is built, and whose gateway only says how it was called.
  function builtClone() {
    const clone = path.join(temporaryFolder(), 'a clone');
    const programs = ['script/bootstrap', 'script/build', 'build/release/sluice'];
    for (const name of programs) {
      fs.mkdirSync(path.join(clone, path.dirname(name)), { recursive: true });
      fs.writeFileSync(path.join(clone, name), '#!/bin/sh\n', { mode: 0o755 });
    }
    fs.writeFileSync(path.join(clone, programs.at(-1)), '#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n');
    fs.copyFileSync(script, path.join(clone, 'script/server'));
    return clone;
  }

  for (const [given, wanted] of [
    [[], (clone) => ['run', '--config', path.join(clone, 'config/routes.yaml')]],
    [['--config', 'mine.yaml'], () => ['run', '--config', 'mine.yaml']],
  ]) {
    test(`"script/server ${given.join(' ')}" runs one file, where it was called`, () => {
      const clone = builtClone();
      const cwd = fs.realpathSync(temporaryFolder());
      const said = execFileSync(path.join(clone, 'script/server'), given, { cwd, encoding: 'utf8' });
      assert.deepEqual(said.trimEnd().split('\n'), [cwd, ...wanted(clone)]);
    });
  }
});

describe('sluice healthcheck', () => {
  // The configuration of a running gateway says port 0; the check needs the one it took.
  const asked = (gateway, address) => file(echoConfig({ metrics: { address } }));

  test('0 while the gateway runs, 1 when it does not', async () => {
    let name;
    await withGateway(echoConfig(), async (gateway) => {
      name = asked(gateway, gateway.metricsAt.address);
      assert.deepEqual(await sluice(['healthcheck', '--config', name]),
        { code: 0, stdout: 'ok\n', stderr: '' });
    });
    const { code, stdout, stderr } = await sluice(['healthcheck', '--config', name]);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /connect/);
  });

  test('it asks a unix socket and a wildcard address too', async () => {
    const folder = temporaryFolder();
    const address = `unix:${path.join(folder, 'metrics.sock')}`;
    await withGateway(echoConfig({ metrics: { address } }), async (gateway) => {
      assert.equal((await sluice(['healthcheck', '--config', gateway.file])).code, 0);
    }, { folder });
    await withGateway(echoConfig({ metrics: { address: '0.0.0.0:0' } }), async (gateway) => {
      const name = asked(gateway, `0.0.0.0:${gateway.metricsAt.port}`);
      assert.equal((await sluice(['healthcheck', '--config', name])).code, 0);
    });
  });

  test('a file that is being edited says nothing of the gateway that runs', async () => {
    await withGateway(echoConfig(), async (gateway) => {
      const metrics = { address: gateway.metricsAt.address };
      const edited = file(echoConfig({ metrics, rouets: [], plugins: { gone: { library: 'gone.so' } } }));
      assert.equal((await sluice(['check', edited])).code, 2);
      assert.equal((await sluice(['healthcheck', '--config', edited])).code, 0);
    });
    const { code, stderr } = await sluice(['healthcheck', '--config', file('metrics: [')]);
    assert.equal(code, 2);
    assert.match(stderr, /:1:\d+: /);
  });

  for (const [metrics, why] of [
    [{ address: '127.0.0.1' }, /routes\.yaml:1:\d+: "127\.0\.0\.1": the port is missing/],
    [{ address: '${SLUICE_NOT_SET}' }, /routes\.yaml:1:\d+: the environment variable SLUICE_NOT_SET is not set/],
    [{ adress: '127.0.0.1:0' }, /routes\.yaml:1:\d+: "address" is missing/],
    ['127.0.0.1:0', /routes\.yaml:1:\d+: metrics: expected a mapping/],
  ]) {
    test(`2, and what is wrong with ${JSON.stringify(metrics)}`, async () => {
      const { code, stdout, stderr } = await sluice(
        ['healthcheck', '--config', file(echoConfig({ metrics }))]);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, why);
    });
  }

  test('2 if there is nothing to ask', async () => {
    const { code, stderr } = await sluice(
      ['healthcheck', '--config', file(echoConfig({ metrics: undefined }))]);
    assert.equal(code, 2);
    assert.match(stderr, /metrics\.address/);
  });
});
