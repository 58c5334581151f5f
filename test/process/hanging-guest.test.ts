/** A guest process that hangs while its migration is given up: nobody who comes later pays for it. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { GUEST_QUIT_MS_MAX } from '../../src/base/limits.ts';
import { MiB } from '../../src/base/units.ts';
import type { MigrationView } from '../../src/daemon/api/schema.ts';
import { Cluster, filesBelow, smallGuest } from './cluster.ts';
import { eventually } from './refusal.ts';

const VM = 'vm1';

void test('at the destination: the next migration of the VM keeps what is its own', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  const { memoryDir, stateDir } = cluster.get('host-b');
  const pidFile = path.join(memoryDir, VM, 'pid');
  await a.call('vm.create', smallGuest(VM));

  const first = a.migrate(VM, 'host-b', { maxBandwidthBps: MiB });
  await eventually('the destination receives', async () => {
    const [view] = await b.call<MigrationView[]>('status');
    return view?.phase === 'Receiving' && existsSync(pidFile);
  });
  process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGSTOP');
  const [{ migrationId } = { migrationId: '' }] = await a.call<MigrationView[]>('status');
  await a.call('cancel', { migrationId });
  t.match(await first, { outcome: 'cancelled' });

  t.match(await a.migrate(VM, 'host-b'), { outcome: 'completed' }, 'the same request at once');
  await delay(2 * GUEST_QUIT_MS_MAX);
  t.ok(existsSync(path.join(memoryDir, VM, 'ram')), 'its memory is there');
  const kept = filesBelow(path.join(stateDir, 'vms', VM));
  t.ok(kept.includes('vtpm/key') && kept.includes('vtpm/state'), 'and its vTPM');
  t.match(await b.migrate(VM, 'host-a'), { outcome: 'completed' }, 'it can go on');
});
