/**
 * A pretend daemon: what a host does between its start and its end or crash, around the real machines.
 * It performs what src/daemon/host.ts and src/migration perform, on what the machine it runs on holds.
 */
import type { Clock, Random } from '../../src/base/ports.ts';
import { isUnsettled, type Duty } from '../../src/migration/recovery.ts';
import type { Code } from '../../src/protocol/codes.ts';
import type { Step } from '../../src/protocol/machine.ts';
import type { Deletion, Message, MessageOf } from '../../src/protocol/messages.ts';
import type { Change, MigrationRecord, VmRecord } from '../../src/store/records.ts';
import type { Build } from './build.ts';
import type { Arrival } from '../../src/migration/handover/arrival.ts';
import { migrationIn } from './disk.ts';
import type { Faults } from './faults.ts';
import { Handover, type HandoverUnderWay } from './handover.ts';
import { Incoming } from './incoming.ts';
import type { Guest, Machine } from './machine.ts';
import type { End, Network, Party, Path } from './network.ts';
import { Outgoing } from './outgoing.ts';
import { receiveHandover } from './reception.ts';
import { DELETION, NOTHING_DELETED } from './samples.ts';
import { destinationSide, sourceSide } from './sides.ts';
import { sign, type HostName } from './signature.ts';
import type { Owner } from './time.ts';
import type { World } from './world.ts';

/** A word and its signature. */
type Unsigned = { readonly type: Message['type'] };

/** A session, as far as a link about the same migration must know it. */
export interface Session {
  readonly migrationId: string;
  readonly peer: HostName;
  peerReturned(): void;
  onEnded(heard: () => void): void;
}

/** A guest that waits for its state, and the claim on its name. */
export interface Admitted {
  readonly guest: Guest;
  readonly release: () => void;
}

interface Kinded {
  readonly kind: string;
}

const WRITE_AGAIN_MS = 1000;

/** How a write goes; mostly it goes well. */
const FAILURES = [undefined, 'cleanly', 'unseen', 'seen'] as const;

export class Daemon implements Party {
  readonly world: World;
  readonly machine: Machine;
  readonly clock: Clock;
  readonly random: Random;
  readonly ends = new Set<End>();
  readonly handovers = new Map<string, HandoverUnderWay>();
  readonly outgoing = new Set<Outgoing>();
  readonly incoming = new Set<Incoming>();
  /** Migrations of which pages are served here. */
  readonly serving = new Set<string>();
  /** Which look for the pages of a migration is the latest. */
  readonly pulls = new Map<string, object>();
  /** Its state directory is not there: it knows nothing and takes nothing. */
  readonly isBlank: boolean;
  isAlive = true;
  isListening = false;
  /** The VM's name is in the hands of one request. */
  isClaimed = false;
  /** A write blocks all of it, as the real store's does. */
  busyUntilMs = 0;

  readonly #ownDisk: Owner;

  constructor(world: World, machine: Machine, isBlank: boolean) {
    const isAlive = () => this.isAlive;
    this.#ownDisk = {
      get isAlive() {
        return isAlive();
      },
      busyUntilMs: 0,
    };
    this.world = world;
    this.machine = machine;
    this.isBlank = isBlank;
    this.clock = world.time.clockOf(this);
    this.random = {
      bytes: (count) => new Uint8Array(count).fill(85 * world.choices.below(4)),
    };
  }

  get name(): HostName {
    return this.machine.name;
  }

  get build(): Build {
    return this.world.build;
  }

  get faults(): Faults {
    return this.world.faults;
  }

  get network(): Network {
    return this.world.network;
  }

  // What it does by itself

  /** Begins by what is on record. */
  start(): void {
    if (this.isBlank) {
      this.isListening = true;
      return;
    }
    const { vm, migrations } = this.machine.disk.seen;
    const stands = () =>
      this.machine.guest !== undefined && this.machine.guest.lifecycle !== 'running';
    const known = vm === undefined || vm.state === 'gone' ? [] : [vm];
    this.#perform(this.build.dutiesOf(known, migrations, stands), []);
  }

  #perform(duties: readonly Duty[], handovers: readonly MigrationRecord[]): void {
    const [duty, ...rest] = duties;
    if (duty === undefined) {
      this.#started(handovers);
      return;
    }
    if (!this.carriesOut(`recovery: ${duty.kind}`)) return;
    // A daemon that cannot do this does not start; its supervisor tries again.
    const next = (isDone: boolean) => {
      if (isDone) this.#perform(rest, handovers);
      else this.world.crash(this.machine);
    };
    switch (duty.kind) {
      case 'abort': {
        const change = this.build.journal.aborted(duty.migration, 'DAEMON_STOPPED', '');
        this.writeAtLast(
          () => change,
          () => undefined,
        );
        this.#perform(rest, handovers);
        return;
      }
      case 'resume':
        this.letRun(next);
        return;
      case 'handOver':
        this.#perform(rest, [...handovers, duty.migration]);
    }
  }

  #started(handovers: readonly MigrationRecord[]): void {
    const { vm } = this.machine.disk.seen;
    if (vm === undefined || vm.state === 'gone') this.#clear();
    for (const migration of handovers) this.recover(migration);
    this.isListening = true;
  }

  #clear(): void {
    this.world.facts.destroys(this.machine);
    this.machine.clear();
  }

  /** Goes on with a handover from its record. */
  recover(migration: MigrationRecord): void {
    const { migrationId, direction, state } = migration;
    if (state === 'active') {
      this.beginDestination(migrationId, undefined, () => undefined);
      return;
    }
    const release = this.claim();
    const handover =
      direction === 'outgoing'
        ? this.beginSource(migrationId, undefined)
        : this.beginDestination(migrationId, undefined, release);
    handover.onSettled(release);
  }

  /** Takes the VM's name for one request; what is returned gives it back, once. */
  claim(): () => void {
    let isOurs = true;
    this.isClaimed = true;
    return () => {
      if (isOurs || !this.build.claimsAreOwned) this.isClaimed = false;
      isOurs = false;
    };
  }

  // What its sessions and handovers ask of it

  /** Whether an effect is carried out: who is dead, or dies now, does nothing. */
  carriesOut(effect: string): boolean {
    if (!this.isAlive) return false;
    this.world.beforeEffect(this, effect);
    return this.isAlive;
  }

  /** Work that takes its time. */
  later(work: () => void): void {
    this.world.time.after(this.faults.delayMs(), this, work);
  }

  /** Writes one after the other; `done` hears whether it is on disk. */
  write(change: Change, done: (isWritten: boolean, code: Code) => void): void {
    if (!this.isAlive) return;
    const { disk } = this.machine;
    const { time } = this.world;
    const isStale = change.vm?.state === 'active' && change.vm.epoch < disk.seen.epochMax;
    const failure = isStale ? 'cleanly' : FAILURES[this.faults.happens('write', 4)];
    const isSynced = this.build.isSynced(change);
    disk.begin(change);
    this.busyUntilMs = Math.max(this.busyUntilMs, time.nowMs) + this.faults.delayMs();
    time.after(this.busyUntilMs - time.nowMs, this.#ownDisk, () => {
      if (!this.carriesOut('sync')) return;
      if (failure === undefined) disk.sync(change);
      else disk.fail(change, failure);
      this.world.noteWrite(this.name, change, failure);
      const code = disk.isUncertain ? 'STORE_UNCERTAIN' : 'STORE_FAILED';
      time.after(0, this, () => {
        if (isSynced && this.carriesOut('synced')) done(failure === undefined, code);
      });
    });
    if (!isSynced) done(true, 'INTERNAL');
  }

  /** As src/migration/write-at-last.ts. */
  writeAtLast(change: () => Change, done: () => void): void {
    this.write(change(), (isWritten) => {
      if (isWritten) done();
      else this.clock.after(WRITE_AGAIN_MS, () => this.writeAtLast(change, done));
    });
  }

  /** Makes sure that what is seen is what a crash would find. */
  confirm(done: (isSo: boolean) => void): void {
    if (this.machine.disk.isUncertain) this.write({}, done);
    else done(true);
  }

  say(link: End, message: Unsigned, statement: Uint8Array, migrationId: string): void {
    if (link.isOpen) this.world.facts.says(this.machine, message.type, migrationId);
    link.send({ ...message, signature: sign(this.name, statement) } as Message);
  }

  recordOf(migrationId: string): MigrationRecord | undefined {
    return migrationIn(this.machine.disk.seen, migrationId);
  }

  migrationOf(migrationId: string): MigrationRecord {
    const migration = this.recordOf(migrationId);
    if (migration === undefined) throw new Error('no record');
    return migration;
  }

  entryOf(migrationId: string): { readonly vm: VmRecord; readonly migration: MigrationRecord } {
    const { vm } = this.machine.disk.seen;
    if (vm === undefined) throw new Error('no record');
    return { vm, migration: this.migrationOf(migrationId) };
  }

  /** Lets a guest that a migration stopped run again; one that is gone stays gone. */
  letRun(done: (isRun: boolean) => void): void {
    this.later(() => {
      const { guest } = this.machine;
      const silence = guest === undefined ? 'none' : this.#silence();
      if (silence !== 'deaf' && guest !== undefined && guest.lifecycle !== 'running') {
        this.world.facts.starts(this.machine, guest);
      }
      done(silence === 'none');
    });
  }

  /** A guest that does not answer has not heard what it is told, or has done it. */
  #silence(): 'none' | 'deaf' | 'mute' {
    return (['none', 'deaf', 'mute'] as const)[this.faults.happens('silent', 3)] ?? 'none';
  }

  destroy(done: (isDestroyed: boolean) => void): void {
    this.later(() => {
      const silence = this.machine.guest === undefined ? 'none' : this.#silence();
      if (silence !== 'deaf') this.#clear();
      done(silence === 'none');
    });
  }

  /** As src/migration/handover/deletion.ts; `done` hears nothing where it could not be done. */
  destroyForGood(
    migrationId: string,
    activation: Uint8Array,
    done: (facts: Deletion | undefined) => void,
  ): void {
    const migration = this.migrationOf(migrationId);
    const facts = migration.destroying ?? (this.machine.hasVtpm ? DELETION : NOTHING_DELETED);
    const destroy = () => this.destroy((isDestroyed) => done(isDestroyed ? facts : undefined));
    const recorded = (isWritten: boolean) => {
      if (isWritten) destroy();
      else done(undefined);
    };
    if (migration.destroying !== undefined) this.confirm(recorded);
    else this.write(this.build.journal.deleting(migration, activation, facts), recorded);
  }

  /** Ends a guest that was admitted, with all that was received. */
  discard(guest: Guest, done: () => void): void {
    this.later(() => {
      guest.isAlive = false;
      if (this.machine.guest === guest || this.machine.guest === undefined) this.#clear();
      done();
    });
  }

  observed<S extends Kinded, E extends Kinded, F extends Kinded>(
    machine: string,
    step: (state: S, event: E) => Step<S, F>,
  ): (state: S, event: E) => Step<S, F> {
    return (state, event) => {
      const next = step(state, event);
      this.world.stepped(this.name, machine, state.kind, event.kind, next);
      return next;
    };
  }

  // Handovers

  beginSource(migrationId: string, link: End | undefined): HandoverUnderWay {
    const side = sourceSide(this, migrationId, link === undefined ? 'alone' : 'linked');
    return this.#begun(new Handover(this, side, this.#matterOf(migrationId), link), migrationId);
  }

  beginDestination(
    migrationId: string,
    link: End | undefined,
    started: () => void,
  ): HandoverUnderWay {
    const { state, handover: about } = this.migrationOf(migrationId);
    const isActive = state === 'active';
    const active = about?.leavesPages === true ? 'pulling' : 'active';
    const unlinked = isActive ? active : 'alone';
    const begin = link === undefined ? unlinked : 'linked';
    const side = destinationSide(this, migrationId, begin, started);
    const matter = this.#matterOf(migrationId);
    const handover = this.#begun(new Handover(this, side, matter, link), migrationId);
    // While it is only prepared, a guest that is gone settles it: proved, not guessed.
    if (!isActive && this.machine.guest === undefined) this.clock.after(1, () => handover.lost());
    return handover;
  }

  #matterOf(migrationId: string) {
    const { from, to, handover } = this.migrationOf(migrationId);
    if (handover === undefined) throw new Error('a handover without its record');
    const { vmId, epoch, transcriptDigest, leavesPages = false, final } = handover;
    return {
      subject: { migrationId, vmId, epoch, from, to },
      transcriptDigest,
      leavesPages,
      final,
    };
  }

  #begun(handover: HandoverUnderWay, migrationId: string): HandoverUnderWay {
    this.handovers.set(migrationId, handover);
    handover.onSettled(() => this.handovers.delete(migrationId));
    return handover;
  }

  /** The process of a guest of ours is gone. */
  guestGone(guest: Guest): void {
    this.clock.after(0, () => this.#guestGone(guest));
  }

  #guestGone(guest: Guest): void {
    for (const session of [...this.outgoing, ...this.incoming]) session.guestGone(guest);
    for (const [migrationId, handover] of this.handovers) {
      if (this.recordOf(migrationId)?.direction === 'incoming') handover.lost();
    }
  }

  // What other hosts and its operator ask of it

  receive(path: Path, end: End): void {
    if (path === 'handover') receiveHandover(this, end);
    else if (this.isBlank) end.close();
    else this.incoming.add(new Incoming(this, end));
  }

  sessionOf(migrationId: string): Session | undefined {
    return [...this.outgoing, ...this.incoming].find((each) => each.migrationId === migrationId);
  }

  /** The session of this migration that the next one may take over from. */
  resumable(migrationId: string, next: Incoming): Incoming | undefined {
    return [...this.incoming].find(
      (each) => each !== next && each.migrationId === migrationId && each.isResumable,
    );
  }

  isUnderWay(migrationId: string, but: Incoming): boolean {
    return [...this.incoming].some((each) => each !== but && each.migrationId === migrationId);
  }

  /** Whether the VM runs here and nobody works on it. */
  get isBusy(): boolean {
    return this.world.time.nowMs < this.busyUntilMs;
  }

  get canMigrate(): boolean {
    const { vm } = this.machine.disk.seen;
    const isFree = !this.isBlank && !this.isClaimed && !this.isBusy;
    const isReady = this.isListening && isFree && this.#arrival() === 'arrived';
    const isRunning = this.machine.guest?.lifecycle === 'running';
    return isReady && vm?.state === 'active' && isRunning;
  }

  #arrival(): Arrival {
    const migrationId = this.machine.disk.seen.vm?.migrationId ?? '';
    const state = this.handovers.get(migrationId)?.state;
    return this.build.arrivalOf(this.recordOf(migrationId), state);
  }

  /** An operator states that the other host was fenced, of a VM that runs here. */
  fenceSource(migrationId: string): void {
    const record = this.recordOf(migrationId);
    if (record?.state !== 'active' || this.#arrival() !== 'owed') return;
    const fencing = { operator: 'alice', atMs: this.clock.wall() };
    this.write(this.build.journal.sourceFenced(record, fencing), () => undefined);
  }

  migrate(migrationId: string, answered: () => void): void {
    const { vm } = this.machine.disk.seen;
    const { guest } = this.machine;
    if (vm === undefined || guest === undefined) return;
    const release = this.claim();
    this.outgoing.add(new Outgoing(this, { migrationId, vm, guest, release, answered }));
  }

  /**
   * Whether this host takes the VM, as src/migration/admission.ts decides it: `done` hears the guest
   * that waits for its state, or a code.
   */
  admit(
    { descriptor, epoch }: MessageOf<'OFFER'>,
    asking: Incoming,
    done: (admitted: Admitted | Code) => void,
  ): void {
    const { vm } = this.machine.disk.seen;
    const earlier = [...this.incoming].find((each) => each !== asking && each.isAdmitting);
    const decide = () => this.later(() => done(this.#decide(epoch)));
    const ask = () => {
      if (vm?.state === 'prepared' && vm.migrationId !== null) this.#ask(vm.migrationId, decide);
      else decide();
    };
    if (earlier !== undefined && descriptor.name === 'vm1' && earlier.cancel('PEER_CLOSED')) {
      earlier.onEnded(ask);
    } else ask();
  }

  #decide(epoch: number): Admitted | Code {
    const { vm, epochMax } = this.machine.disk.seen;
    if (this.isClaimed) return 'NAME_TAKEN';
    if (vm !== undefined && vm.state !== 'gone') return 'NAME_TAKEN';
    if (epoch <= epochMax) return 'EPOCH_STALE';
    const release = this.claim();
    const guest: Guest = { lifecycle: 'incoming', content: 0, epoch: 0, lacks: 0, isAlive: true };
    this.machine.guest = guest;
    return { guest, release };
  }

  /** Asks the other host now; goes on when it is settled, or after as long as an answer may take. */
  #ask(migrationId: string, then: () => void): void {
    const handover = this.handovers.get(migrationId);
    if (handover === undefined) {
      then();
      return;
    }
    let isAnswered = false;
    const answer = () => {
      if (!isAnswered) then();
      isAnswered = true;
    };
    handover.onSettled(answer);
    this.clock.after(5000, answer);
    handover.askNow();
  }

  /** An end that could not be written: the record says PREPARED, and is what counts. */
  recoverIfUnsettled(migrationId: string): void {
    const left = this.recordOf(migrationId);
    if (left !== undefined && isUnsettled(left)) this.recover(left);
  }
}
