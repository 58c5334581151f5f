/** Every migration that is given up before the handover, or is asked to be after it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { Cluster, smallGuest } from './cluster.ts';
import {
  answerOf,
  cancel,
  eventually,
  isClean,
  runsOn,
  SLOW,
  slowly,
  survives,
  type Attempt,
} from './refusal.ts';

void test('a migration that is given up', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  const refused = (name: string, attempt: Attempt) =>
    t.test(name, (t) => survives(t, cluster, attempt));

  await refused('it does not converge', {
    vm: {
      memoryBytes: 4 * MiB,
      fill: 0,
      workload: { kind: 'writer', rateBps: 100e6, workingSetBytes: MiB },
    },
    attempt: (vm) =>
      a.migrate(vm, 'host-b', { roundsMax: 2, maxBandwidthBps: 4 * MiB, downtimeLimitMs: 10 }),
    code: 'NOT_CONVERGING',
  });
  await refused('its time is over', {
    attempt: (vm) => a.migrate(vm, 'host-b', { ...SLOW, timeoutMs: 500 }),
    code: 'TIMEOUT',
  });
  for (const phase of ['started', 'attestation', 'admission', 'pre-copy'] as const) {
    await refused(`cancelled when ${phase}`, {
      attempt: async (vm) => {
        const { migrationId, result } = await slowly(a, vm, 'host-b', phase);
        await cancel(a, migrationId);
        return result;
      },
      code: 'CANCELLED',
    });
  }
  await refused('cancelled in stop-and-copy, the guest paused', {
    vm: { memoryBytes: 4 * MiB, fill: 0.2 },
    attempt: async (vm) => {
      // What a slow round leaves dirty is sent with the guest paused, as slowly.
      const { migrationId, result } = await slowly(a, vm, 'host-b', 'stop-and-copy', {
        downtimeLimitMs: 60_000,
      });
      await cancel(a, migrationId);
      return result;
    },
    code: 'CANCELLED',
  });
  await t.test('cancelled and asked again at once, three times', async (t) => {
    await a.call('vm.create', smallGuest('again'));
    for (let i = 0; i < 3; i += 1) {
      const { migrationId, result } = await slowly(a, 'again', 'host-b');
      await cancel(a, migrationId);
      t.match(await result, { outcome: 'cancelled', code: 'CANCELLED' });
    }
    t.match(await a.migrate('again', 'host-b', { verify: true }), { outcome: 'completed' });
    await runsOn(t, b, 'again');
  });
  await t.test('a cancel that comes too late says so, whenever it comes', async (t) => {
    await a.call('vm.create', smallGuest('late'));
    const { migrationId, result } = await slowly(a, 'late', 'host-b', 'handover', {
      maxBandwidthBps: 1024 * MiB,
    });
    t.match(await answerOf(cancel(a, migrationId)), { code: 'CANCEL_TOO_LATE' });
    t.match(await result, { outcome: 'completed' });
    t.match(await answerOf(cancel(a, migrationId)), { code: 'CANCEL_TOO_LATE' });
    await runsOn(t, b, 'late');
  });
  await refused('the guest that waits at the destination dies', {
    attempt: async (vm) => {
      const { result } = await slowly(a, vm, 'host-b', 'pre-copy', { maxBandwidthBps: 8 * MiB });
      killGuest(cluster.get('host-b').memoryDir, vm);
      return result;
    },
    code: 'GUEST_FAILED',
  });
  await t.test('the guest itself dies', async (t) => {
    await a.call('vm.create', smallGuest('dies'));
    const { result } = await slowly(a, 'dies', 'host-b');
    killGuest(cluster.get('host-a').memoryDir, 'dies');
    await eventually('it is lost', async () => {
      const row = (await a.list()).find(({ name }) => name === 'dies');
      return row?.state === 'lost';
    });
    t.match(await result, { outcome: 'failed', code: 'GUEST_FAILED' });
    await isClean(t, cluster, 'host-b', 'dies');
    t.match(await answerOf(a.migrate('dies', 'host-b')), { code: 'VM_STATE' });
    await a.call('vm.delete', { name: 'dies' });
    await isClean(t, cluster, 'host-a', 'dies');
  });
  await t.test('a VM that its operator paused stays where it is and paused', async (t) => {
    await a.call('vm.create', smallGuest('paused'));
    await a.call('vm.pause', { name: 'paused' });
    t.match(await answerOf(a.migrate('paused', 'host-b')), { code: 'VM_STATE' });
    t.match(await a.show('paused'), { state: 'paused', guest: { state: 'paused' } });
    await isClean(t, cluster, 'host-b', 'paused');
    await a.call('vm.resume', { name: 'paused' });
    t.match(await a.migrate('paused', 'host-b'), { outcome: 'completed' });
  });
});

function killGuest(memoryDir: string, vm: string): void {
  process.kill(Number(readFileSync(path.join(memoryDir, vm, 'pid'), 'utf8')), 'SIGKILL');
}
