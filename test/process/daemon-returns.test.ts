/**
 * A daemon that is killed and comes back, and what it makes of the guests it finds: paused by their
 * operator, only half made, frozen.
 */
import { once } from 'node:events';
import { existsSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { guestIn } from '../../src/guest/living-process.ts';
import { Cluster, freePort, smallGuest } from './cluster.ts';
import { answerOf, eventually, isClean, runsOn, writesOf } from './refusal.ts';

const VM = 'vm1';

/** One host; what is about migrations is elsewhere. */
async function oneHost(): Promise<Cluster> {
  const cluster = Cluster.empty();
  cluster.pki.issue('host-a', 'host');
  cluster.peers['host-a'] = `127.0.0.1:${await freePort()}`;
  await cluster.startHost('host-a');
  return cluster;
}

/** Kills the daemon while a guest that takes long to make is being made; `then` with its process. */
async function killedWhileMaking(cluster: Cluster, then: (pid: number) => void): Promise<void> {
  const { memoryDir, process: daemon } = cluster.get('host-a');
  const made = answerOf(
    cluster.a.call('vm.create', smallGuest(VM, { memoryBytes: 256 * MiB, fill: 1 })),
  );
  let guest = guestIn(path.join(memoryDir, VM));
  for (; guest === undefined; guest = guestIn(path.join(memoryDir, VM))) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  then(guest.pid);
  const exited = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await exited;
  await made;
  await cluster.stopHost('host-a', 'SIGKILL');
}

void test('an operator paused it: it stays paused', async (t) => {
  await using cluster = await oneHost();
  await cluster.a.call('vm.create', smallGuest(VM));
  await cluster.a.call('vm.pause', { name: VM });
  const writes = await writesOf(cluster.a, VM);
  await cluster.stopHost('host-a', 'SIGKILL');
  await cluster.startHost('host-a');
  t.match(await cluster.a.list(), [{ name: VM, state: 'paused' }]);
  t.equal(await writesOf(cluster.a, VM), writes);
  await cluster.a.call('vm.resume', { name: VM });
  await runsOn(t, cluster.a, VM);
});

void test('killed while a guest is being made: nothing of it is left', async (t) => {
  await using cluster = await oneHost();
  await killedWhileMaking(cluster, () => undefined);
  await cluster.startHost('host-a');
  t.same(await cluster.a.list(), []);
  await isClean(t, cluster, 'host-a', VM);
  await cluster.a.call('vm.create', smallGuest(VM));
  await runsOn(t, cluster.a, VM);
});

void test('its records are lost: it does not begin anew over the VMs that are there', async (t) => {
  await using cluster = await oneHost();
  await cluster.a.call('vm.create', smallGuest(VM));
  const { stateDir, memoryDir } = cluster.get('host-a');
  await cluster.stopHost('host-a', 'SIGKILL');
  const records = path.join(stateDir, 'records.lmdb');
  renameSync(records, `${records}.lost`);
  await t.rejects(cluster.startHost('host-a'), { message: /STORE_FAILED.*no records/s });
  t.ok(guestIn(path.join(memoryDir, VM)), 'it lives');
  rmSync(records);
  renameSync(`${records}.lost`, records);
  await cluster.startHost('host-a');
  await runsOn(t, cluster.a, VM);
});

void test('half made and frozen: it is let be until it ends', async (t) => {
  await using cluster = await oneHost();
  let pid = 0;
  await killedWhileMaking(cluster, (guest) => {
    pid = guest;
    process.kill(pid, 'SIGSTOP');
  });
  const { memoryDir } = await cluster.startHost('host-a');
  t.same(await cluster.a.list(), []);
  t.ok(existsSync(path.join(memoryDir, VM)));
  t.match(await answerOf(cluster.a.call('vm.create', smallGuest(VM))), { code: 'GUEST_SILENT' });
  process.kill(pid, 'SIGCONT');
  await eventually('it ends', () =>
    Promise.resolve(guestIn(path.join(memoryDir, VM)) === undefined),
  );
  t.notOk(existsSync(path.join(memoryDir, VM, 'agent.sock')), 'nobody waits for it to be ready');
  await cluster.a.call('vm.create', smallGuest(VM));
  await runsOn(t, cluster.a, VM);
});

void test('frozen: it is ours again when it is thawed', async (t) => {
  await using cluster = await oneHost();
  await cluster.a.call('vm.create', smallGuest(VM));
  const { guest } = await cluster.a.show(VM);
  await cluster.stopHost('host-a', 'SIGKILL');
  process.kill(Number(guest?.['pid']), 'SIGSTOP');
  await cluster.startHost('host-a');
  t.match(await cluster.a.list(), [{ name: VM, state: 'lost' }]);
  t.match(await answerOf(cluster.a.call('vm.delete', { name: VM })), { code: 'GUEST_SILENT' });
  process.kill(Number(guest?.['pid']), 'SIGCONT');
  await eventually('it is found', async () => {
    const [row] = await cluster.a.list();
    return row?.state === 'running';
  });
  await runsOn(t, cluster.a, VM);
});
