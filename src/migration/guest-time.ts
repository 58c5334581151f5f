/** What throttling a guest costs it. */
import type { Clock } from '../base/ports.ts';

export class GuestTime {
  readonly #clock: Clock;
  #percent = 0;
  #maxPercent = 0;
  #since: number;
  #lostMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.now();
  }

  get percent(): number {
    return this.#percent;
  }

  /** From now on the guest is kept from running for `percent` of its time. */
  throttled(percent: number): void {
    const now = this.#clock.now();
    this.#lostMs += ((now - this.#since) * this.#percent) / 100;
    this.#since = now;
    this.#percent = percent;
    this.#maxPercent = Math.max(this.#maxPercent, percent);
  }

  /** So far, up to the last change. */
  get lost(): { readonly maxPercent: number; readonly guestMsLost: number } {
    return { maxPercent: this.#maxPercent, guestMsLost: Math.round(this.#lostMs) };
  }
}
