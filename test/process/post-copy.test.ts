/**
 * A guest that runs at the destination while its memory comes: all of it, or what a few rounds left.
 */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { Cluster, smallGuest } from './cluster.ts';
import { runsOn } from './refusal.ts';

const MEMORY_BYTES = 64 * MiB;
const WRITING = {
  memoryBytes: MEMORY_BYTES,
  fill: 1,
  workload: { kind: 'writer', rateBps: 20e6, workingSetBytes: MEMORY_BYTES / 2 },
};

void test('post-copy', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  const result = await a.migrate('vm', 'host-b', { mode: 'post-copy' }, (e) => { if (process.env['V']) console.error(JSON.stringify(e)); });
  if (process.env['V']) console.error(JSON.stringify(result), cluster.daemons.get('host-b')?.log.slice(-5), cluster.daemons.get('host-a')?.log.slice(-5));
  t.match(result, { outcome: 'completed', code: null, stoppedBy: 'post-copy' });
  t.equal((await b.check('vm')).badPages, 0);
  await runsOn(t, b, 'vm');
});
