/**
 * The transfer of one outgoing migration: rounds of pages over the data plane, and the guest's part
 * in them (tracking, pause, state). Each step is an effect of the source's machine and yields its
 * event; it decides nothing and knows nothing of the control channel. It outlives a session that
 * breaks: the pages of a round stay in the exchange's bitmap until the destination has them.
 */
import { PAGE_BYTES } from '../base/units.ts';
import type { PagedGuest } from '../guest/driver.ts';
import { MigError } from '../protocol/error.ts';
import type { MigrateOptions } from '../protocol/options.ts';
import { arrivedOf, type ResumePoint, type Sent } from '../protocol/resume-point.ts';
import type { Effect, Event } from '../protocol/source/state.ts';
import { BandwidthLimit } from './bandwidth-limit.ts';
import { sumExtents, type RoundPages } from './data-plane/messages.ts';
import { DeferredPages } from './data-plane/deferred-pages.ts';
import type { DataSender, Progress, SenderOptions } from './data-plane/sender.ts';
import { allAbsent } from './data-plane/exchange-mapping.ts';
import { keepUnacknowledged } from './data-plane/unacknowledged.ts';
import type { ServingChannels } from './paging/page-service.ts';
import { closeChannels, openChannels, type SendingChannels } from './sending-channels.ts';
import { originAt, standingAt, type Standing } from './standing.ts';
import type { Telemetry } from './telemetry.ts';

/** Of one session: what a transfer adds to the channels itself is left out. */
export interface ChannelOptions extends Omit<
  SenderOptions,
  'memory' | 'origin' | 'onProgress' | 'postCopy'
> {
  /** Whether the last of `peer.ports` is to ask for pages on, that may be left. */
  readonly postCopy: boolean;
  /** Aborted when the session ends. */
  readonly signal: AbortSignal;
  /** Hears of a channel that breaks after all have joined. */
  readonly failed: (failure: MigError) => void;
}

/** Round 0 sends every page, a later one those in the bitmap. */
const pagesOf = (round: number): RoundPages => (round === 0 ? 'all' : 'dirty');

const unsent = (round: number, channels: number): Sent => ({
  round,
  pages: Array.from({ length: channels }, () => 0),
  isWhole: false,
});

export class OutgoingTransfer {
  readonly #guest: PagedGuest;
  readonly #telemetry: Telemetry;
  readonly #options: MigrateOptions;
  readonly #progressed: (event: Event) => void;
  /** Of what it may send, whoever says so. */
  readonly limit = new BandwidthLimit();
  #session: (SendingChannels & { readonly options: ChannelOptions }) | undefined;
  /** Pages owed to the destination: those of the bitmap, and those that the round leaves out. */
  #dirtyPages = 0;
  #deferred: DeferredPages;
  /** When dirty pages were last collected, since the migration began. */
  #collectedAtMs = 0;
  /** The round whose pages the bitmap has, and what of it has left in a session that broke. */
  #sent: Sent = unsent(0, 0);
  /** Where the session began; null when it was at the beginning. */
  #standing: Standing | null = null;

  /** `progressed` hears how far a round is, where there is a deadline to hold. */
  constructor(
    guest: PagedGuest,
    telemetry: Telemetry,
    options: MigrateOptions,
    progressed: (event: Event) => void,
  ) {
    this.#guest = guest;
    this.#telemetry = telemetry;
    this.#options = options;
    this.#progressed = progressed;
    this.#deferred = new DeferredPages(guest.memory);
    this.limit.ask('operator', options.maxBandwidthBps ?? null);
  }

  /**
   * Joins the data channels, to go on from what the destination holds. Rejects with
   * TRANSCRIPT_MISMATCH when that cannot be.
   */
  async join(options: ChannelOptions, resume: ResumePoint | null): Promise<Event> {
    const { migrationId, peer, signal, failed, ...rest } = options;
    await this.#goOnFrom(migrationId, resume);
    const round = resume === null ? 0 : resume.round + 1;
    this.#sent = unsent(round, peer.ports.length - (options.postCopy ? 1 : 0));
    const channels = await openChannels({
      ...rest,
      migrationId,
      peer,
      memory: this.#guest.memory,
      origin: originAt(this.#standing),
      onProgress: (sent) => this.#progress(sent),
    });
    if (signal.aborted) {
      await closeChannels(channels);
      throw new MigError('CANCELLED');
    }
    this.#session = { ...channels, options };
    this.limit.applyTo(channels.sender);
    void channels.failed.then(failed);
    const { elapsedMs } = this.#telemetry;
    return { kind: 'channelsJoined', owedPages: this.#owedPages(round), elapsedMs };
  }

  #owedPages(round: number): number {
    return round === 0 ? this.#guest.memory.ramBytes / PAGE_BYTES : this.#dirtyPages;
  }

  #progress(sent: Progress): void {
    this.#telemetry.progressed(sent);
    if (this.#options.deadlineMs === undefined) return;
    const { elapsedMs, remainingPages } = this.#telemetry;
    this.#progressed({ kind: 'progressed', ...sent, remainingPages, elapsedMs });
  }

  /** Leaves in the bitmap what the destination does not hold, and what was written since. */
  async #goOnFrom(migrationId: string, resume: ResumePoint | null): Promise<void> {
    const before = this.#standing;
    if (resume === null) {
      this.#standing = null;
      // All pages are sent again, what was left out among them.
      this.#deferred = new DeferredPages(this.#guest.memory);
      return;
    }
    const arrived = arrivedOf(resume, this.#sent, before?.point ?? null);
    if (arrived !== 'nothing') {
      const { memory } = this.#guest;
      const accepted = arrived === 'whole' ? arrived : resume.accepted;
      keepUnacknowledged(memory, pagesOf(this.#sent.round), accepted);
      this.#standing = standingAt(migrationId, before, resume);
    }
    await this.#guest.collectDirty('add');
    this.#collectedAtMs = this.#telemetry.elapsedMs;
    this.#dirtyPages = this.#deferred.putBack();
  }

  async sendRound(effect: Extract<Effect, { kind: 'sendRound' }>): Promise<Event> {
    const { round, deferPagesMax, afterMs } = effect;
    if (afterMs > 0) await this.#rest(afterMs);
    // Tracking begins before the first byte is read: a page written from now on is sent again.
    if (round === 0) {
      await this.#guest.trackDirty();
      this.#collectedAtMs = this.#telemetry.elapsedMs;
    }
    const leftOut = deferPagesMax > 0 ? this.#deferred.leaveOut(deferPagesMax) : 0;
    this.#telemetry.roundStarted(round, this.#owedPages(round) - leftOut);
    const sent = await this.#plane().sendRound(round, pagesOf(round));
    this.#sent = { ...this.#sent, isWhole: true };
    this.#telemetry.encoded(sent.counts);
    return { kind: 'roundSent', sent };
  }

  /** The round has arrived: the bitmap is the next one's. */
  async collectDirty(): Promise<Event> {
    const { roundMs } = this.#telemetry;
    await this.#guest.collectDirty('replace');
    const { elapsedMs } = this.#telemetry;
    const windowMs = elapsedMs - this.#collectedAtMs;
    this.#collectedAtMs = elapsedMs;
    const owed = this.#deferred.collected();
    this.#dirtyPages = owed.dirtyPages;
    this.#sent = unsent(this.#sent.round + 1, this.#sent.pages.length);
    return { kind: 'dirtyCollected', ...owed, roundMs, windowMs, elapsedMs };
  }

  /** For the round under way, and those that follow; null: as much as the operator lets. */
  pace(paceBps: number | null): void {
    this.limit.ask('deadline', paceBps);
  }

  async throttle(percent: number): Promise<void> {
    await this.#guest.throttle(percent);
    this.#telemetry.throttled(percent);
  }

  /** Stops the guest while a round is under way. */
  async holdGuest(): Promise<void> {
    this.#telemetry.stopped('timeout');
    await this.#guest.hold();
  }

  /**
   * Ends the channels of a session that broke; `underWay`: what it was doing, which ends with them.
   * Rejects with CHANNEL_LOST when it cannot be said what was sent.
   */
  async breakOff(underWay: Promise<unknown>): Promise<void> {
    const { round } = this.#sent;
    const extents = await this.#session?.sender.reckon(round);
    await this.#session?.faults?.close();
    this.#session = undefined;
    await underWay;
    // A collection that was under way has settled the round.
    if (extents === undefined || this.#sent.round !== round) return;
    this.#sent = { ...this.#sent, pages: extents.map(({ pages }) => pages) };
    const { bytes: bytesSent, ...sent } = sumExtents(extents);
    this.#telemetry.encoded(sent.counts);
    this.#telemetry.roundBroke({ ...sent, bytesSent });
  }

  async pauseGuest(effect: Extract<Effect, { kind: 'pauseGuest' }>): Promise<Event> {
    const { round, why, leavesPages } = effect;
    this.#telemetry.stopped(why);
    if (leavesPages && round === 0) {
      const [, { stateBytes }] = await Promise.all([this.#guest.hold(), this.#guest.exportState()]);
      allAbsent(this.#guest.memory);
      return { kind: 'guestPaused', stateBytes };
    }
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
    const { round, stateBytes, leavesPages } = effect;
    this.#telemetry.roundStarted(round, leavesPages ? 0 : this.#dirtyPages);
    const final = await this.#plane().sendFinal(round, { stateBytes, leavesPages });
    const memoryDigest = this.#options.verify
      ? await this.#plane().digestMemory()
      : new Uint8Array(0);
    this.#telemetry.encoded(final.counts);
    this.#telemetry.finalDone(final, this.#telemetry.roundMs);
    const { transcriptDigest } = final;
    return { kind: 'finalSent', transcriptDigest, stateBytes, memoryDigest };
  }

  /** Closes the channels; may be called again. Those being joined close with their session. */
  async close(): Promise<void> {
    if (this.#session !== undefined) await closeChannels(this.#session);
  }

  /** Its channels, for the pages that were left: whoever takes them closes them. */
  takeServing(): ServingChannels | undefined {
    const { sender, faults } = this.#session ?? {};
    if (sender === undefined || faults === undefined) return undefined;
    this.#session = undefined;
    return { sender, faults };
  }

  /** Sends nothing for a while, or until the session ends. */
  async #rest(ms: number): Promise<void> {
    const { clock, signal } = this.#joined().options;
    const over = Promise.withResolvers<void>();
    const timer = clock.after(ms, over.resolve);
    signal.addEventListener('abort', () => over.resolve(), { once: true });
    if (signal.aborted) over.resolve();
    await over.promise;
    timer.cancel();
    if (signal.aborted) throw new MigError('CANCELLED');
  }

  #plane(): DataSender {
    return this.#joined().sender;
  }

  #joined(): { readonly sender: DataSender; readonly options: ChannelOptions } {
    if (this.#session === undefined) throw new Error('no data channels yet');
    return this.#session;
  }
}
