/** What the sender's and the receiver's handles share: several channels that act as one. */
import { MEMORY_DIGEST_MS_MAX } from '../../base/limits.ts';
import { combineTags } from '../../crypto/transcript.ts';
import type { EncodingCounts } from '../../pages/encodings/counts.ts';
import { MigError } from '../../protocol/error.ts';
import type { ChannelThread } from './channel-thread.ts';
import { combineShares } from './memory-digest.ts';
import {
  sumExtents,
  type ChannelRound,
  type Extent,
  type Report,
  type ReportOf,
} from './messages.ts';

/** One round over all channels. `tag`: SHA-384 over the channels' tags. */
export interface Round {
  readonly n: number;
  readonly pages: number;
  readonly zeroPages: number;
  readonly bytes: number;
  readonly counts: EncodingCounts;
  readonly tag: Buffer;
}

export class Channels {
  /** Resolves with the first failure of any channel; never rejects. */
  readonly failed: Promise<MigError>;
  readonly #threads: readonly ChannelThread[];
  readonly #held: Disposable;
  #closed: Promise<readonly (Extent | null)[]> | undefined;

  /** Takes over the threads, and what they need for as long as they run. */
  constructor(threads: readonly ChannelThread[], held: Disposable) {
    this.#threads = threads;
    this.#held = held;
    this.failed = Promise.race(threads.map((thread) => thread.failed));
  }

  get count(): number {
    return this.#threads.length;
  }

  send(command: Parameters<ChannelThread['send']>[0]): void {
    for (const thread of this.#threads) thread.send(command);
  }

  /** Every channel's next report of a kind, in order of channels. Rejects with the first failure. */
  next<K extends Report['kind']>(kind: K, limitMs?: number): Promise<ReportOf<K>[]> {
    return this.allOrFailure(this.#threads.map((thread) => thread.next(kind, limitMs)));
  }

  /** Resolves with the first report of a kind from any channel; never rejects. */
  first(kind: Report['kind']): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const thread of this.#threads)
      thread.next(kind).then(
        () => resolve(),
        () => undefined,
      );
    return promise;
  }

  async nextRound(): Promise<Round> {
    return sumRounds((await this.next('round')).map(({ round }) => round));
  }

  async nextFinal(): Promise<{ readonly stateBytes: number; readonly transcriptDigest: Buffer }> {
    const finals = await this.next('final');
    const tags = finals.map(({ tag }) => tag);
    const transcriptDigest = combineTags('final', tags);
    return { stateBytes: finals[0]?.stateBytes ?? 0, transcriptDigest };
  }

  /** SHA-256 of all RAM, in the tree form of memory-digest.ts. */
  async digestMemory(): Promise<Buffer> {
    this.send({ kind: 'digest' });
    const shares = await this.next('digest', MEMORY_DIGEST_MS_MAX);
    return combineShares(shares.map(({ blocks }) => blocks));
  }

  /** Ends every thread within a bound, then what they needed. Idempotent. */
  async close(): Promise<void> {
    await this.#end();
  }

  /**
   * As close; resolves with how far `round` came, a channel each. Rejects with CHANNEL_LOST when one
   * does not say, for it has crashed, is past that round, or was closed before.
   */
  async reckon(round: number): Promise<readonly Extent[]> {
    const extents = await this.#end(round);
    return extents.map((extent) => {
      if (extent === null) throw new MigError('CHANNEL_LOST', `no word of round ${round}`);
      return extent;
    });
  }

  async #end(reckon?: number): Promise<readonly (Extent | null)[]> {
    this.#closed ??= Promise.all(this.#threads.map((thread) => thread.close(reckon))).finally(() =>
      this.#held[Symbol.dispose](),
    );
    return await this.#closed;
  }

  /** One channel's failure fails what all of them do. */
  private async allOrFailure<T>(all: Promise<T>[]): Promise<T[]> {
    const failure = this.failed.then((error) => {
      throw error;
    });
    return Promise.race([Promise.all(all), failure]);
  }
}

function sumRounds(rounds: readonly ChannelRound[]): Round {
  return {
    n: rounds[0]?.n ?? 0,
    ...sumExtents(rounds),
    tag: combineTags(
      'round',
      rounds.map((round) => round.tag),
    ),
  };
}
