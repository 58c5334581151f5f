/**
 * Daemons that end, in order or not, in the middle of a migration, and come back: the guest runs on,
 * the other host is clean, and what was asked can be asked again.
 */
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { MigrationResult } from '../../src/migration/report.ts';
import { Cluster, filesBelow, freePort, smallGuest } from './cluster.ts';
import {
  answerOf,
  eventually,
  guestProcesses,
  isClean,
  runsOn,
  slowly,
  writesOf,
} from './refusal.ts';

/** Of the first guest of a host, which need not have a daemon. */
const guestsOf = (cluster: Cluster, host: string): string[] =>
  guestProcesses(path.join('/dev/shm', path.basename(cluster.dir), host, 'vm1'));

void test('a source that ends in the middle', async (t) => {
  await using cluster = await Cluster.start();
  await cluster.a.call('vm.create', smallGuest('vm1', { memoryBytes: 4 * MiB }));
  const ways = [
    { signal: 'SIGTERM', phase: 'pre-copy', options: {} },
    { signal: 'SIGKILL', phase: 'pre-copy', options: {} },
    // A slow round leaves much to be sent while the guest is paused.
    { signal: 'SIGKILL', phase: 'stop-and-copy', options: { downtimeLimitMs: 60_000 } },
  ] as const;
  for (const { signal, phase, options } of ways) {
    await t.test(`${signal} in ${phase}`, async (t) => {
      const before = await writesOf(cluster.a, 'vm1');
      const { result } = await slowly(cluster.a, 'vm1', 'host-b', phase, options);
      const told = answerOf(result);
      const exit = await endHost(cluster, 'host-a', signal);
      const orderly = signal === 'SIGTERM';
      t.equal(exit, orderly ? 0 : null);
      if (orderly) t.match(await told, { outcome: 'failed', code: 'DAEMON_STOPPING' });
      else await told;
      t.equal(guestsOf(cluster, 'host-a').length, 1, 'the guest lives without its daemon');
      await isClean(t, cluster, 'host-b', 'vm1');

      await cluster.startHost('host-a');
      await runsOn(t, cluster.a, 'vm1');
      t.ok((await writesOf(cluster.a, 'vm1')) > before);
      const history = await cluster.a.call<MigrationResult[]>('history');
      const code = orderly ? 'DAEMON_STOPPING' : 'DAEMON_STOPPED';
      t.match(history.at(-1), { state: 'aborted', outcome: 'failed', code });
    });
  }
  await t.test('and it can be migrated', async (t) => {
    t.match(await cluster.a.migrate('vm1', 'host-b', { verify: true }), { outcome: 'completed' });
    await runsOn(t, cluster.b, 'vm1');
    await isClean(t, cluster, 'host-a', 'vm1');
  });
});

void test('a destination that ends in the middle', async (t) => {
  await using cluster = await Cluster.start();
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm1'));
  for (const [signal, code] of [
    ['SIGTERM', 'DAEMON_STOPPING'],
    // Whichever of its connections is seen to break first.
    ['SIGKILL', 'PEER_CLOSED'],
  ] as const) {
    await t.test(`${signal} in pre-copy`, async (t) => {
      const { result } = await slowly(a, 'vm1', 'host-b');
      const exit = await endHost(cluster, 'host-b', signal);
      t.equal(exit, signal === 'SIGTERM' ? 0 : null);
      t.match(await result, { outcome: 'failed', code });
      await runsOn(t, a, 'vm1');
      await cluster.startHost('host-b');
      await isClean(t, cluster, 'host-b', 'vm1');
    });
  }
  await t.test('and it can be migrated', async (t) => {
    t.match(await a.migrate('vm1', 'host-b', { verify: true }), { outcome: 'completed' });
    await runsOn(t, cluster.b, 'vm1');
  });
});

void test('a daemon that is told to end after the handover began finishes it', async (t) => {
  await using cluster = await Cluster.start();
  await cluster.a.call('vm.create', smallGuest('vm1'));
  const { result } = await slowly(cluster.a, 'vm1', 'host-b', 'handover', {
    maxBandwidthBps: 1024 * MiB,
  });
  const told = answerOf(result);
  t.equal(await endHost(cluster, 'host-a', 'SIGTERM'), 0);
  t.match(await told, { outcome: 'completed' });
  await runsOn(t, cluster.b, 'vm1');
  await cluster.startHost('host-a');
  t.match(await cluster.a.list(), [{ name: 'vm1', state: 'gone', movedTo: 'host-b' }]);
  t.same(guestsOf(cluster, 'host-a'), []);
});

void test('starting, stopping, being asked how it is', async (t) => {
  await using cluster = Cluster.empty();
  const { pki, peers } = cluster;
  const metricsAt = `127.0.0.1:${await freePort()}`;
  for (const name of ['host-a', 'host-b']) {
    pki.issue(name, 'host');
    peers[name] = `127.0.0.1:${await freePort()}`;
  }
  const config = { metrics: metricsAt, role: 'source' };
  await cluster.startHost('host-a', { config });
  await cluster.startHost('host-b');
  const { a } = cluster;

  await t.test('a second daemon on the same state directory is refused', async (t) => {
    await t.rejects(
      cluster.startHost('host-a', { config: { listen: `127.0.0.1:${await freePort()}` } }),
      /ended with 1: .*DAEMON_RUNNING/,
    );
    t.match(await a.call('hello'), { host: 'host-a' }, 'the first is untouched');
  });
  await t.test('an address in use is said', async (t) => {
    pki.issue('host-c', 'host');
    await t.rejects(
      cluster.startHost('host-c', { config: { listen: peers['host-a'] } }),
      /ended with 1: .*LISTEN_FAILED/,
    );
    const open = { listen: `127.0.0.1:${await freePort()}`, metrics: '0.0.0.0:9100' };
    await t.rejects(
      cluster.startHost('host-c', { config: open }),
      /ended with 1: .*LISTEN_FAILED.*loopback/s,
      'metrics for everybody',
    );
  });
  await t.test('a guest inherits nothing of its daemon', async (t) => {
    const { stateDir } = cluster.get('host-a');
    await a.call('vm.create', smallGuest('apart'));
    const { guest } = await a.show('apart');
    const open = openFiles(Number(guest?.['pid']));
    t.ok(open.some((file) => file.startsWith(path.join(stateDir, 'vms', 'apart'))));
    t.same(
      open.filter((file) => file.startsWith(stateDir) && !file.includes('/vms/apart/')),
      [],
      'not the records',
    );
    await a.call('vm.delete', { name: 'apart' });
  });
  await t.test('metrics, health, readiness', async (t) => {
    t.equal((await ask(metricsAt, '/healthz')).status, 200);
    t.equal(
      (await ask(metricsAt, '/readyz')).status,
      200,
      'a source is ready though it receives nothing',
    );
    t.equal((await ask(metricsAt, '/else')).status, 404);
    await a.call('vm.create', smallGuest('moves'));
    await a.call('vm.create', smallGuest('stays'));
    t.match(await a.migrate('moves', 'host-b'), { outcome: 'completed' });
    t.match(await a.migrate('stays', 'host-b', { timeoutMs: 100, maxBandwidthBps: MiB }), {
      code: 'TIMEOUT',
    });
    const text = await (await ask(metricsAt, '/metrics')).text();
    for (const line of [
      'migd_migrations_total{outcome="completed",code=""} 1',
      'migd_migrations_total{outcome="failed",code="TIMEOUT"} 1',
      'migd_migrations_active{direction="outgoing"} 0',
      'migd_migrations_active{direction="incoming"} 0',
      'migd_migrations_queued 0',
      'migd_migration_duration_seconds_count 2',
      'migd_migration_downtime_seconds_count 1',
      'migd_vms{state="active"} 1',
      'migd_vms{state="gone"} 1',
    ]) {
      t.ok(text.split('\n').includes(line), line);
    }
    t.match(text, /^migd_sent_bytes_total \d{5,}$/m);
  });
  await t.test('SIGHUP reads a new revocation list and drops no migration', async (t) => {
    const { process: child, log } = cluster.get('host-b');
    const { migrationId, result } = await slowly(a, 'stays', 'host-b');
    pki.revoke('host-a');
    child.kill('SIGHUP');
    await eventually('the list is read', async () => {
      await cluster.b.call('hello');
      return log.some((line) => line.includes('read anew'));
    });
    t.match(await cluster.b.call('status'), [{ migrationId, vm: 'stays' }], 'it goes on');
    await a.call('cancel', { migrationId });
    t.match(await result, { code: 'CANCELLED' });
    t.match(await answerOf(a.migrate('stays', 'host-b')), { code: 'CERT_REVOKED' });
    await runsOn(t, a, 'stays');
    const list = path.join(cluster.certs, 'ca.crl');
    const good = readFileSync(list);
    writeFileSync(list, '');
    child.kill('SIGHUP');
    await eventually('the damage is said', async () => {
      await cluster.b.call('hello');
      return log.some((line) => line.includes('the old certificates stay in force'));
    });
    t.match(await answerOf(a.migrate('stays', 'host-b')), { code: 'CERT_REVOKED' }, 'in force');
    writeFileSync(list, good);
  });
  await t.test('a socket that a dead daemon left', async (t) => {
    const socket = path.join(cluster.get('host-a').stateDir, 'migd.sock');
    await cluster.stopHost('host-a', 'SIGKILL');
    t.ok(existsSync(socket), 'it is there');
    await cluster.startHost('host-a', { config });
    await runsOn(t, cluster.a, 'stays');
  });
  await t.test('an orderly end leaves nothing but guests', async (t) => {
    const { stateDir, memoryDir } = cluster.get('host-a');
    await cluster.a.call('vm.delete', { name: 'stays' });
    t.equal(await cluster.stopHost('host-a'), 0);
    t.notOk(existsSync(memoryDir), 'no memory');
    t.same(filesBelow(path.join(stateDir, 'vms')), [], 'no VM');
    t.notOk(existsSync(path.join(stateDir, 'migd.sock')), 'no socket');
    t.same(guestProcesses(stateDir), [], 'no process');
    t.equal(await cluster.stopHost('host-b', 'SIGINT'), 0, 'SIGINT is as good');
  });
});

const ask = (address: string, at: string) => fetch(`http://${address}${at}`);

/** Ends a daemon while its clients still listen. */
async function endHost(
  cluster: Cluster,
  name: string,
  signal: NodeJS.Signals,
): Promise<number | null> {
  const { process: child } = cluster.get(name);
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
  return cluster.stopHost(name);
}

const openFiles = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      // Closed since.
      return [];
    }
  });
