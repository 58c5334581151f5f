/** Keeps a channel to a rate: a token bucket that may run into debt by one record. */
import type { Clock } from '../../base/ports.ts';

/** Unused allowance is kept for this long: enough to make up for late timers, no more. */
const BURST_MS = 20;

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

  /** Sets or lifts the limit; whoever waits is woken to see it. */
  setLimit(bytesPerSecond: number | undefined): void {
    this.#bytesPerMs = bytesPerSecond === undefined ? undefined : bytesPerSecond / 1000;
    this.#allowance = 0;
    this.#filledAt = this.#clock.now();
    this.#wake?.();
  }

  /** Resolves when `bytes` more may be sent. */
  async take(bytes: number): Promise<void> {
    while (this.#bytesPerMs !== undefined) {
      const now = this.#clock.now();
      const filled = this.#allowance + (now - this.#filledAt) * this.#bytesPerMs;
      this.#allowance = Math.min(filled, BURST_MS * this.#bytesPerMs);
      this.#filledAt = now;
      if (this.#allowance >= 0) {
        this.#allowance -= bytes;
        return;
      }
      await this.#wait(Math.ceil(-this.#allowance / this.#bytesPerMs));
    }
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
