/**
 * The transfer of one outgoing migration: rounds of pages over the data plane, and the guest's part
 * in them (tracking, pause, state). Each step is an effect of the source's machine and yields its
 * event; it decides nothing and knows nothing of the control channel.
 */
import { PAGE_BYTES } from '../base/units.ts';
import type { Guest } from '../guest/driver.ts';
import type { MigError } from '../protocol/error.ts';
import type { MigrateOptions } from '../protocol/options.ts';
import type { Effect, Event, RoundSent } from '../protocol/source/state.ts';
import { openSender, type DataSender, type SenderOptions } from './data-plane/sender.ts';
import type { Telemetry } from './telemetry.ts';

/** What a transfer adds to the channels itself. */
type ChannelOptions = Omit<SenderOptions, 'memory' | 'onProgress'>;

export class OutgoingTransfer {
  readonly #guest: Guest;
  readonly #telemetry: Telemetry;
  readonly #options: MigrateOptions;
  #sender: DataSender | undefined;
  #closed = false;
  #dirtyPages = 0;

  constructor(guest: Guest, telemetry: Telemetry, options: MigrateOptions) {
    this.#guest = guest;
    this.#telemetry = telemetry;
    this.#options = options;
  }

  /** Joins the data channels; `failed` hears of one that breaks later. */
  async join(options: ChannelOptions, failed: (failure: MigError) => void): Promise<Event> {
    const sender = await openSender({
      ...options,
      memory: this.#guest.memory,
      onProgress: (sent) => this.#telemetry.progressed(sent),
    });
    this.#sender = sender;
    if (this.#closed) {
      await sender.close();
      return { kind: 'failed', code: 'CANCELLED', detail: '' };
    }
    const { maxBandwidthBps } = this.#options;
    if (maxBandwidthBps !== undefined) sender.setBandwidthLimit(maxBandwidthBps);
    void sender.failed.then(failed);
    return { kind: 'channelsJoined' };
  }

  async sendRound(round: number): Promise<Event> {
    // Tracking begins before the first byte is read: a page written from now on is sent again.
    if (round === 0) await this.#guest.trackDirty();
    const pages = round === 0 ? this.#guest.memory.ramBytes / PAGE_BYTES : this.#dirtyPages;
    this.#telemetry.roundStarted(round, pages);
    const sent = await this.#plane().sendRound(round, round === 0 ? 'all' : 'dirty');
    return { kind: 'roundSent', sent };
  }

  async collectDirty(sent: RoundSent): Promise<Event> {
    const roundMs = this.#telemetry.roundMs;
    const { dirtyPages } = await this.#guest.collectDirty('replace');
    this.#dirtyPages = dirtyPages;
    this.#telemetry.roundDone(sent, dirtyPages, roundMs);
    return { kind: 'dirtyCollected', dirtyPages, roundMs };
  }

  async pauseGuest(): Promise<Event> {
    // Asked at once, done in this order: the guest stands still meanwhile.
    const [, { dirtyPages }, { stateBytes }] = await Promise.all([
      this.#guest.hold(),
      // What the last collection found was not sent yet: the rest is added to it.
      this.#guest.collectDirty('add'),
      this.#guest.exportState(),
    ]);
    this.#dirtyPages = dirtyPages;
    return { kind: 'guestPaused', stateBytes };
  }

  async sendFinal(effect: Extract<Effect, { kind: 'sendFinal' }>): Promise<Event> {
    const { round, stateBytes } = effect;
    this.#telemetry.roundStarted(round, this.#dirtyPages);
    const final = await this.#plane().sendFinal(round, { stateBytes });
    const memoryDigest = this.#options.verify
      ? await this.#plane().digestMemory()
      : new Uint8Array(0);
    this.#telemetry.finalDone(final, this.#telemetry.roundMs);
    const { transcriptDigest } = final;
    return { kind: 'finalSent', transcriptDigest, stateBytes, memoryDigest };
  }

  /** Closes the channels, those that are being joined as well; may be called again. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#sender?.close();
  }

  #plane(): DataSender {
    if (this.#sender === undefined) throw new Error('no data channels yet');
    return this.#sender;
  }
}
