/** A daemon that is killed while it writes: what it was told is on disk is there, and nothing by half. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { CODE_CACHE } from '../../process/cluster.ts';
import { migrationRecord, scratch, vmRecord } from './records.ts';

const WRITING = fileURLToPath(new URL('writing.ts', import.meta.url));
const KILLS = 50;

/** Runs until it said `count` numbers and somewhat longer; returns the last that it said. */
async function writeUntilKilled(dir: string, first: number, count: number): Promise<number> {
  const child = spawn(process.execPath, [WRITING, dir, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { NODE_COMPILE_CACHE: CODE_CACHE },
  });
  const ended = once(child, 'close');
  let last = first - 1;
  createInterface(child.stdout).on('line', (line) => {
    last = Number(line);
    if (last === first + count - 1) child.kill('SIGKILL');
  });
  const [, signal] = (await ended) as [number | null, NodeJS.Signals | null];
  if (signal !== 'SIGKILL') throw new Error('it ended by itself');
  return last;
}

void test('every acknowledged write survives a kill, all of it', async (t) => {
  using place = scratch();
  let next = 1;
  for (let kill = 0; kill < KILLS; kill += 1) {
    // The kill comes through a pipe: it meets whatever the writer does by then.
    const count = 1 + (((kill + 1) * 7919) % 40);
    const told = await writeUntilKilled(place.dir, next, count);
    const store = openStore(place.dir);
    const epoch = store.vm('vm1')?.epoch ?? 0;
    if (epoch !== told && epoch !== told + 1) t.fail(`told ${told}, found ${epoch}`);
    t.same(store.vm('vm1'), vmRecord({ epoch }));
    t.equal(store.epochOf(vmRecord().vmId), epoch, 'in the same transaction');
    const newest = store.migration(migrationRecord((epoch * 7919) % 1000).migrationId);
    t.equal(newest?.startedAtMs, epoch, 'and the migration too');
    for (const { detail, startedAtMs } of store.migrations()) {
      if (detail !== String(startedAtMs).repeat(1 + (startedAtMs % 97))) t.fail('half a record');
    }
    t.equal(store.migrations().length, Math.min(epoch, 1000));
    await store.close();
    next = epoch + 1;
  }
  t.ok(next > KILLS, `${next - 1} writes`);
});
