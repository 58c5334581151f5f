/** How long a migration whose session broke is tried to be gone on with, and how often. */
import { RECONNECT_WAIT_MS_MAX } from '../base/limits.ts';
import type { Clock, Random } from '../base/ports.ts';
import { BackOff } from './back-off.ts';

interface Ports {
  readonly clock: Clock;
  readonly random: Random;
}

export class Outage {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #backOff: BackOff;
  #due = Promise.withResolvers<boolean>();
  #begunAt: number | undefined;
  #isGivenUp = false;

  constructor(ports: Ports, limitMs: number) {
    this.#clock = ports.clock;
    this.#limitMs = limitMs;
    this.#backOff = new BackOff(ports, () => this.#due.resolve(this.leftMs > 0), {
      maxMs: RECONNECT_WAIT_MS_MAX,
    });
  }

  /** It begins, unless it has. */
  begin(): void {
    this.#begunAt ??= this.#clock.now();
  }

  /** It is over: the rounds go on. */
  end(): void {
    this.#begunAt = undefined;
    this.#backOff.reset();
  }

  /** Nobody wants to go on any more. */
  giveUp(): void {
    this.#isGivenUp = true;
    this.#backOff.stop();
    this.#due.resolve(false);
  }

  /** What is left of the time; Infinity when there is no outage. */
  get leftMs(): number {
    return this.#begunAt === undefined
      ? Number.POSITIVE_INFINITY
      : this.#begunAt + this.#limitMs - this.#clock.now();
  }

  /** Waits for the next try; resolves with whether it is to be made. */
  async next(): Promise<boolean> {
    if (this.#isGivenUp || this.leftMs <= 0) return false;
    this.#due = Promise.withResolvers();
    this.#backOff.wait();
    return await this.#due.promise;
  }
}
