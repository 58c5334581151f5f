/**
 * What is true of both hosts together, which neither knows: and the invariants of docs/protocol.md
 * over it. Each break is remembered by its first sentence; nothing here decides anything.
 */
import type { Message } from '../../src/protocol/messages.ts';
import type { MigrationRecord } from '../../src/store/records.ts';
import { migrationIn, type Contents } from './disk.ts';
import type { Guest, Machine } from './machine.ts';
import { otherThan, type HostName } from './signature.ts';

export type Machines = Readonly<Record<HostName, Machine>>;

/** What must be on the speaker's disk, whatever a crash finds, before he says so. */
const RECORDED: Readonly<Partial<Record<Message['type'], readonly MigrationRecord['state'][]>>> = {
  // Where what was prepared was lost by now, he will say so next.
  DONE: ['prepared', 'aborted'],
  SURRENDER: ['surrendered'],
  RUNNING: ['active'],
  ACTIVATED: ['active'],
  DELETED: ['gone'],
};

/** What no crash may find on the speaker's disk when he says that he gives up. */
const CONTRARY: readonly MigrationRecord['state'][] = ['prepared', 'active', 'surrendered'];

export class Facts {
  readonly #machines: Machines;
  /** The content of the guest that ran last: only that may run again. */
  #newest = 0;
  /** The host that owned the VM lost its memory, or everyone did. */
  isLost = false;
  /** Where each epoch ran. */
  readonly #startedAt = new Map<number, HostName>();
  #epochMax = 0;
  /** To whom each epoch was signed away. */
  readonly #promisedTo = new Map<number, HostName>();
  /** Migrations of which the destination said that they run there, or that they never will. */
  readonly #activated = new Set<string>();
  readonly #givenUp = new Set<string>();
  /** Migrations of which the source said that it did not surrender, and will not. */
  readonly #kept = new Set<string>();
  broken: string | undefined;

  constructor(machines: Machines) {
    this.#machines = machines;
  }

  break(invariant: string): void {
    this.broken ??= invariant;
  }

  /** A guest begins to run, or goes on. */
  starts({ name, disk, hasVtpm }: Machine, guest: Guest): void {
    const { vm } = disk.seen;
    const epoch = vm?.epoch ?? 0;
    const goesOn = epoch === this.#epochMax && this.#startedAt.get(epoch) === name;
    if (epoch <= this.#epochMax && !goesOn) this.break(`epochs: ${epoch} starts again`);
    const promisedTo = this.#promisedTo.get(epoch) ?? name;
    if (promisedTo !== name) this.break(`epochs: ${epoch} was promised to ${promisedTo}`);
    if (!hasVtpm) this.break('association: a VM without its vTPM');
    const migration = migrationIn(disk.seen, vm?.migrationId ?? '');
    // Who states that a host is off states that what ran there is lost.
    const isExcused = this.isLost && migration?.fencing !== undefined;
    if (guest.content !== this.#newest && !isExcused) {
      this.break('what ran is what was sent: it starts from something else');
    }
    if (migration?.direction === 'incoming' && this.#givenUp.has(migration.migrationId)) {
      this.break('it runs by a migration that was given up');
    }
    guest.lifecycle = 'running';
    guest.epoch = epoch;
    this.#epochMax = Math.max(this.#epochMax, epoch);
    this.#startedAt.set(epoch, name);
    this.#newest += 1;
    guest.content = this.#newest;
    // What it lacks may be lost at the other host.
    this.isLost = !this.#isHeld();
  }

  /** A guest process dies, by itself or with its host. */
  dies(machine: Machine): void {
    const { guest, disk } = machine;
    if (guest === undefined) return;
    const isNeeded = machine.holds(this.#newest) || this.#isLacked(guest);
    guest.isAlive = false;
    machine.guest = undefined;
    if (!isNeeded) return;
    const isOwner = disk.possible.some(({ vm }) => vm?.state === 'active');
    if (isOwner || !this.#isHeld()) this.isLost = true;
  }

  /** Guest, memory and vTPM are about to be destroyed. */
  destroys({ disk, hasVtpm }: Machine): void {
    if (!hasVtpm) return;
    const owner = disk.possible.find(({ vm }) => vm?.state === 'surrendered')?.vm;
    if (owner !== undefined && !this.#activated.has(owner.migrationId ?? '')) {
      this.break('one vTPM: the source destroys it, and it runs nowhere else');
    }
  }

  says({ name, disk }: Machine, type: Message['type'], migrationId: string): void {
    const needed = RECORDED[type];
    const isRecorded = (contents: Contents) => {
      const found = migrationIn(contents, migrationId)?.state;
      return found !== undefined && needed?.includes(found) === true;
    };
    if (needed !== undefined && !disk.possible.every(isRecorded)) {
      this.break(`nothing before its record: ${type}`);
    }
    const isContrary = (contents: Contents) =>
      CONTRARY.some((state) => migrationIn(contents, migrationId)?.state === state);
    if (type === 'ABORT' && disk.possible.some(isContrary)) {
      this.break('nothing before its record: ABORT');
    }
    const record = migrationIn(disk.seen, migrationId);
    if (type === 'SURRENDER' && record?.handover !== undefined) {
      this.#promisedTo.set(record.handover.epoch + 1, otherThan(name));
    }
    if (type === 'SURRENDER' && this.#kept.has(migrationId)) {
      this.break('it surrenders what it said that it kept');
    }
    if (type === 'ABORT' && record?.direction === 'outgoing') this.#kept.add(migrationId);
    const { filesDestroyed = 0 } = record?.deletion?.facts ?? {};
    if (type === 'DELETED' && filesDestroyed === 0) {
      this.break('one vTPM: a certificate that none was destroyed');
    }
    if (type === 'ACTIVATED') this.#activated.add(migrationId);
    if (type === 'ABORT' && record?.direction === 'incoming') this.#givenUp.add(migrationId);
  }

  /** What must hold at every instant. */
  check(): void {
    const { 'host-a': a, 'host-b': b } = this.#machines;
    if (isRunning(a) && isRunning(b)) this.break('one life: it runs twice');
    if (mayStart(a) && mayStart(b)) this.break('one life: two hosts may start it');
    if (!ownsWhatRuns(a) || !ownsWhatRuns(b)) this.break('it runs without its record');
    if (!this.isLost && !this.#isHeld()) this.break('no loss: nobody holds it');
  }

  #isHeld(): boolean {
    const { 'host-a': a, 'host-b': b } = this.#machines;
    return this.#isWholeAt(a, b) || this.#isWholeAt(b, a);
  }

  /** What is here, with what it lacks at the other host. */
  #isWholeAt(here: Machine, other: Machine): boolean {
    const lacks = here.guest?.lacks ?? 0;
    return here.holds(this.#newest) && (lacks === 0 || other.guest?.content === lacks);
  }

  /** Whether another guest is not whole without this one. */
  #isLacked({ content }: Guest): boolean {
    const { 'host-a': a, 'host-b': b } = this.#machines;
    return content !== 0 && (a.guest?.lacks === content || b.guest?.lacks === content);
  }
}

export const isRunning = ({ guest }: Machine): boolean => guest?.lifecycle === 'running';

/** What is not in memory any more cannot start, whatever the record says. */
const mayStart = ({ guest, disk }: Machine): boolean =>
  guest !== undefined && disk.possible.some(({ vm }) => vm?.state === 'active');

const ownsWhatRuns = ({ guest, disk }: Machine): boolean =>
  guest?.lifecycle !== 'running' ||
  disk.possible.every(({ vm }) => vm?.state === 'active' && vm.epoch === guest.epoch);
