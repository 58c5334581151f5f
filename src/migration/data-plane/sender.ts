/**
 * The source's handle on the data plane: N channels, a worker thread each, that share the pages. All
 * promises reject with a coded error when any channel fails; `failed` then resolves with it.
 */
import { CHANNEL_SILENCE_MS_MAX, JOIN_MS_MAX, WORKER_START_MS_MAX } from '../../base/limits.ts';
import type { Clock } from '../../base/ports.ts';
import type { SessionSecret } from '../../crypto/key-schedule.ts';
import type { MigError } from '../../protocol/error.ts';
import type { EncodingCounts } from '../../pages/encodings/counts.ts';
import type { ChannelForm, EncodingName, SuiteName } from '../../protocol/options.ts';
import type { Engine } from '../../transport/connection.ts';
import type { TlsIdentity } from '../../transport/tls.ts';
import { ChannelThread } from './channel-thread.ts';
import { Channels, type Round } from './channels.ts';
import { ExchangeMapping } from './exchange-mapping.ts';
import type { Threads } from './threads.ts';
import { PUSHED } from './sending.ts';
import {
  sumExtents,
  type Extent,
  type MemoryPlace,
  type Origin,
  type RoundPages,
  type SenderSetup,
} from './messages.ts';

/** How far the current round is, over all channels. */
export interface Progress {
  readonly pages: number;
  readonly bytesSent: number;
}

const NOTHING: Progress = { pages: 0, bytesSent: 0 };

export interface SenderOptions {
  readonly migrationId: string;
  readonly peer: {
    readonly host: string;
    /** One a channel. */
    readonly ports: readonly number[];
    readonly name: string;
    readonly fingerprint256: Uint8Array;
  };
  readonly identity: TlsIdentity;
  readonly suite: SuiteName;
  readonly form: ChannelForm;
  readonly encodings: readonly EncodingName[];
  readonly engine: Engine;
  /** Read while opening only; stays the caller's to wipe. */
  readonly secret: SessionSecret;
  readonly memory: MemoryPlace;
  readonly clock: Clock;
  readonly threads: Threads;
  readonly silenceMs?: number;
  /** Where this session goes on; undefined in the first one. */
  readonly origin?: Origin | undefined;
  /** Whether pages may be left for the time after the guest has begun to run there. */
  readonly postCopy?: boolean;
  readonly onProgress?: (progress: Progress) => void;
}

/** What one round moved. `bytesSent`: records with headers and tags. `tag`: 48 bytes. */
export interface RoundSent {
  readonly n: number;
  readonly pages: number;
  readonly zeroPages: number;
  readonly bytesSent: number;
  readonly counts: EncodingCounts;
  readonly tag: Buffer;
}

export interface FinalSent extends RoundSent {
  /** SHA-384 over the transcripts of all channels. */
  readonly transcriptDigest: Buffer;
}

/** What goes last: so much state, and pages or the word of which ones are left out. */
interface Last {
  readonly stateBytes: number;
  readonly leavesPages?: boolean;
}

export class DataSender {
  readonly #channels: Channels;
  readonly #progress: Progress[];

  constructor(channels: Channels, progress: Progress[]) {
    this.#channels = channels;
    this.#progress = progress;
  }

  get failed(): Promise<MigError> {
    return this.#channels.failed;
  }

  /** Sends every page, or those in the exchange area's bitmap, which stays still meanwhile. */
  async sendRound(n: number, what: RoundPages): Promise<RoundSent> {
    this.#startProgress();
    this.#channels.send({ kind: 'sendRound', n, what });
    return asSent(await this.#channels.nextRound());
  }

  /**
   * The last dirty pages, or which ones they are, the first `stateBytes` of the exchange area's state,
   * and the end.
   */
  async sendFinal(n: number, { stateBytes, leavesPages = false }: Last): Promise<FinalSent> {
    this.#startProgress();
    this.#channels.send({ kind: 'sendFinal', n, stateBytes, leavesPages });
    const sent = asSent(await this.#channels.nextRound());
    const { transcriptDigest } = await this.#channels.nextFinal();
    return { ...sent, transcriptDigest };
  }

  /** After the end, the guest running there: what is open leaves until nothing is. */
  push(): void {
    this.#startProgress();
    this.#channels.send({ kind: 'push' });
  }

  /** As close; resolves with what was pushed, as far as the channels say. */
  async closePushed(): Promise<Extent> {
    return sumExtents(await this.#channels.reckon(PUSHED).catch(() => []));
  }

  digestMemory(): Promise<Buffer> {
    return this.#channels.digestMemory();
  }

  /** For all channels together; undefined lifts it. */
  setBandwidthLimit(bytesPerSecond: number | undefined): void {
    const each = bytesPerSecond === undefined ? undefined : bytesPerSecond / this.#channels.count;
    this.#channels.send({ kind: 'limit', bytesPerSecond: each });
  }

  close(): Promise<void> {
    return this.#channels.close();
  }

  /** As close; resolves with what of `round` was sent, a channel each. Rejects with CHANNEL_LOST. */
  reckon(round: number): Promise<readonly Extent[]> {
    return this.#channels.reckon(round);
  }

  #startProgress(): void {
    for (const channel of this.#progress.keys()) this.#progress[channel] = NOTHING;
  }
}

/**
 * Opens all channels; resolves when every one has joined. Rejects with PEER_UNREACHABLE,
 * PEER_SILENT, PEER_WRONG, CERT_…, CHANNEL_JOIN, NATIVE_FAILED; then nothing is left open.
 */
export async function openSender(options: SenderOptions): Promise<DataSender> {
  const { migrationId, peer, identity, suite, secret, clock, onProgress } = options;
  const { host, ports, name, fingerprint256 } = peer;
  const held = new DisposableStack();
  const mapping = held.use(new ExchangeMapping(options.memory));
  const room = held.use(options.threads.versions.take());
  const progress: Progress[] = ports.map(() => NOTHING);
  const threads = ports.map((port, channel) => {
    const setup: SenderSetup = {
      role: 'sender',
      migrationId,
      channel,
      channels: ports.length,
      suite,
      form: options.form,
      encodings: options.encodings,
      versionBytesMax: room.bytes / ports.length,
      engine: options.engine,
      identity: pemOf(identity),
      expected: { name, fingerprint256 },
      ramPath: options.memory.ramPath,
      exchange: mapping.mapped,
      keys: secret.channelKeys(channel, 'to-destination').release(),
      host,
      port,
      silenceMs: options.silenceMs ?? CHANNEL_SILENCE_MS_MAX,
      postCopy: options.postCopy ?? false,
      origin: options.origin,
    };
    return new ChannelThread(options.threads.take(), setup, clock, ({ pages, bytes }) => {
      progress[channel] = { pages, bytesSent: bytes };
      onProgress?.(sumProgress(progress));
    });
  });
  const channels = new Channels(threads, held);
  try {
    await channels.next('joined', WORKER_START_MS_MAX + JOIN_MS_MAX);
    return new DataSender(channels, progress);
  } catch (thrown) {
    await channels.close();
    throw thrown;
  }
}

/** Only what a TLS connection needs of an identity. */
export const pemOf = ({ certPem, keyPem, caPem, crlPem }: TlsIdentity): TlsIdentity => ({
  certPem,
  keyPem,
  caPem,
  crlPem,
});

const asSent = ({ n, pages, zeroPages, bytes, counts, tag }: Round): RoundSent => ({
  n,
  pages,
  zeroPages,
  bytesSent: bytes,
  counts,
  tag,
});

const sumProgress = (channels: readonly Progress[]): Progress => ({
  pages: channels.reduce((sum, { pages }) => sum + pages, 0),
  bytesSent: channels.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
});
