/**
 * One migration away from this host: carries out what the source's machine decides. It steers; guest
 * bytes pass only through the data plane's workers.
 */
import { verify } from 'node:crypto';
import {
  ADMISSION_MS_MAX,
  CONNECT_MS_MAX,
  GUEST_WORK_MS_MAX,
  IN_DOUBT_ANSWER_MS_MAX,
  REPLY_MS_MAX,
  ROUND_CONFIRM_MS_MAX,
} from '../base/limits.ts';
import type { Clock, Random } from '../base/ports.ts';
import type { PagedGuest } from '../guest/driver.ts';
import type { Code } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import type { ChannelForm, EncodingName, MigrateOptions, SuiteName } from '../protocol/options.ts';
import { mayHaveSurrendered, startSource, stepSource } from '../protocol/source/machine.ts';
import type { Effect, Event, Plan, State, Deadline as Named } from '../protocol/source/state.ts';
import type { Change, MigrationRecord, RecordStore, VmRecord } from '../store/records.ts';
import type { Engine } from '../transport/connection.ts';
import type { SERVE_PATH } from '../transport/control.ts';
import type { Threads } from './data-plane/threads.ts';
import type { HandoverCosts } from './handover-costs.ts';
import type { Handovers } from './handover/handovers.ts';
import { textOf, type HandoverUnderWay, type Settlement } from './handover/handover.ts';
import type { Inventory } from './inventory.ts';
import { aborted, surrendered } from './journal.ts';
import { Outage } from './outage.ts';
import { OutgoingSession, type Credentials } from './outgoing-session.ts';
import { OutgoingTransfer } from './outgoing-transfer.ts';
import type { DeletionCertificateView, MigrationEvent, MigrationResult } from './report.ts';
import { Deadline, Runner } from './runner.ts';
import { Telemetry } from './telemetry.ts';
import { writeAtLast } from './write-at-last.ts';

const DEADLINE_MS: { readonly [K in Named]: number } = {
  connect: CONNECT_MS_MAX,
  reply: REPLY_MS_MAX,
  admission: ADMISSION_MS_MAX,
  confirm: ROUND_CONFIRM_MS_MAX,
  work: GUEST_WORK_MS_MAX,
};

/** What a migration needs of its host. */
export interface OutgoingPorts {
  readonly host: string;
  /** As they are now: a session takes them once, another one may find a newer revocation list. */
  readonly credentials: () => Credentials;
  readonly suites: readonly SuiteName[];
  readonly forms: readonly ChannelForm[];
  /** Of pages; `raw` is among them. */
  readonly encodings: readonly EncodingName[];
  /** How data channels are read and written here; the other host has its own way. */
  readonly engine: Engine;
  readonly inventory: Inventory;
  readonly store: RecordStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly threads: Threads;
  readonly handovers: Handovers;
  readonly costs: HandoverCosts;
  readonly silenceMs: number;
  /** How long a session that broke is tried to be followed by another; 0: never. */
  readonly reconnectMs: number;
}

export interface OutgoingRequest {
  readonly migrationId: string;
  readonly options: MigrateOptions;
  /** "host:port" of the destination. */
  readonly address: string;
  /** How long it waited for its turn. */
  readonly queuedMs: number;
  /** Which door of the destination; that of a migration unless said. */
  readonly path?: typeof SERVE_PATH;
}

export class OutgoingMigration {
  readonly migrationId: string;
  readonly #ports: OutgoingPorts;
  readonly #request: OutgoingRequest;
  readonly #vm: VmRecord;
  readonly #guest: PagedGuest;
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #telemetry: Telemetry;
  readonly #transfer: OutgoingTransfer;
  readonly #outage: Outage;
  readonly #finished = Promise.withResolvers<MigrationResult>();
  readonly #sessionEnded = Promise.withResolvers<void>();
  readonly #emit: (event: MigrationEvent) => void;
  /** From the surrender on its end is what is asked of it. */
  readonly #guestGone = (): void => {
    if (mayHaveSurrendered(this.#runner.state)) return;
    this.#runner.dispatch({ kind: 'failed', code: 'GUEST_FAILED', detail: 'its process is gone' });
  };
  readonly #record: MigrationRecord;
  #session: OutgoingSession;
  #release = (): void => undefined;
  #isAbandoning = false;
  #isConcluded = false;

  constructor(
    ports: OutgoingPorts,
    request: OutgoingRequest,
    held: { readonly record: VmRecord; readonly guest: PagedGuest },
    emit: (event: MigrationEvent) => void,
  ) {
    const { migrationId, options } = request;
    this.migrationId = migrationId;
    this.#ports = ports;
    this.#request = request;
    this.#vm = held.record;
    this.#guest = held.guest;
    this.#emit = emit;
    this.#record = {
      migrationId,
      direction: 'outgoing',
      vm: options.vm,
      from: ports.host,
      to: options.to,
      startedAtMs: ports.clock.wall(),
      state: 'started',
      code: null,
      detail: '',
    };
    this.#deadline = new Deadline(ports.clock, () =>
      this.#runner.dispatch({ kind: 'deadlinePassed' }),
    );
    this.#telemetry = new Telemetry(
      ports.clock,
      emit,
      {
        migrationId,
        vm: options.vm,
        from: ports.host,
        to: options.to,
        mode: options.mode,
        queuedMs: request.queuedMs,
      },
      held.guest.memory.ramBytes,
      options.deadlineMs,
    );
    this.#transfer = new OutgoingTransfer(held.guest, this.#telemetry, options, (event) =>
      this.#runner.dispatch(event),
    );
    this.#outage = new Outage(ports, ports.reconnectMs);
    this.#session = this.#newSession();
    this.#runner = new Runner<State, Event, Effect>({
      state: startSource(this.#plan()),
      step: stepSource,
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: ({ kind }) => {
        if (kind === 'SendingRound') this.#outage.end();
        this.#telemetry.entered(kind);
      },
    });
  }

  /**
   * Runs it to its end; never rejects. The VM's lock is the caller's: `release` is called when nothing
   * of this touches the VM any more, which is after its end where a guest hangs.
   */
  async run(release: () => void): Promise<MigrationResult> {
    this.#release = release;
    const { timeoutMs } = this.#request.options;
    this.#guest.gone.addEventListener('abort', this.#guestGone);
    if (this.#guest.gone.aborted) this.#guestGone();
    const overall = new Deadline(this.#ports.clock, () => this.#timePassed());
    if (timeoutMs !== undefined) overall.arm(timeoutMs);
    try {
      await this.#ports.store.write({ migration: this.#record });
      this.#runner.dispatch({ kind: 'started' });
    } catch {
      this.#runner.dispatch({ kind: 'failed', code: 'STORE_FAILED', detail: 'at the start' });
    }
    const result = await this.#finished.promise;
    overall.disarm();
    return result;
  }

  #timePassed(): void {
    if (this.#request.options.onTimeout === 'cancel') this.cancel('TIMEOUT');
    else this.#runner.dispatch({ kind: 'timePassed' });
  }

  /** Asks for its end. Returns whether it can still be cancelled. */
  cancel(code: Code): boolean {
    if (mayHaveSurrendered(this.#runner.state) || this.#runner.state.kind === 'Ended') return false;
    this.#runner.dispatch({ kind: 'cancelRequested', code });
    return true;
  }

  /** What its host lets it send from now on, in bytes per second. */
  grant(bps: number): void {
    this.#transfer.limit.ask('host', bps);
  }

  /** Resolves when no session goes on any more: it ended, or the record drives it. */
  get sessionEnded(): Promise<void> {
    return this.#sessionEnded.promise;
  }

  /** The destination has left the connection that this holds on to. */
  peerReturned(): void {
    const detail = 'it came back on another connection';
    this.#runner.dispatch({ kind: 'peerClosed', code: 'PEER_CLOSED', detail });
  }

  get startedAtMs(): number {
    return this.#record.startedAtMs;
  }

  get progress(): { readonly phase: string; readonly round: number } {
    return { phase: this.#telemetry.phase, round: this.#telemetry.round };
  }

  #plan(): Plan {
    const { host, suites, forms, encodings, random } = this.#ports;
    const { appraiser } = this.#session.credentials;
    const { options, migrationId } = this.#request;
    return {
      purpose: 'migrate',
      migrationId,
      from: host,
      options,
      suites: options.suite === undefined ? suites : suites.filter((s) => s === options.suite),
      forms: options.form === undefined ? forms : forms.filter((f) => f === options.form),
      encodings,
      formats: appraiser.allowed,
      nonce: random.bytes(32),
      policyDigest: appraiser.policyDigest,
      epoch: this.#vm.epoch,
      handoverMs: this.#ports.costs.expected(options.to),
      resumes: this.#ports.reconnectMs > 0,
      signedByPeer: (statement, signature) =>
        verify(null, statement, this.#session.conversation.peer.publicKey, signature),
    };
  }

  #newSession(before?: OutgoingSession): OutgoingSession {
    const dispatch = (event: Event) => this.#runner.dispatch(event);
    return new OutgoingSession(this.#ports, this.#request, dispatch, before);
  }

  #perform(effect: Effect): Promise<Event | undefined> | Event | undefined {
    const session = this.#session;
    switch (effect.kind) {
      case 'connect':
        return session.heed(session.connect());
      case 'send':
        session.send(effect.message);
        return undefined;
      case 'sendSigned':
        session.send({ ...effect.message, signature: session.sign(effect.statement) });
        return undefined;
      case 'arm':
        this.#arm(effect.deadline);
        return undefined;
      case 'disarm':
        this.#deadline.disarm();
        return undefined;
      case 'appraise':
        return session.heed(session.appraise(effect));
      case 'makeEvidence':
        return session.heed(session.makeEvidence(effect));
      case 'deriveKeys':
        session.deriveKeys(effect);
        return undefined;
      case 'describe':
        return session.heed(this.#describe());
      case 'joinChannels':
        return session.sending(this.#transfer.join(session.channels(effect), effect.resume));
      case 'sendRound':
        return session.sending(this.#transfer.sendRound(effect));
      case 'collectDirty':
        return session.heed(this.#transfer.collectDirty());
      case 'tellRound':
        this.#telemetry.roundDone(effect);
        return undefined;
      case 'tellDeadline':
        this.#telemetry.deadlineJudged(effect);
        return undefined;
      case 'pace':
        this.#transfer.pace(effect.paceBps);
        return undefined;
      case 'throttle':
        return this.#transfer.throttle(effect.percent).then(() => undefined);
      case 'holdGuest':
        return this.#transfer.holdGuest().then(() => undefined);
      case 'pauseGuest':
        return this.#transfer.pauseGuest(effect);
      case 'sendFinal':
        return session.sending(this.#transfer.sendFinal(effect));
      case 'surrender':
        return this.#surrender(effect);
      case 'reconnect':
        return this.#reconnect(session);
      case 'handOver':
        void this.#handOver();
        return undefined;
      case 'abandon':
        return this.#abandon(effect.code, effect.detail);
      case 'end':
        return this.#end();
    }
  }

  #arm(deadline: Named): void {
    const limits = [DEADLINE_MS[deadline]];
    if (deadline === 'connect') limits.push(this.#ports.silenceMs);
    // A session that follows a broken one must stand before the time for that is over.
    if ('outage' in this.#runner.state) limits.push(Math.max(this.#outage.leftMs, 0));
    this.#deadline.arm(Math.min(...limits));
  }

  async #describe(): Promise<Event> {
    return { kind: 'described', descriptor: await this.#guest.describe() };
  }

  /** Ends a session that broke, and waits until the next one may be tried. */
  async #reconnect(broken: OutgoingSession): Promise<Event> {
    const underWay = this.#runner.underWay();
    this.#outage.begin();
    broken.end();
    this.#session = this.#newSession(broken);
    try {
      await this.#transfer.breakOff(underWay);
    } catch (thrown) {
      return { kind: 'reconnectGivenUp', detail: MigError.from(thrown).detail };
    }
    if (await this.#outage.next()) {
      return { kind: 'reconnectDue', nonce: this.#ports.random.bytes(32) };
    }
    return { kind: 'reconnectGivenUp', detail: `not mended within ${this.#ports.reconnectMs} ms` };
  }

  /** Its failure is an event of its own: nothing else may be taken for it. */
  async #surrender(effect: Extract<Effect, { kind: 'surrender' }>): Promise<Event> {
    const { receipt, statement } = effect;
    const { store } = this.#ports;
    const migration = () => store.migration(this.migrationId) ?? this.#record;
    try {
      const token = this.#session.sign(statement);
      const change = () =>
        surrendered({ vm: this.#vm, migration: migration() }, effect, {
          receipt,
          token,
          session: this.#session.agreed,
        });
      await store.write(change()).catch((thrown: unknown) => this.#insist(thrown, change));
      return { kind: 'surrendered' };
    } catch (thrown) {
      const { code, detail } = MigError.from(thrown);
      return { kind: 'surrenderFailed', code, detail };
    }
  }

  /** A surrender that a crash could find made is written until it is: the guest stands still meanwhile. */
  async #insist(thrown: unknown, change: () => Change): Promise<void> {
    const { code, detail } = MigError.from(thrown);
    if (code !== 'STORE_UNCERTAIN') throw thrown;
    const doubt = { outcome: 'in-doubt', code: 'IN_DOUBT', detail: `${code} ${detail}` } as const;
    const late = this.#ports.clock.after(IN_DOUBT_ANSWER_MS_MAX, () => this.#conclude(doubt));
    await writeAtLast(this.#ports, change);
    late.cancel();
  }

  /** From here the record drives it; this migration tells how it went, as soon as that is known. */
  async #handOver(): Promise<void> {
    const handover = this.#ports.handovers.beginSource(this.migrationId, {
      link: this.#session.conversation,
      letGo: () => this.#transfer.close(),
      serving: () => this.#transfer.takeServing(),
      limited: (sender) => this.#transfer.limit.applyTo(sender),
      served: (served, faults) => this.#telemetry.pagesServed(served, faults),
      observe: (state) => this.#telemetry.entered(state),
    });
    void handover.settled.then(() => this.#release());
    this.#sessionEnded.resolve();
    const settled = await Promise.race([
      handover.settled,
      handover.unanswered.then((): undefined => undefined),
    ]);
    this.#conclude(endOf(handover, settled));
  }

  /** The name is free when the end is on disk, which may take longer than this. */
  async #abandon(code: Code, detail: string): Promise<Event> {
    this.#isAbandoning = true;
    const underWay = this.#runner.underWay();
    this.#outage.giveUp();
    this.#session.leave();
    await this.#transfer.close();
    await underWay;
    // The guest need not stand still for a disk.
    const written = this.#writeAborted(code, detail);
    // The guest may be dead itself: then there is nothing to resume, and the record says so.
    await Promise.allSettled([
      this.#guest.untrackDirty(),
      this.#transfer.throttle(0),
      this.#guest.resume(),
    ]);
    void written.then(() => this.#release());
    return { kind: 'abandoned' };
  }

  #writeAborted(code: Code, detail: string): Promise<void> {
    const { store } = this.#ports;
    const change = () => aborted(store.migration(this.migrationId) ?? this.#record, code, detail);
    // What is not even on record as begun owes nobody an end.
    return store.migration(this.migrationId) === undefined
      ? store.write(change()).catch(() => undefined)
      : writeAtLast(this.#ports, change);
  }

  #end(): undefined {
    const ended = this.#runner.state;
    // `end` is the last effect of the step into Ended; the runner has entered it already.
    if (ended.kind !== 'Ended') throw new Error(`end in ${ended.kind}`);
    this.#session.end();
    this.#sessionEnded.resolve();
    this.#conclude(ended);
    return undefined;
  }

  /** Tells how it went; once, whatever comes of it later. */
  #conclude(end: End): void {
    if (this.#isConcluded) return;
    this.#isConcluded = true;
    this.#deadline.disarm();
    this.#guest.gone.removeEventListener('abort', this.#guestGone);
    this.#session.leave();
    void this.#transfer.close();
    const { agreed, attestation } = this.#session;
    const { deletion } = this.#ports.store.migration(this.migrationId) ?? {};
    const result = this.#telemetry.result(end, {
      suite: agreed?.suite ?? null,
      form: agreed?.form ?? null,
      engine: this.#ports.engine,
      channels: agreed?.channels ?? this.#request.options.channels,
      attestation,
      vtpmMoved: this.#vm.descriptor.vtpm !== null,
      verified: this.#request.options.verify,
      deletionCertificate: deletion === undefined ? null : this.#certificate(deletion),
    });
    const { to, verify: verified } = this.#request.options;
    const { handoverCostMs } = this.#telemetry;
    // Digests of all memory are a cost of their own.
    if (handoverCostMs !== null && !verified) this.#ports.costs.learn(to, handoverCostMs);
    void this.#finish(result);
  }

  #certificate({
    statement,
    signature,
  }: NonNullable<MigrationRecord['deletion']>): DeletionCertificateView {
    return {
      statementBase64: Buffer.from(statement).toString('base64'),
      signatureBase64: Buffer.from(signature).toString('base64'),
      signer: this.#ports.host,
    };
  }

  /** The result is on record, where that is possible, before anyone is told. */
  async #finish(result: MigrationResult): Promise<void> {
    const { code, detail } = result;
    const record = this.#ports.store.migration(this.migrationId) ?? this.#record;
    await this.#ports.store
      .write({ migration: { ...record, code, detail, result } })
      .catch(() => undefined);
    // After a hand-over the name is free when that is settled; while abandoning, when that is done.
    if (!this.#isAbandoning && !mayHaveSurrendered(this.#runner.state)) this.#release();
    this.#emit(result);
    this.#finished.resolve(result);
  }
}

type End = Pick<MigrationResult, 'outcome' | 'code' | 'detail'>;

/** What the operator is told of a handover; `settled` is undefined while something is waited for. */
function endOf(
  { state, isDecided, cause }: HandoverUnderWay,
  settled: Settlement | undefined,
): End {
  if (settled === undefined) {
    const detail = textOf(cause);
    if (state === 'ServingAlone') return { outcome: 'in-doubt', code: 'PAGES_OWED', detail };
    return isDecided
      ? { outcome: 'completed', code: null, detail }
      : { outcome: 'in-doubt', code: 'IN_DOUBT', detail };
  }
  const { outcome, code, detail } = settled;
  return { outcome: outcome === 'gone' ? 'completed' : 'failed', code, detail };
}
