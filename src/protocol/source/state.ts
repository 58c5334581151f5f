/**
 * The source's states, events and effects. The sequence of a migration that goes well:
 *
 *     Idle → Connecting → AwaitingHelloOk → AwaitingEvidence → AppraisingPeer → MakingEvidence →
 *     AwaitingVerdict → Describing → AwaitingAcceptance → JoiningChannels → SendingRound ⇄
 *     AwaitingRoundOk → Collecting → Pausing → SendingFinal → AwaitingDone → Surrendering → HandedOver
 *
 * A session to serve goes from AwaitingVerdict → AwaitingPull → JoiningToServe → Joined.
 *
 * A connection that breaks up to Collecting leads to Reconnecting, and on to Connecting again. Any
 * state before Surrendering may go to Aborting, which ends in Ended. From HandedOver on the
 * handover has a machine of its own: ../handover/source.ts.
 */
import type { Code } from '../codes.ts';
import type { VmDescriptor } from '../descriptor.ts';
import type { Evidence, Message, MessageOf, MessageType } from '../messages.ts';
import type { ChannelForm, EncodingName, MigrateOptions, SuiteName } from '../options.ts';
import type { Rules } from '../machine.ts';
import type { ResumePoint } from '../resume-point.ts';
import type { Agreed, Outcome } from '../session.ts';
import type { Subject } from '../statement.ts';
import type { StopReason } from './convergence.ts';
import type { Course } from './course.ts';
import type { RoundPoint } from './deadline.ts';

/**
 * What a session is for: to move a VM; or to send the pages that were left of one that was handed over,
 * which can never end in a word that takes it back.
 */
export type Purpose = 'migrate' | 'serve';

/** What is fixed when a migration begins. */
export interface Plan {
  readonly purpose: Purpose;
  readonly migrationId: string;
  readonly from: string;
  readonly options: MigrateOptions;
  readonly suites: readonly SuiteName[];
  readonly forms: readonly ChannelForm[];
  readonly encodings: readonly EncodingName[];
  readonly formats: readonly string[];
  /** Our challenge to the destination. */
  readonly nonce: Uint8Array;
  /** Digest of the policy under which we appraise. */
  readonly policyDigest: Uint8Array;
  readonly epoch: number;
  /** What the handover to this host is expected to cost besides the pages, in ms. */
  readonly handoverMs: number;
  /** Whether a session that breaks in the rounds is to be followed by another. */
  readonly resumes: boolean;
  /** Whether `signature` over `statement` is the peer's: pure, the certificate is fixed. */
  readonly signedByPeer: (statement: Uint8Array, signature: Uint8Array) => boolean;
}

/** What one round moved, as the data plane counted it. */
export interface RoundSent {
  readonly pages: number;
  readonly zeroPages: number;
  readonly bytesSent: number;
  /** SHA-384 over the channels' transcripts up to the end of this round. */
  readonly tag: Uint8Array;
}

/** That a session broke, and what the next one takes over from it. */
export interface Outage {
  /** Of the break. */
  readonly code: Code;
  readonly detail: string;
  readonly course: Course;
  /** Sessions so far that came to send a round. */
  readonly sessions: number;
}

interface Base {
  readonly plan: Plan;
}
/** A session that does not send yet; `outage` is null in the first one. */
interface Opening extends Base {
  readonly outage: Outage | null;
}
interface Attested extends Opening {
  readonly agreed: Agreed;
  readonly peerNonce: Uint8Array;
}
/** What the peer asked our evidence to answer, besides its nonce. */
interface Challenge {
  readonly formats: readonly string[];
  readonly policyDigest: Uint8Array;
}
export interface Transferring extends Base {
  readonly agreed: Agreed;
  readonly subject: Subject;
  readonly round: number;
  readonly course: Course;
  /** How many sessions it took up to here, this one included. */
  readonly sessions: number;
}
interface HandingOver extends Base {
  readonly subject: Subject;
  readonly transcriptDigest: Uint8Array;
  /** Pages that the destination gets when the guest runs there already. */
  readonly leavesPages: boolean;
}

export type State =
  | ({ readonly kind: 'Idle' } & Base)
  | ({ readonly kind: 'Connecting' } & Opening)
  | ({ readonly kind: 'AwaitingHelloOk' } & Opening)
  | ({ readonly kind: 'AwaitingEvidence'; readonly agreed: Agreed } & Opening)
  | ({ readonly kind: 'AppraisingPeer'; readonly challenge: Challenge } & Attested)
  | ({ readonly kind: 'MakingEvidence' } & Attested)
  | ({ readonly kind: 'AwaitingVerdict' } & Attested)
  | ({ readonly kind: 'Describing' } & Attested)
  | ({
      readonly kind: 'AwaitingAcceptance';
      readonly agreed: Agreed;
      readonly subject: Subject;
    } & Opening)
  | ({
      readonly kind: 'JoiningChannels';
      readonly agreed: Agreed;
      readonly subject: Subject;
      readonly round: number;
    } & Opening)
  | ({ readonly kind: 'AwaitingPull'; readonly agreed: Agreed } & Opening)
  | ({ readonly kind: 'JoiningToServe'; readonly agreed: Agreed } & Opening)
  | ({ readonly kind: 'Joined' } & Base)
  | ({ readonly kind: 'SendingRound' } & Transferring)
  | ({ readonly kind: 'AwaitingRoundOk'; readonly sent: RoundSent } & Transferring)
  | ({ readonly kind: 'Collecting'; readonly sent: RoundSent } & Transferring)
  | ({ readonly kind: 'Reconnecting'; readonly outage: Outage } & Base)
  | ({ readonly kind: 'Pausing'; readonly leavesPages: boolean } & Transferring)
  | ({ readonly kind: 'SendingFinal'; readonly leavesPages: boolean } & Transferring)
  | ({ readonly kind: 'AwaitingDone' } & HandingOver)
  | ({ readonly kind: 'Surrendering' } & HandingOver)
  | ({ readonly kind: 'HandedOver'; readonly subject: Subject } & Base)
  | ({
      readonly kind: 'Aborting';
      readonly outcome: Outcome;
      readonly code: Code;
      readonly detail: string;
    } & Base)
  | ({
      readonly kind: 'Ended';
      readonly outcome: Outcome;
      readonly code: Code | null;
      readonly detail: string;
    } & Base);

/** States whose session may break without an end of the migration. */
export type Breakable = Extract<
  State,
  {
    kind:
      | 'Connecting'
      | 'AwaitingHelloOk'
      | 'AwaitingEvidence'
      | 'AppraisingPeer'
      | 'MakingEvidence'
      | 'AwaitingVerdict'
      | 'Describing'
      | 'AwaitingPull'
      | 'JoiningToServe'
      | 'AwaitingAcceptance'
      | 'JoiningChannels'
      | 'SendingRound'
      | 'AwaitingRoundOk'
      | 'Collecting';
  }
>;

type MessageEvent = {
  readonly [T in MessageType]: { readonly kind: T; readonly message: MessageOf<T> };
}[MessageType];

export type Event =
  | MessageEvent
  | { readonly kind: 'started' }
  | { readonly kind: 'connected' }
  | { readonly kind: 'appraised'; readonly code: Code | null; readonly detail: string }
  | { readonly kind: 'evidenceMade'; readonly evidence: Evidence }
  | { readonly kind: 'described'; readonly descriptor: VmDescriptor }
  /** What the first round of the session owes. `elapsedMs`, here and below: since the migration began. */
  | { readonly kind: 'channelsJoined'; readonly owedPages: number; readonly elapsedMs: number }
  /** How far the round is; told only where there is a deadline. */
  | ({ readonly kind: 'progressed'; readonly remainingPages: number } & RoundPoint)
  | { readonly kind: 'roundSent'; readonly sent: RoundSent }
  | {
      readonly kind: 'dirtyCollected';
      /** Owed to the destination: written since the last collection, or left out by the round. */
      readonly dirtyPages: number;
      /** Left out by the round. */
      readonly deferredPages: number;
      /** How long the round took to arrive at the destination. */
      readonly roundMs: number;
      /** Since the last collection. */
      readonly windowMs: number;
      readonly elapsedMs: number;
    }
  | { readonly kind: 'guestPaused'; readonly stateBytes: number }
  | {
      readonly kind: 'finalSent';
      readonly transcriptDigest: Uint8Array;
      readonly stateBytes: number;
      readonly memoryDigest: Uint8Array;
    }
  | { readonly kind: 'surrenderFailed'; readonly code: Code; readonly detail: string }
  | { readonly kind: 'surrendered' }
  /** All of the broken session has ended: time for another, under a new nonce; or there is no more time. */
  | { readonly kind: 'reconnectDue'; readonly nonce: Uint8Array }
  | { readonly kind: 'reconnectGivenUp'; readonly detail: string }
  | { readonly kind: 'abandoned' }
  /** The time is over, and what is left is to be sent whatever the downtime. */
  | { readonly kind: 'timePassed' }
  /** The operator, or a limit of the whole migration (code TIMEOUT), wants it ended. */
  | { readonly kind: 'cancelRequested'; readonly code: Code }
  | { readonly kind: 'deadlinePassed' }
  | { readonly kind: 'peerClosed'; readonly code: Code; readonly detail: string }
  | { readonly kind: 'failed'; readonly code: Code; readonly detail: string };

/** A message whose signature the engine makes over `statement` just before it is sent. */
export type Signable = 'FINAL' | 'ABORT';
export type Unsigned = {
  [T in Signable]: Omit<MessageOf<T>, 'signature'>;
}[Signable];

export type Deadline = 'connect' | 'reply' | 'admission' | 'confirm' | 'work';

export type Effect =
  | { readonly kind: 'connect' }
  | { readonly kind: 'send'; readonly message: Message }
  | { readonly kind: 'sendSigned'; readonly message: Unsigned; readonly statement: Uint8Array }
  /** One deadline at a time: arming a new one, or ending, disarms the old. */
  | { readonly kind: 'arm'; readonly deadline: Deadline }
  | { readonly kind: 'disarm' }
  | {
      readonly kind: 'appraise';
      readonly evidence: Evidence;
      readonly nonce: Uint8Array;
      readonly policyDigest: Uint8Array;
    }
  | {
      readonly kind: 'makeEvidence';
      readonly formats: readonly string[];
      readonly nonce: Uint8Array;
      readonly policyDigest: Uint8Array;
    }
  | { readonly kind: 'deriveKeys'; readonly nonceS: Uint8Array; readonly nonceD: Uint8Array }
  | { readonly kind: 'describe' }
  /** Goes on from `resume` where the destination holds something. */
  | {
      readonly kind: 'joinChannels';
      readonly agreed: Agreed;
      readonly ports: readonly number[];
      readonly resume: ResumePoint | null;
    }
  /** From `afterMs` on; up to `deferPagesMax` hot pages are left for a later round. */
  | {
      readonly kind: 'sendRound';
      readonly round: number;
      readonly deferPagesMax: number;
      readonly afterMs: number;
    }
  | { readonly kind: 'collectDirty'; readonly round: number; readonly sent: RoundSent }
  /** What a round that arrived has shown, for whoever watches. */
  | {
      readonly kind: 'tellRound';
      readonly sent: RoundSent;
      readonly dirtyPages: number;
      readonly deferredPages: number;
      readonly roundMs: number;
      readonly dirtyBps: number;
      readonly bandwidthBps: number;
      readonly predictedDowntimeMs: number;
    }
  /** Whether the deadline can be held, and the end if not, where that is news. */
  | { readonly kind: 'tellDeadline'; readonly isFeasible: boolean; readonly predictedMs: number }
  /** The bandwidth for the round under way; null: as much as there is. */
  | { readonly kind: 'pace'; readonly paceBps: number | null }
  /** Keeps the guest from running for so much of its time. */
  | { readonly kind: 'throttle'; readonly percent: number }
  /** Stops the guest in the middle of a round. */
  | { readonly kind: 'holdGuest' }
  /** What is then owed is left out of the last round, or sent in it. */
  | {
      readonly kind: 'pauseGuest';
      readonly round: number;
      readonly why: StopReason;
      readonly leavesPages: boolean;
    }
  | {
      readonly kind: 'sendFinal';
      readonly round: number;
      readonly stateBytes: number;
      readonly leavesPages: boolean;
    }
  /** Make the surrender durable: sign the token, write it, sync; then `surrendered`. */
  | {
      readonly kind: 'surrender';
      readonly subject: Subject;
      readonly transcriptDigest: Uint8Array;
      readonly leavesPages: boolean;
      readonly receipt: Uint8Array;
      readonly statement: Uint8Array;
    }
  /** The handover's machine takes it from here, on this session's connection. */
  | {
      readonly kind: 'handOver';
      readonly subject: Subject;
      readonly transcriptDigest: Uint8Array;
    }
  /**
   * End the session: connection and channels closed, keys wiped, the guest running and its writes
   * tracked; then, after a while, `reconnectDue` or `reconnectGivenUp`.
   */
  | { readonly kind: 'reconnect' }
  /** Put everything back: channels closed, keys wiped, guest running unthrottled, record closed. */
  | { readonly kind: 'abandon'; readonly code: Code; readonly detail: string }
  | { readonly kind: 'end' };

export type SourceRules<K extends State['kind']> = Rules<State, Event, Effect, K>;
