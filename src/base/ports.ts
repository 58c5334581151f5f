/**
 * What the outside world lends to the code: time and chance. Only `src/daemon` (and the command
 * line) creates the real ones; everything below receives them, so that tests can force both.
 */

/** A running timer; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic time in milliseconds since an arbitrary origin; never steps. */
  now(): number;
  /** Wall-clock time in milliseconds since the Unix epoch; may step. */
  wall(): number;
  /** Calls `fire` once after at least `delayMs`. */
  after(delayMs: number, fire: () => void): Timer;
}

export interface Random {
  /** `count` unpredictable bytes from the system's generator. */
  bytes(count: number): Uint8Array;
}
