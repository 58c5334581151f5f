/** What a vCPU thread works with: its RAM, its registers, its share of the pages. */
import { PAGE_BYTES } from '../../base/units.ts';
import { viewOf } from '../../native/mapping.ts';
import type { Workload } from '../../protocol/descriptor.ts';
import { markWritten } from '../dirty/log.ts';
import type { RamLayout } from './layout.ts';
import { writePage } from './self-checking.ts';
import { Control, REGISTER, REGISTERS, RUN, TpmMailbox } from './shared.ts';

/** What the agent gives a vCPU thread at its start. */
export interface VcpuInput {
  readonly vcpu: number;
  readonly vcpus: number;
  readonly workload: Workload;
  readonly layout: RamLayout;
  readonly fill: number;
  readonly ramAddress: bigint;
  readonly control: SharedArrayBuffer;
  readonly registers: SharedArrayBuffer;
  readonly mailbox: SharedArrayBuffer;
  /** Present when the guest's own dirty log is in use. */
  readonly dirtyLog: SharedArrayBuffer | undefined;
  /** The vTPM's PCR 16 is extended once in this virtual time, in ms. */
  readonly extendMs: number;
}

/** Work between two looks at the clock and the command, in ms. */
const SLICE_MS = 2;

export class VcpuContext {
  readonly input: VcpuInput;
  readonly control: Control;
  readonly bytes: Buffer;
  readonly #words: Uint32Array;
  readonly #registers: Float64Array;
  readonly #mailbox: TpmMailbox;
  readonly #log: Int32Array | undefined;

  constructor(input: VcpuInput) {
    const { layout, vcpu, dirtyLog } = input;
    this.input = input;
    this.control = new Control(input.control);
    const ram = viewOf(input.ramAddress, layout.pages * PAGE_BYTES);
    this.bytes = Buffer.from(ram);
    this.#words = new Uint32Array(ram);
    this.#registers = new Float64Array(input.registers, vcpu * REGISTERS * 8, REGISTERS);
    this.#mailbox = new TpmMailbox(input.mailbox);
    this.#log = dirtyLog === undefined ? undefined : new Int32Array(dirtyLog);
  }

  get(register: keyof typeof REGISTER): number {
    return this.#registers[REGISTER[register]] ?? 0;
  }

  set(register: keyof typeof REGISTER, value: number): void {
    this.#registers[REGISTER[register]] = value;
  }

  /**
   * One complete operation: the page's next version, of which `kept` words are as they were in the first;
   * the table, the register of the sum.
   */
  rewrite(page: number, kept = 0): void {
    const version = (this.#words[page] ?? 0) + 1;
    writePage(this.#words, page, version, kept);
    this.#words[page] = version;
    this.set('writes', this.get('writes') + 1);
    this.set('versionSum', this.get('versionSum') + 1);
    this.wrote(page);
    this.wrote(Math.floor((page * 4) / PAGE_BYTES));
  }

  /** To be told of every page after it was written, where the guest keeps its own log. */
  wrote(page: number): void {
    if (this.#log !== undefined) markWritten(this.#log, page);
  }

  /** A number in [0, 1) from the register's generator (xorshift32). */
  random(): number {
    let x = this.get('random') | 0;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.set('random', x);
    return (x >>> 0) / 2 ** 32;
  }

  /** The self-checking pages that the initial content fills, this vCPU's share of them. */
  *share(pages: number): Generator<number> {
    const { layout, vcpu, vcpus } = this.input;
    for (let i = vcpu; i < pages; i += vcpus) yield layout.dataFirst + i;
  }

  /** What every workload does besides its own: virtual time, and the PCR of the first vCPU. */
  tick(ms: number): void {
    const now = this.get('runMs') + ms;
    this.set('runMs', now);
    if (this.input.vcpu !== 0 || now < this.get('nextExtendMs')) return;
    this.set('nextExtendMs', now + this.input.extendMs);
    this.#mailbox.extend(16, Buffer.from(`guest at ${Math.floor(now)} ms`));
  }

  /**
   * Runs `work(ms)` in slices until told to stop: it gets the time that passed and does what is due.
   * Between two slices the vCPU pauses, sleeps, or is throttled, and its time stands still while it is;
   * within one, nothing interrupts it.
   */
  loop(work: (ms: number) => void): void {
    let before = performance.now();
    for (;;) {
      if (this.control.command !== RUN) {
        if (!this.control.park(this.input.vcpu)) return;
        before = performance.now();
      }
      const began = performance.now();
      // Time that was lost, to a slow machine say, is not made up for later.
      const ms = Math.min(began - before, 50);
      before = began;
      work(ms);
      this.tick(ms);
      this.control.sleep(SLICE_MS - (performance.now() - began));
      before += this.hold(performance.now() - began);
    }
  }

  /** After `ranMs` of running: holds the vCPU for its throttle's share. Returns the time it took. */
  hold(ranMs: number): number {
    const { throttlePercent } = this.control;
    if (throttlePercent === 0) return 0;
    const from = performance.now();
    this.control.sleep((ranMs * throttlePercent) / (100 - throttlePercent));
    return performance.now() - from;
  }
}
