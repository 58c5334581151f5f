/**
 * What both machines of the handover (phase D) have in common. A handover is driven from the durable
 * record alone: it begins in the same way after a session that went well, after a broken connection
 * and after a crash. So its states need no connection; a *link* is one that happens to be there.
 */
import type { Code } from '../codes.ts';
import type { Deletion, FaultCounts, MessageOf, SignedFinal } from '../messages.ts';
import {
  abortStatement,
  activatedStatement,
  deletionStatement,
  receiptStatement,
  runningStatement,
  tokenStatement,
  type Subject,
} from '../statement.ts';

/** What a handover is about; never changes. */
export interface Matter {
  readonly subject: Subject;
  readonly transcriptDigest: Uint8Array;
  /** Pages come when the guest runs at the destination already. */
  readonly leavesPages: boolean;
  /** D: what the source signed of all that it sent. */
  readonly final?: SignedFinal | undefined;
  /** Whether `signature` over `statement` is the other host's. */
  readonly signedByPeer: (statement: Uint8Array, signature: Uint8Array) => boolean;
}

/** An operator's statement that the other host was fenced: it is off and will not run the VM. */
export interface Fencing {
  readonly operator: string;
  /** Milliseconds since the Unix epoch. */
  readonly atMs: number;
}

type WordType = 'SURRENDER' | 'DONE' | 'RUNNING' | 'ACTIVATED' | 'DELETED' | 'ABORT';
export type Word = { [T in WordType]: Omit<MessageOf<T>, 'signature'> }[WordType];

/** A word and what its signature is over; it follows from the durable record and can be said again. */
export interface Say {
  readonly kind: 'say';
  readonly message: Word;
  readonly statement: Uint8Array;
}

/** S, surrendered: "run it". */
export const sayToken = ({ subject, transcriptDigest }: Matter): Say => ({
  kind: 'say',
  message: { type: 'SURRENDER' },
  statement: tokenStatement(subject, transcriptDigest),
});

/** D, prepared: "I hold it all". */
export const sayReceipt = ({ subject, transcriptDigest }: Matter): Say => ({
  kind: 'say',
  message: { type: 'DONE' },
  statement: receiptStatement(subject, transcriptDigest),
});

/** D, active: "it runs here, and is not all here yet". */
export const sayRunning = ({ subject }: Pick<Matter, 'subject'>): Say => ({
  kind: 'say',
  message: { type: 'RUNNING' },
  statement: runningStatement(subject),
});

/** D, active: "it runs here, and all of it is here". */
export const sayActivated = (
  { subject, final }: Pick<Matter, 'subject' | 'final'>,
  faults?: FaultCounts,
): Say => ({
  kind: 'say',
  message: { type: 'ACTIVATED', final: final ?? null, ...(faults === undefined ? {} : { faults }) },
  statement: activatedStatement(subject),
});

/** S, gone: "nothing of it is left here". */
export const sayDeleted = (subject: Subject, deletion: Deletion): Say => ({
  kind: 'say',
  message: { type: 'DELETED', deletion },
  statement: deletionStatement(subject, deletion),
});

/** Either, aborted: "I shall never run it by this migration". */
export const sayAborted = (
  migrationId: string,
  side: 'source' | 'destination',
  code: string,
): Say => ({
  kind: 'say',
  message: { type: 'ABORT', code, detail: '' },
  statement: abortStatement(migrationId, side, code),
});

/** A message of the peer that is a word. */
type WordEvent = {
  readonly [T in WordType]: { readonly kind: T; readonly message: MessageOf<T> };
}[WordType];

export type SharedEvent =
  | WordEvent
  /** The other host has no record of this migration: that proves nothing. */
  | { readonly kind: 'UNKNOWN' }
  /** A link that we asked for is there. */
  | { readonly kind: 'reached' }
  /** There is no link (any more). */
  | { readonly kind: 'parted'; readonly code: Code; readonly detail: string }
  /** The other host said nothing in time. */
  | { readonly kind: 'deadlinePassed' }
  /** The back-off is over. */
  | { readonly kind: 'due' }
  /** What was to be done could not be done now. */
  | { readonly kind: 'failed'; readonly code: Code; readonly detail: string }
  | { readonly kind: 'fenced'; readonly fencing: Fencing }
  /** It is proved that nothing of our guest lives. */
  | { readonly kind: 'lost' };

export type SharedEffect =
  | Say
  /** The wait for the other host's next word; arming again ends the one before. */
  | { readonly kind: 'arm' }
  /** Ends that wait, and a back-off: neither may fire into what comes now. */
  | { readonly kind: 'disarm' }
  /** Closes the link. */
  | { readonly kind: 'part' }
  /** `due` comes after a back-off. */
  | { readonly kind: 'retryLater' }
  /** Asks for a link: `reached` or `parted` comes of it. */
  | { readonly kind: 'reach' }
  /** It is over; what is settled is on record. */
  | { readonly kind: 'settle' };

/** Why the other host's word is missing. */
export interface Cause {
  readonly code: Code;
  readonly detail: string;
}

/** How it ended, at either side; what is settled is on record. */
export interface Settled {
  readonly kind: 'Settled';
  readonly matter: Matter;
  readonly outcome: 'gone' | 'reclaimed' | 'active' | 'aborted';
  readonly code: Code | null;
  readonly detail: string;
}
