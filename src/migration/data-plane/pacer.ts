/** Keeps a channel to a rate: a token bucket that may run into debt by one record. */
import type { Clock } from '../../base/ports.ts';

/** Unused allowance is kept for this long: enough to make up for late timers, no more. */
const BURST_MS = 20;
/** Times as much is much more. */
const LIFTED = 2;

export class Pacer {
  readonly #clock: Clock;
  #bytesPerMs: number | undefined;
  #allowance = 0;
  #filledAt: number;
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledAt = clock.now();
  }

  /**
   * Sets or lifts the limit; whoever waits is woken to see it. A debt stays: it may be set often. It says
   * whether much more may be sent now.
   */
  setLimit(bytesPerSecond: number | undefined): 'lifted' | 'set' {
    this.#fill();
    const before = this.#bytesPerMs ?? Number.POSITIVE_INFINITY;
    this.#allowance = Math.min(this.#allowance, 0);
    this.#bytesPerMs = bytesPerSecond === undefined ? undefined : bytesPerSecond / 1000;
    this.#wake?.();
    return (this.#bytesPerMs ?? Number.POSITIVE_INFINITY) > LIFTED * before ? 'lifted' : 'set';
  }

  /** Resolves when `bytes` more may be sent. */
  async take(bytes: number): Promise<void> {
    while (this.#bytesPerMs !== undefined) {
      this.#fill();
      if (this.#allowance >= 0) {
        this.#allowance -= bytes;
        return;
      }
      await this.#wait(Math.ceil(-this.#allowance / this.#bytesPerMs));
    }
  }

  #fill(): void {
    const now = this.#clock.now();
    const rate = this.#bytesPerMs;
    // Without a limit nothing is owed.
    const filled = rate === undefined ? 0 : this.#allowance + (now - this.#filledAt) * rate;
    this.#allowance = Math.min(filled, BURST_MS * (rate ?? 0));
    this.#filledAt = now;
  }

  #wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(delayMs, () => this.#wake?.());
      this.#wake = () => {
        this.#wake = undefined;
        timer.cancel();
        resolve();
      };
    });
  }
}
