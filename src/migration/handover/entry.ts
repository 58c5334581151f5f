/** The records that a handover changes, as they are now. */
import { MigError } from '../../protocol/error.ts';
import type { MigrationRecord, RecordStore } from '../../store/records.ts';
import type { Entry } from '../journal.ts';

/** Throws MIGRATION_UNKNOWN. */
export function migrationOf(store: RecordStore, migrationId: string): MigrationRecord {
  const migration = store.migration(migrationId);
  if (migration === undefined) throw new MigError('MIGRATION_UNKNOWN', migrationId);
  return migration;
}

/** Throws MIGRATION_UNKNOWN, VM_UNKNOWN. */
export function entryOf(store: RecordStore, migrationId: string): Entry {
  const migration = migrationOf(store, migrationId);
  const vm = store.vm(migration.vm);
  if (vm === undefined) throw new MigError('VM_UNKNOWN', migration.vm);
  return { vm, migration };
}
