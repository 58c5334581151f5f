/**
 * What a migration tells the world: one stream of events, last the result. Metrics, log, progress
 * and `--json` subscribe to it; nobody calls into the engine. Times in ms, sizes in bytes, rates in
 * bytes per second; field names carry the unit.
 */
import type { EncodingCounts } from '../pages/encodings/counts.ts';
import type { Code } from '../protocol/codes.ts';
import type { FaultCounts } from '../protocol/messages.ts';
import type { StopReason } from '../protocol/source/convergence.ts';

export type Phase =
  | 'queued'
  | 'session'
  | 'attestation'
  | 'admission'
  | 'pre-copy'
  | 'reconnecting'
  | 'stop-and-copy'
  | 'handover'
  | 'post-copy'
  | 'in-doubt'
  | 'deletion'
  | 'aborting';

export type Outcome = 'completed' | 'cancelled' | 'failed' | 'refused' | 'in-doubt';

/** One pre-copy round (the last one is the stop-and-copy). */
export interface RoundReport {
  readonly n: number;
  /** false: the connection broke; the figures are what had been sent by then. */
  readonly isWhole: boolean;
  readonly pages: number;
  readonly zeroPages: number;
  readonly bytesSent: number;
  readonly durationMs: number;
  /** Pages that this round left for a later one, because the guest writes them again and again. */
  readonly deferredPages: number;
  /** Pages owed when this round had arrived: written while it was on its way, or deferred. */
  readonly dirtyPagesAfter: number;
  readonly bandwidthBps: number;
  readonly predictedDowntimeMs: number;
}

export interface AttestationReport {
  /** Format of the evidence (`software` proves identity only, not the platform's state). */
  readonly format: string;
  readonly verdict: 'accepted' | 'refused' | 'none';
}

export interface MigrationResult {
  readonly event: 'result';
  readonly migrationId: string;
  readonly vm: string;
  readonly from: string;
  readonly to: string;
  readonly outcome: Outcome;
  readonly code: Code | null;
  readonly detail: string;
  readonly mode: string;
  readonly suite: string | null;
  /** What was around the records of its data channels. */
  readonly form: string | null;
  /** How the source's data channels were written. */
  readonly engine: string;
  readonly channels: number;
  readonly memoryBytes: number;
  /** How long it waited for its turn; no part of `totalMs`. */
  readonly queuedMs: number;
  readonly totalMs: number;
  readonly downtimeMs: number | null;
  /** Why the guest was stopped when it was; null: it was not. */
  readonly stoppedBy: StopReason | null;
  /** What auto-converge took from the guest: the hardest step, and run time lost by all of them. */
  readonly throttle: { readonly maxPercent: number; readonly guestMsLost: number };
  /** `metMs`: when the VM ran at the destination; null: never. `feasible`: as judged last. */
  readonly deadline: {
    readonly askedMs: number;
    readonly metMs: number | null;
    readonly feasible: boolean;
  } | null;
  readonly setupMs: number;
  readonly attestMs: number;
  readonly transferMs: number;
  readonly handoverMs: number;
  readonly rounds: readonly RoundReport[];
  /** What came when the guest ran at the destination already; null: nothing did. */
  readonly postCopy: {
    /** Sent in the background, and because the guest waited for them, those near to them included. */
    readonly pushedPages: number;
    readonly demandedPages: number;
    /** From when the guest ran there until it was whole. */
    readonly durationMs: number;
    readonly resumes: number;
    /** How the guest's faults went, as the destination says; null: it does not. */
    readonly faults: FaultCounts | null;
  } | null;
  /** How often the connection broke and the rounds, or the pages left, went on in another session. */
  readonly resumes: number;
  readonly pagesSent: number;
  readonly zeroPages: number;
  readonly bytesSent: number;
  /** How the pages went; `bytes` of each before they were sealed. */
  readonly encodings: EncodingCounts;
  readonly throughputBps: number;
  readonly attestation: {
    readonly source: AttestationReport;
    readonly destination: AttestationReport;
  };
  readonly vtpm: {
    readonly moved: boolean;
    readonly deletedAtSource: boolean;
    /** The deletion certificate: what was destroyed, signed by the source; null before. */
    readonly deletionCertificate: DeletionCertificateView | null;
  };
  /** true only when `--verify` was asked for and both digests were equal. */
  readonly verified: boolean;
}

/** The signed deletion certificate, in a form that can be verified offline. */
export interface DeletionCertificateView {
  readonly statementBase64: string;
  readonly signatureBase64: string;
  readonly signer: string;
}

export type MigrationEvent =
  /** It waits for its turn: for a place here or, with a code, for one at the destination that has none. */
  | {
      readonly event: 'queued';
      readonly migrationId: string;
      readonly vm: string;
      readonly from: string;
      readonly to: string;
      readonly priority: number;
      /** Among those that wait here, from 1. */
      readonly place: number;
      readonly code: Code | null;
      readonly detail: string;
    }
  | {
      readonly event: 'started';
      readonly migrationId: string;
      readonly vm: string;
      readonly from: string;
      readonly to: string;
      readonly memoryBytes: number;
    }
  | { readonly event: 'phase'; readonly migrationId: string; readonly phase: Phase }
  | ({ readonly event: 'round'; readonly migrationId: string } & RoundReport)
  | {
      readonly event: 'progress';
      readonly migrationId: string;
      readonly phase: Phase;
      readonly round: number;
      /** Of this round. */
      readonly sentBytes: number;
      readonly remainingBytes: number;
      readonly dirtyRateBps: number;
      readonly bandwidthBps: number;
      readonly predictedDowntimeMs: number;
      readonly etaMs: number;
      readonly throttlePercent: number;
    }
  /** The guest is kept from running for so much of its time. */
  | { readonly event: 'throttle'; readonly migrationId: string; readonly percent: number }
  /**
   * Whether the deadline can be held, when that or the prediction has changed. `predictedMs`: when the VM would run at the
   * destination at best; null: the guest writes faster than can be sent.
   */
  | {
      readonly event: 'deadline';
      readonly migrationId: string;
      readonly askedMs: number;
      readonly feasible: boolean;
      readonly predictedMs: number | null;
    }
  | MigrationResult;
