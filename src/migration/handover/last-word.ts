/** What a host has to say about a migration that is settled on its side: pure, from the record. */
import { sayAborted, sayActivated, sayDeleted, type Say } from '../../protocol/handover/matter.ts';
import type { MigrationRecord } from '../../store/records.ts';
import { subjectOf } from '../journal.ts';

/** Undefined while it is not settled. */
export function lastWord(record: MigrationRecord): Say | undefined {
  const { state, direction, migrationId, deletion } = record;
  const subject = subjectOf(record);
  if (state === 'aborted') {
    const side = direction === 'outgoing' ? 'source' : 'destination';
    return sayAborted(migrationId, side, record.code ?? 'CANCELLED');
  }
  if (subject === undefined) return undefined;
  if (state === 'gone' && deletion !== undefined) return sayDeleted(subject, deletion.facts);
  return state === 'active' ? sayActivated({ subject, final: record.handover?.final }) : undefined;
}
