/** What the handover does at the source: to the guest, the vTPM and the records. */
import { sign, type KeyObject } from 'node:crypto';
import {
  beginSourceHandover,
  stepSourceHandover,
  type SourceDone,
  type SourceState,
  type SourceWork,
} from '../../protocol/handover/source.ts';
import { paged, type GuestMemory } from '../../guest/driver.ts';
import { MigError } from '../../protocol/error.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
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
  /** Begins to send what was left of it here, to its end by `letGo`. */
  readonly serve: (memory: GuestMemory) => void;
  /** Told of how it went, where pages were left. */
  readonly served: (faults: FaultCounts | undefined) => void;
}

export function sourceSide(parts: Parts): Side<SourceState, SourceWork, SourceDone> {
  const { migrationId, store, inventory, hostKey, begin, letGo, serve, served } = parts;
  const entry = () => entryOf(store, migrationId);

  const work = async (effect: SourceWork): Promise<SourceDone | undefined> => {
    switch (effect.kind) {
      case 'serve': {
        const { name } = entry().vm;
        const guest = await inventory.find(name);
        if (typeof guest === 'string') {
          throw new MigError('GUEST_FAILED', `${name} is ${guest}, and with it what is owed`);
        }
        serve(paged(guest).memory);
        return undefined;
      }
      case 'deleteGuest':
        await letGo();
        served(effect.faults);
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
