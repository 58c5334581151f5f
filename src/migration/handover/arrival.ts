/**
 * Whether a VM that came here may go on to a third host, by its record and the state of its handover:
 * pure, so that the simulation asks the same.
 */
import type { DestinationState } from '../../protocol/handover/destination.ts';
import type { MigrationRecord } from '../../store/records.ts';

/**
 * `coming`: pages of it are still at its source, and nobody else has them. `owed`: all of it is here, and
 * its source has not said that it is gone there. `arrived`: neither.
 */
export type Arrival = 'coming' | 'owed' | 'arrived';

const COMING: ReadonlySet<string> = new Set<DestinationState['kind']>(['Starting', 'Pulling']);

/** `state`: of the handover by which it came, if that is under way. */
export function arrivalOf(
  record: Pick<MigrationRecord, 'direction' | 'state' | 'fencing' | 'handover'> | undefined,
  state: string | undefined,
): Arrival {
  if (state === undefined || record === undefined) return 'arrived';
  const { direction, fencing, handover } = record;
  if (direction !== 'incoming' || record.state !== 'active') return 'arrived';
  if (handover?.leavesPages === true && COMING.has(state)) return 'coming';
  // Whoever was stated to be off says nothing more.
  return fencing === undefined ? 'owed' : 'arrived';
}
