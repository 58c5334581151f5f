/** Notices that nothing comes though something is due. It does not know what. */
import type { Clock, Timer } from '../../base/ports.ts';

export class Silence {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #silent: () => void;
  #heardAt: number;
  #isDue: () => boolean = () => false;
  #timer: Timer | undefined;

  /** `silent` is told once, when nothing was heard for `limitMs` while something was due. */
  constructor(clock: Clock, limitMs: number, silent: () => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#silent = silent;
    this.#heardAt = clock.now();
  }

  heard(): void {
    this.#heardAt = this.#clock.now();
  }

  /** Something is due from now on, as long as `isDue` says so. */
  watch(isDue: () => boolean): void {
    this.#isDue = isDue;
    this.heard();
    this.stop();
    this.#arm(this.#limitMs);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #arm(delayMs: number): void {
    this.#timer = this.#clock.after(delayMs, () => {
      if (!this.#isDue()) return;
      const leftMs = this.#heardAt + this.#limitMs - this.#clock.now();
      if (leftMs > 0) this.#arm(leftMs);
      else this.#silent();
    });
  }
}
