/** A session at the source, around its real machine: as src/migration/outgoing.ts performs it. */
import {
  ADMISSION_MS_MAX,
  CONNECT_MS_MAX,
  GUEST_WORK_MS_MAX,
  IN_DOUBT_ANSWER_MS_MAX,
  RECONNECT_MS,
  RECONNECT_WAIT_MS_MAX,
  REPLY_MS_MAX,
  ROUND_CONFIRM_MS_MAX,
} from '../../src/base/limits.ts';
import { BackOff } from '../../src/migration/back-off.ts';
import { Deadline, Runner } from '../../src/migration/runner.ts';
import type { Code } from '../../src/protocol/codes.ts';
import { mayHaveSurrendered, startSource } from '../../src/protocol/source/machine.ts';
import type {
  Deadline as Named,
  Effect,
  Event,
  Plan,
  State,
} from '../../src/protocol/source/state.ts';
import type { MigrationRecord, VmRecord } from '../../src/store/records.ts';
import type { Daemon, Session } from './daemon.ts';
import { migrationIn } from './disk.ts';
import type { Guest } from './machine.ts';
import type { End } from './network.ts';
import { dirtyCollected } from '../unit/protocol/samples.ts';
import { DESCRIPTOR, digestOf, NONCE, OPTIONS, POLICY, SENT, SOFTWARE, SPEAKS } from './samples.ts';
import { isSignedBy, otherThan, sign, type HostName } from './signature.ts';

const DEADLINE_MS: { readonly [K in Named]: number } = {
  connect: CONNECT_MS_MAX,
  reply: REPLY_MS_MAX,
  admission: ADMISSION_MS_MAX,
  confirm: ROUND_CONFIRM_MS_MAX,
  work: GUEST_WORK_MS_MAX,
};

interface Request {
  readonly migrationId: string;
  readonly vm: VmRecord;
  readonly guest: Guest;
  /** Gives the VM's name back. */
  readonly release: () => void;
  /** The operator has his answer. */
  readonly answered: () => void;
}

export class Outgoing implements Session {
  readonly peer: HostName;
  readonly #daemon: Daemon;
  readonly #request: Request;
  readonly #record: MigrationRecord;
  readonly #mode: 'pre-copy' | 'post-copy';
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #backOff: BackOff;
  readonly #ended: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];
  #link: End | undefined;
  /** What is under way, and of which session: what an earlier one yields nobody hears. */
  #underWay = 0;
  #session = 0;
  #isEnded = false;
  #isAbandoning = false;
  /** Until when a session that broke may be followed by another; none broke: for ever. */
  #outageUntilMs = Number.POSITIVE_INFINITY;

  constructor(daemon: Daemon, request: Request) {
    this.#daemon = daemon;
    this.#request = request;
    this.peer = otherThan(daemon.name);
    this.#mode = daemon.world.choices.rarely(0.4) === 0 ? 'pre-copy' : 'post-copy';
    this.#record = {
      migrationId: request.migrationId,
      direction: 'outgoing',
      vm: request.vm.name,
      from: daemon.name,
      to: this.peer,
      startedAtMs: daemon.clock.wall(),
      state: 'started',
      code: null,
      detail: '',
    };
    this.#deadline = new Deadline(daemon.clock, () => this.#dispatch({ kind: 'deadlinePassed' }));
    const { clock, random } = daemon;
    const due = () => this.#reconnectDue();
    this.#backOff = new BackOff({ clock, random }, due, { maxMs: RECONNECT_WAIT_MS_MAX });
    this.#runner = new Runner<State, Event, Effect>({
      state: startSource(this.#plan()),
      step: daemon.observed('source', daemon.build.stepSource),
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: ({ kind }) => {
        if (kind === 'SendingRound') this.#outageUntilMs = Number.POSITIVE_INFINITY;
        if (kind === 'SendingFinal') daemon.faults.reached('final');
        if (kind === 'Surrendering') daemon.faults.reached('surrender');
      },
    });
    daemon.write({ migration: this.#record }, (isWritten) => {
      if (isWritten) this.#dispatch({ kind: 'started' });
      else this.#dispatch({ kind: 'failed', code: 'STORE_FAILED', detail: 'at the start' });
    });
  }

  get migrationId(): string {
    return this.#request.migrationId;
  }

  get state(): string {
    return this.#runner.state.kind;
  }

  cancel(code: Code): void {
    this.#dispatch({ kind: 'cancelRequested', code });
  }

  peerReturned(): void {
    this.#dispatch({ kind: 'peerClosed', code: 'PEER_CLOSED', detail: 'it came back' });
  }

  onEnded(heard: () => void): void {
    if (this.#isEnded) heard();
    else this.#ended.push(heard);
  }

  guestGone(guest: Guest): void {
    if (guest !== this.#request.guest || mayHaveSurrendered(this.#runner.state)) return;
    this.#dispatch({ kind: 'failed', code: 'GUEST_FAILED', detail: 'its process is gone' });
  }

  #dispatch(event: Event): void {
    this.#runner.dispatch(event);
  }

  #plan(): Plan {
    const { migrationId, vm } = this.#request;
    return {
      ...SPEAKS,
      purpose: 'migrate',
      migrationId,
      from: this.#daemon.name,
      options: { ...OPTIONS[this.peer], mode: this.#mode },
      formats: SOFTWARE,
      nonce: NONCE,
      policyDigest: POLICY,
      epoch: vm.epoch,
      handoverMs: 5,
      resumes: true,
      signedByPeer: (statement, signature) => isSignedBy(this.peer, statement, signature),
    };
  }

  #perform(effect: Effect): undefined {
    if (!this.#daemon.carriesOut(effect.kind)) return;
    switch (effect.kind) {
      case 'connect':
        this.#connect();
        return;
      case 'send':
        this.#link?.send(effect.message);
        return;
      case 'sendSigned':
        this.#sendSigned(effect);
        return;
      case 'arm':
        this.#deadline.arm(Math.min(DEADLINE_MS[effect.deadline], this.#outageLeftMs));
        return;
      case 'disarm':
        this.#deadline.disarm();
        return;
      case 'appraise':
        this.#later(() => ({ kind: 'appraised', code: null, detail: '' }));
        return;
      case 'makeEvidence':
        this.#later(() => ({
          kind: 'evidenceMade',
          evidence: { format: 'software', body: NONCE },
        }));
        return;
      case 'describe':
        this.#later(() => ({ kind: 'described', descriptor: DESCRIPTOR }));
        return;
      case 'joinChannels':
        this.#later(() => ({ kind: 'channelsJoined', owedPages: SENT.pages, elapsedMs: 0 }));
        return;
      case 'sendRound':
        this.#later(() => ({ kind: 'roundSent', sent: SENT }));
        return;
      case 'collectDirty':
        this.#later(() => dirtyCollected(0));
        return;
      case 'pauseGuest':
        this.#later(() => this.#pause());
        return;
      case 'sendFinal':
        this.#later(() => this.#sendFinal(effect));
        return;
      case 'surrender':
        this.#surrender(effect);
        return;
      case 'handOver':
        this.#handOver();
        return;
      case 'abandon':
        this.#abandon(effect.code, effect.detail);
        return;
      case 'end':
        this.#link?.close();
        this.#end();
        this.#conclude();
        return;
      case 'reconnect':
        this.#reconnect();
        return;
      case 'holdGuest':
        this.#later(() => this.#hold());
        return;
      case 'tellRound':
      case 'tellDeadline':
      case 'pace':
      case 'throttle':
      case 'deriveKeys':
        return;
    }
  }

  /** Work that yields an event, unless the session has ended by then. */
  #later(work: () => Event | undefined): void {
    const session = this.#session;
    this.#underWay += 1;
    this.#daemon.later(() => {
      this.#underWay -= 1;
      const event = work();
      if (event !== undefined && session === this.#session) this.#dispatch(event);
      if (this.#underWay === 0) for (const heard of this.#idle.splice(0)) heard();
    });
  }

  #connect(): void {
    const session = this.#session;
    this.#daemon.network.open(this.#daemon, 'migrate', (link) => {
      if (session !== this.#session) {
        link?.close();
        return;
      }
      if (link === undefined) {
        this.#dispatch({ kind: 'failed', code: 'PEER_UNREACHABLE', detail: '' });
        return;
      }
      this.#link = link;
      link.listen({
        message: (message) => {
          if (this.#link === link) this.#dispatch({ kind: message.type, message } as Event);
        },
        closed: (code, detail) => {
          if (this.#link === link) this.#dispatch({ kind: 'peerClosed', code, detail });
        },
      });
      this.#dispatch({ kind: 'connected' });
    });
  }

  #sendSigned({ message, statement }: Extract<Effect, { kind: 'sendSigned' }>): void {
    if (this.#link !== undefined) {
      this.#daemon.say(this.#link, message, statement, this.migrationId);
    }
  }

  #hold(): Event | undefined {
    const { guest } = this.#request;
    if (!guest.isAlive) return { kind: 'failed', code: 'GUEST_FAILED', detail: 'while pausing' };
    guest.lifecycle = 'held';
    return undefined;
  }

  #pause(): Event {
    return this.#hold() ?? { kind: 'guestPaused', stateBytes: 100 };
  }

  #sendFinal({ stateBytes, leavesPages }: Extract<Effect, { kind: 'sendFinal' }>): Event {
    const { guest } = this.#request;
    if (!guest.isAlive) return { kind: 'failed', code: 'GUEST_FAILED', detail: 'while sending' };
    if (this.#link !== undefined)
      Object.assign(this.#link.wire, { content: guest.content, leavesPages });
    const transcriptDigest = digestOf(guest.content);
    return { kind: 'finalSent', transcriptDigest, stateBytes, memoryDigest: new Uint8Array(0) };
  }

  #surrender(effect: Extract<Effect, { kind: 'surrender' }>): void {
    const { receipt, statement } = effect;
    const { build, clock } = this.#daemon;
    const token = sign(this.#daemon.name, statement);
    const change = () => {
      const migration = this.#daemon.recordOf(this.migrationId) ?? this.#record;
      const entry = { vm: this.#request.vm, migration };
      return build.journal.surrendered(entry, effect, { receipt, token });
    };
    const surrendered = () => this.#dispatch({ kind: 'surrendered' });
    const insist = () => {
      const late = clock.after(IN_DOUBT_ANSWER_MS_MAX, () => this.#conclude());
      this.#daemon.writeAtLast(change, () => {
        late.cancel();
        surrendered();
      });
    };
    this.#daemon.write(change(), (isWritten, code) => {
      if (isWritten) surrendered();
      else if (code === 'STORE_UNCERTAIN' && build.insistsOnSurrender) insist();
      else this.#dispatch({ kind: 'surrenderFailed', code, detail: '' });
    });
  }

  #handOver(): void {
    const handover = this.#daemon.beginSource(this.migrationId, this.#link);
    this.#end();
    handover.onSettled(() => this.#request.release());
    handover.onSettled(() => this.#conclude());
    handover.onUnanswered(() => this.#conclude());
  }

  #abandon(code: Code, detail: string): void {
    this.#isAbandoning = true;
    this.#session += 1;
    this.#backOff.stop();
    this.#whenIdle(() => this.#putBack(code, detail));
  }

  #whenIdle(then: () => void): void {
    if (this.#underWay === 0) then();
    else this.#idle.push(then);
  }

  get #outageLeftMs(): number {
    return Math.max(this.#outageUntilMs - this.#daemon.clock.now(), 0);
  }

  /** Ends a session that broke, and waits until the next one may be tried. */
  #reconnect(): void {
    const untilMs = this.#daemon.clock.now() + RECONNECT_MS;
    this.#outageUntilMs = Math.min(this.#outageUntilMs, untilMs);
    this.#session += 1;
    const session = this.#session;
    const link = this.#link;
    this.#link = undefined;
    link?.close();
    this.#whenIdle(() => {
      if (session === this.#session) this.#backOff.wait();
    });
  }

  #reconnectDue(): void {
    if (this.#outageLeftMs > 0) this.#dispatch({ kind: 'reconnectDue', nonce: NONCE });
    else this.#dispatch({ kind: 'reconnectGivenUp', detail: 'not mended' });
  }

  #putBack(code: Code, detail: string): void {
    const { build } = this.#daemon;
    const isBegun = this.#daemon.recordOf(this.migrationId) !== undefined;
    // The destination may be waiting for this word: it is written again until it is on disk.
    const change = () => {
      const record = this.#daemon.recordOf(this.migrationId) ?? this.#record;
      return { vm: this.#request.vm, ...build.journal.aborted(record, code, detail) };
    };
    const written = () => this.#request.release();
    this.#resume();
    this.#dispatch({ kind: 'abandoned' });
    if (isBegun) this.#daemon.writeAtLast(change, written);
    else this.#daemon.write(change(), written);
  }

  #resume(): void {
    const { guest } = this.#request;
    if (!guest.isAlive || guest.lifecycle === 'running') return;
    this.#daemon.world.facts.starts(this.#daemon.machine, guest);
  }

  #end(): void {
    this.#isEnded = true;
    this.#deadline.disarm();
    for (const heard of this.#ended.splice(0)) heard();
  }

  /** The result is on record, where that is possible, before the operator is told; once. */
  #conclude(): void {
    if (!this.#daemon.outgoing.delete(this)) return;
    const { disk } = this.#daemon.machine;
    const record = migrationIn(disk.seen, this.migrationId) ?? this.#record;
    this.#daemon.write({ migration: { ...record, result: { outcome: '' } } }, () => {
      const mayBeElsewhere = this.state === 'Surrendering' || this.state === 'HandedOver';
      if (!this.#isAbandoning && !mayBeElsewhere) this.#request.release();
      this.#request.answered();
    });
  }
}
