/**
 * One guest process kept ready: starting one takes longer than a small guest takes to move. The next
 * is started a while after one was used, so that it does not compete with what that was used for.
 */
import { GuestProcess } from './guest-process.ts';

/** After its guest runs: by then the other host was told and the source has cleaned up. */
const REFILL_DELAY_MS = 250;

export class Standby {
  readonly #isKept: boolean;
  #spare: GuestProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** `isKept`: false starts each process when it is needed. */
  constructor(isKept: boolean) {
    this.#isKept = isKept;
    this.#refill();
  }

  /** A process that waits for its assignment, or will in a moment. */
  take(): GuestProcess {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare?.isAlive === true ? spare : new GuestProcess();
  }

  /** What the last process was taken for is done. */
  refillSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#refill(), REFILL_DELAY_MS);
    this.#timer.unref();
  }

  /** Ends the spare; those that were taken belong to their takers. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#spare?.end();
  }

  #refill(): void {
    if (!this.#isKept || this.#isClosed || this.#spare?.isAlive === true) return;
    this.#spare = new GuestProcess();
  }
}
