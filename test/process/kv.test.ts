/**
 * A key-value store that lives in guest RAM migrates while clients write to it without a pause. Every
 * write that was acknowledged, at whichever host, is found at the destination afterwards.
 */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { SelfCheck } from '../../src/guest/driver.ts';
import { Cluster } from './cluster.ts';
import { whereItServes, Writer } from './kv-client.ts';

const CLIENTS = 4;
/** Of each client. */
const KEYS = 200;
/** Writes at the destination that show that the store serves there too. */
const WRITES_AFTER = 200;

void test('every acknowledged write is found at the destination', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', {
    name: 'kv',
    memoryBytes: 32 * MiB,
    fill: 0.3,
    workload: { kind: 'kv', port: 0 },
  });
  const reconnect = () => whereItServes('kv', () => [a, b]);
  const writers = Array.from(
    { length: CLIENTS },
    (_, i) => new Writer({ name: `client${i}`, keys: KEYS, reconnect }),
  );
  const running = Promise.all(writers.map((writer) => writer.run()));
  const all = () => writers.reduce((sum, { writes }) => sum + writes, 0);

  while (writers.some(({ writes }) => writes < KEYS)) await a.show('kv');
  const before = all();
  const result = await a.migrate('kv', 'host-b', { verify: true });
  t.match(result, { outcome: 'completed', verified: true });
  const written = all();
  t.ok(written > before, `${written - before} writes acknowledged during the migration`);
  while (all() < written + WRITES_AFTER) await b.show('kv');
  for (const writer of writers) writer.stop();
  await running;
  t.ok(writers.every(({ reconnections }) => reconnections >= 1));

  const connection = await reconnect();
  const lost: string[] = [];
  for (const writer of writers) lost.push(...(await writer.lost(connection)));
  connection.close();
  t.same(lost, [], 'no acknowledged write is lost or old');
  const check: SelfCheck = await b.check('kv');
  t.match(check, { badPages: 0, kvEntries: CLIENTS * KEYS });
  t.equal(check.versionSum, check.registerSum);
  t.match(await a.list(), [{ name: 'kv', state: 'gone' }]);
});

void test('a store without clients keeps what it holds, migration after migration', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', {
    name: 'kv',
    memoryBytes: 8 * MiB,
    workload: { kind: 'kv', port: 0 },
  });
  const first = await whereItServes('kv', () => [a]);
  t.equal(await first.ask('SET here now'), 'OK');
  t.equal(await first.ask('SET gone soon'), 'OK');
  t.equal(await first.ask('DEL gone'), 'OK');
  first.close();
  t.match(await a.migrate('kv', 'host-b'), { outcome: 'completed' });
  const second = await whereItServes('kv', () => [b]);
  t.equal(await second.ask('GET here'), 'VALUE now');
  t.equal(await second.ask('SET there too'), 'OK');
  second.close();
  t.match(await b.migrate('kv', 'host-a'), { outcome: 'completed' });
  const third = await whereItServes('kv', () => [a]);
  t.equal(await third.ask('GET here'), 'VALUE now');
  t.equal(await third.ask('GET there'), 'VALUE too');
  t.equal(await third.ask('GET gone'), 'NONE');
  third.close();
});
