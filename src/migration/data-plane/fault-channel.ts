/**
 * The channel of a session on which pages are asked for while their guest runs: both hosts' handles on it.
 * It is apart from those that push, so that no page that is waited for stands behind many that are not.
 */
import {
  CHANNEL_SILENCE_MS_MAX,
  JOIN_MS_MAX,
  JOIN_WAIT_MS_MAX,
  WORKER_START_MS_MAX,
} from '../../base/limits.ts';
import type { MigError } from '../../protocol/error.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
import { ChannelThread } from './channel-thread.ts';
import { ExchangeMapping } from './exchange-mapping.ts';
import { NO_EXTENT, type ChannelSetup, type Extent } from './messages.ts';
import { PUSHED } from './sending.ts';
import { pemOf, type SenderOptions } from './sender.ts';
import type { ReceiverOptions } from './receiver.ts';

/** One thread and what it views. */
class FaultChannel {
  protected readonly thread: ChannelThread;
  readonly #mapping: ExchangeMapping;
  #closed: Promise<Extent> | undefined;

  constructor(thread: ChannelThread, mapping: ExchangeMapping) {
    this.thread = thread;
    this.#mapping = mapping;
  }

  get failed(): Promise<MigError> {
    return this.thread.failed;
  }

  /** Ends the thread within a bound, then unmaps; resolves with what it has sent. Idempotent. */
  close(): Promise<Extent> {
    this.#closed ??= this.thread
      .close(PUSHED)
      .then((extent) => extent ?? NO_EXTENT)
      .finally(() => this.#mapping[Symbol.dispose]());
    return this.#closed;
  }
}

export class FaultServerChannel extends FaultChannel {
  /** Resolves when the destination has said what it lacks: it is in the exchange's bitmap. Bounded. */
  async absentHeard(): Promise<void> {
    await this.thread.next('absentHeard', JOIN_WAIT_MS_MAX);
  }
}

export class FaultHandlerChannel extends FaultChannel {
  readonly port: number;
  readonly joined: Promise<void>;

  constructor(thread: ChannelThread, mapping: ExchangeMapping, port: number) {
    super(thread, mapping);
    this.port = port;
    this.joined = thread.next('joined').then(() => undefined);
    // Whoever does not ask is told by `failed`.
    this.joined.catch(() => undefined);
  }

  /** Resolves when a fault has brought the last absent page; never, when that came otherwise. */
  get whole(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.thread.next('whole').then(
      () => resolve(),
      () => undefined,
    );
    return promise;
  }

  /** Answers the faults of the trap that is served at `path`, from when it resolves. */
  async answer(path: string): Promise<void> {
    this.thread.send({ kind: 'answer', path });
    await this.thread.next('answering');
  }

  async counts(): Promise<FaultCounts> {
    this.thread.send({ kind: 'count' });
    return (await this.thread.next('faults')).faults;
  }
}

type Common = SenderOptions | ReceiverOptions;

/** What both sides say to their thread; `channel`: behind those of the pages. */
function setupOf(options: Common, channel: number, mapping: ExchangeMapping) {
  const { migrationId, identity, suite, form, encodings, engine, secret, memory, peer } = options;
  const setup: ChannelSetup = {
    migrationId,
    channel,
    channels: channel + 1,
    suite,
    form,
    encodings,
    engine,
    identity: pemOf(identity),
    expected: { name: peer.name, fingerprint256: peer.fingerprint256 },
    ramPath: memory.ramPath,
    exchange: mapping.mapped,
    keys: secret.channelKeys(channel, 'to-destination').release(),
    silenceMs: options.silenceMs ?? CHANNEL_SILENCE_MS_MAX,
    origin: undefined,
  };
  return { ...setup, demandKeys: secret.channelKeys(channel, 'to-source').release() };
}

/** Resolves when it has joined. Rejects as `openSender`; nothing is left open then. */
export async function openFaultServer(
  options: SenderOptions,
  channel: number,
  port: number,
  hearsAbsent = false,
): Promise<FaultServerChannel> {
  const mapping = new ExchangeMapping(options.memory);
  const { host } = options.peer;
  const common = setupOf(options, channel, mapping);
  const setup = { role: 'faultServer', host, port, hearsAbsent, ...common } as const;
  const thread = new ChannelThread(options.threads.take(), setup, options.clock);
  const opened = new FaultServerChannel(thread, mapping);
  try {
    await thread.next('joined', WORKER_START_MS_MAX + JOIN_MS_MAX);
    return opened;
  } catch (thrown) {
    await opened.close();
    throw thrown;
  }
}

/** Resolves when it listens. Rejects as `openReceiver`; nothing is left open then. */
export async function openFaultHandler(
  options: ReceiverOptions,
  channel: number,
  tellsAbsent = false,
): Promise<FaultHandlerChannel> {
  const mapping = new ExchangeMapping(options.memory);
  const { address, ports } = options;
  const common = setupOf(options, channel, mapping);
  const setup = { role: 'faultHandler', address, ports, tellsAbsent, ...common } as const;
  const thread = new ChannelThread(options.threads.take(), setup, options.clock);
  try {
    const { port } = await thread.next('listening', WORKER_START_MS_MAX);
    return new FaultHandlerChannel(thread, mapping, port);
  } catch (thrown) {
    await thread.close();
    mapping[Symbol.dispose]();
    throw thrown;
  }
}
