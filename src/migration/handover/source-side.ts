/** What the handover does at the source: to the guest, the vTPM and the records. */
import { sign, type KeyObject } from 'node:crypto';
import {
  beginSourceHandover,
  stepSourceHandover,
  type SourceDone,
  type SourceState,
  type SourceWork,
} from '../../protocol/handover/source.ts';
import type { RecordStore } from '../../store/records.ts';
import type { Inventory } from '../inventory.ts';
import { gone, reclaimed } from '../journal.ts';
import { destroyForGood } from './deletion.ts';
import { entryOf } from './entry.ts';
import type { Side } from './handover.ts';

interface Parts {
  readonly migrationId: string;
  readonly store: RecordStore;
  readonly inventory: Inventory;
  readonly hostKey: () => KeyObject;
  readonly begin: 'linked' | 'alone';
  /** Lets go of the guest's memory: its pages are free only when nobody maps them. */
  readonly letGo: () => Promise<void>;
}

export function sourceSide(parts: Parts): Side<SourceState, SourceWork, SourceDone> {
  const { migrationId, store, inventory, hostKey, begin, letGo } = parts;
  const entry = () => entryOf(store, migrationId);

  const work = async (effect: SourceWork): Promise<SourceDone> => {
    switch (effect.kind) {
      case 'deleteGuest':
        await letGo();
        return {
          kind: 'guestDeleted',
          deletion: await destroyForGood(parts, migrationId, effect.activation),
        };
      case 'recordGone': {
        const { activation, deletion: facts, statement } = effect;
        const signature = sign(null, statement, hostKey());
        await store.write(gone(entry(), { activation, facts, statement, signature }));
        return { kind: 'goneRecorded' };
      }
      case 'reclaim':
        await letGo();
        await store.write(reclaimed(entry(), effect.epoch, effect.reason));
        await inventory.letRun(entry().vm.name);
        return { kind: 'reclaimed' };
    }
  };
  return { begin: (matter) => beginSourceHandover(matter, begin), step: stepSourceHandover, work };
}
