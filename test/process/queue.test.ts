/** Many migrations at once, between real daemons: who waits, whose turn it is, and how waiting ends. */
import { test, type Test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { HostView, MigrationView } from '../../src/daemon/api/schema.ts';
import type { MigrationEvent, MigrationResult } from '../../src/migration/report.ts';
import { Cluster, smallGuest, type Api, type Daemon } from './cluster.ts';
import { jsonLines, migctl, startMigctl } from './migctl.ts';
import { answerOf, cancel, eventually, isClean, runsOn, slowly } from './refusal.ts';

interface Line {
  readonly msg: string;
  readonly migration: string;
  readonly vm: string;
}

/** What a daemon told of its migrations, in order: `started vm1`, `result vm1`. */
async function story(api: Api, { log }: Daemon, ends: number): Promise<string[]> {
  const told = () =>
    log
      .filter((line) => /"msg":"migration (?:started|result)"/.test(line))
      .map((line) => JSON.parse(line) as Line)
      .map(({ msg, vm }) => `${msg.replace('migration ', '')} ${vm}`);
  await eventually('its log is read', async () => {
    await api.call('hello');
    return told().filter((each) => each.startsWith('result')).length >= ends;
  });
  return told();
}

/** Asks, and resolves when it waits; with its end as a promise. */
async function waiting(api: Api, vm: string, to: string, options: object = {}) {
  const waits = Promise.withResolvers<Extract<MigrationEvent, { event: 'queued' }>>();
  const result = api.migrate(vm, to, options, (event) => {
    if (event.event === 'queued') waits.resolve(event);
  });
  result.catch((error: unknown) => waits.reject(error));
  const { migrationId, place, code } = await waits.promise;
  return { migrationId, place, code, result };
}

const statusOf = (api: Api) => api.call<MigrationView[]>('status');

async function make(api: Api, ...names: readonly string[]): Promise<void> {
  for (const name of names) await api.call('vm.create', smallGuest(name));
}

const limits = (more: object) => ({ config: { limits: more } });

void test('six at once, two at a time', async (t) => {
  await using cluster = await Cluster.start({ 'host-a': limits({ outgoingMax: 2 }) });
  const { a, b } = cluster;
  const names = ['vm1', 'vm2', 'vm3', 'vm4', 'vm5', 'vm6'];
  await make(a, ...names);
  const results = await Promise.all(names.map((vm) => a.migrate(vm, 'host-b')));
  for (const result of results) t.match(result, { outcome: 'completed' }, result.vm);
  t.ok((results[5]?.queuedMs ?? 0) > (results[0]?.queuedMs ?? 0), 'the last has waited');
  const told = await story(a, cluster.get('host-a'), names.length);
  let leaving = 0;
  let most = 0;
  for (const each of told) {
    leaving += each.startsWith('started') ? 1 : -1;
    most = Math.max(most, leaving);
  }
  t.equal(most, 2);
  const started = told.filter((each) => each.startsWith('started'));
  t.same(
    started,
    names.map((vm) => `started ${vm}`),
    'in order of arrival',
  );
  for (const vm of names) await runsOn(t, b, vm);
});

void test('those that wait', async (t) => {
  await using cluster = await Cluster.start({
    'host-a': limits({ outgoingMax: 2, perPeerMax: 1, queueMax: 3 }),
    'host-c': {},
  });
  const { a } = cluster;
  await make(a, 'first', 'low', 'high', 'usual', 'other', 'late');
  const first = await slowly(a, 'first', 'host-b');
  const low = await waiting(a, 'low', 'host-b', { priority: 1 });
  const high = await waiting(a, 'high', 'host-b', { priority: 9 });
  const usual = await waiting(a, 'usual', 'host-b');

  await t.test('are seen', async (t) => {
    t.same([low.place, high.place, usual.place], [1, 1, 2], 'when they came');
    const places = (await statusOf(a)).filter(({ phase }) => phase === 'queued');
    t.same(Object.fromEntries(places.map(({ vm, place }) => [vm, place])), {
      high: 1,
      usual: 2,
      low: 3,
    });
    t.match(await a.call('status', { migrationId: low.migrationId }), [{ phase: 'queued' }]);
    t.match(
      (await a.list()).find(({ name }) => name === 'low'),
      { state: 'queued' },
    );
    const hosts = await a.call<HostView[]>('hosts');
    t.match(
      hosts.find(({ name }) => name === 'host-b'),
      { leaving: 1, queued: 3, coming: 0 },
    );
    const shown = await migctl(cluster, '--state-dir state/host-a status');
    t.match(shown.out, /low .* queued \(3\)/);
    t.match(await a.call('history', { vm: 'low' }), [{ state: 'started', outcome: null }]);
  });
  await t.test('hold up nobody who goes elsewhere', async (t) => {
    t.match(await a.migrate('other', 'host-c'), { outcome: 'completed', queuedMs: Number });
  });
  await t.test('are locked, and no more than may', async (t) => {
    t.match(await answerOf(a.migrate('low', 'host-c')), { code: 'VM_MIGRATING' });
    t.match(await answerOf(a.call('vm.pause', { name: 'low' })), { code: 'VM_MIGRATING' });
    t.match(await answerOf(a.migrate('late', 'host-b')), { code: 'QUEUE_FULL' });
    await runsOn(t, a, 'late');
  });
  await t.test('may be cancelled', async (t) => {
    t.match(await cancel(a, usual.migrationId), { outcome: 'cancelled', code: 'CANCELLED' });
    t.match(await usual.result, { outcome: 'cancelled', rounds: [], bytesSent: 0 });
    await runsOn(t, a, 'usual');
    await isClean(t, cluster, 'host-b', 'usual');
  });
  await t.test('run out of time', async (t) => {
    const { result } = await waiting(a, 'usual', 'host-b', { timeoutMs: 100 });
    t.match(await result, { outcome: 'failed', code: 'TIMEOUT', queuedMs: Number });
    await runsOn(t, a, 'usual');
  });
  await t.test('may be interrupted by Ctrl-C', async (t) => {
    const program = startMigctl(cluster, '--state-dir state/host-a migrate usual --to host-b');
    await program.said(/usual waits for its turn, place 2/);
    program.signal('SIGINT');
    t.match(await program.ended, { exit: 4 });
  });
  await t.test('have their turns by priority', async (t) => {
    await cancel(a, first.migrationId);
    t.match(await high.result, { outcome: 'completed' });
    t.match(await low.result, { outcome: 'completed' });
    const told = await story(a, cluster.get('host-a'), 7);
    const started = told.filter((each) => each.startsWith('started'));
    t.same(started, ['started first', 'started other', 'started high', 'started low']);
  });
});

void test('what waits ends with the daemon, and the VM runs on', async (t) => {
  await using cluster = await Cluster.start({ 'host-a': limits({ outgoingMax: 1 }) });
  await make(cluster.a, 'first', 'second');
  const first = await slowly(cluster.a, 'first', 'host-b');
  const stopped = await waiting(cluster.a, 'second', 'host-b');
  const told = Promise.all([first.result, stopped.result]);
  cluster.get('host-a').process.kill('SIGTERM');
  t.match(await told, [{ code: 'DAEMON_STOPPING' }, { code: 'DAEMON_STOPPING', queuedMs: Number }]);
  t.equal(await cluster.stopHost('host-a'), 0);

  await cluster.startHost('host-a', limits({ outgoingMax: 1 }));
  await runsOn(t, cluster.a, 'second');
  const again = await slowly(cluster.a, 'first', 'host-b');
  const killed = await waiting(cluster.a, 'second', 'host-b');
  // Nobody is there to tell.
  for (const { result } of [again, killed]) result.catch(() => undefined);
  await cluster.stopHost('host-a', 'SIGKILL');

  await cluster.startHost('host-a');
  await runsOn(t, cluster.a, 'second');
  const rows = await cluster.a.call<{ code: string }[]>('history', { vm: 'second' });
  t.same(
    rows.map(({ code }) => code),
    ['DAEMON_STOPPING', 'DAEMON_STOPPED'],
    'whoever was told its id finds what became of it',
  );
  t.match(await cluster.a.migrate('second', 'host-b'), { outcome: 'completed' });
});

void test('a guest that dies while its request waits', async (t) => {
  await using cluster = await Cluster.start({ 'host-a': limits({ outgoingMax: 1 }) });
  const { a } = cluster;
  await make(a, 'first', 'second');
  const first = await slowly(a, 'first', 'host-b');
  const { result } = await waiting(a, 'second', 'host-b');
  const { guest } = await a.show('second');
  process.kill(Number(guest?.['pid']), 'SIGKILL');
  t.match(await result, { outcome: 'failed', code: 'GUEST_FAILED' });
  await cancel(a, first.migrationId);
  t.match(await first.result, { code: 'CANCELLED' });
});

void test('a destination without a place is waited for', async (t) => {
  await using cluster = await Cluster.start({
    'host-a': limits({ busyMs: 60_000 }),
    'host-b': limits({ incomingMax: 1 }),
  });
  const { a, b } = cluster;
  await make(a, 'first', 'second');
  const first = await slowly(a, 'first', 'host-b');
  const second = await sentBack(a, 'second');
  t.not(second.ids[0], second.ids[1], 'another try is another migration');
  await cancel(a, first.migrationId);
  const result = await second.result;
  t.match(result, { outcome: 'completed', queuedMs: Number });
  await runsOn(t, b, 'second');
  const byFirstId = { migrationId: second.ids[0] };
  t.match(await a.call('status', byFirstId), [{ outcome: 'completed' }]);
  t.match(await a.call('watch', byFirstId), { migrationId: result.migrationId });
  t.match(await answerOf(a.call('cancel', byFirstId)), { code: 'CANCEL_TOO_LATE' });
  t.match(await a.call('history', { vm: 'second' }), [
    { outcome: 'refused', code: 'DEST_BUSY', next: String },
  ]);

  const blocked = await slowly(a, 'first', 'host-b');
  await make(a, 'third');
  const third = await sentBack(a, 'third');
  const [row] = await a.call<MigrationView[]>('status', { migrationId: third.ids[0] });
  t.match(row, { vm: 'third', phase: 'queued', migrationId: third.ids[1] });
  t.match(await a.call('cancel', { migrationId: third.ids[0] }), { outcome: 'cancelled' });
  t.match(await third.result, { code: 'CANCELLED' });
  await runsOn(t, a, 'third');
  await cancel(a, blocked.migrationId);
});

/** Asks, and resolves when the destination has sent it back; `ids`: of its tries so far. */
async function sentBack(api: Api, vm: string) {
  const ids: string[] = [];
  const back = Promise.withResolvers<void>();
  const result: Promise<MigrationResult> = api.migrate(vm, 'host-b', {}, (event) => {
    if (event.event === 'started') ids.push(event.migrationId);
    if (event.event !== 'queued') return;
    if (event.code !== 'DEST_BUSY') back.reject(new Error(`${event.code}`));
    ids.push(event.migrationId);
    back.resolve();
  });
  result.catch((error: unknown) => back.reject(error));
  await back.promise;
  return { ids, result };
}

void test('all together keep to the bandwidth of their host', async (t) => {
  const bandwidthBps = 8 * MiB;
  await using cluster = await Cluster.start({
    'host-a': limits({ outgoingMax: 2, bandwidthBps }),
  });
  const { a } = cluster;
  for (const name of ['vm1', 'vm2']) {
    await a.call('vm.create', smallGuest(name, { fill: 1, workload: { kind: 'idle' } }));
  }
  const askedAt = performance.now();
  const results = await Promise.all(['vm1', 'vm2'].map((vm) => a.migrate(vm, 'host-b')));
  const tookMs = performance.now() - askedAt;
  const bytes = results.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
  t.ok(bytes >= 32 * MiB);
  // As fast as they could it is a fraction of a second; a burst at the start is allowed for.
  t.ok(tookMs >= (bytes / bandwidthBps) * 900, `${bytes} bytes in ${Math.round(tookMs)} ms`);
  checkShares(t, results);
});

/** Neither had the road for itself while the other waited. */
function checkShares(t: Test, results: readonly MigrationResult[]): void {
  for (const { vm, rounds } of results) {
    t.ok((rounds[0]?.bandwidthBps ?? Infinity) < 6 * MiB, `${vm} shared`);
  }
}

void test('the end of one that waits is told like all ends', async (t) => {
  await using cluster = await Cluster.start({ 'host-a': limits({ outgoingMax: 1 }) });
  const { a } = cluster;
  await make(a, 'first', 'second');
  const first = await slowly(a, 'first', 'host-b');
  const program = startMigctl(
    cluster,
    '--state-dir state/host-a migrate second --to host-b --priority 7 --timeout 200ms --json',
  );
  const lines = jsonLines(await program.ended);
  t.match(lines, [
    { event: 'queued', vm: 'second', priority: 7, place: 1, code: null },
    { event: 'result', outcome: 'failed', code: 'TIMEOUT', totalMs: 0 },
  ]);
  await cancel(a, first.migrationId);
});
