/** The end of a VM and its vTPM at the source, of which it signs a certificate. */
import type { Deletion } from '../../protocol/messages.ts';
import type { RecordStore } from '../../store/records.ts';
import type { Inventory } from '../inventory.ts';
import { deleting } from '../journal.ts';
import { migrationOf } from './entry.ts';

/**
 * Destroys guest, memory and vTPM, key first. What there was is on record before: so the certificate
 * says it also when a crash comes between, and nobody takes back what may be destroyed by half.
 */
export async function destroyForGood(
  { store, inventory }: { readonly store: RecordStore; readonly inventory: Inventory },
  migrationId: string,
  activation: Uint8Array,
): Promise<Deletion> {
  const migration = migrationOf(store, migrationId);
  const facts = migration.destroying ?? inventory.inspectVtpm(migration.vm);
  if (migration.destroying !== undefined) await store.confirm();
  else await store.write(deleting(migration, activation, facts));
  await inventory.destroy(migration.vm);
  return facts;
}
