/**
 * The destination's handle on the data plane: a listening worker thread a channel, into memory that
 * is reserved. All promises reject with a coded error when any channel fails; `failed`
 * then resolves with it.
 */
import { CHANNEL_SILENCE_MS_MAX, WORKER_START_MS_MAX } from '../../base/limits.ts';
import type { Clock } from '../../base/ports.ts';
import type { SessionSecret } from '../../crypto/key-schedule.ts';
import { MigError } from '../../protocol/error.ts';
import type { ChannelForm, EncodingName, SuiteName } from '../../protocol/options.ts';
import type { Engine } from '../../transport/connection.ts';
import type { PortRange } from '../../transport/port-range.ts';
import type { TlsIdentity } from '../../transport/tls.ts';
import { ChannelThread } from './channel-thread.ts';
import { Channels, type Round } from './channels.ts';
import { ExchangeMapping } from './exchange-mapping.ts';
import type { Extent, MemoryPlace, Origin, ReceiverSetup } from './messages.ts';
import type { Threads } from './threads.ts';
import { pemOf } from './sender.ts';

export interface ReceiverOptions {
  readonly migrationId: string;
  /** The address to listen on: that of the control connection. */
  readonly address: string;
  /** To choose ports from; undefined for any free ones. */
  readonly ports: PortRange | undefined;
  readonly peer: { readonly name: string; readonly fingerprint256: Uint8Array };
  readonly identity: TlsIdentity;
  readonly suite: SuiteName;
  readonly form: ChannelForm;
  readonly encodings: readonly EncodingName[];
  readonly engine: Engine;
  readonly channels: number;
  /** Read while opening only; stays the caller's to wipe. */
  readonly secret: SessionSecret;
  readonly memory: MemoryPlace;
  readonly clock: Clock;
  readonly threads: Threads;
  readonly silenceMs?: number;
  /** Where this session goes on; undefined in the first one, whose memory is fresh. */
  readonly origin?: Origin | undefined;
  /** Whether pages may come after the guest has begun to run. */
  readonly postCopy?: boolean;
  /** Whether the guest runs already: only pages come that it lacks. */
  readonly isLate?: boolean;
}

export class DataReceiver {
  /** One a channel. */
  readonly ports: readonly number[];
  /** Every channel has its rightful peer. */
  readonly joined: Promise<void>;
  readonly #channels: Channels;

  constructor(channels: Channels, ports: readonly number[]) {
    this.#channels = channels;
    this.ports = ports;
    this.joined = channels.next('joined').then(() => undefined);
    // Whoever does not ask is told by `failed`.
    this.joined.catch(() => undefined);
  }

  get failed(): Promise<MigError> {
    return this.#channels.failed;
  }

  /** Resolves when all of round `n` was accepted; to be asked for in order, once each. */
  async roundReceived(n: number): Promise<Round> {
    this.#channels.send({ kind: 'due', rounds: n + 1 });
    const round = await this.#channels.nextRound();
    if (round.n !== n) throw new MigError('RECORD_ORDER', `round ${round.n}, expected ${n}`);
    return round;
  }

  /** Resolves when everything was accepted; the state is in the exchange area. */
  async finalReceived(): Promise<{
    readonly stateBytes: number;
    readonly transcriptDigest: Buffer;
  }> {
    this.#channels.send({ kind: 'due', rounds: 'all' });
    return this.#channels.nextFinal();
  }

  /** Resolves when a channel has placed the last absent page; never, when that is done elsewhere. */
  get whole(): Promise<void> {
    return this.#channels.first('whole');
  }

  digestMemory(): Promise<Buffer> {
    return this.#channels.digestMemory();
  }

  close(): Promise<void> {
    return this.#channels.close();
  }

  /** As close; resolves with what of `round` was accepted, a channel each. Rejects with CHANNEL_LOST. */
  reckon(round: number): Promise<readonly Extent[]> {
    return this.#channels.reckon(round);
  }
}

/** Resolves when every channel listens. Rejects with LISTEN_FAILED, NATIVE_FAILED; nothing is left open. */
export async function openReceiver(options: ReceiverOptions): Promise<DataReceiver> {
  const { migrationId, address, ports, peer, identity, suite, secret, clock } = options;
  const mapping = new ExchangeMapping(options.memory);
  const threads = Array.from({ length: options.channels }, (_, channel) => {
    const setup: ReceiverSetup = {
      role: 'receiver',
      migrationId,
      channel,
      channels: options.channels,
      suite,
      form: options.form,
      encodings: options.encodings,
      engine: options.engine,
      identity: pemOf(identity),
      expected: { name: peer.name, fingerprint256: peer.fingerprint256 },
      ramPath: options.memory.ramPath,
      exchange: mapping.mapped,
      keys: secret.channelKeys(channel, 'to-destination').release(),
      address,
      ports,
      silenceMs: options.silenceMs ?? CHANNEL_SILENCE_MS_MAX,
      postCopy: options.postCopy ?? false,
      isLate: options.isLate ?? false,
      origin: options.origin,
    };
    return new ChannelThread(options.threads.take(), setup, clock);
  });
  const channels = new Channels(threads, mapping);
  try {
    const listening = await channels.next('listening', WORKER_START_MS_MAX);
    return new DataReceiver(
      channels,
      listening.map(({ port }) => port),
    );
  } catch (thrown) {
    await channels.close();
    throw thrown;
  }
}
