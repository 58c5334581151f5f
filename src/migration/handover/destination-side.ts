/** What the handover does at the destination: to the guest and the records. */
import {
  beginDestinationHandover,
  stepDestinationHandover,
  type DestinationDone,
  type DestinationState,
  type DestinationWork,
} from '../../protocol/handover/destination.ts';
import { paged } from '../../guest/driver.ts';
import { MigError } from '../../protocol/error.ts';
import type { SharedEvent } from '../../protocol/handover/matter.ts';
import type { RecordStore } from '../../store/records.ts';
import type { Inventory } from '../inventory.ts';
import { PagePull, type PullingChannels } from '../paging/page-pull.ts';
import { aborted, active, certified, discarded } from '../journal.ts';
import { entryOf, migrationOf } from './entry.ts';
import type { Side } from './handover.ts';

interface Parts {
  readonly migrationId: string;
  readonly store: RecordStore;
  readonly inventory: Inventory;
  readonly begin: 'linked' | 'alone' | 'active' | 'pulling';
  /** The VM runs: what is left is the source's farewell, and pages that it still has. */
  readonly started: () => void;
  /** The session's channels for the pages that are still to come, to be had once. */
  readonly pulling: () => PullingChannels | undefined;
  /** Told of each session in which they were to come that broke. */
  readonly broken: (failure: MigError) => void;
  /** Told of whoever takes them, for other sessions to join. */
  readonly pulls: (pull: PagePull) => void;
}

export function destinationSide(
  parts: Parts,
): Side<DestinationState, DestinationWork, DestinationDone> {
  const { migrationId, store, inventory, begin, started, pulling, broken, pulls } = parts;
  const entry = () => entryOf(store, migrationId);

  /** Undefined where the name is another VM's, or this one came again or went on: not ours to touch. */
  const ours = () => {
    const migration = migrationOf(store, migrationId);
    const vm = store.vm(migration.vm);
    const isOurs = vm?.migrationId === migrationId && vm.vmId === migration.handover?.vmId;
    return isOurs ? { vm, migration } : undefined;
  };

  const isGone = async (): Promise<boolean> => {
    const { name } = entry().vm;
    const found = await inventory.ask(name);
    if (found === 'unreachable') throw new MigError('GUEST_SILENT', name);
    return found === 'gone';
  };

  let pull: PagePull | undefined;

  /** Who takes the pages that are to come; undefined where the guest is gone, or not ours any more. */
  const pullOf = async (): Promise<PagePull | undefined> => {
    if (pull !== undefined) return pull;
    const name = ours()?.vm.name;
    const found = name === undefined ? 'gone' : await inventory.find(name);
    if (found === 'unreachable') throw new MigError('GUEST_SILENT', name);
    if (found === 'gone') return undefined;
    pull = await PagePull.begin(paged(found), (failure) => broken(failure));
    pulls(pull);
    return pull;
  };

  const pulled = async (): Promise<DestinationDone | SharedEvent> => {
    const puller = await pullOf();
    if (puller === undefined) return { kind: 'lost' };
    try {
      return { kind: 'whole', faults: await puller.whole };
    } catch (thrown) {
      // Another one finds out whether it is gone.
      pull = undefined;
      await puller.close();
      throw thrown;
    }
  };

  const work = async (effect: DestinationWork): Promise<DestinationDone | SharedEvent> => {
    switch (effect.kind) {
      case 'recordActive': {
        // What does not live any more must not become ours: the source still has its own.
        if (await isGone()) return { kind: 'lost' };
        const { kind: _, ...right } = effect.right;
        await store.write(active(entry(), right));
        return { kind: 'activeRecorded' };
      }
      case 'startGuest': {
        const { name } = entry().vm;
        if ((await inventory.find(name)) === 'gone') {
          started();
          return { kind: 'lost' };
        }
        const leavesPages = entry().migration.handover?.leavesPages === true;
        if (leavesPages) {
          const channels = pulling();
          const puller = await pullOf();
          if (channels !== undefined) await puller?.join(channels).catch(() => undefined);
        }
        await inventory.letRun(name);
        started();
        return { kind: 'guestStarted' };
      }
      case 'pull':
        return await pulled();
      case 'fileCertificate': {
        const { deletion: facts, statement, signature } = effect;
        // The VM may have gone on to another host, or been deleted, since.
        const migration = migrationOf(store, migrationId);
        await store.write(certified(migration, { facts, statement, signature }));
        return { kind: 'filed' };
      }
      case 'inspectGuest': {
        // Where it went on from here it may live; only what is here is known to be gone.
        const isHere = ours() !== undefined;
        return { kind: isHere && (await isGone()) ? 'lost' : 'guestLives' };
      }
      case 'discard': {
        const migration = migrationOf(store, migrationId);
        const now = ours();
        if (migration.state === 'aborted') await store.confirm();
        else if (now === undefined) await store.write(aborted(migration, effect.code, ''));
        else {
          await inventory.destroy(now.vm.name);
          await store.write(discarded(now, effect.code, ''));
        }
        return { kind: 'discarded' };
      }
    }
  };
  return {
    begin: (matter) => beginDestinationHandover(matter, begin),
    step: stepDestinationHandover,
    work,
  };
}
