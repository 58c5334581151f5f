/**
 * A pretend store with the promises of the real one: a write is seen by its own process at once, is
 * durable at its sync, and all of it or nothing is. A crash finds the synced part; of a write in
 * flight, or of one that failed without a word on how, it may find either. It holds one VM.
 */
import type { Change, MigrationRecord, VmRecord } from '../../src/store/records.ts';

export interface Contents {
  readonly vm: VmRecord | undefined;
  readonly migrations: readonly MigrationRecord[];
  /** The highest epoch that ever was active here. */
  readonly epochMax: number;
}

export const EMPTY: Contents = { vm: undefined, migrations: [], epochMax: 0 };

export function applied(contents: Contents, { vm, removeVm, migration }: Change): Contents {
  const { migrations, epochMax } = contents;
  const kept = removeVm === undefined ? contents.vm : undefined;
  return {
    vm: vm ?? kept,
    migrations: migration === undefined ? migrations : withRecord(migrations, migration),
    epochMax: vm?.state === 'active' ? Math.max(epochMax, vm.epoch) : epochMax,
  };
}

function withRecord(
  records: readonly MigrationRecord[],
  record: MigrationRecord,
): readonly MigrationRecord[] {
  const at = records.findIndex(({ migrationId }) => migrationId === record.migrationId);
  return at === -1 ? [...records, record] : records.with(at, record);
}

export const migrationIn = (
  { migrations }: Contents,
  migrationId: string,
): MigrationRecord | undefined => migrations.find((each) => each.migrationId === migrationId);

export class Disk {
  /** What its process began from, and what a crash may find instead. */
  #synced: Contents;
  #others: readonly Contents[] = [];
  #inFlight: readonly Change[] = [];
  #seen: Contents;
  #possible: readonly Contents[];

  constructor(contents: Contents) {
    this.#synced = contents;
    this.#seen = contents;
    this.#possible = [contents];
  }

  /** As its own process sees it. */
  get seen(): Contents {
    return this.#seen;
  }

  /** All that a crash may find now. */
  get possible(): readonly Contents[] {
    return this.#possible;
  }

  /** Whether a write failed without a word on how, and none has succeeded since. */
  get isUncertain(): boolean {
    return this.#others.length > 0;
  }

  begin(change: Change): void {
    this.#inFlight = [...this.#inFlight, change];
    this.#changed();
  }

  sync(change: Change): void {
    this.#synced = applied(this.#synced, change);
    this.#others = [];
    this.#ended(change);
  }

  /**
   * A write that failed: `cleanly`, or it may be on disk all the same, in which case its own process
   * sees the one or the other.
   */
  fail(change: Change, how: 'cleanly' | 'unseen' | 'seen'): void {
    if (how !== 'cleanly') {
      const made = applied(this.#synced, change);
      const [seen, unseen] = how === 'seen' ? [made, this.#synced] : [this.#synced, made];
      this.#synced = seen;
      this.#others = [...this.#others, unseen];
    }
    this.#ended(change);
  }

  /** What the next process finds is the `choice`-th of what is possible. */
  crash(choice: number): void {
    this.#synced = this.#possible[choice] ?? this.#synced;
    this.#others = [];
    this.#inFlight = [];
    this.#changed();
  }

  #ended(change: Change): void {
    this.#inFlight = this.#inFlight.filter((each) => each !== change);
    this.#changed();
  }

  #changed(): void {
    const possible = [this.#synced, ...this.#others];
    let seen = this.#synced;
    for (const change of this.#inFlight) {
      seen = applied(seen, change);
      possible.push(seen);
    }
    this.#seen = seen;
    this.#possible = possible;
  }
}
