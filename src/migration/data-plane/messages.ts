/**
 * What the main thread and the workers of the data plane say to each other. A worker serves one
 * channel; it does what it is told and reports, and takes no decision.
 */
import type { ReleasedKeys } from '../../crypto/key-schedule.ts';
import type { Code } from '../../protocol/codes.ts';
import type { ChannelForm, SuiteName } from '../../protocol/options.ts';
import type { Engine, ExpectedPeer } from '../../transport/connection.ts';
import type { PortRange } from '../../transport/port-range.ts';
import type { TlsIdentity } from '../../transport/tls.ts';

/** Where a guest's memory is, and what it exchanges with its daemon. */
export interface MemoryPlace {
  readonly ramPath: string;
  readonly ramBytes: number;
  readonly exchangePath: string;
}

/** Where this process has mapped an exchange file, as any of its threads can view it. */
export interface MappedExchange {
  readonly address: bigint;
  /** Of the guest that it belongs to. */
  readonly ramBytes: number;
}

/** Where a session begins that goes on from a broken one (protocol/resume-point.ts). */
export interface Origin {
  /** The first round of this session. */
  readonly round: number;
  /** SHA-384 over all points that the migration went on from. */
  readonly lineage: Uint8Array;
}

/** What a thread is told first; the keys' buffers are transferred to it. */
export interface ChannelSetup {
  readonly migrationId: string;
  readonly channel: number;
  readonly channels: number;
  readonly suite: SuiteName;
  readonly form: ChannelForm;
  readonly engine: Engine;
  readonly identity: TlsIdentity;
  readonly expected: ExpectedPeer;
  readonly ramPath: string;
  readonly exchange: MappedExchange;
  readonly keys: ReleasedKeys;
  /** A channel on which nothing moved for this long, while something was due, is dead. */
  readonly silenceMs: number;
  /** Undefined in the first session of a migration: at round 0. */
  readonly origin: Origin | undefined;
}

export interface SenderSetup extends ChannelSetup {
  readonly role: 'sender';
  readonly host: string;
  readonly port: number;
}

export interface ReceiverSetup extends ChannelSetup {
  readonly role: 'receiver';
  readonly address: string;
  readonly ports: PortRange | undefined;
}

export type RoundPages = 'all' | 'dirty';

export type Command =
  | { readonly kind: 'sendRound'; readonly n: number; readonly what: RoundPages }
  | { readonly kind: 'sendFinal'; readonly n: number; readonly stateBytes: number }
  | { readonly kind: 'digest' }
  /** The peer says that it has sent the ends of so many rounds, or everything. */
  | { readonly kind: 'due'; readonly rounds: number | 'all' }
  | { readonly kind: 'limit'; readonly bytesPerSecond: number | undefined }
  /** To end; and to say first how far round `reckon` came, where that is asked. */
  | { readonly kind: 'close'; readonly reckon: number | undefined };

/** How much of a round one channel has sent, or accepted. */
export interface Extent {
  readonly pages: number;
  readonly zeroPages: number;
  /** Bytes of the records, headers and tags included. */
  readonly bytes: number;
}

export const NO_EXTENT: Extent = { pages: 0, zeroPages: 0, bytes: 0 };

/** What one channel moved in one round. `tag`: 32 bytes, of its transcript. */
export interface ChannelRound extends Extent {
  readonly n: number;
  readonly tag: Uint8Array;
}

export type Report =
  | { readonly kind: 'listening'; readonly port: number }
  /**
   * The channel has its rightful peer. `fd`: what the thread waits on, which the main thread closes
   * when that is gone; null where it does not wait.
   */
  | { readonly kind: 'joined'; readonly fd: number | null }
  | { readonly kind: 'progress'; readonly pages: number; readonly bytes: number }
  | { readonly kind: 'round'; readonly round: ChannelRound }
  | { readonly kind: 'final'; readonly stateBytes: number; readonly tag: Uint8Array }
  | { readonly kind: 'digest'; readonly blocks: Uint8Array }
  /** The last word of a channel that was asked for it; null when it is past that round. */
  | { readonly kind: 'reckoned'; readonly extent: Extent | null }
  | { readonly kind: 'failed'; readonly code: Code; readonly detail: string };

export type ReportOf<K extends Report['kind']> = Extract<Report, { kind: K }>;
