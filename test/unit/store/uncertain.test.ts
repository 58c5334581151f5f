/**
 * A disk that fails in the commit itself. Whether such a write is on disk nobody can tell, and the store
 * says so until another one is known to be; which of the two a restart finds depends on the disk.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { CODE_CACHE } from '../../process/cluster.ts';
import { failingDisk, skipUnlessCompiling as skip } from './failing-disk.ts';
import { scratch } from './records.ts';

const at = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Runs `uncertain.ts` on that disk; returns what it said. */
function run(dir: string, then: string, disk: object): unknown {
  const env = { NODE_COMPILE_CACHE: CODE_CACHE, ...failingDisk(dir).env, ...disk };
  return JSON.parse(
    execFileSync(process.execPath, [at('uncertain.ts'), dir, then], { env, encoding: 'utf8' }),
  );
}

for (const { disk, env, found } of [
  { disk: 'takes the commit back', env: {}, found: 1 },
  { disk: 'does not even take it back', env: { FAIL_RESTORE: '1' }, found: 2 },
]) {
  void test(`a disk that fails in the commit and ${disk}`, { skip }, async (t) => {
    using place = scratch();
    const failing = {
      before: 'written',
      first: 'STORE_UNCERTAIN',
      read: found,
      again: 'STORE_UNCERTAIN',
      other: 'STORE_UNCERTAIN',
      confirmed: 'STORE_UNCERTAIN',
      readAgain: [found],
      inherited: false,
    };
    t.same(run(place.dir, 'end', env), failing);
    const store = openStore(place.dir);
    t.equal(store.vm('vm1')?.epoch, found, 'what a daemon finds that is started then');
    await store.close();
  });

  void test(`… and is well again, after it ${disk}`, { skip }, async (t) => {
    using place = scratch();
    const mended = { again: 'STORE_UNCERTAIN', settled: 'written', after: 'written', found: 2 };
    t.match(run(place.dir, 'mend', env), mended);
    const store = openStore(place.dir);
    t.equal(store.vm('vm1')?.epoch, 2);
    await store.close();
  });
}
