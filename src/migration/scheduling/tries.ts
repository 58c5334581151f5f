/** A request that a full destination sent back has more than one migration on record. */
import type { MigrationRecord, RecordStore } from '../../store/records.ts';

/** The last migration of the request that `migrationId` is of; undefined where that is unknown. */
export function lastTry(
  store: Pick<RecordStore, 'migration'>,
  migrationId: string,
): MigrationRecord | undefined {
  const record = store.migration(migrationId);
  return record?.next === undefined ? record : lastTry(store, record.next);
}
