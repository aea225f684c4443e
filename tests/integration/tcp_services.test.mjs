// Real services behind tcp routes: mosquitto with mqtt.js, and Redis.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import mqtt from 'mqtt';
import { Client } from '../support/client.mjs';
import { Program, answers, freePort } from '../support/services.mjs';
import { echoConfig, patienceMs, temporaryFolder, until, withGateway, within }
  from '../support/gateway.mjs';

const megabyte = 1024 * 1024;

// ---- MQTT

async function startMosquitto(t, port) {
  const file = path.join(temporaryFolder(), 'mosquitto.conf');
  fs.writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\n` +
    'max_packet_size 100000000\nmax_queued_bytes 0\nmax_inflight_messages 0\n');
  return Program.start(t, 'mosquitto', ['-c', file], { ready: () => answers(port) });
}

const mqttConfig = (port) => echoConfig({
  routes: [{ path: '/mqtt', tcp: { upstream: `127.0.0.1:${port}` }, subprotocols: ['mqtt'] }],
});

async function connectMqtt(t, gateway, options = {}) {
  const client = await within(mqtt.connectAsync(gateway.url('/mqtt'), {
    reconnectPeriod: 0, connectTimeout: patienceMs, clientId: `test-${randomBytes(4).toString('hex')}`,
    ...options,
  }), 'an MQTT connection');
  t.after(() => client.end(true));
  return client;
}

// The first `count` messages that the client gets.
function messages(client, count) {
  const got = [];
  return within(new Promise((resolve) => {
    client.on('message', (topic, payload, packet) => {
      got.push({ topic, payload, qos: packet.qos, retain: packet.retain });
      if (got.length === count) resolve(got);
    });
  }), `${count} messages`, 6 * patienceMs);
}

test('mosquitto with mqtt.js: publish and subscribe with each QoS', async (t) => {
  const port = await freePort();
  await startMosquitto(t, port);
  await withGateway(mqttConfig(port), async (gateway) => {
    const reader = await connectMqtt(t, gateway);
    const writer = await connectMqtt(t, gateway, { protocolVersion: 5 });
    await gateway.waitLog({ event: 'open', protocol: 'mqtt' });
    const count = 100;
    for (const qos of [0, 1, 2]) {
      const topic = `t/${qos}`;
      await reader.subscribeAsync(topic, { qos });
      const arrive = messages(reader, count);
      const sent = [];
      for (let i = 0; i < count; ++i) sent.push(writer.publishAsync(topic, `${i} 你好`, { qos }));
      await Promise.all(sent);
      const got = await arrive;
      assert.deepEqual(got.map(({ payload }) => payload.toString()),
        Array.from({ length: count }, (_, i) => `${i} 你好`));
      assert.ok(got.every((message) => message.topic === topic && message.qos === qos));
      reader.removeAllListeners('message');
    }
    await reader.endAsync();
    await writer.endAsync();
    await gateway.waitMetrics((m) => m.get('sluice_connections_active') === 0);
  });
});

test('mosquitto: a large retained message comes whole to who subscribes later', async (t) => {
  const port = await freePort();
  await startMosquitto(t, port);
  await withGateway(mqttConfig(port), async (gateway) => {
    const payload = randomBytes(16 * megabyte);
    const writer = await connectMqtt(t, gateway);
    await writer.publishAsync('large', payload, { qos: 1, retain: true });
    await writer.endAsync();
    const reader = await connectMqtt(t, gateway);
    const arrive = messages(reader, 1);
    await reader.subscribeAsync('large', { qos: 1 });
    const [message] = await arrive;
    assert.equal(message.retain, true);
    assert.ok(message.payload.equals(payload), 'the retained message differs');
    await reader.endAsync();
  });
});

test('mosquitto is killed and comes back: clients hear of it and connect again', async (t) => {
  const port = await freePort();
  const broker = await startMosquitto(t, port);
  await withGateway(mqttConfig(port), async (gateway) => {
    const client = await connectMqtt(t, gateway, { reconnectPeriod: 100 });
    client.on('error', () => {}); // the 502 while the broker is gone
    const closed = new Promise((resolve) => client.once('close', resolve));
    await broker.kill();
    await within(closed, 'the end of the connection');
    assert.equal((await Client.refused(gateway.url('/mqtt'), { protocols: ['mqtt'] })).status, 502);
    const back = new Promise((resolve) => client.once('connect', resolve));
    await startMosquitto(t, port);
    await within(back, 'the connection to the new broker');
    const arrive = messages(client, 1);
    await client.subscribeAsync('again', { qos: 1 });
    await client.publishAsync('again', 'here', { qos: 1 });
    assert.equal((await arrive)[0].payload.toString(), 'here');
    await client.endAsync();
  });
});

// ---- Redis

const startRedis = (t, port, ...more) => Program.start(t, 'redis-server', [
  '--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
  '--dir', temporaryFolder(), '--client-output-buffer-limit', 'normal', '0', '0', '0', ...more,
], { ready: () => answers(port) });

const redisConfig = (upstream) => echoConfig({ routes: [{ path: '/redis', tcp: { upstream } }] });

const command = (...words) => Buffer.concat([Buffer.from(`*${words.length}\r\n`),
  ...words.flatMap((word) => {
    const bytes = Buffer.from(word);
    return [Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')];
  })]);

// What Redis says, as one stream of bytes.
class RedisClient {
  #pieces = [];
  #size = 0;

  static async open(gateway) {
    const redis = new RedisClient();
    redis.client = await Client.open(gateway.url('/redis'));
    return redis;
  }
  send(...words) { this.client.send(command(...words)); }
  async take(size) {
    while (this.#size < size) {
      const { data } = await this.client.next();
      this.#pieces.push(data);
      this.#size += data.length;
    }
    const all = Buffer.concat(this.#pieces);
    this.#pieces = [all.subarray(size)];
    this.#size -= size;
    return all.subarray(0, size);
  }
  async expect(text) { assert.equal((await this.take(Buffer.byteLength(text))).toString(), text); }
}

test('Redis: raw RESP in binary frames', async (t) => {
  const port = await freePort();
  await startRedis(t, port);
  await withGateway(redisConfig(`127.0.0.1:${port}`), async (gateway) => {
    const redis = await RedisClient.open(gateway);
    redis.send('PING');
    await redis.expect('+PONG\r\n');
    const value = randomBytes(32 * megabyte);
    redis.send('SET', 'large', value);
    await redis.expect('+OK\r\n');
    redis.send('GET', 'large');
    await redis.expect(`$${value.length}\r\n`);
    assert.ok((await redis.take(value.length)).equals(value), 'the value differs');
    await redis.expect('\r\n');

    // A command that is cut into bytes, and many commands in one message.
    for (const byte of command('SET', 'small', '你好')) redis.client.send(Buffer.from([byte]));
    await redis.expect('+OK\r\n');
    redis.client.send(Buffer.concat(Array.from({ length: 10_000 }, () => command('INCR', 'n'))));
    for (let i = 1; i <= 10_000; ++i) await redis.expect(`:${i}\r\n`);

    redis.send('QUIT');
    await redis.expect('+OK\r\n');
    assert.deepEqual(await redis.client.end(), { code: 1000, reason: '' });
  });
});

test('Redis on a unix socket', async (t) => {
  const port = await freePort();
  const socket = path.join(temporaryFolder(), 'redis.sock');
  await startRedis(t, port, '--unixsocket', socket);
  await until(() => answers(socket), 'the unix socket');
  await withGateway(redisConfig(`unix:${socket}`), async (gateway) => {
    const redis = await RedisClient.open(gateway);
    redis.send('PING');
    await redis.expect('+PONG\r\n');
    await redis.client.close();
  });
});

test('Redis is killed under load and comes back', async (t) => {
  const port = await freePort();
  const server = await startRedis(t, port);
  await withGateway(redisConfig(`127.0.0.1:${port}`), async (gateway) => {
    const clients = [];
    for (let i = 0; i < 20; ++i) clients.push(await RedisClient.open(gateway));
    const descriptors = gateway.descriptors();
    const load = clients.map(async (redis) => {
      for (let i = 0; redis.client.socket.readyState === 1; ++i) {
        redis.send('SET', 'key', 'x'.repeat(10_000));
        try {
          await redis.expect('+OK\r\n');
        } catch {
          return;
        }
      }
    });
    await gateway.waitMetrics((m) =>
      m.get('sluice_messages_total', { direction: 'client_to_upstream' }) > 1000);
    await server.kill();
    await Promise.all(load);
    // With what the kernel had not handed to Redis yet it resets the connection, else it ends it.
    for (const redis of clients) {
      const { code } = await redis.client.end();
      assert.ok(code === 1000 || code === 1014, `close code ${code}`);
    }
    await until(() => gateway.descriptors() <= descriptors - 2 * clients.length, 'sockets closed');
    await startRedis(t, port);
    const redis = await RedisClient.open(gateway);
    redis.send('PING');
    await redis.expect('+PONG\r\n');
    await redis.client.close();
  });
});
