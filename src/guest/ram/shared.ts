/**
 * What the agent and the vCPUs of a guest share besides RAM: the words by which vCPUs are paused and
 * throttled, their registers, and a mailbox to the vTPM. All in SharedArrayBuffers.
 */

export const RUN = 0;
export const PAUSE = 1;
export const STOP = 2;

const COMMAND = 0;
const THROTTLE = 1;
const ACKNOWLEDGED = 8;
const VCPUS_MAX = 64;

/** Registers of one vCPU, as 64-bit floats. */
export const REGISTER = {
  /** Writes done. */
  writes: 0,
  /** Sum of the versions of all pages that this vCPU wrote. */
  versionSum: 1,
  /** State of the random numbers that choose pages. */
  random: 2,
  /** Virtual run time in ms. */
  runMs: 3,
  /** Virtual time of the next extension of the vTPM's PCR 16, in ms. */
  nextExtendMs: 4,
  /** Whether the initial content was written: 1 when it was. */
  filled: 5,
} as const;
export const REGISTERS = 8;

/** The kind of a command is in its low bits; above them, the command's number. */
const KIND_BITS = 2;
const kindOf = (word: number): number => word & (2 ** KIND_BITS - 1);

/**
 * The control words. Each vCPU acknowledges a pause between two complete operations, by the number
 * of that very pause: a vCPU that is about to go on after the last one has not acknowledged this one.
 */
export class Control {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer((ACKNOWLEDGED + VCPUS_MAX) * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  get command(): number {
    return kindOf(this.#word);
  }

  set command(kind: number) {
    const number = (this.#word >>> KIND_BITS) + 1;
    Atomics.store(this.#words, COMMAND, (number << KIND_BITS) | kind);
    Atomics.notify(this.#words, COMMAND);
  }

  get throttlePercent(): number {
    return Atomics.load(this.#words, THROTTLE);
  }

  set throttlePercent(value: number) {
    Atomics.store(this.#words, THROTTLE, value);
    // Whoever is held by the last one is let go.
    Atomics.notify(this.#words, COMMAND);
  }

  /** vCPU: sleeps while running; a command wakes it. */
  sleep(ms: number): void {
    const word = this.#word;
    if (ms > 0 && kindOf(word) === RUN) Atomics.wait(this.#words, COMMAND, word, ms);
  }

  /** vCPU with an event loop: resolves when the command is no longer `RUN`. */
  async commanded(): Promise<void> {
    for (let word = this.#word; kindOf(word) === RUN; word = this.#word) {
      const waiting = Atomics.waitAsync(this.#words, COMMAND, word);
      if (waiting.async) await waiting.value;
    }
  }

  /** vCPU: acknowledges and stands still until told to run (true) or to stop (false). */
  park(vcpu: number): boolean {
    for (;;) {
      const word = this.#word;
      if (kindOf(word) !== PAUSE) return kindOf(word) === RUN;
      Atomics.store(this.#words, ACKNOWLEDGED + vcpu, word);
      Atomics.notify(this.#words, ACKNOWLEDGED + vcpu);
      Atomics.wait(this.#words, COMMAND, word);
    }
  }

  /** Agent: resolves to whether the vCPU acknowledged the pause now commanded within `ms`. */
  async acknowledged(vcpu: number, ms: number): Promise<boolean> {
    const pause = this.#word;
    const deadline = performance.now() + ms;
    for (;;) {
      const seen = Atomics.load(this.#words, ACKNOWLEDGED + vcpu);
      if (seen === pause) return true;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return false;
      const waiting = Atomics.waitAsync(this.#words, ACKNOWLEDGED + vcpu, seen, leftMs);
      if (waiting.async) await waiting.value;
    }
  }

  get #word(): number {
    return Atomics.load(this.#words, COMMAND);
  }
}

const IDLE = 0;
const REQUESTED = 1;
const ANSWERED = 2;
const EVENT_BYTES = 64;

/**
 * One vTPM command at a time from the vCPUs: extend a PCR with an event of 64 bytes. The vCPU waits
 * for the answer, so a vCPU that acknowledged a pause has no command under way.
 */
export class TpmMailbox {
  readonly buffer: SharedArrayBuffer;
  readonly #state: Int32Array;
  readonly #event: Uint8Array;

  constructor(buffer = new SharedArrayBuffer(8 + EVENT_BYTES)) {
    this.buffer = buffer;
    this.#state = new Int32Array(buffer, 0, 2);
    this.#event = new Uint8Array(buffer, 8, EVENT_BYTES);
  }

  /** vCPU: extends PCR `index` with `event` (cut to 64 bytes, padded with zeros). */
  extend(index: number, event: Uint8Array): void {
    this.#event.fill(0);
    this.#event.set(event.subarray(0, EVENT_BYTES));
    this.#state[1] = index;
    Atomics.store(this.#state, 0, REQUESTED);
    Atomics.notify(this.#state, 0);
    Atomics.wait(this.#state, 0, REQUESTED);
    Atomics.store(this.#state, 0, IDLE);
    Atomics.notify(this.#state, 0);
  }

  /** Agent: serves the mailbox for ever. */
  async serve(extend: (index: number, event: Uint8Array) => void): Promise<never> {
    for (;;) {
      const state = Atomics.load(this.#state, 0);
      if (state === REQUESTED) {
        extend(this.#state[1] ?? 0, Uint8Array.from(this.#event));
        Atomics.store(this.#state, 0, ANSWERED);
        Atomics.notify(this.#state, 0);
        continue;
      }
      const waiting = Atomics.waitAsync(this.#state, 0, state);
      if (waiting.async) await waiting.value;
    }
  }
}
