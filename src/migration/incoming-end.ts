/** How a migration to this host ends: what is put on record of one that was given up, what is told of one handed over. */
import type { Clock, Random } from '../base/ports.ts';
import type { Code } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import { outcomeOf } from '../protocol/session.ts';
import type { MigrationRecord, RecordStore } from '../store/records.ts';
import { textOf, type HandoverUnderWay, type Settlement } from './handover/handover.ts';
import { aborted, discarded } from './journal.ts';
import { writeAtLast } from './write-at-last.ts';

export interface IncomingResult {
  readonly migrationId: string;
  readonly vm: string;
  readonly outcome: string;
  readonly code: Code | null;
  readonly detail: string;
}

interface Ports {
  readonly store: RecordStore;
  readonly clock: Clock;
  readonly random: Random;
}

/** Nothing of it is left here. Does not throw: what finds no room on the disk is left out. */
export async function recordGivenUp(
  ports: Ports,
  migration: MigrationRecord,
  code: Code,
  detail: string,
): Promise<void> {
  // Whoever was not appraised, and offered nothing, does not get to write on our disk.
  if (migration.vm === '') return;
  const vm = ports.store.vm(migration.vm);
  const change =
    vm?.migrationId === migration.migrationId
      ? discarded({ vm, migration }, code, detail)
      : aborted(migration, code, detail);
  try {
    await ports.store.write(change);
  } catch (thrown) {
    // A disk that is full must not keep what was reserved: what is not recorded was never prepared.
    if (MigError.from(thrown).code !== 'STORE_UNCERTAIN') return;
    await writeAtLast(ports, () => change);
  }
}

/** `settled` is undefined while something is waited for. */
export function endOf(
  { isDecided, cause }: HandoverUnderWay,
  settled: Settlement | undefined,
): Omit<IncomingResult, 'migrationId' | 'vm'> {
  if (settled === undefined && !isDecided) {
    return { outcome: 'in-doubt', code: 'IN_DOUBT', detail: textOf(cause) };
  }
  const { outcome, code = null, detail = '' } = settled ?? {};
  const isAborted = outcome === 'aborted' && code !== null;
  return { outcome: isAborted ? outcomeOf(code) : 'completed', code, detail };
}
