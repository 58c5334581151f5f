/** Waits that double, so that a host that is away is asked often at first and never hammered. */
import { BACK_OFF_MS_MAX, BACK_OFF_MS_MIN } from '../base/limits.ts';
import type { Clock, Random } from '../base/ports.ts';
import { Deadline } from './runner.ts';

export class BackOff {
  readonly #deadline: Deadline;
  readonly #random: Random;
  readonly #maxMs: number;
  #delayMs = BACK_OFF_MS_MIN;
  #isWaiting = false;

  constructor(
    ports: { readonly clock: Clock; readonly random: Random },
    due: () => void,
    { maxMs = BACK_OFF_MS_MAX }: { readonly maxMs?: number } = {},
  ) {
    this.#random = ports.random;
    this.#maxMs = maxMs;
    this.#deadline = new Deadline(ports.clock, () => {
      this.#isWaiting = false;
      due();
    });
  }

  /** `due` comes after the next delay, of which a random half is taken: two hosts must not meet. */
  wait(): void {
    const share = ((this.#random.bytes(1)[0] ?? 0) / 255 + 1) / 2;
    this.#arm(this.#delayMs * share);
    this.#delayMs = Math.min(this.#delayMs * 2, this.#maxMs);
  }

  /** The next delay is the first again. */
  reset(): void {
    this.#delayMs = BACK_OFF_MS_MIN;
  }

  /** Ends a delay at once. */
  skip(): void {
    if (this.#isWaiting) this.#arm(0);
  }

  stop(): void {
    this.#isWaiting = false;
    this.#deadline.disarm();
  }

  #arm(delayMs: number): void {
    this.#isWaiting = true;
    this.#deadline.arm(delayMs);
  }
}
