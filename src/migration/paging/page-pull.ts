/**
 * The destination's part of a post-copy: the guest runs, whoever of it touches a page that has not come
 * waits, and the pages come, session after session, until all are there. Between two sessions the guest
 * stands still.
 */
import type { PagedGuest, GuestMemory } from '../../guest/driver.ts';
import { MigError } from '../../protocol/error.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
import { countAbsent, openAbsent } from '../data-plane/exchange-mapping.ts';
import type { FaultHandlerChannel } from '../data-plane/fault-channel.ts';
import type { DataReceiver } from '../data-plane/receiver.ts';

/** Of one session. */
export interface PullingChannels {
  readonly receiver: DataReceiver;
  readonly faults: FaultHandlerChannel;
}

export const closePulling = async ({ receiver, faults }: PullingChannels): Promise<void> => {
  await Promise.all([receiver.close(), faults.close()]);
};

export class PagePull {
  readonly #guest: PagedGuest;
  readonly #broken: (failure: MigError) => void;
  readonly #whole = Promise.withResolvers<FaultCounts>();
  #counts: FaultCounts = { network: 0, minor: 0, latencyMs: { mean: 0, p99: 0, max: 0 } };
  #session: { readonly end: () => void; readonly over: Promise<void> } | undefined;
  #expected: (() => void) | undefined;
  #isEnded = false;

  private constructor(guest: PagedGuest, broken: (failure: MigError) => void) {
    this.#guest = guest;
    this.#broken = broken;
    this.#whole.promise.catch(() => undefined);
    guest.gone.addEventListener('abort', this.#gone, { once: true });
    if (guest.gone.aborted) this.#gone();
  }

  /**
   * Of a guest that does not run yet, or was found again: nobody touches what is not there. `broken` is
   * told of each session's end before all was there.
   */
  static async begin(guest: PagedGuest, broken: (failure: MigError) => void): Promise<PagePull> {
    const pull = new PagePull(guest, broken);
    if (countAbsent(guest.memory) === 0) await pull.#finish();
    // One that was found running has its trap: it cannot be without.
    else if (guest.lifecycle !== 'running') await guest.trapAbsent();
    return pull;
  }

  readonly #gone = (): void => {
    this.#isEnded = true;
    this.#whole.reject(new MigError('GUEST_FAILED', 'its process is gone'));
    void this.#endSession();
  };

  get memory(): GuestMemory {
    return this.#guest.memory;
  }

  /** Resolves when every page is there; rejects with GUEST_FAILED when the guest is gone. */
  get whole(): Promise<FaultCounts> {
    return this.#whole.promise;
  }

  /** That a session is about to join: `cancel` ends it when another comes first, for a peer gets one. */
  expect(cancel: () => void): void {
    this.#expected?.();
    this.#expected = cancel;
  }

  /**
   * Takes pages from these channels, in place of those of an earlier session; the guest's faults are
   * answered when it resolves. Closes them. Rejects when that cannot be; they are closed then too.
   */
  async join(channels: PullingChannels): Promise<void> {
    await this.#endSession();
    const { receiver, faults } = channels;
    try {
      if (this.#isEnded) throw new MigError('PEER_CLOSED', 'nothing is owed any more');
      // Nobody places a page now: what is absent is what is open.
      const absent = openAbsent(this.#guest.memory);
      const arrived = Promise.race([receiver.whole, faults.whole]);
      await faults.answer(this.#guest.memory.trapPath);
      const { promise: ended, resolve: end } = Promise.withResolvers<MigError>();
      const over = this.#follow(channels, absent === 0 ? Promise.resolve() : arrived, ended);
      this.#session = { end: () => end(new MigError('CHANNEL_LOST', 'another session')), over };
      if (guestStands(this.#guest)) await this.#guest.resume();
    } catch (thrown) {
      await closePulling(channels);
      throw thrown;
    }
  }

  /** Nothing comes any more. */
  close(): Promise<void> {
    this.#isEnded = true;
    return this.#endSession();
  }

  async #endSession(): Promise<void> {
    const before = this.#session;
    this.#session = undefined;
    before?.end();
    await before?.over;
  }

  /** Until all is there, or the session breaks. */
  async #follow(
    channels: PullingChannels,
    arrived: Promise<void>,
    ended: Promise<MigError>,
  ): Promise<void> {
    const { receiver, faults } = channels;
    const broken = Promise.race([receiver.failed, faults.failed, ended]);
    const failure = await Promise.race([arrived, broken]);
    const counts = await faults.counts().catch(() => undefined);
    if (counts !== undefined) this.#counts = sum(this.#counts, counts);
    // The last page may have come in the instant in which the session broke.
    if (failure !== undefined && countAbsent(this.#guest.memory) > 0) {
      this.#broken(failure);
      await this.#guest.halt().catch(() => undefined);
      await closePulling(channels);
      return;
    }
    await this.#finish().catch((thrown: unknown) => this.#whole.reject(thrown));
    // The source ends it, when it has heard that all is here.
    await broken;
    await closePulling(channels);
  }

  async #finish(): Promise<void> {
    this.#isEnded = true;
    // It is open when the last descriptor of it is closed: the guest's, and that of our thread.
    await this.#guest.untrap();
    if (guestStands(this.#guest)) await this.#guest.resume();
    this.#guest.gone.removeEventListener('abort', this.#gone);
    this.#whole.resolve(this.#counts);
  }
}

/** Because of us, and not because its operator paused it. */
const guestStands = ({ lifecycle }: PagedGuest): boolean =>
  lifecycle === 'held' || lifecycle === 'incoming';

const sum = (a: FaultCounts, b: FaultCounts): FaultCounts => {
  const network = a.network + b.network;
  const mean = (a.latencyMs.mean * a.network + b.latencyMs.mean * b.network) / (network || 1);
  return {
    network,
    minor: a.minor + b.minor,
    latencyMs: {
      mean,
      p99: Math.max(a.latencyMs.p99, b.latencyMs.p99),
      max: Math.max(a.latencyMs.max, b.latencyMs.max),
    },
  };
};
