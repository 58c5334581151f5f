/**
 * The embedded guest itself, as its agent sees it: RAM, vCPU threads, registers, vTPM, dirty tracking.
 * It does what it is told, one thing at a time, and knows nothing of sockets or migrations.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import type { Clock, Random } from '../../../base/ports.ts';
import { GUEST_ACKNOWLEDGE_MS_MAX, GUEST_BOOT_MS_MAX } from '../../../base/limits.ts';
import { PAGE_BYTES } from '../../../base/units.ts';
import { Bitmap } from '../../../pages/bitmap.ts';
import type { VmDescriptor } from '../../../protocol/descriptor.ts';
import { MigError } from '../../../protocol/error.ts';
import { VtpmAtRest } from '../../../vtpm/at-rest.ts';
import type { VtpmReply } from '../../../vtpm/command.ts';
import { SoftwareTpm } from '../../../vtpm/software-tpm.ts';
import { dirtyLogBytes, LogTracker } from '../../dirty/log.ts';
import type { DirtyTracker } from '../../dirty/tracker.ts';
import { UffdTracker } from '../../dirty/uffd.ts';
import type { EmbeddedStatus, Lifecycle, SelfCheck } from '../../driver.ts';
import { exchangeLayout, STATE_BYTES_MAX } from '../../exchange.ts';
import { TRAP_SOCKET, type GuestConfig } from '../agent-protocol.ts';
import { decodeDeviceState, encodeDeviceState } from '../device-state.ts';
import { ramLayout, type RamLayout } from '../layout.ts';
import { checkMemory } from '../self-check.ts';
import { Control, PAUSE, REGISTER, REGISTERS, RUN, STOP, TpmMailbox } from '../shared.ts';
import type { VcpuInput } from '../vcpu-context.ts';
import type { VcpuWord } from '../vcpu-word.ts';
import { AbsentMemory } from './absent-memory.ts';

export interface MachineParts {
  readonly config: GuestConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly ram: { readonly address: bigint; readonly view: ArrayBuffer };
  readonly exchange: ArrayBuffer;
  /** A thread that waits for its {@link VcpuInput}. */
  readonly vcpuThread: () => Worker;
}

export class Machine {
  readonly #config: GuestConfig;
  readonly #clock: Clock;
  readonly #vcpuThread: () => Worker;
  readonly #layout: RamLayout;
  readonly #ram: MachineParts['ram'];
  readonly #state: Buffer;
  readonly #bitmap: Uint8Array;
  readonly #control = new Control();
  readonly #mailbox = new TpmMailbox();
  readonly #registerBuffer: SharedArrayBuffer;
  readonly #registers: Float64Array;
  readonly #tracker: DirtyTracker;
  readonly #dirtyLog: SharedArrayBuffer | undefined;
  readonly #atRest: VtpmAtRest;
  #tpm: SoftwareTpm;
  #kvAddress: string | null = null;
  #lifecycle: Lifecycle;
  /** While its memory is still to come. */
  #absent: AbsentMemory | undefined;

  constructor({ config, clock, random, ram, exchange, vcpuThread }: MachineParts) {
    this.#config = config;
    this.#clock = clock;
    this.#vcpuThread = vcpuThread;
    this.#layout = ramLayout(config.ramBytes, config.imageBytes, config.workload);
    this.#ram = ram;
    const { stateOffset, bitmapOffset, bitmapBytes } = exchangeLayout(config.ramBytes);
    this.#state = Buffer.from(exchange, stateOffset, STATE_BYTES_MAX);
    this.#bitmap = new Uint8Array(exchange, bitmapOffset, bitmapBytes);
    this.#registerBuffer = new SharedArrayBuffer(config.vcpus * REGISTERS * 8);
    this.#registers = new Float64Array(this.#registerBuffer);
    const mmu =
      config.dirtyTracking !== 'log' && UffdTracker.isSupported(ram.address, config.ramBytes);
    if (!mmu && config.dirtyTracking === 'uffd') {
      throw new MigError('NATIVE_FAILED', 'this kernel has no asynchronous write protection');
    }
    this.#dirtyLog = mmu ? undefined : new SharedArrayBuffer(dirtyLogBytes(this.#layout.pages));
    this.#tracker =
      this.#dirtyLog === undefined
        ? new UffdTracker(ram.address, config.ramBytes)
        : new LogTracker(this.#dirtyLog);
    this.#atRest = new VtpmAtRest(config.vtpmDir, random);
    this.#atRest.create();
    // An incoming guest gets its vTPM with its state; until then it has one that nobody ever saw.
    this.#tpm = SoftwareTpm.create(clock);
    this.#lifecycle = config.start === 'incoming' ? 'incoming' : 'running';
    this.#control.command = config.start === 'incoming' ? PAUSE : RUN;
  }

  /** Starts the vCPUs; resolves when a new guest has its initial content and serves. */
  async boot(failed: (detail: string) => void): Promise<void> {
    const { vcpus, start } = this.#config;
    if (start === 'new') {
      this.#initialise();
      this.#measure(0, `guest ${this.#config.name} ${this.#config.vmId}`);
      this.#saveTpm();
    }
    void this.#mailbox.serve((index, event) => this.#tpm.extendEvent(index, event));
    await Promise.all(Array.from({ length: vcpus }, (_, vcpu) => this.#startVcpu(vcpu, failed)));
  }

  describe(): VmDescriptor {
    const { name, vmId, ramBytes, vcpus, workload, imageBytes } = this.#config;
    const { endorsement } = this.#tpm.publicKeys();
    return {
      vmId,
      name,
      driver: 'ram',
      pageBytes: PAGE_BYTES,
      regions: [{ id: 0, bytes: ramBytes }],
      vcpus,
      workload,
      imageBytes,
      devices: ['cpu', 'timer', ...(workload.kind === 'kv' ? ['kv'] : [])],
      stateBytesMax: STATE_BYTES_MAX,
      vtpm: {
        kind: 'software',
        ekFingerprint: createHash('sha256').update(endorsement).digest('hex'),
      },
    };
  }

  status(): EmbeddedStatus {
    return {
      state: this.#lifecycle,
      pid: process.pid,
      dirtyTracking: this.#tracker.kind,
      registers: {
        writes: this.#sum('writes'),
        versionSum: this.#sum('versionSum'),
        runMs: this.#sum('runMs'),
      },
      kvAddress: this.#kvAddress,
      pcrs: this.#pcrs(),
      throttlePercent: this.#control.throttlePercent,
    };
  }

  trackDirty(): void {
    this.#needMemory('dirty tracking');
    this.#tracker.arm();
  }

  collectDirty(into: 'replace' | 'add'): { dirtyPages: number } {
    this.#needMemory('dirty tracking');
    if (into === 'replace') this.#bitmap.fill(0);
    this.#tracker.collect(this.#bitmap);
    return { dirtyPages: new Bitmap(this.#bitmap, this.#layout.pages).count() };
  }

  untrackDirty(): void {
    this.#tracker.disarm();
  }

  /** Throws GUEST_SILENT when a vCPU does not acknowledge in time; the guest then runs on. */
  async standStill(why: 'paused' | 'held'): Promise<void> {
    if (this.#lifecycle !== 'running') return;
    this.#control.command = PAUSE;
    try {
      await this.#allAcknowledged();
    } catch (thrown) {
      this.#control.command = RUN;
      throw thrown;
    }
    this.#lifecycle = why;
  }

  /** Throws GUEST_SILENT when a vCPU does not stand still, as before the start of its thread. */
  async resume(): Promise<void> {
    if (this.#lifecycle !== 'running') await this.#allAcknowledged();
    this.#lifecycle = 'running';
    this.#control.command = RUN;
  }

  /** As holding it; whoever waits for a page stands still as soon as it has come. */
  halt(): void {
    if (this.#lifecycle !== 'running') return;
    this.#control.command = PAUSE;
    this.#lifecycle = 'held';
  }

  async trapAbsent(): Promise<void> {
    if (this.#absent !== undefined) return;
    this.#needPaused('trap');
    const { memoryDir, ramBytes } = this.#config;
    const range = { address: this.#ram.address, byteLength: ramBytes };
    this.#absent = await AbsentMemory.trap(range, path.join(memoryDir, TRAP_SOCKET));
  }

  /** Throws VM_STATE while a page is absent. */
  untrap(): void {
    const left = new Bitmap(this.#bitmap, this.#layout.pages).count();
    if (left > 0) throw new MigError('VM_STATE', `${left} pages are absent`);
    this.#absent?.[Symbol.dispose]();
    this.#absent = undefined;
  }

  throttle(percent: number): void {
    this.#control.throttlePercent = percent;
  }

  /** `device length u32 │ device state │ vTPM length u32 │ vTPM state`, into the exchange. */
  exportState(): { stateBytes: number } {
    this.#needPaused('export');
    this.#needMemory('export');
    const device = encodeDeviceState(this.#registerRows());
    const tpm = this.#tpm.exportState();
    try {
      const stateBytes = 8 + device.length + tpm.length;
      if (stateBytes > STATE_BYTES_MAX) throw new MigError('GUEST_FAILED', 'state too large');
      this.#state.writeUInt32LE(device.length, 0);
      device.copy(this.#state, 4);
      this.#state.writeUInt32LE(tpm.length, 4 + device.length);
      tpm.copy(this.#state, 8 + device.length);
      return { stateBytes };
    } finally {
      tpm.fill(0);
    }
  }

  importState(): void {
    this.#needPaused('import');
    const { vcpus } = this.#config;
    const deviceBytes = this.#state.readUInt32LE(0);
    if (8 + deviceBytes > STATE_BYTES_MAX)
      throw new MigError('GUEST_FAILED', 'device state too large');
    const tpmBytes = this.#state.readUInt32LE(4 + deviceBytes);
    const end = 8 + deviceBytes + tpmBytes;
    if (end > STATE_BYTES_MAX) throw new MigError('GUEST_FAILED', 'vTPM state too large');
    const device = this.#state.subarray(4, 4 + deviceBytes);
    const rows = decodeDeviceState(device, vcpus);
    const imported = SoftwareTpm.importState(
      this.#state.subarray(8 + deviceBytes, end),
      this.#clock,
    );
    this.#registers.set(rows.flat());
    this.#tpm[Symbol.dispose]();
    this.#tpm = imported;
    this.#saveTpm();
    this.#state.fill(0, 0, end);
  }

  /** Stands the guest still for as long as it takes. */
  async check(): Promise<SelfCheck> {
    this.#needMemory('check');
    const wasRunning = this.#lifecycle === 'running';
    await this.standStill('held');
    try {
      return { ...checkMemory(this.#ram.view, this.#layout), registerSum: this.#sum('versionSum') };
    } finally {
      if (wasRunning) await this.resume();
    }
  }

  vtpm(command: unknown): VtpmReply {
    // A paused guest's TPM must not change: its state may be on its way already.
    if (this.#lifecycle !== 'running') throw new MigError('VM_STATE', this.#lifecycle);
    const reply = this.#tpm.execute(command);
    const type =
      typeof command === 'object' && command !== null && 'type' in command ? command.type : '';
    if (String(type).startsWith('nv-') && reply.type !== 'failed') this.#saveTpm();
    return reply;
  }

  stop(): void {
    this.#control.command = STOP;
    this.#tracker[Symbol.dispose]();
    this.#absent?.[Symbol.dispose]();
    this.#tpm[Symbol.dispose]();
    this.#state.fill(0);
  }

  #initialise(): void {
    for (let vcpu = 0; vcpu < this.#config.vcpus; vcpu += 1) {
      this.#registers[vcpu * REGISTERS + REGISTER.random] = vcpu + 1;
    }
  }

  async #startVcpu(vcpu: number, failed: (detail: string) => void): Promise<void> {
    const { vcpus, workload, fill, extendMs, start } = this.#config;
    const input: VcpuInput = {
      vcpu,
      vcpus,
      workload,
      layout: this.#layout,
      fill,
      ramAddress: this.#ram.address,
      control: this.#control.buffer,
      registers: this.#registerBuffer,
      mailbox: this.#mailbox.buffer,
      dirtyLog: this.#dirtyLog,
      extendMs,
    };
    const thread = this.#vcpuThread();
    // A new guest is there when its clients can find it.
    const lastWord = workload.kind === 'kv' && vcpu === 0 ? 'serving' : 'booted';
    const booted = Promise.withResolvers<void>();
    const timer = this.#clock.after(GUEST_BOOT_MS_MAX, () =>
      booted.reject(new MigError('GUEST_SILENT', `vCPU ${vcpu} did not start`)),
    );
    thread.on('message', (word: VcpuWord) => {
      if (word.kind === 'failed') failed(word.detail);
      if (word.kind === 'serving') this.#kvAddress = word.address;
      if (word.kind === lastWord) booted.resolve();
    });
    thread.on('error', (error) => {
      booted.reject(new MigError('GUEST_FAILED', `vCPU ${vcpu}: ${error.message}`));
      failed(`vCPU ${vcpu}: ${error.message}`);
    });
    thread.postMessage(input, []);
    try {
      if (start === 'new') await booted.promise;
    } finally {
      timer.cancel();
    }
  }

  async #allAcknowledged(): Promise<void> {
    const all = await Promise.all(
      Array.from({ length: this.#config.vcpus }, (_, vcpu) =>
        this.#control.acknowledged(vcpu, GUEST_ACKNOWLEDGE_MS_MAX),
      ),
    );
    const silent = all.indexOf(false);
    if (silent >= 0) throw new MigError('GUEST_SILENT', `vCPU ${silent} did not acknowledge`);
  }

  #needPaused(what: string): void {
    if (this.#lifecycle === 'running') throw new MigError('VM_STATE', `${what} of a running guest`);
  }

  /** The bitmap says what is absent, and who touched such a page would wait. */
  #needMemory(what: string): void {
    if (this.#absent !== undefined) throw new MigError('VM_STATE', `${what}: its memory is coming`);
  }

  #registerRows(): number[][] {
    return Array.from({ length: this.#config.vcpus }, (_, vcpu) =>
      Array.from(this.#registers.subarray(vcpu * REGISTERS, (vcpu + 1) * REGISTERS)),
    );
  }

  #sum(register: keyof typeof REGISTER): number {
    return this.#registerRows().reduce((sum, row) => sum + (row[REGISTER[register]] ?? 0), 0);
  }

  #measure(index: number, event: string): void {
    this.#tpm.extendEvent(index, Buffer.from(event));
  }

  #saveTpm(): void {
    const state = this.#tpm.exportState();
    try {
      this.#atRest.save(state);
    } finally {
      state.fill(0);
    }
  }

  #pcrs(): Record<string, string> {
    const values = this.#tpm.readPcrs([{ bank: 'sha256', indexes: [...Array(24).keys()] }]);
    const hex = values.map(({ index, digest: value }): [string, string] => [
      String(index),
      Buffer.from(value).toString('hex'),
    ]);
    return Object.fromEntries(hex.filter(([, value]) => /[^0]/.test(value)));
  }
}
