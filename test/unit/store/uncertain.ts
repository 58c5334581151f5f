/**
 * Writes while the disk fails, and after it where it is to mend: `uncertain.ts FOLDER end|mend`. Says as
 * JSON how each write ended, what was read, and whether a process started then inherits the file.
 */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { MigError } from '../../../src/protocol/error.ts';
import { openStore } from '../../../src/store/lmdb-store.ts';
import type { Change } from '../../../src/store/records.ts';
import { migrationRecord, vmRecord } from './records.ts';

const [, , directory = '', then = ''] = process.argv;
const failing = process.env['FAIL_FILE'] ?? '';
const store = openStore(directory);

const attempt = (change: Change): Promise<string> => endOf(store.write(change));

async function endOf(asked: Promise<void>): Promise<string> {
  try {
    await asked;
    return 'written';
  } catch (thrown) {
    return MigError.from(thrown).code;
  }
}

const before = await attempt({ vm: vmRecord({ epoch: 1 }) });
writeFileSync(failing, '');
const vm = vmRecord({ epoch: 2 });
const first = await attempt({ vm });
const read = store.vm('vm1')?.epoch;
const again = await attempt({ vm });
const other = await attempt({ migration: migrationRecord(1) });
const confirmed = await endOf(store.confirm());
const readAgain = store.vms().map(({ epoch }) => epoch);
const open = execFileSync('ls', ['-l', '/proc/self/fd'], { env: {}, encoding: 'utf8' });
const inherited = open.includes(directory);
const told = { before, first, read, again, other, confirmed, readAgain, inherited };
if (then === 'end') {
  console.log(JSON.stringify(told));
  process.exit(0);
}
rmSync(failing);
const settled = await endOf(store.confirm());
const after = await attempt({ vm });
console.log(JSON.stringify({ ...told, settled, after, found: store.vm('vm1')?.epoch }));
await store.close();
