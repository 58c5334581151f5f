/** A certificate of deletion may come late: when the VM has gone on, or was deleted by its operator. */
import { test } from 'tap';
import type { Inventory } from '../../../src/migration/inventory.ts';
import { destinationSide } from '../../../src/migration/handover/destination-side.ts';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { migrationRecord, scratch, vmRecord } from '../store/records.ts';

void test('it is filed for a VM that is not here any more', async (t) => {
  using place = scratch();
  const store = openStore(place.dir);
  const { vmId } = vmRecord();
  const handover = { vmId, epoch: 1, transcriptDigest: new Uint8Array(48) };
  const active = migrationRecord(1, { direction: 'incoming', state: 'active', handover });
  const { migrationId } = active;
  await store.write({ vm: vmRecord({ epoch: 2 }), migration: active });
  await store.write({ removeVm: 'vm1' });

  const side = destinationSide({
    migrationId,
    store,
    inventory: undefined as unknown as Inventory,
    begin: 'active',
    started: () => undefined,
    pulling: () => undefined,
    broken: () => undefined,
    pulls: () => undefined,
  });
  const deletion = {
    stateDigest: new Uint8Array(48),
    filesDestroyed: 2,
    bytesOverwritten: 10,
  };
  const [statement, signature] = [new Uint8Array([1]), new Uint8Array(64)];
  const done = await side.work({ kind: 'fileCertificate', deletion, statement, signature });
  t.same(done, { kind: 'filed' });
  t.match(store.migration(migrationId)?.deletion, { facts: { filesDestroyed: 2 } });
  await store.close();
});
