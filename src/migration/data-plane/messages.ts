/**
 * What the main thread and the workers of the data plane say to each other. A worker serves one
 * channel; it does what it is told and reports, and takes no decision.
 */
import type { ReleasedKeys } from '../../crypto/key-schedule.ts';
import type { Code } from '../../protocol/codes.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
import { NO_COUNTS, sumCounts, type EncodingCounts } from '../../pages/encodings/counts.ts';
import type { ChannelForm, EncodingName, SuiteName } from '../../protocol/options.ts';
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
  /** Of pages: those that were agreed on. */
  readonly encodings: readonly EncodingName[];
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

/** A channel of pages. */
interface PageChannelSetup extends ChannelSetup {
  /** Whether pages may come after the end of what the guest needs to run. */
  readonly postCopy: boolean;
}

/** The channel on which pages are asked for that a guest waits for; keys for both directions. */
interface FaultChannelSetup extends ChannelSetup {
  readonly demandKeys: ReleasedKeys;
}

export interface SenderSetup extends PageChannelSetup {
  readonly role: 'sender';
  readonly host: string;
  readonly port: number;
  /** For pages as they were sent last. */
  readonly versionBytesMax: number;
}

export interface ReceiverSetup extends PageChannelSetup {
  readonly role: 'receiver';
  /** Whether the guest runs already: only pages come that it lacks. */
  readonly isLate: boolean;
  readonly address: string;
  readonly ports: PortRange | undefined;
}

export interface FaultServerSetup extends FaultChannelSetup {
  readonly role: 'faultServer';
  /** Whether the destination says first what it lacks. */
  readonly hearsAbsent: boolean;
  readonly host: string;
  readonly port: number;
}

export interface FaultHandlerSetup extends FaultChannelSetup {
  readonly role: 'faultHandler';
  /** Whether to say first what is lacking. */
  readonly tellsAbsent: boolean;
  readonly address: string;
  readonly ports: PortRange | undefined;
}

export type Setup = SenderSetup | ReceiverSetup | FaultServerSetup | FaultHandlerSetup;

/** The bytes of all keys, whose buffers move into the thread. */
export const keysOf = (setup: Setup): Uint8Array<ArrayBuffer>[] => [
  ...Object.values(setup.keys),
  ...('demandKeys' in setup ? Object.values(setup.demandKeys) : []),
];

export type RoundPages = 'all' | 'dirty' | 'none';

export type Command =
  | { readonly kind: 'sendRound'; readonly n: number; readonly what: RoundPages }
  /** With what is absent in place of the last pages, where the guest is to run without them. */
  | {
      readonly kind: 'sendFinal';
      readonly n: number;
      readonly stateBytes: number;
      readonly leavesPages: boolean;
    }
  /** The guest runs at the destination: send what is open until nothing is. */
  | { readonly kind: 'push' }
  /** The guest is about to run: answer its faults, that come by the trap served at `path`. */
  | { readonly kind: 'answer'; readonly path: string }
  /** To say how the guest's faults went so far. */
  | { readonly kind: 'count' }
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
  readonly counts: EncodingCounts;
}

export const NO_EXTENT: Extent = { pages: 0, zeroPages: 0, bytes: 0, counts: NO_COUNTS };

export const sumExtents = (extents: readonly Extent[]): Extent => ({
  pages: extents.reduce((sum, { pages }) => sum + pages, 0),
  zeroPages: extents.reduce((sum, { zeroPages }) => sum + zeroPages, 0),
  bytes: extents.reduce((sum, { bytes }) => sum + bytes, 0),
  counts: extents.reduce((sum, { counts }) => sumCounts(sum, counts), NO_COUNTS),
});

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
  /** The thread answers faults; `fd` is closed by the main thread when that is gone. */
  | { readonly kind: 'answering'; readonly fd: number }
  /** S: the bitmap has what the destination lacks. */
  | { readonly kind: 'absentHeard' }
  /** The last absent page is there. */
  | { readonly kind: 'whole' }
  /** D: how the guest's faults went so far. */
  | { readonly kind: 'faults'; readonly faults: FaultCounts }
  | { readonly kind: 'digest'; readonly blocks: Uint8Array }
  /** The last word of a channel that was asked for it; null when it is past that round. */
  | { readonly kind: 'reckoned'; readonly extent: Extent | null }
  | { readonly kind: 'failed'; readonly code: Code; readonly detail: string };

export type ReportOf<K extends Report['kind']> = Extract<Report, { kind: K }>;
