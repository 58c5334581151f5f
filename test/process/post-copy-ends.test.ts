/** What becomes of a VM whose memory is still coming when a daemon is stopped, or dies, or cannot do it. */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { inPhase } from './breaking.ts';
import { Cluster, smallGuest } from './cluster.ts';
import { answerOf, eventually, runsOn } from './refusal.ts';

const WRITING = {
  memoryBytes: 16 * MiB,
  fill: 1,
  workload: { kind: 'writer', rateBps: 4e6, workingSetBytes: 16 * MiB },
};
/** So that there is a middle in which something can happen. */
const SLOWLY = { mode: 'post-copy', maxBandwidthBps: 4 * MiB } as const;

void test('a source that is told to stop serves the rest first', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  let stopped: Promise<number | null> | undefined;
  const answer = answerOf(
    a.migrate('vm', 'host-b', SLOWLY, (event) => {
      if (inPhase('post-copy')(event)) stopped ??= cluster.stopHost('host-a');
    }),
  );
  await answer;
  t.equal(await stopped, 0);
  t.equal((await b.check('vm')).badPages, 0);
  await runsOn(t, b, 'vm');
});

void test('a destination that is gone for long: its operator is told, and it goes on when it is back', async (t) => {
  await using cluster = await Cluster.start();
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  let killed: Promise<unknown> | undefined;
  const result = await a.migrate('vm', 'host-b', SLOWLY, (event) => {
    if (inPhase('post-copy')(event)) killed ??= cluster.stopHost('host-b', 'SIGKILL');
  });
  await killed;
  t.match(result, { outcome: 'in-doubt', code: 'PAGES_OWED' });
  t.match((await a.list())[0], { name: 'vm' }, 'its memory is kept');
  await cluster.startHost('host-b');
  const { b } = cluster;
  await eventually('settled', async () => (await a.call<unknown[]>('status')).length === 0);
  t.equal((await b.check('vm')).badPages, 0);
  await runsOn(t, b, 'vm');
  t.match(await a.call('history'), [{ outcome: 'completed', code: null }]);
});

void test('a VM that is not whole goes nowhere, whatever is stated of its source', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  let killed: Promise<unknown> | undefined;
  const migration = answerOf(
    a.migrate('vm', 'host-b', SLOWLY, (event) => {
      if (inPhase('post-copy')(event)) killed ??= cluster.stopHost('host-a', 'SIGKILL');
    }),
  );
  await migration;
  await killed;
  const [{ migrationId }] = await b.call<[{ migrationId: string }]>('status');
  await eventually('it waits', async () => (await b.show('vm')).state === 'migrating');
  const owed = { code: 'PAGES_OWED' };
  t.match(await answerOf(b.call('resolve', { migrationId, peerFenced: true })), owed);
  t.match(await answerOf(b.call('vm.resume', { name: 'vm' })), owed);
  t.match(await answerOf(b.migrate('vm', 'host-a', { mode: 'post-copy' })), owed);
  await cluster.startHost('host-a');
  await eventually('settled', async () => (await b.call<unknown[]>('status')).length === 0);
  t.equal((await b.check('vm')).badPages, 0);
  await runsOn(t, b, 'vm');
  t.match(await answerOf(b.call('resolve', { migrationId, peerFenced: true })), {
    code: 'VM_STATE',
  });
});

void test('a destination that cannot refuses before anything is sent', async (t) => {
  await using cluster = await Cluster.start({ 'host-b': { config: { engine: 'portable' } } });
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  for (const options of [
    { mode: 'post-copy' },
    { mode: 'hybrid' },
    { timeoutMs: 60_000, onTimeout: 'post-copy' },
  ]) {
    const result = await a.migrate('vm', 'host-b', options);
    t.match(result, { outcome: 'refused', code: 'POSTCOPY_UNSUPPORTED', bytesSent: 0 });
  }
  t.match(await a.migrate('vm', 'host-b'), { outcome: 'completed' }, 'as usual it goes');
});

void test('a portable source sends to one that can', async (t) => {
  await using cluster = await Cluster.start({ 'host-a': { config: { engine: 'portable' } } });
  const { a, b } = cluster;
  for (const form of ['tls', 'sealed']) {
    await a.call('vm.create', smallGuest('vm', WRITING));
    const result = await a.migrate('vm', 'host-b', { mode: 'post-copy', form });
    t.match(result, { outcome: 'completed', engine: 'portable' });
    t.equal((await b.check('vm')).badPages, 0);
    await b.call('vm.delete', { name: 'vm' });
  }
});

void test('what contradicts itself is refused', async (t) => {
  await using cluster = await Cluster.start();
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  for (const options of [
    { mode: 'post-copy', verify: true },
    { mode: 'hybrid', verify: true },
    { mode: 'post-copy', deadlineMs: 10_000 },
    { mode: 'post-copy', timeoutMs: 10_000, onTimeout: 'pause' },
    { timeoutMs: 10_000, onTimeout: 'post-copy', verify: true },
  ]) {
    const { code } = await answerOf(a.migrate('vm', 'host-b', options));
    t.equal(code, 'REQUEST_INVALID', JSON.stringify(options));
  }
  await runsOn(t, a, 'vm');
});
