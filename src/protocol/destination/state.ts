/**
 * The destination's states, events and effects. The sequence of a migration that goes well:
 *
 *     AwaitingHello → AwaitingAttRequest → MakingEvidence → AwaitingSourceVerdict →
 *     AppraisingSource → AwaitingOffer → Admitting → Receiving ⇄ ConfirmingRound →
 *     ConfirmingFinal → Preparing → HandedOver
 *
 * A connection that breaks while Receiving or ConfirmingRound leads to Holding, and from there to
 * PassedOn when another session of the same migration takes what is held.
 *
 * Up to Preparing the destination may abort alone. From HandedOver on it is PREPARED, this copy may
 * be the only one, and the handover has a machine of its own: ../handover/destination.ts.
 */
import type { Code } from '../codes.ts';
import type { Rules } from '../machine.ts';
import type { Evidence, Message, MessageOf, MessageType, SignedFinal } from '../messages.ts';
import type { ChannelForm, EncodingName, SuiteName } from '../options.ts';
import type { ResumePoint } from '../resume-point.ts';
import type { Agreed, Outcome } from '../session.ts';
import type { Subject } from '../statement.ts';

/** What is fixed when a connection of another host arrives. */
export interface Plan {
  /** As the source's (../source/state.ts): `serve` is for pages that are still to come here. */
  readonly purpose: 'migrate' | 'serve';
  readonly host: string;
  /** The peer, as its certificate says. */
  readonly from: string;
  readonly suites: readonly SuiteName[];
  readonly forms: readonly ChannelForm[];
  readonly encodings: readonly EncodingName[];
  readonly channelsMax: number;
  readonly formats: readonly string[];
  /** Whether a guest can run here while its memory comes. */
  readonly postCopies: boolean;
  /** Whether what came is held when a session breaks. */
  readonly resumes: boolean;
  /** Our challenge to the source. */
  readonly nonce: Uint8Array;
  /** Digest of the policy under which we appraise. */
  readonly policyDigest: Uint8Array;
  /** Whether `signature` over `statement` is the peer's: pure, the certificate is fixed. */
  readonly signedByPeer: (statement: Uint8Array, signature: Uint8Array) => boolean;
}

interface Base {
  readonly plan: Plan;
}
interface Opened extends Base {
  readonly migrationId: string;
  readonly agreed: Agreed;
}
interface Admitted extends Opened {
  readonly subject: Subject;
  readonly verify: boolean;
}
interface Sealed extends Opened {
  readonly subject: Subject;
  readonly transcriptDigest: Uint8Array;
}

/** What the source says of a round; compared with what arrived. */
export type RoundEnd = Omit<MessageOf<'ROUND_END'>, 'type'>;
export type Final = Omit<MessageOf<'FINAL'>, 'type'>;

export type State =
  | ({ readonly kind: 'AwaitingHello' } & Base)
  | ({ readonly kind: 'AwaitingAttRequest' } & Opened)
  | ({ readonly kind: 'MakingEvidence'; readonly peerNonce: Uint8Array } & Opened)
  | ({ readonly kind: 'AwaitingSourceVerdict'; readonly peerNonce: Uint8Array } & Opened)
  | ({ readonly kind: 'AppraisingSource'; readonly peerNonce: Uint8Array } & Opened)
  | ({ readonly kind: 'AwaitingOffer' } & Opened)
  | ({ readonly kind: 'Reopening' } & Opened)
  | ({ readonly kind: 'Joined'; readonly migrationId: string } & Base)
  | ({ readonly kind: 'Admitting' } & Admitted)
  | ({ readonly kind: 'Receiving'; readonly round: number } & Admitted)
  | ({ readonly kind: 'ConfirmingRound'; readonly end: RoundEnd } & Admitted)
  | ({ readonly kind: 'ConfirmingFinal'; readonly final: Final } & Admitted)
  | ({ readonly kind: 'Preparing' } & Sealed)
  | ({
      readonly kind: 'Holding';
      readonly migrationId: string;
      /** Of the break. */
      readonly code: Code;
      readonly detail: string;
    } & Base)
  | ({ readonly kind: 'PassedOn'; readonly migrationId: string } & Base)
  | ({ readonly kind: 'HandedOver'; readonly migrationId: string } & Base)
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

type MessageEvent = {
  readonly [T in MessageType]: { readonly kind: T; readonly message: MessageOf<T> };
}[MessageType];

export type Event =
  | MessageEvent
  | { readonly kind: 'evidenceMade'; readonly evidence: Evidence }
  | { readonly kind: 'appraised'; readonly code: Code | null; readonly detail: string }
  /** `resume`: what is held of an earlier session of this migration. */
  | {
      readonly kind: 'admitted';
      readonly reservation: string;
      readonly ports: readonly number[];
      readonly resume: ResumePoint | null;
    }
  | { readonly kind: 'notAdmitted'; readonly code: Code; readonly detail: string }
  | {
      readonly kind: 'roundReceived';
      readonly round: number;
      readonly pages: number;
      readonly tag: Uint8Array;
    }
  | {
      readonly kind: 'finalReceived';
      readonly transcriptDigest: Uint8Array;
      readonly stateBytes: number;
      /** Pages that come when the guest runs already. */
      readonly absentPages: number;
      readonly memoryDigest: Uint8Array;
    }
  /** Device state and vTPM restored, vTPM state and VM record durable as PREPARED. */
  | { readonly kind: 'prepared' }
  | { readonly kind: 'prepareFailed'; readonly code: Code; readonly detail: string }
  /** Listening for a session in which pages come that are missing here, and the peer has joined it. */
  | { readonly kind: 'reopened'; readonly ports: readonly number[] }
  | { readonly kind: 'joined' }
  /** Another session has what was held here; or it cannot be said what is held. */
  | { readonly kind: 'passedOn' }
  | { readonly kind: 'notHeld' }
  | { readonly kind: 'abandoned' }
  /** The daemon is stopping. */
  | { readonly kind: 'cancelRequested'; readonly code: Code }
  | { readonly kind: 'deadlinePassed' }
  | { readonly kind: 'peerClosed'; readonly code: Code; readonly detail: string }
  | { readonly kind: 'failed'; readonly code: Code; readonly detail: string };

export type Deadline = 'reply' | 'work' | 'confirm' | 'hold';

export type Effect =
  | { readonly kind: 'send'; readonly message: Message }
  | {
      readonly kind: 'sendSigned';
      readonly message: Omit<MessageOf<'ABORT'>, 'signature'>;
      readonly statement: Uint8Array;
    }
  | { readonly kind: 'arm'; readonly deadline: Deadline }
  | { readonly kind: 'disarm' }
  | { readonly kind: 'open'; readonly migrationId: string; readonly agreed: Agreed }
  | {
      readonly kind: 'makeEvidence';
      readonly formats: readonly string[];
      readonly nonce: Uint8Array;
      readonly policyDigest: Uint8Array;
    }
  | {
      readonly kind: 'appraise';
      readonly evidence: Evidence;
      readonly nonce: Uint8Array;
      readonly policyDigest: Uint8Array;
    }
  | { readonly kind: 'deriveKeys'; readonly nonceS: Uint8Array; readonly nonceD: Uint8Array }
  /** Listen for the channels of pages that are missing here; then `reopened`, and `joined`. */
  | { readonly kind: 'reopen'; readonly agreed: Agreed }
  /** Policy, name, epoch, capacity; memory reserved, guest process and data listeners ready. */
  | { readonly kind: 'admit'; readonly offer: MessageOf<'OFFER'>; readonly agreed: Agreed }
  | { readonly kind: 'awaitRound'; readonly round: number }
  | { readonly kind: 'awaitFinal'; readonly verify: boolean }
  /** Restore, save the vTPM, write PREPARED, sync, sign the receipt; then `prepared`. */
  | {
      readonly kind: 'prepare';
      readonly subject: Subject;
      readonly transcriptDigest: Uint8Array;
      readonly leavesPages: boolean;
      readonly final: SignedFinal;
      readonly statement: Uint8Array;
    }
  /** The handover's machine takes it from here, on this session's connection. */
  | {
      readonly kind: 'handOver';
      readonly subject: Subject;
      readonly transcriptDigest: Uint8Array;
    }
  /** Close the channels, wipe the keys, keep the rest; `notHeld` where that cannot be. */
  | { readonly kind: 'hold'; readonly round: number }
  /** Nothing of it is ours any more. */
  | { readonly kind: 'letGo' }
  /** Destroy everything received, release the reservation, close the record. */
  | { readonly kind: 'abandon'; readonly code: Code; readonly detail: string }
  | { readonly kind: 'end' };

export type DestinationRules<K extends State['kind']> = Rules<State, Event, Effect, K>;
