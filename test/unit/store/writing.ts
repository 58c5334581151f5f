/**
 * Writes record after record, `writing.ts FOLDER FIRST`, and says each number when it is on disk, until it
 * is killed. The VM's epoch, the migration's detail and the number are always the same.
 */
import { writeSync } from 'node:fs';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { migrationRecord, vmRecord } from './records.ts';

const [, , directory = '', first = ''] = process.argv;
const store = openStore(directory);
for (let n = Number(first); ; n += 1) {
  // Of changing size, and not in order: pages are split, merged and used again.
  const detail = String(n).repeat(1 + (n % 97));
  const migration = migrationRecord((n * 7919) % 1000, { detail, startedAtMs: n });
  await store.write({ vm: vmRecord({ epoch: n }), migration });
  writeSync(1, `${n}\n`);
}
