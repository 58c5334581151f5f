/** What the handover does to the pretend guest and the records: as source-side.ts, destination-side.ts. */
import type {
  DestinationDone,
  DestinationState,
  DestinationWork,
} from '../../src/protocol/handover/destination.ts';
import type { SharedEvent } from '../../src/protocol/handover/matter.ts';
import type { SourceDone, SourceState, SourceWork } from '../../src/protocol/handover/source.ts';
import type { Change } from '../../src/store/records.ts';
import type { Daemon } from './daemon.ts';
import type { Side } from './handover.ts';
import { otherThan, sign } from './signature.ts';

const SILENT: SharedEvent = { kind: 'failed', code: 'GUEST_SILENT', detail: '' };
const UNWRITTEN: SharedEvent = { kind: 'failed', code: 'STORE_FAILED', detail: '' };

export function sourceSide(
  daemon: Daemon,
  migrationId: string,
  begin: 'linked' | 'alone',
): Side<SourceState, SourceWork, SourceDone> {
  const { build } = daemon;
  const { journal } = build;
  const entry = () => daemon.entryOf(migrationId);

  const reclaim = (
    effect: Extract<SourceWork, { kind: 'reclaim' }>,
    done: (event: SourceDone | SharedEvent) => void,
  ): void => {
    const change = journal.reclaimed(entry(), effect.epoch, effect.reason);
    const run = (then: () => void) =>
      daemon.letRun((isRun) => {
        if (isRun) then();
        else done(SILENT);
      });
    const write = (then: () => void) =>
      daemon.write(change, (isWritten) => {
        if (isWritten) then();
        else done(UNWRITTEN);
      });
    const end = () => done({ kind: 'reclaimed' });
    if (build.recordsBeforeReclaiming) write(() => run(end));
    else run(() => write(end));
  };

  return {
    begin: (matter) => build.beginSourceHandover(matter, begin),
    step: daemon.observed('source handover', build.stepSourceHandover),
    work: (effect, done) => {
      switch (effect.kind) {
        case 'serve':
          daemon.later(() => {
            if (daemon.machine.guest === undefined) {
              done({ kind: 'failed', code: 'GUEST_FAILED', detail: '' });
            } else daemon.serving.add(migrationId);
          });
          return;
        case 'deleteGuest':
          daemon.serving.delete(migrationId);
          daemon.destroyForGood(migrationId, effect.activation, (deletion) =>
            done(deletion === undefined ? SILENT : { kind: 'guestDeleted', deletion }),
          );
          return;
        case 'recordGone': {
          const { activation, deletion: facts, statement } = effect;
          const signature = sign(daemon.name, statement);
          const proof = { activation, facts, statement, signature };
          daemon.write(journal.gone(entry(), proof), (isWritten) =>
            done(isWritten ? { kind: 'goneRecorded' } : UNWRITTEN),
          );
          return;
        }
        case 'reclaim':
          daemon.later(() => reclaim(effect, done));
      }
    },
  };
}

export function destinationSide(
  daemon: Daemon,
  migrationId: string,
  begin: 'linked' | 'alone' | 'active' | 'pulling',
  started: () => void,
): Side<DestinationState, DestinationWork, DestinationDone> {
  const { build, machine } = daemon;
  const { journal } = build;
  const entry = () => daemon.entryOf(migrationId);
  const ours = () => {
    const { vm } = machine.disk.seen;
    return vm?.migrationId === migrationId ? entry() : undefined;
  };
  type Done = (event: DestinationDone | SharedEvent) => void;

  const write = (change: Change, done: Done, event: DestinationDone) =>
    daemon.write(change, (isWritten) => done(isWritten ? event : UNWRITTEN));

  const startGuest = (done: Done): void => {
    if (machine.guest === undefined) {
      done({ kind: 'lost' });
      return;
    }
    daemon.letRun((isRun) => {
      if (!isRun) {
        done(SILENT);
        return;
      }
      started();
      done({ kind: 'guestStarted' });
    });
  };

  return {
    begin: (matter) => build.beginDestinationHandover(matter, begin),
    step: daemon.observed('destination handover', build.stepDestinationHandover),
    work: (effect, done) => {
      switch (effect.kind) {
        case 'recordActive':
          daemon.later(() => {
            if (machine.guest === undefined) {
              done({ kind: 'lost' });
              return;
            }
            if (daemon.faults.happens('silent') !== 0) {
              done(SILENT);
              return;
            }
            const { kind: _, ...right } = effect.right;
            write(journal.active(entry(), right), done, { kind: 'activeRecorded' });
          });
          return;
        case 'startGuest':
          daemon.later(() => startGuest(done));
          return;
        case 'pull':
          pull(daemon, migrationId, ours, done);
          return;
        case 'fileCertificate': {
          const { deletion: facts, statement, signature } = effect;
          const change = journal.certified(daemon.migrationOf(migrationId), {
            facts,
            statement,
            signature,
          });
          write(change, done, { kind: 'filed' });
          return;
        }
        case 'inspectGuest':
          daemon.later(() => {
            if (daemon.faults.happens('silent') !== 0) done(SILENT);
            else {
              const isLost = ours() !== undefined && machine.guest === undefined;
              done({ kind: isLost ? 'lost' : 'guestLives' });
            }
          });
          return;
        case 'discard': {
          const migration = daemon.migrationOf(migrationId);
          if (migration.state === 'aborted') {
            daemon.confirm((isSo) => done(isSo ? { kind: 'discarded' } : UNWRITTEN));
            return;
          }
          const now = ours();
          if (now === undefined) {
            write(journal.aborted(migration, effect.code, ''), done, { kind: 'discarded' });
            return;
          }
          daemon.destroy((isDestroyed) => {
            if (!isDestroyed) done(SILENT);
            else write(journal.discarded(now, effect.code, ''), done, { kind: 'discarded' });
          });
        }
      }
    },
  };
}

/** Between two looks whether pages can come, in ms. */
const PULL_MS = 200;
const NO_FAULTS = { network: 0, minor: 0, latencyMs: { mean: 0, p99: 0, max: 0 } };

/** Takes what a guest lacks, as src/migration/paging: whenever the other host serves it and can be reached. */
function pull(
  daemon: Daemon,
  migrationId: string,
  ours: () => object | undefined,
  done: (event: DestinationDone | SharedEvent) => void,
): void {
  const { world, machine, network } = daemon;
  // One that failed has ended before another begins.
  const turn = {};
  daemon.pulls.set(migrationId, turn);
  const look = (): void => {
    if (daemon.pulls.get(migrationId) !== turn) return;
    const { guest } = machine;
    if (guest === undefined || ours() === undefined) {
      done({ kind: 'lost' });
      return;
    }
    if (guest.lacks === 0) {
      daemon.letRun((isRun) => done(isRun ? { kind: 'whole', faults: NO_FAULTS } : SILENT));
      return;
    }
    const other = otherThan(daemon.name);
    const isThere = world.machines[other].guest?.content === guest.lacks;
    const isServed = world.daemon(other)?.serving.has(migrationId) === true;
    if (isThere && isServed && network.isWhole) {
      // It runs as soon as somebody serves it; it is whole later.
      daemon.letRun(() => {
        if (world.machines[other].guest?.content === guest.lacks) guest.lacks = 0;
        again();
      });
      return;
    }
    if (!isThere && !world.faults.isStormy) world.deleteVm(machine);
    again();
  };
  const again = (): void => void daemon.clock.after(PULL_MS, look);
  daemon.later(look);
}
