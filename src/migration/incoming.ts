/**
 * One migration to this host: carries out what the destination's machine decides. Nothing that
 * arrives runs, or survives an abort, before the machine says so.
 */
import { sign, verify } from 'node:crypto';
import {
  GUEST_WORK_MS_MAX,
  HOLD_MARGIN_MS,
  REPLY_MS_MAX,
  ROUND_CONFIRM_MS_MAX,
} from '../base/limits.ts';
import type { PagedGuest } from '../guest/driver.ts';
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
import type { MigrationRecord } from '../store/records.ts';
import type { ControlChannel } from '../transport/control.ts';
import type { Admitted, Asking } from './admission.ts';
import type { Conversation } from './conversation.ts';
import { countAbsent } from './data-plane/exchange-mapping.ts';
import type { DataReceiver } from './data-plane/receiver.ts';
import type { ReceivingChannels } from './receiving-channels.ts';
import {
  checkSameOffer,
  standingAfter,
  type HeldTransfer,
  type Offer,
  type Resumable,
} from './held-transfer.ts';
import { endOf, recordGivenUp, type IncomingResult } from './incoming-end.ts';
import { IncomingSession, type IncomingPorts } from './incoming-session.ts';
import { prepared } from './journal.ts';
import { isUnsettled } from './recovery.ts';
import { Deadline, Runner } from './runner.ts';
import type { Standing } from './standing.ts';

const DEADLINE_MS: { readonly [K in Exclude<Named, 'hold'>]: number } = {
  reply: REPLY_MS_MAX,
  work: GUEST_WORK_MS_MAX,
  confirm: ROUND_CONFIRM_MS_MAX,
};

/** A refusal that vouches for nothing. */
const UNSIGNED = new Uint8Array(64);

export class IncomingMigration implements Resumable {
  readonly #ports: IncomingPorts;
  readonly #session: IncomingSession;
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #finished = Promise.withResolvers<IncomingResult>();
  readonly #sessionEnded = Promise.withResolvers<void>();
  readonly #guestGone = (): void => {
    if (mayHoldTheOnlyCopy(this.#runner.state)) return;
    this.#runner.dispatch({ kind: 'failed', code: 'GUEST_FAILED', detail: 'its process is gone' });
  };
  #record: MigrationRecord | undefined;
  #admitted: Admitted | undefined;
  #channels: ReceivingChannels | undefined;
  #isAbandoning = false;
  #offer: Offer | undefined;
  /** Whether this session follows one that broke, and where it began. */
  #isNext = false;
  #standing: Standing | null = null;
  /** What it leaves to the next one. */
  readonly #held = Promise.withResolvers<HeldTransfer>();

  constructor(ports: IncomingPorts, channel: ControlChannel) {
    this.#ports = ports;
    this.#held.promise.catch(() => undefined);
    this.#session = new IncomingSession(ports, channel);
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

  get #conversation(): Conversation {
    return this.#session.conversation;
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

  /** Whether what came can be taken over by another session. */
  get isResumable(): boolean {
    const { state } = this.#runner;
    const isReceiving = state.kind === 'Receiving' || state.kind === 'ConfirmingRound';
    return state.kind === 'Holding' || (isReceiving && state.agreed.resumes);
  }

  async hold(offer: Offer): Promise<HeldTransfer> {
    if (this.#offer !== undefined) checkSameOffer(this.#offer, offer);
    this.peerReturned();
    return await this.#held.promise;
  }

  #plan(): Plan {
    const { host, suites, forms, channelsMax, appraiser, random, reconnectMs, postCopies } =
      this.#ports;
    const { peer } = this.#conversation;
    return {
      purpose: 'migrate',
      host,
      from: peer.name,
      suites,
      forms,
      encodings: this.#ports.encodings,
      channelsMax,
      formats: appraiser.allowed,
      postCopies,
      resumes: reconnectMs > 0,
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
      case 'sendSigned': {
        const signature = this.#isOurs() ? this.#sign(effect.statement) : UNSIGNED;
        this.#conversation.send({ ...effect.message, signature });
        return undefined;
      }
      case 'arm':
        this.#deadline.arm(
          effect.deadline === 'hold'
            ? this.#ports.reconnectMs + HOLD_MARGIN_MS
            : DEADLINE_MS[effect.deadline],
        );
        return undefined;
      case 'disarm':
        this.#deadline.disarm();
        return undefined;
      case 'open':
        this.#open(effect.migrationId);
        return undefined;
      case 'makeEvidence':
        return this.#session.makeEvidence(this.#opened().migrationId, effect);
      case 'appraise':
        return this.#session.appraise(this.#opened().migrationId, effect);
      case 'deriveKeys':
        this.#session.deriveKeys(this.#opened().migrationId, effect);
        return undefined;
      case 'admit':
        return this.#admit(effect);
      case 'awaitRound':
        return this.#plane()
          .roundReceived(effect.round)
          .then(({ pages, tag }) => ({ kind: 'roundReceived', round: effect.round, pages, tag }));
      case 'awaitFinal':
        return this.#awaitFinal(effect.verify);
      case 'reopen':
        throw new Error('of a session to pull');
      case 'prepare':
        return this.#prepare(effect);
      case 'hold':
        return this.#hold(effect.round);
      case 'letGo':
        this.#letGo();
        return undefined;
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

  /** Whether this session may speak for its migration: not for one of others, nor for one it has not taken over. */
  #isOurs(): boolean {
    return this.#record !== undefined && (!this.#isNext || this.#admitted !== undefined);
  }

  #sign(statement: Uint8Array): Uint8Array {
    return sign(null, statement, this.#ports.hostKey);
  }

  #opened(): MigrationRecord {
    if (this.#record === undefined) throw new Error('no migration opened yet');
    return this.#record;
  }

  #plane(): DataReceiver {
    if (this.#channels === undefined) throw new Error('no data channels yet');
    return this.#channels.receiver;
  }

  #agreesPostCopy(): boolean {
    const { state } = this.#runner;
    return 'agreed' in state && state.agreed.postCopy;
  }

  #reserved(): Admitted {
    if (this.#admitted === undefined) throw new Error('nothing admitted');
    return this.#admitted;
  }

  #guest(): PagedGuest {
    return this.#reserved().guest;
  }

  #open(migrationId: string): void {
    const { store, host, clock, isUnderWay, resumable } = this.#ports;
    this.#isNext = resumable(migrationId, this.#conversation.peer.name) !== undefined;
    const isTaken = isUnderWay(migrationId) && !this.#isNext;
    // A twin would write its own end over the record, and the signatures, of the other.
    if (isTaken || store.migration(migrationId) !== undefined) {
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

  async #admit({ offer, agreed }: Extract<Effect, { kind: 'admit' }>): Promise<Event> {
    try {
      const held = this.#isNext ? await this.#heldBefore(offer) : undefined;
      this.#offer = offer;
      this.#standing = held?.standing ?? null;
      const record = { ...this.#opened(), vm: offer.descriptor.name };
      if (held === undefined) {
        this.#record = record;
        this.#adopt(await this.#ports.admission.admit(offer, this.#asking()));
      }
      const channels = await this.#session.openChannels(
        record.migrationId,
        agreed,
        held?.memory ?? this.#guest().memory,
        this.#standing,
      );
      this.#channels = channels;
      if (held !== undefined) {
        if (this.#isAbandoning) throw new MigError('PEER_CLOSED', 'before it went on');
        this.#adopt(held.takeOver(this.#asking()));
        this.#record = record;
      }
      void channels.failed.then(({ code, detail }) =>
        this.#runner.dispatch({ kind: 'failed', code, detail }),
      );
      return {
        kind: 'admitted',
        reservation: this.#reserved().reservation,
        ports: channels.ports,
        resume: this.#standing?.point ?? null,
      };
    } catch (thrown) {
      const { code, detail } = MigError.from(thrown);
      // To the source's operator our data ports are room like any other.
      return { kind: 'notAdmitted', code: code === 'LISTEN_FAILED' ? 'DEST_BUSY' : code, detail };
    }
  }

  #heldBefore(offer: Offer): Promise<HeldTransfer> {
    const { migrationId } = this.#opened();
    const before = this.#ports.resumable(migrationId, this.#conversation.peer.name);
    if (before === undefined) throw new MigError('PEER_CLOSED', 'what was held is given up');
    return before.hold(offer);
  }

  #asking(): Asking {
    const { name: from } = this.#conversation.peer;
    return { from, cancel: (code) => this.cancel(code), finished: this.finished };
  }

  /** What is admitted is ours, and its guest's end our failure. */
  #adopt(admitted: Admitted): void {
    this.#admitted = admitted;
    const { gone } = admitted.guest;
    gone.addEventListener('abort', this.#guestGone);
    if (gone.aborted) this.#guestGone();
  }

  /** The channels end and the keys are wiped; what came stays until it is taken over or given up. */
  async #hold(round: number): Promise<Event | undefined> {
    this.#session.wipe();
    try {
      const { migrationId } = this.#opened();
      const extents = await this.#plane().reckon(round);
      await this.#channels?.close();
      const standing = standingAfter(migrationId, this.#standing, round, extents);
      const takeOver = (asking: Asking) => this.#passOn(asking);
      this.#held.resolve({ memory: this.#guest().memory, standing, takeOver });
      return undefined;
    } catch {
      return { kind: 'notHeld' };
    }
  }

  #passOn(asking: Asking): Admitted {
    if (this.#runner.state.kind !== 'Holding') throw new MigError('PEER_CLOSED', 'given up');
    const admitted = this.#reserved();
    admitted.guest.gone.removeEventListener('abort', this.#guestGone);
    this.#admitted = undefined;
    admitted.passTo(asking);
    this.#runner.dispatch({ kind: 'passedOn' });
    return admitted;
  }

  #letGo(): void {
    this.#quit();
    this.#conversation.close();
    this.#sessionEnded.resolve();
    const { migrationId, vm } = this.#opened();
    this.#finished.resolve({ migrationId, vm, outcome: 'passed-on', code: null, detail: '' });
  }

  async #awaitFinal(wanted: boolean): Promise<Event> {
    const { stateBytes, transcriptDigest } = await this.#plane().finalReceived();
    const memoryDigest = wanted ? await this.#plane().digestMemory() : new Uint8Array(0);
    const absentPages = this.#agreesPostCopy() ? countAbsent(this.#guest().memory) : 0;
    return { kind: 'finalReceived', stateBytes, transcriptDigest, memoryDigest, absentPages };
  }

  /** Its failure is an event of its own: nothing else may be taken for it. */
  #prepare(effect: Extract<Effect, { kind: 'prepare' }>): Promise<Event> {
    return this.#restore(effect).then(
      () => ({ kind: 'prepared' }),
      (thrown: unknown) => {
        const { code, detail } = MigError.from(thrown);
        return { kind: 'prepareFailed', code, detail };
      },
    );
  }

  async #restore(effect: Extract<Effect, { kind: 'prepare' }>): Promise<void> {
    const { statement } = effect;
    const guest = this.#guest();
    // Asked at once, done in this order.
    const [, descriptor] = await Promise.all([guest.importState(), guest.describe()]);
    const signature = this.#sign(statement);
    // The vTPM that arrived is the one that was offered: another in its place is refused.
    if (descriptor.vtpm?.ekFingerprint !== this.#admitted?.descriptor.vtpm?.ekFingerprint) {
      throw new MigError('VTPM_FAILED', 'its endorsement key is not the one offered');
    }
    // Two of one identity can have been admitted at once; only one comes to be on record.
    const { store, inventory } = this.#ports;
    if (inventory.hasOther(descriptor.name, descriptor.vmId)) {
      throw new MigError('NAME_TAKEN', `${descriptor.vmId} is here under another name`);
    }
    await store.write(prepared(this.#opened(), descriptor, effect, signature));
    this.#admitted?.arrived();
    inventory.adopt(descriptor.name, guest);
  }

  /** From here the record drives it. */
  async #handOver(): Promise<void> {
    const { migrationId, vm } = this.#opened();
    const release = () => this.#admitted?.release();
    const leavesPages = this.#ports.store.migration(migrationId)?.handover?.leavesPages === true;
    const handover = this.#ports.handovers.beginDestination(migrationId, {
      link: this.#conversation,
      started: release,
      pulling: leavesPages ? this.#channels?.take() : undefined,
    });
    void handover.settled.then(release);
    this.#quit();
    this.#sessionEnded.resolve();
    const settled = await Promise.race([
      handover.settled,
      handover.unanswered.then((): undefined => undefined),
    ]);
    await this.#channels?.close();
    this.#finished.resolve({ migrationId, vm, ...endOf(handover, settled) });
  }

  /** The name stays claimed until all of it is gone: who came sooner would lose his own to this. */
  async #abandon(code: Code, detail: string): Promise<Event> {
    this.#isAbandoning = true;
    // A session that has not taken over from the one before owes nothing of that.
    const isOurs = this.#admitted !== undefined;
    this.#held.reject(new MigError(code, detail));
    try {
      return await this.#clear(code, detail);
    } finally {
      this.#admitted?.release();
      // An end that could not be written: the record says PREPARED, and is what counts.
      const left = isOurs ? this.#ports.store.migration(this.#opened().migrationId) : undefined;
      if (left !== undefined && isUnsettled(left)) this.#ports.handovers.recover(left);
    }
  }

  async #clear(code: Code, detail: string): Promise<Event> {
    const underWay = this.#runner.underWay();
    this.#session.wipe();
    await this.#channels?.close();
    await underWay;
    await this.#channels?.close();
    await this.#admitted?.discard();
    if (this.#record !== undefined) {
      await recordGivenUp(this.#ports, this.#record, code, detail);
    }
    return { kind: 'abandoned' };
  }

  /** What a session holds besides its guest. */
  #quit(): void {
    this.#deadline.disarm();
    this.#admitted?.guest.gone.removeEventListener('abort', this.#guestGone);
    this.#session.wipe();
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
    await this.#channels?.close();
    if (!this.#isAbandoning) this.#admitted?.release();
    this.#conversation.close();
    this.#sessionEnded.resolve();
    this.#finished.resolve(result);
  }
}
