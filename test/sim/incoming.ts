/** A session at the destination, around its real machine: as src/migration/incoming.ts performs it. */
import {
  GUEST_WORK_MS_MAX,
  HOLD_MARGIN_MS,
  RECONNECT_MS,
  REPLY_MS_MAX,
  ROUND_CONFIRM_MS_MAX,
} from '../../src/base/limits.ts';
import { Deadline, Runner } from '../../src/migration/runner.ts';
import type { Code } from '../../src/protocol/codes.ts';
import { mayHoldTheOnlyCopy, startDestination } from '../../src/protocol/destination/machine.ts';
import type {
  Deadline as Named,
  Effect,
  Event,
  Plan,
  State,
} from '../../src/protocol/destination/state.ts';
import type { MigrationRecord } from '../../src/store/records.ts';
import type { Admitted, Daemon, Session } from './daemon.ts';
import { migrationIn } from './disk.ts';
import type { Guest } from './machine.ts';
import type { End } from './network.ts';
import { DESCRIPTOR, digestOf, NONCE, POLICY, SENT, SOFTWARE, SPEAKS } from './samples.ts';
import { isSignedBy, sign, type HostName } from './signature.ts';

const DEADLINE_MS: { readonly [K in Named]: number } = {
  reply: REPLY_MS_MAX,
  work: GUEST_WORK_MS_MAX,
  confirm: ROUND_CONFIRM_MS_MAX,
  hold: RECONNECT_MS + HOLD_MARGIN_MS,
};

const RESERVATION = 'a reservation';

/** What a session that broke leaves to the next one. */
interface Held {
  readonly round: number;
  /** Null when it is given up by now. */
  readonly takeOver: () => Admitted | null;
}

export class Incoming implements Session {
  readonly peer: HostName;
  readonly #daemon: Daemon;
  readonly #link: End;
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #ended: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];
  #underWay = 0;
  #isEnded = false;
  #isAbandoning = false;
  #record: MigrationRecord | undefined;
  #admitted: Admitted | undefined;
  /** Whether the session before it of the same migration broke. */
  #isNext = false;
  #held: Held | 'given up' | undefined;
  #heldAwaited: (() => void)[] = [];

  constructor(daemon: Daemon, link: End) {
    this.peer = link.peer;
    this.#daemon = daemon;
    this.#link = link;
    this.#deadline = new Deadline(daemon.clock, () => this.#dispatch({ kind: 'deadlinePassed' }));
    const start = startDestination(this.#plan());
    this.#runner = new Runner<State, Event, Effect>({
      state: start.state,
      step: daemon.observed('destination', daemon.build.stepDestination),
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: () => undefined,
    });
    link.listen({
      message: (message) => this.#dispatch({ kind: message.type, message } as Event),
      closed: (code, detail) => this.#dispatch({ kind: 'peerClosed', code, detail }),
    });
    this.#runner.begin(start);
  }

  get migrationId(): string {
    return this.#record?.migrationId ?? '';
  }

  get state(): string {
    return this.#runner.state.kind;
  }

  /** Whether it has, or asks for, the VM's name. */
  get isAdmitting(): boolean {
    return this.#admitted !== undefined || this.state === 'Admitting';
  }

  get isResumable(): boolean {
    return ['Receiving', 'ConfirmingRound', 'Holding'].includes(this.state);
  }

  /** Returns false when it may hold the only copy and therefore goes on. */
  cancel(code: Code): boolean {
    if (mayHoldTheOnlyCopy(this.#runner.state)) return false;
    this.#dispatch({ kind: 'cancelRequested', code });
    return true;
  }

  peerReturned(): void {
    this.#dispatch({ kind: 'peerClosed', code: 'PEER_CLOSED', detail: 'it came back' });
  }

  onEnded(heard: () => void): void {
    if (this.#isEnded) heard();
    else this.#ended.push(heard);
  }

  guestGone(guest: Guest): void {
    if (guest !== this.#admitted?.guest || mayHoldTheOnlyCopy(this.#runner.state)) return;
    this.#dispatch({ kind: 'failed', code: 'GUEST_FAILED', detail: 'its process is gone' });
  }

  /** Ends the session, for the next one of the same migration; undefined: what came is given up. */
  hold(done: (held: Held | undefined) => void): void {
    this.peerReturned();
    const ready = () => done(this.#held === 'given up' ? undefined : this.#held);
    if (this.#held === undefined) this.#heldAwaited.push(ready);
    else ready();
  }

  #dispatch(event: Event): void {
    this.#runner.dispatch(event);
  }

  #plan(): Plan {
    return {
      ...SPEAKS,
      purpose: 'migrate',
      postCopies: true,
      host: this.#daemon.name,
      from: this.peer,
      channelsMax: 4,
      formats: SOFTWARE,
      resumes: true,
      nonce: NONCE,
      policyDigest: POLICY,
      signedByPeer: (statement, signature) => isSignedBy(this.peer, statement, signature),
    };
  }

  #perform(effect: Effect): Event | undefined {
    if (!this.#daemon.carriesOut(effect.kind)) return undefined;
    switch (effect.kind) {
      case 'send':
        this.#link.send(effect.message);
        return undefined;
      case 'sendSigned':
        this.#sendSigned(effect);
        return undefined;
      case 'arm':
        this.#deadline.arm(DEADLINE_MS[effect.deadline]);
        return undefined;
      case 'disarm':
        this.#deadline.disarm();
        return undefined;
      case 'open':
        return this.#open(effect.migrationId);
      case 'makeEvidence':
        return this.#later(() => ({
          kind: 'evidenceMade',
          evidence: { format: 'software', body: NONCE },
        }));
      case 'appraise':
        return this.#later(() => ({ kind: 'appraised', code: null, detail: '' }));
      case 'admit':
        this.#admit(effect);
        return undefined;
      case 'awaitRound': {
        const { pages, tag } = SENT;
        return this.#later(() => ({ kind: 'roundReceived', round: effect.round, pages, tag }));
      }
      case 'awaitFinal':
        return this.#later(() => this.#finalReceived());
      case 'prepare':
        this.#prepare(effect);
        return undefined;
      case 'hold':
        return this.#later(() => this.#hold(effect.round));
      case 'letGo':
        this.#link.close();
        this.#end();
        return undefined;
      case 'handOver':
        this.#handOver();
        return undefined;
      case 'abandon':
        this.#abandon(effect.code, effect.detail);
        return undefined;
      case 'end':
        this.#finish();
        return undefined;
      case 'deriveKeys':
        return undefined;
      case 'reopen':
        throw new Error('of a session to pull');
    }
  }

  /** Not for a migration of others, nor for one that it has not taken over. */
  #sendSigned({ message, statement }: Extract<Effect, { kind: 'sendSigned' }>): void {
    const isOurs = this.#record !== undefined && (!this.#isNext || this.#admitted !== undefined);
    if (isOurs) this.#daemon.say(this.#link, message, statement, this.migrationId);
    else this.#link.send({ ...message, signature: NONCE });
  }

  #later(work: () => Event | undefined): undefined {
    this.#underWay += 1;
    this.#daemon.later(() => {
      this.#done();
      const event = work();
      if (event !== undefined) this.#dispatch(event);
    });
  }

  #done(): void {
    this.#underWay -= 1;
    if (this.#underWay === 0) for (const heard of this.#idle.splice(0)) heard();
  }

  #open(migrationId: string): Event | undefined {
    const { machine } = this.#daemon;
    const before = this.#daemon.resumable(migrationId, this);
    this.#isNext = before !== undefined;
    const isTaken = this.#daemon.isUnderWay(migrationId, this) && !this.#isNext;
    if (isTaken || migrationIn(machine.disk.seen, migrationId) !== undefined) {
      return { kind: 'failed', code: 'MESSAGE_MALFORMED', detail: 'used before' };
    }
    this.#record = {
      migrationId,
      direction: 'incoming',
      vm: '',
      from: this.peer,
      to: this.#daemon.name,
      startedAtMs: this.#daemon.clock.wall(),
      state: 'started',
      code: null,
      detail: '',
    };
    return undefined;
  }

  #admit({ offer }: Extract<Effect, { kind: 'admit' }>): void {
    const record = this.#record;
    if (record === undefined) return;
    this.#underWay += 1;
    const refused = (code: Code) => {
      this.#done();
      this.#dispatch({ kind: 'notAdmitted', code, detail: '' });
    };
    const accepted = (admitted: Admitted, round: number | null) => {
      this.#admitted = admitted;
      this.#record = { ...record, vm: offer.descriptor.name };
      this.#done();
      const resume = round === null ? null : { round, accepted: [0] };
      const { state } = this.#runner;
      const ports = 'agreed' in state && state.agreed.postCopy ? [7000, 7001] : [7000];
      this.#dispatch({ kind: 'admitted', reservation: RESERVATION, ports, resume });
    };
    if (!this.#isNext) {
      this.#record = { ...record, vm: offer.descriptor.name };
      this.#daemon.admit(offer, this, (answer) => {
        if (typeof answer === 'string') refused(answer);
        else accepted(answer, null);
      });
      return;
    }
    const before = this.#daemon.resumable(record.migrationId, this);
    if (before === undefined) {
      refused('PEER_CLOSED');
      return;
    }
    before.hold((held) =>
      this.#daemon.later(() => {
        const admitted = this.#isAbandoning ? null : (held?.takeOver() ?? null);
        if (admitted === null) refused('PEER_CLOSED');
        else accepted(admitted, held?.round ?? null);
      }),
    );
  }

  #finalReceived(): Event {
    const { faults } = this.#daemon;
    const { content, leavesPages } = this.#link.wire;
    const arrived = faults.happens('corrupt') === 0 ? content : 0;
    this.#link.wire.content = arrived;
    const transcriptDigest = digestOf(arrived);
    return {
      kind: 'finalReceived',
      transcriptDigest,
      stateBytes: 100,
      absentPages: leavesPages ? 1000 : 0,
      memoryDigest: new Uint8Array(0),
    };
  }

  #prepare(effect: Extract<Effect, { kind: 'prepare' }>): void {
    const record = this.#record;
    const guest = this.#admitted?.guest;
    if (record === undefined || guest === undefined) return;
    this.#underWay += 1;
    const ended = (event: Event) => {
      this.#done();
      this.#dispatch(event);
    };
    this.#daemon.later(() => {
      if (!guest.isAlive) {
        ended({ kind: 'prepareFailed', code: 'GUEST_FAILED', detail: '' });
        return;
      }
      guest.content = this.#link.wire.content;
      guest.lacks = effect.leavesPages ? guest.content : 0;
      this.#daemon.machine.hasVtpm = true;
      const receipt = sign(this.#daemon.name, effect.statement);
      const { journal } = this.#daemon.build;
      this.#daemon.write(journal.prepared(record, DESCRIPTOR, effect, receipt), (isWritten, code) =>
        ended(isWritten ? { kind: 'prepared' } : { kind: 'prepareFailed', code, detail: '' }),
      );
    });
  }

  #hold(round: number): undefined {
    this.#ready({ round, takeOver: () => this.#passOn() });
  }

  #ready(held: Held | 'given up'): void {
    this.#held ??= held;
    for (const awaited of this.#heldAwaited.splice(0)) awaited();
  }

  #passOn(): Admitted | null {
    const admitted = this.#admitted;
    if (this.state !== 'Holding' || admitted === undefined) return null;
    this.#admitted = undefined;
    this.#dispatch({ kind: 'passedOn' });
    return admitted;
  }

  #handOver(): void {
    const release = () => this.#admitted?.release();
    const handover = this.#daemon.beginDestination(this.migrationId, this.#link, release);
    handover.onSettled(release);
    this.#end();
  }

  #abandon(code: Code, detail: string): void {
    this.#isAbandoning = true;
    this.#ready('given up');
    const clear = () => this.#clear(code, detail);
    if (this.#underWay === 0) clear();
    else this.#idle.push(clear);
  }

  #clear(code: Code, detail: string): void {
    const cleared = () => {
      this.#admitted?.release();
      this.#isAbandoning = false;
      if (this.#isEnded) this.#recover();
      this.#dispatch({ kind: 'abandoned' });
    };
    const write = () => {
      const migration = this.#record;
      if (migration === undefined || migration.vm === '') {
        cleared();
        return;
      }
      const { journal } = this.#daemon.build;
      const { vm } = this.#daemon.machine.disk.seen;
      const change =
        vm?.migrationId === migration.migrationId
          ? journal.discarded({ vm, migration }, code, detail)
          : journal.aborted(migration, code, detail);
      this.#daemon.write(change, (isWritten, failure) => {
        if (isWritten || failure !== 'STORE_UNCERTAIN') cleared();
        else this.#daemon.writeAtLast(() => change, cleared);
      });
    };
    if (this.#admitted === undefined) write();
    else this.#daemon.discard(this.#admitted.guest, write);
  }

  /** An end that could not be written; a session that has not taken over owes nothing of the one before. */
  #recover(): void {
    if (this.#admitted !== undefined) this.#daemon.recoverIfUnsettled(this.migrationId);
  }

  /** No session goes on: it ended, or the record drives it. */
  #end(): void {
    this.#deadline.disarm();
    this.#daemon.incoming.delete(this);
    this.#isEnded = true;
    for (const heard of this.#ended.splice(0)) heard();
  }

  #finish(): void {
    // What is still being cleared is not gone on with.
    if (!this.#isAbandoning) this.#recover();
    this.#link.close();
    this.#end();
  }
}
