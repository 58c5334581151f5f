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

/** The control words. Each vCPU acknowledges a pause between two complete operations. */
export class Control {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer((ACKNOWLEDGED + VCPUS_MAX) * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  get command(): number {
    return Atomics.load(this.#words, COMMAND);
  }

  set command(value: number) {
    Atomics.store(this.#words, COMMAND, value);
    Atomics.notify(this.#words, COMMAND);
  }

  get throttlePercent(): number {
    return Atomics.load(this.#words, THROTTLE);
  }

  set throttlePercent(value: number) {
    Atomics.store(this.#words, THROTTLE, value);
  }

  /** vCPU: sleeps while running; a command wakes it. */
  sleep(ms: number): void {
    if (ms > 0) Atomics.wait(this.#words, COMMAND, RUN, ms);
  }

  /** vCPU with an event loop: resolves when the command is no longer `RUN`. */
  async commanded(): Promise<void> {
    const waiting = Atomics.waitAsync(this.#words, COMMAND, RUN);
    if (waiting.async) await waiting.value;
  }

  /** vCPU: acknowledges and stands still until told to run (true) or to stop (false). */
  park(vcpu: number): boolean {
    Atomics.store(this.#words, ACKNOWLEDGED + vcpu, 1);
    Atomics.notify(this.#words, ACKNOWLEDGED + vcpu);
    while (this.command === PAUSE) Atomics.wait(this.#words, COMMAND, PAUSE);
    if (this.command === STOP) return false;
    Atomics.store(this.#words, ACKNOWLEDGED + vcpu, 0);
    return true;
  }

  /** Agent: resolves to whether the vCPU acknowledged within `ms`. */
  async acknowledged(vcpu: number, ms: number): Promise<boolean> {
    const waiting = Atomics.waitAsync(this.#words, ACKNOWLEDGED + vcpu, 0, ms);
    return (waiting.async ? await waiting.value : waiting.value) !== 'timed-out';
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
