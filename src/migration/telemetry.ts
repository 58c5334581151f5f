/**
 * Keeps the figures of one outgoing migration and turns them into its report: phases, rounds,
 * progress, the result. It never decides anything.
 */
import type { Clock } from '../base/ports.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { NO_COUNTS, sumCounts, type EncodingCounts } from '../pages/encodings/counts.ts';
import { sendingMs, type StopReason } from '../protocol/source/convergence.ts';
import type { Effect, RoundSent } from '../protocol/source/state.ts';
import type { FaultCounts } from '../protocol/messages.ts';
import { GuestTime } from './guest-time.ts';
import type { Served } from './paging/page-service.ts';
import type {
  DeletionCertificateView,
  MigrationEvent,
  MigrationResult,
  Phase,
  RoundReport,
} from './report.ts';

/** Progress is told at most this often. */
const PROGRESS_MS = 100;

/** By the states of the session's machine and of the handover's. */
const PHASES: Readonly<Record<string, Phase | undefined>> = {
  Connecting: 'session',
  AwaitingEvidence: 'attestation',
  Describing: 'admission',
  SendingRound: 'pre-copy',
  Reconnecting: 'reconnecting',
  Surrendering: 'handover',
  InDoubt: 'in-doubt',
  Serving: 'post-copy',
  ServingAlone: 'reconnecting',
  Deleting: 'deletion',
  Aborting: 'aborting',
};

type Mark =
  'started' | 'attesting' | 'offering' | 'final' | 'paused' | 'activated' | 'whole' | 'ended';

const NOTHING_LEFT = { dirtyPages: 0, deferredPages: 0 };

interface Facts {
  readonly migrationId: string;
  readonly vm: string;
  readonly from: string;
  readonly to: string;
  readonly mode: string;
  /** From the request to the begin, in ms: what a deadline counts as well. */
  readonly queuedMs: number;
}

export class Telemetry {
  readonly #clock: Clock;
  readonly #emit: (event: MigrationEvent) => void;
  readonly #deadlineMs: number | undefined;
  readonly #guestTime: GuestTime;
  readonly #facts: Facts;
  readonly #marks = new Map<Mark, number>();
  readonly #rounds: RoundReport[] = [];
  #phase: Phase = 'session';
  #memoryBytes: number;
  #totals = { pages: 0, zeroPages: 0, bytesSent: 0 };
  #round = { n: 0, startedAt: 0, toSendPages: 0 };
  #sentPages = 0;
  #counts = NO_COUNTS;
  #rates = { dirtyBps: 0, bandwidthBps: 0, predictedDowntimeMs: 0 };
  #progressAt = 0;
  #isBroken = false;
  #isFeasible = true;
  #stoppedBy: StopReason | null = null;
  #resumes = 0;
  #postCopy: MigrationResult['postCopy'] = null;

  constructor(
    clock: Clock,
    emit: (event: MigrationEvent) => void,
    facts: Facts,
    memoryBytes: number,
    deadlineMs: number | undefined,
  ) {
    this.#deadlineMs = deadlineMs;
    this.#guestTime = new GuestTime(clock);
    this.#clock = clock;
    this.#emit = emit;
    this.#facts = facts;
    this.#memoryBytes = memoryBytes;
    this.mark('started');
    const { migrationId, vm, from, to } = facts;
    emit({ event: 'started', migrationId, vm, from, to, memoryBytes });
  }

  get phase(): Phase {
    return this.#phase;
  }

  get round(): number {
    return this.#round.n;
  }

  mark(what: Mark): void {
    if (!this.#marks.has(what)) this.#marks.set(what, this.#clock.now());
  }

  /** Time between two marks in ms; null when either was not reached. */
  between(from: Mark, to: Mark): number | null {
    const a = this.#marks.get(from);
    const b = this.#marks.get(to);
    return a === undefined || b === undefined ? null : b - a;
  }

  entered(kind: string): void {
    if (kind === 'AwaitingEvidence') this.mark('attesting');
    if (kind === 'Describing') this.mark('offering');
    if (kind === 'AwaitingDone') this.mark('final');
    if (kind === 'Serving' || kind === 'Deleting') this.mark('activated');
    if (kind === 'Deleting') this.mark('whole');
    if (kind === 'Ended' || kind === 'Settled') this.mark('ended');
    if (kind === 'Reconnecting') this.#isBroken = true;
    if (kind === 'SendingRound' && this.#isBroken) {
      this.#isBroken = false;
      this.#resumes += 1;
    }
    this.#enterPhase(PHASES[kind]);
  }

  /** The guest is about to be stopped: the downtime begins. */
  stopped(by: StopReason): void {
    this.#stoppedBy ??= by;
    this.mark('paused');
    this.#enterPhase('stop-and-copy');
  }

  #enterPhase(phase: Phase | undefined): void {
    if (phase === undefined || phase === this.#phase) return;
    // The guest stands still already: its last rounds are part of the stop-and-copy.
    if (phase === 'pre-copy' && this.#stoppedBy !== null) return;
    this.#phase = phase;
    this.#emit({ event: 'phase', migrationId: this.#facts.migrationId, phase });
  }

  roundStarted(n: number, toSendPages: number): void {
    this.#round = { n, startedAt: this.#clock.now(), toSendPages };
    this.#sentPages = 0;
  }

  /** Time since the request, in ms. */
  get elapsedMs(): number {
    return this.#facts.queuedMs + this.#clock.now() - (this.#marks.get('started') ?? 0);
  }

  /** Of the current round, as far as was told. */
  get remainingPages(): number {
    return Math.max(this.#round.toSendPages - this.#sentPages, 0);
  }

  /** The guest is kept from running for `percent` of its time. */
  throttled(percent: number): void {
    if (percent === this.#guestTime.percent) return;
    this.#guestTime.throttled(percent);
    this.#emit({ event: 'throttle', migrationId: this.#facts.migrationId, percent });
  }

  deadlineJudged(effect: Extract<Effect, { kind: 'tellDeadline' }>): void {
    const { isFeasible, predictedMs } = effect;
    this.#isFeasible = isFeasible;
    this.#emit({
      event: 'deadline',
      migrationId: this.#facts.migrationId,
      askedMs: this.#deadlineMs ?? 0,
      feasible: isFeasible,
      predictedMs: Number.isFinite(predictedMs) ? Math.round(predictedMs) : null,
    });
  }

  /** Time since the current round began, in ms. */
  get roundMs(): number {
    return this.#clock.now() - this.#round.startedAt;
  }

  /** A round has arrived. */
  roundDone(effect: Extract<Effect, { kind: 'tellRound' }>): void {
    const { sent, roundMs, dirtyBps, bandwidthBps, predictedDowntimeMs } = effect;
    this.#rates = { dirtyBps: Math.round(dirtyBps), bandwidthBps, predictedDowntimeMs };
    this.#reported(sent, { durationMs: roundMs, ...effect });
  }

  /** The last round, sent while the guest stood still: what was predicted for it stays. */
  finalDone(sent: RoundSent, durationMs: number): void {
    this.#reported(sent, { durationMs, ...NOTHING_LEFT });
  }

  /** What of the current round had left when the connection broke, if anything. */
  roundBroke(sent: Omit<RoundSent, 'tag'>): void {
    if (sent.bytesSent === 0) return;
    this.#reported(sent, { durationMs: this.roundMs, ...NOTHING_LEFT }, 'broken');
  }

  /** How the pages of a round went, or of what of it had left. */
  encoded(counts: EncodingCounts): void {
    this.#counts = sumCounts(this.#counts, counts);
  }

  /** All pages that were left are there. `faults`: as the destination says. */
  pagesServed(served: Served, faults: FaultCounts | undefined): void {
    const { pushed, demanded, resumes } = served;
    for (const { pages, zeroPages, bytes, counts } of [pushed, demanded]) {
      this.encoded(counts);
      this.#totals.pages += pages;
      this.#totals.zeroPages += zeroPages;
      this.#totals.bytesSent += bytes;
    }
    this.#resumes += resumes;
    this.#postCopy = {
      pushedPages: pushed.pages,
      demandedPages: demanded.pages,
      durationMs: this.between('activated', 'whole') ?? 0,
      resumes,
      faults: faults ?? null,
    };
  }

  /** What the handover cost besides its pages, in ms; null when there was none. */
  get handoverCostMs(): number | null {
    // A guest that was stopped in the middle of a round also waited for that.
    const downtimeMs = this.#stoppedBy === 'timeout' ? null : this.between('paused', 'activated');
    const { pages, zeroPages } = this.#rounds.at(-1) ?? { pages: 0, zeroPages: 0 };
    return downtimeMs === null
      ? null
      : downtimeMs - sendingMs(pages - zeroPages, this.#rates.bandwidthBps);
  }

  #reported(
    sent: Omit<RoundSent, 'tag'>,
    round: Readonly<{ durationMs: number; dirtyPages: number; deferredPages: number }>,
    end: 'whole' | 'broken' = 'whole',
  ): void {
    const report: RoundReport = {
      n: this.#round.n,
      isWhole: end === 'whole',
      pages: sent.pages,
      zeroPages: sent.zeroPages,
      bytesSent: sent.bytesSent,
      durationMs: round.durationMs,
      deferredPages: round.deferredPages,
      dirtyPagesAfter: round.dirtyPages,
      bandwidthBps: Math.round((sent.bytesSent * 1000) / Math.max(round.durationMs, 0.001)),
      predictedDowntimeMs: this.#rates.predictedDowntimeMs,
    };
    this.#rounds.push(report);
    this.#totals.pages += sent.pages;
    this.#totals.zeroPages += sent.zeroPages;
    this.#totals.bytesSent += sent.bytesSent;
    this.#emit({ event: 'round', migrationId: this.#facts.migrationId, ...report });
  }

  /** How far the current round is. */
  progressed(sent: { readonly pages: number; readonly bytesSent: number }): void {
    this.#sentPages = sent.pages;
    const now = this.#clock.now();
    if (now - this.#progressAt < PROGRESS_MS) return;
    this.#progressAt = now;
    const elapsedMs = Math.max(now - this.#round.startedAt, 0.001);
    const bandwidthBps = Math.round((sent.bytesSent * 1000) / elapsedMs);
    const remainingBytes = this.remainingPages * PAGE_BYTES;
    const pagesPerMs = sent.pages / elapsedMs;
    this.#emit({
      event: 'progress',
      migrationId: this.#facts.migrationId,
      phase: this.#phase,
      round: this.#round.n,
      sentBytes: sent.bytesSent,
      remainingBytes,
      dirtyRateBps: this.#rates.dirtyBps,
      bandwidthBps,
      predictedDowntimeMs: this.#rates.predictedDowntimeMs,
      etaMs: pagesPerMs > 0 ? Math.round(remainingBytes / PAGE_BYTES / pagesPerMs) : 0,
      throttlePercent: this.#guestTime.percent,
    });
  }

  get #deadline(): MigrationResult['deadline'] {
    const askedMs = this.#deadlineMs;
    if (askedMs === undefined) return null;
    const movedMs = this.between('started', 'activated');
    const metMs = movedMs === null ? null : this.#facts.queuedMs + movedMs;
    return { askedMs, metMs, feasible: this.#isFeasible };
  }

  result(
    ended: Pick<MigrationResult, 'outcome' | 'code' | 'detail'>,
    more: {
      readonly suite: string | null;
      readonly form: string | null;
      readonly engine: string;
      readonly channels: number;
      readonly attestation: MigrationResult['attestation'];
      readonly vtpmMoved: boolean;
      /** Whether both digests of the memory were compared. */
      readonly verified: boolean;
      readonly deletionCertificate: DeletionCertificateView | null;
    },
  ): MigrationResult {
    const totalMs = this.between('started', 'ended') ?? 0;
    const transferMs = this.between('offering', 'final') ?? 0;
    const completed = ended.outcome === 'completed';
    const { migrationId, vm, from, to, mode, queuedMs } = this.#facts;
    return {
      event: 'result',
      migrationId,
      vm,
      from,
      to,
      outcome: ended.outcome,
      code: ended.code,
      detail: ended.detail,
      mode,
      suite: more.suite,
      form: more.form,
      engine: more.engine,
      channels: more.channels,
      memoryBytes: this.#memoryBytes,
      queuedMs,
      totalMs,
      downtimeMs: this.between('paused', 'activated'),
      stoppedBy: this.#stoppedBy,
      throttle: this.#guestTime.lost,
      deadline: this.#deadline,
      setupMs: this.between('started', 'attesting') ?? 0,
      attestMs: this.between('attesting', 'offering') ?? 0,
      transferMs,
      handoverMs: this.between('final', 'ended') ?? 0,
      rounds: this.#rounds,
      postCopy: this.#postCopy,
      resumes: this.#resumes,
      pagesSent: this.#totals.pages,
      zeroPages: this.#totals.zeroPages,
      bytesSent: this.#totals.bytesSent,
      encodings: this.#counts,
      throughputBps: transferMs > 0 ? Math.round((this.#totals.bytesSent * 1000) / transferMs) : 0,
      attestation: more.attestation,
      vtpm: {
        moved: completed && more.vtpmMoved,
        deletedAtSource: completed && more.vtpmMoved && more.deletionCertificate !== null,
        deletionCertificate: more.deletionCertificate,
      },
      verified: completed && more.verified,
    };
  }
}
