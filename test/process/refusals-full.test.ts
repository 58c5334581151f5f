/**
 * Hosts whose memory or disk is full, before a migration and in the middle of it. The full ones are
 * small file systems of their own, which only root can mount.
 */
import path from 'node:path';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { Cluster, freePort, smallGuest } from './cluster.ts';
import { answerOf, isClean, runsOn, slowly, survives } from './refusal.ts';
import { filled, mounted, skipUnlessMounting } from './small-disk.ts';

void test('hosts that are full', { skip: skipUnlessMounting }, async (t) => {
  await using cluster = Cluster.empty();
  const names = ['host-a', 'host-b', 'host-m'];
  for (const name of names) {
    cluster.pki.issue(name, 'host');
    cluster.peers[name] = `127.0.0.1:${await freePort()}`;
  }
  const disk = (name: string) => path.join(cluster.dir, 'state', name);
  const memoryDir = path.join(cluster.dir, 'memory');
  using _a = mounted(disk('host-a'), 4 * MiB);
  using _b = mounted(disk('host-b'), 4 * MiB);
  using _m = mounted(memoryDir, 12 * MiB);
  await Promise.all(
    names.map((name) =>
      cluster.startHost(name, name === 'host-m' ? { config: { memoryDir } } : {}),
    ),
  );
  const { a, b } = cluster;
  /** Migrates while the destination's disk is full from the start, or from pre-copy on. */
  const onFull = async (vm: string, when: 'before' | 'during') => {
    using _early = when === 'before' ? filled(disk('host-b')) : undefined;
    if (when === 'before') return await answerOf(a.migrate(vm, 'host-b'));
    const { result } = await slowly(a, vm, 'host-b', 'pre-copy', { maxBandwidthBps: 16 * MiB });
    using _late = filled(disk('host-b'));
    return await answerOf(result);
  };

  await t.test('the memory that is promised cannot be had', async (t) => {
    await a.call('vm.create', smallGuest('vm-m'));
    t.match(await answerOf(a.migrate('vm-m', 'host-m')), { code: 'DEST_CAPACITY' });
    await runsOn(t, a, 'vm-m');
    await isClean(t, cluster, 'host-m', 'vm-m');
    t.match(await a.migrate('vm-m', 'host-b'), { outcome: 'completed' });
    await b.call('vm.delete', { name: 'vm-m' });
  });
  for (const [when, code] of [
    ['before', 'STORE_FAILED'],
    // What is written last there is the vTPM.
    ['during', 'VTPM_FAILED'],
  ] as const) {
    await t.test(`the disk of the destination is full ${when} the migration`, (t) =>
      survives(t, cluster, { attempt: (vm) => onFull(vm, when), code }),
    );
  }
  await t.test('no room for a new VM', async (t) => {
    {
      using _full = filled(disk('host-a'));
      t.match(await answerOf(a.call('vm.create', smallGuest('new'))), { code: 'STORE_FAILED' });
      t.same(
        (await a.list()).filter(({ name }) => name === 'new'),
        [],
      );
    }
    await isClean(t, cluster, 'host-a', 'new');
    await a.call('vm.create', smallGuest('new'));
    await runsOn(t, a, 'new');
  });
});
