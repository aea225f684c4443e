// A table of hostile inputs: each entry is sent over a real socket to a running gateway, and says in
// a few words what was seen. Behind every entry an honest client is served and the descriptors are
// back where they were; at the end the memory is too. Printed whatever became of it:
//
//   row | input | expected | seen
//
// The rows are those of docs/hostile-inputs.md.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { serveHonestClient } from '../support/client.mjs';
import { Gateway, memoryIsOurs, until } from '../support/gateway.mjs';

const megabyte = 1024 * 1024;

// What malloc and the buffers of a worker may keep of what is over.
const memorySlack = 12 * megabyte;

// setup: {config, options (of Gateway.start), honest(gateway)}; entries: [{row, input, expected,
// run(gateway)}]. run returns what was seen, which must equal `expected`.
export function hostileTable(title, { config, options, honest = serveHonestClient, ready }, entries) {
  const seen = new Map();
  let gateway;
  let descriptors;
  let memory;

  before(async () => {
    try {
      gateway = await Gateway.start(typeof config === 'function' ? await config() : config, options);
      await ready?.(gateway);
      // The first clients bring what stays: buffers, threads that look up names, arenas of malloc.
      for (let i = 0; i < 20; ++i) await honest(gateway);
      await atRest();
      descriptors = gateway.descriptors();
      memory = gateway.rssBytes();
    } catch (error) {
      console.error(error); // the reporter tells of the tests that were cancelled, not why
      throw error;
    }
  });

  const atRest = () => gateway.waitMetrics((metrics) =>
    metrics.get('sluice_connections_active') === 0 &&
    metrics.get('sluice_buffered_amount_bytes') === 0, 'nobody is connected, nothing waits');

  for (const entry of entries) {
    test(`row ${entry.row}: ${entry.input} → ${entry.expected}`, async () => {
      try {
        seen.set(entry, await entry.run(gateway));
      } catch (error) {
        seen.set(entry, `${error.message.split('\n')[0]}`);
        descriptors = Math.max(descriptors, gateway.descriptors());
        throw error;
      }
      try {
        assert.equal(seen.get(entry), entry.expected);
        const areBack = () => until(() => gateway.descriptors() <= descriptors, 'the descriptors are back');
        await areBack(); // an honest client may be one too many for a limit before
        await honest(gateway);
        await areBack();
      } catch (error) {
        descriptors = Math.max(descriptors, gateway.descriptors()); // what is left is not the next one's
        throw error;
      }
    });
  }

  test('nobody is left, and no more memory is held than before', async () => {
    await atRest();
    if (!memoryIsOurs) return;
    await until(() => gateway.rssBytes() - memory < memorySlack,
      `less than ${memorySlack / megabyte} MiB more than before`).catch((error) => {
      throw new Error(`${error.message}; it is ${(gateway.rssBytes() - memory) / megabyte} MiB`);
    });
  });

  after(async () => {
    print(title, entries.map((entry) => [`${entry.row}`, entry.input, entry.expected,
      `${seen.get(entry) ?? 'not run'}`]));
    await gateway?.stop();
  });
}

function print(title, rows) {
  const head = ['row', 'input', 'expected', 'seen'];
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i].length)));
  const line = (cells) => cells.map((cell, i) => cell.padEnd(widths[i])).join(' | ').trimEnd();
  console.log([`\n${title}`, line(head), widths.map((width) => '-'.repeat(width)).join('-|-'),
    ...rows.map(line), ''].join('\n'));
}

// The same entry for many inputs: {input: bytes or whatever run takes}.
export const each = (row, inputs, expected, run) => Object.entries(inputs).map(([input, value]) =>
  ({ row, input, expected, run: (gateway) => run(gateway, value) }));
