/**
 * One migration to this host: carries out what the destination's machine decides. Nothing that
 * arrives runs, or survives an abort, before the machine says so.
 */
import { sign, verify, type KeyObject } from 'node:crypto';
import { GUEST_WORK_MS_MAX, REPLY_MS_MAX, ROUND_CONFIRM_MS_MAX } from '../base/limits.ts';
import type { Clock, Random } from '../base/ports.ts';
import type { SessionSecret } from '../crypto/key-schedule.ts';
import type { Identity } from '../crypto/pki/identity.ts';
import { ENCODINGS } from '../pages/batch.ts';
import type { Guest } from '../guest/driver.ts';
import type { Code } from '../protocol/codes.ts';
import {
  mayHoldTheOnlyCopy,
  startDestination,
  stepDestination,
} from '../protocol/destination/machine.ts';
import type {
  Deadline as Named,
  Effect,
  Event,
  Plan,
  State,
} from '../protocol/destination/state.ts';
import { MigError } from '../protocol/error.ts';
import type { SuiteName } from '../protocol/options.ts';
import type { MigrationRecord, RecordStore } from '../store/records.ts';
import type { ControlChannel } from '../transport/control.ts';
import type { Admission, Admitted } from './admission.ts';
import type { Appraiser } from './appraiser.ts';
import { Conversation } from './conversation.ts';
import { openReceiver, type DataReceiver } from './data-plane/receiver.ts';
import type { Threads } from './data-plane/threads.ts';
import type { Handovers } from './handover/handovers.ts';
import type { Inventory } from './inventory.ts';
import { aborted, discarded, prepared } from './journal.ts';
import { isUnsettled } from './recovery.ts';
import { Deadline, Runner } from './runner.ts';

const DEADLINE_MS: { readonly [K in Named]: number } = {
  reply: REPLY_MS_MAX,
  work: GUEST_WORK_MS_MAX,
  confirm: ROUND_CONFIRM_MS_MAX,
};

/** What a migration needs of its host. */
export interface IncomingPorts {
  readonly host: string;
  readonly identity: Identity;
  readonly hostKey: KeyObject;
  readonly suites: readonly SuiteName[];
  readonly channelsMax: number;
  readonly dataPorts: { readonly from: number; readonly to: number } | undefined;
  readonly appraiser: Appraiser;
  readonly admission: Admission;
  readonly inventory: Inventory;
  readonly store: RecordStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly threads: Threads;
  readonly handovers: Handovers;
  readonly silenceMs: number;
  /** Whether an incoming migration of this id, not on record yet, has begun. */
  readonly isUnderWay: (migrationId: string) => boolean;
}

export interface IncomingResult {
  readonly migrationId: string;
  readonly vm: string;
  readonly outcome: string;
  readonly code: Code | null;
  readonly detail: string;
}

export class IncomingMigration {
  readonly #ports: IncomingPorts;
  readonly #conversation: Conversation;
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #finished = Promise.withResolvers<IncomingResult>();
  readonly #sessionEnded = Promise.withResolvers<void>();
  readonly #guestGone = (): void => {
    if (mayHoldTheOnlyCopy(this.#runner.state)) return;
    this.#runner.dispatch({ kind: 'failed', code: 'GUEST_FAILED', detail: 'its process is gone' });
  };
  #record: MigrationRecord | undefined;
  #secret: SessionSecret | undefined;
  #admitted: Admitted | undefined;
  #receiver: DataReceiver | undefined;
  #isAbandoning = false;

  constructor(ports: IncomingPorts, channel: ControlChannel) {
    this.#ports = ports;
    this.#conversation = new Conversation(channel, 'destination');
    const start = startDestination(this.#plan());
    this.#deadline = new Deadline(ports.clock, () =>
      this.#runner.dispatch({ kind: 'deadlinePassed' }),
    );
    this.#runner = new Runner<State, Event, Effect>({
      state: start.state,
      step: stepDestination,
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: () => undefined,
    });
    this.#runner.begin(start);
    this.#conversation.listen(
      {
        message: (message) => this.#runner.dispatch({ kind: message.type, message } as Event),
        broken: (code, detail) => this.#runner.dispatch({ kind: 'failed', code, detail }),
        closed: (code, detail) => this.#runner.dispatch({ kind: 'peerClosed', code, detail }),
      },
      ports.clock,
      ports.silenceMs,
    );
  }

  /** Resolves at its end; never rejects. */
  get finished(): Promise<IncomingResult> {
    return this.#finished.promise;
  }

  get view(): {
    readonly migrationId: string;
    readonly vm: string;
    readonly from: string;
    readonly state: string;
    readonly startedAtMs: number;
  } {
    const { state } = this.#runner;
    return {
      migrationId: this.#record?.migrationId ?? '',
      vm: this.#record?.vm ?? '',
      from: this.#conversation.peer.name,
      state: state.kind,
      startedAtMs: this.#record?.startedAtMs ?? 0,
    };
  }

  /** Asks for its end. Returns false when it may hold the only copy and therefore goes on. */
  cancel(code: Code): boolean {
    if (mayHoldTheOnlyCopy(this.#runner.state)) return false;
    this.#runner.dispatch({ kind: 'cancelRequested', code });
    return true;
  }

  /** Resolves when no session goes on any more: it ended, or the record drives it. */
  get sessionEnded(): Promise<void> {
    return this.#sessionEnded.promise;
  }

  /** The source has left the connection that this holds on to. */
  peerReturned(): void {
    const detail = 'it came back on another connection';
    this.#runner.dispatch({ kind: 'peerClosed', code: 'PEER_CLOSED', detail });
  }

  #plan(): Plan {
    const { host, suites, channelsMax, appraiser, random } = this.#ports;
    const { peer } = this.#conversation;
    return {
      host,
      from: peer.name,
      suites,
      encodings: ENCODINGS,
      channelsMax,
      formats: appraiser.allowed,
      nonce: random.bytes(32),
      policyDigest: appraiser.policyDigest,
      signedByPeer: (statement, signature) => verify(null, statement, peer.publicKey, signature),
    };
  }

  #perform(effect: Effect): Promise<Event | undefined> | Event | undefined {
    switch (effect.kind) {
      case 'send':
        this.#conversation.send(effect.message);
        return undefined;
      case 'sendSigned':
        this.#conversation.send({ ...effect.message, signature: this.#sign(effect.statement) });
        return undefined;
      case 'arm':
        this.#deadline.arm(DEADLINE_MS[effect.deadline]);
        return undefined;
      case 'disarm':
        this.#deadline.disarm();
        return undefined;
      case 'open':
        this.#open(effect.migrationId);
        return undefined;
      case 'makeEvidence':
        return this.#makeEvidence(effect);
      case 'appraise':
        return this.#appraise(effect);
      case 'deriveKeys':
        this.#secret = this.#conversation.deriveSecret(
          this.#opened().migrationId,
          effect.nonceS,
          effect.nonceD,
        );
        return undefined;
      case 'admit':
        return this.#admit(effect);
      case 'awaitRound':
        return this.#plane()
          .roundReceived(effect.round)
          .then(({ pages, tag }) => ({ kind: 'roundReceived', round: effect.round, pages, tag }));
      case 'awaitFinal':
        return this.#awaitFinal(effect.verify);
      case 'prepare':
        return this.#prepare(effect);
      case 'handOver':
        void this.#handOver();
        return undefined;
      case 'abandon':
        return this.#abandon(effect.code, effect.detail);
      case 'end':
        this.#end();
        return undefined;
    }
  }

  #sign(statement: Uint8Array): Uint8Array {
    return sign(null, statement, this.#ports.hostKey);
  }

  #opened(): MigrationRecord {
    if (this.#record === undefined) throw new Error('no migration opened yet');
    return this.#record;
  }

  #plane(): DataReceiver {
    if (this.#receiver === undefined) throw new Error('no data channels yet');
    return this.#receiver;
  }

  #guest(): Guest {
    if (this.#admitted === undefined) throw new Error('nothing admitted yet');
    return this.#admitted.guest;
  }

  #open(migrationId: string): void {
    const { store, host, clock, isUnderWay } = this.#ports;
    // A twin would write its own end over the record, and the signatures, of the other.
    if (isUnderWay(migrationId) || store.migration(migrationId) !== undefined) {
      throw new MigError('MESSAGE_MALFORMED', 'a migration id that was used before');
    }
    this.#record = {
      migrationId,
      direction: 'incoming',
      vm: '',
      from: this.#conversation.peer.name,
      to: host,
      startedAtMs: clock.wall(),
      state: 'started',
      code: null,
      detail: '',
    };
  }

  async #makeEvidence(effect: Extract<Effect, { kind: 'makeEvidence' }>): Promise<Event> {
    const { formats, nonce, policyDigest } = effect;
    const { migrationId } = this.#opened();
    const binding = this.#conversation.binding('destination', { nonce, migrationId, policyDigest });
    const evidence = await this.#ports.appraiser.make(formats, binding);
    return { kind: 'evidenceMade', evidence };
  }

  async #appraise(effect: Extract<Effect, { kind: 'appraise' }>): Promise<Event> {
    const { evidence, nonce, policyDigest } = effect;
    const { migrationId } = this.#opened();
    const binding = this.#conversation.binding('source', { nonce, migrationId, policyDigest });
    const { peer } = this.#conversation;
    const { code, detail } = await this.#ports.appraiser.appraise(evidence, binding, peer);
    return { kind: 'appraised', code, detail };
  }

  async #admit(effect: Extract<Effect, { kind: 'admit' }>): Promise<Event> {
    const { offer, agreed } = effect;
    try {
      this.#record = { ...this.#opened(), vm: offer.descriptor.name };
      this.#admitted = await this.#ports.admission.admit(offer, {
        from: this.#conversation.peer.name,
        cancel: (code) => this.cancel(code),
        finished: this.finished,
      });
      this.#admitted.guest.gone.addEventListener('abort', this.#guestGone);
      if (this.#secret === undefined) throw new Error('no keys yet');
      const receiver = await openReceiver({
        silenceMs: this.#ports.silenceMs,
        migrationId: this.#record.migrationId,
        address: this.#conversation.localAddress,
        ports: this.#ports.dataPorts,
        peer: this.#conversation.peer,
        identity: this.#ports.identity,
        suite: agreed.suite,
        channels: agreed.channels,
        secret: this.#secret,
        memory: this.#admitted.guest.memory,
        clock: this.#ports.clock,
        threads: this.#ports.threads,
      });
      this.#receiver = receiver;
      void receiver.failed.then(({ code, detail }) =>
        this.#runner.dispatch({ kind: 'failed', code, detail }),
      );
      return {
        kind: 'admitted',
        reservation: this.#admitted.reservation,
        ports: receiver.ports,
      };
    } catch (thrown) {
      const { code, detail } = MigError.from(thrown);
      // To the source's operator our data ports are room like any other.
      return { kind: 'notAdmitted', code: code === 'LISTEN_FAILED' ? 'DEST_BUSY' : code, detail };
    }
  }

  async #awaitFinal(wanted: boolean): Promise<Event> {
    const { stateBytes, transcriptDigest } = await this.#plane().finalReceived();
    const memoryDigest = wanted ? await this.#plane().digestMemory() : new Uint8Array(0);
    return { kind: 'finalReceived', stateBytes, transcriptDigest, memoryDigest };
  }

  async #prepare(effect: Extract<Effect, { kind: 'prepare' }>): Promise<Event> {
    const { statement } = effect;
    const guest = this.#guest();
    // Asked at once, done in this order.
    const [, descriptor] = await Promise.all([guest.importState(), guest.describe()]);
    const signature = this.#sign(statement);
    // The vTPM that arrived is the one that was offered: another in its place is refused.
    if (descriptor.vtpm?.ekFingerprint !== this.#admitted?.descriptor.vtpm?.ekFingerprint) {
      throw new MigError('VTPM_FAILED', 'its endorsement key is not the one offered');
    }
    await this.#ports.store.write(prepared(this.#opened(), descriptor, effect, signature));
    this.#ports.inventory.adopt(descriptor.name, guest);
    return { kind: 'prepared' };
  }

  /** From here the record drives it. */
  async #handOver(): Promise<void> {
    const { migrationId, vm } = this.#opened();
    const release = () => this.#admitted?.release();
    const handover = this.#ports.handovers.beginDestination(migrationId, {
      link: this.#conversation,
      started: release,
    });
    void handover.settled.then(release);
    this.#quit();
    this.#sessionEnded.resolve();
    const settled = await Promise.race([
      handover.settled,
      handover.unanswered.then((): undefined => undefined),
    ]);
    await this.#receiver?.close();
    const inDoubt = handover.state === 'InDoubt';
    const { code = null, detail = '' } = settled ?? (inDoubt ? handover.cause : undefined) ?? {};
    const ended = settled?.outcome === 'aborted' ? 'failed' : 'completed';
    this.#finished.resolve({
      migrationId,
      vm,
      outcome: inDoubt ? 'in-doubt' : ended,
      code: inDoubt ? 'IN_DOUBT' : code,
      detail,
    });
  }

  /** The name stays claimed until all of it is gone: who came sooner would lose his own to this. */
  async #abandon(code: Code, detail: string): Promise<Event> {
    this.#isAbandoning = true;
    try {
      return await this.#clear(code, detail);
    } finally {
      this.#admitted?.release();
    }
  }

  async #clear(code: Code, detail: string): Promise<Event> {
    const underWay = this.#runner.underWay();
    this.#secret?.[Symbol.dispose]();
    await this.#receiver?.close();
    await underWay;
    await this.#receiver?.close();
    await this.#admitted?.discard();
    if (this.#record !== undefined && this.#isWorthARecord()) {
      const migration = this.#record;
      const vm = this.#ports.store.vm(migration.vm);
      // A disk that is full must not keep what was reserved: what is not recorded was never prepared.
      await this.#ports.store
        .write(
          vm?.migrationId === migration.migrationId
            ? discarded({ vm, migration }, code, detail)
            : aborted(migration, code, detail),
        )
        .catch(() => undefined);
    }
    return { kind: 'abandoned' };
  }

  /** Whoever was not appraised, and offered nothing, does not get to write on our disk. */
  #isWorthARecord(): boolean {
    return this.#record !== undefined && this.#record.vm !== '';
  }

  /** What a session holds besides its guest. */
  #quit(): void {
    this.#deadline.disarm();
    this.#admitted?.guest.gone.removeEventListener('abort', this.#guestGone);
    this.#secret?.[Symbol.dispose]();
  }

  #end(): void {
    this.#quit();
    const { state } = this.#runner;
    if (state.kind !== 'Ended') throw new Error(`end in ${state.kind}`);
    const { outcome, code, detail } = state;
    const { migrationId = '', vm = '' } = this.#record ?? {};
    void this.#finish({ migrationId, vm, outcome, code, detail });
  }

  async #finish(result: IncomingResult): Promise<void> {
    await this.#receiver?.close();
    if (!this.#isAbandoning) this.#admitted?.release();
    // An end that could not be written: the record says PREPARED, and is what counts.
    const left = this.#ports.store.migration(result.migrationId);
    if (left !== undefined && isUnsettled(left)) this.#ports.handovers.recover(left);
    this.#conversation.close();
    this.#sessionEnded.resolve();
    this.#finished.resolve(result);
  }
}
