/** The driver of embedded guests: makes them, finds them again, speaks with them. */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { GUEST_ATTACH_MS_MAX } from '../../base/limits.ts';
import type { VmDescriptor } from '../../protocol/descriptor.ts';
import { MigError } from '../../protocol/error.ts';
import type { VtpmCommand, VtpmReply } from '../../vtpm/command.ts';
import {
  destroyVtpm,
  vtpmPath,
  type EmbeddedSpec,
  type EmbeddedStatus,
  type GuestMemory,
  type Lifecycle,
  type PagedDriver,
  type PagedGuest,
  type SelfCheck,
  type VmPlace,
} from '../driver.ts';
import { findGuest, guestIn, processGone } from '../living-process.ts';
import { guestConfigSchema, TRAP_SOCKET, type GuestConfig } from './agent-protocol.ts';
import { AgentClient } from './client.ts';
import { Standby } from './standby.ts';

const EXTEND_MS = 1000;
/** Between two tries to reach a guest that lives. */
const ATTACH_PAUSE_MS = 10;

const files = (place: VmPlace) => ({
  config: path.join(place.stateDir, 'guest.json'),
  pid: path.join(place.memoryDir, 'pid'),
  socket: path.join(place.memoryDir, 'agent.sock'),
});

export class RamDriver implements PagedDriver {
  readonly name = 'ram';
  readonly #standby: Standby;

  /** `keepSpare`: one guest process is kept ready, for whoever needs the next. */
  constructor({ keepSpare }: { readonly keepSpare: boolean }) {
    this.#standby = new Standby(keepSpare);
  }

  async create(spec: EmbeddedSpec, place: VmPlace): Promise<PagedGuest> {
    const guest = await this.#launch(place, {
      ...placeOf(place),
      name: spec.name,
      vmId: randomUUID(),
      start: 'new',
      ramBytes: spec.memoryBytes,
      vcpus: spec.vcpus,
      workload: spec.workload,
      fill: spec.fill,
      imagePath: spec.imagePath === undefined ? null : path.resolve(spec.imagePath),
      imageBytes: imageBytes(spec.imagePath),
      dirtyTracking: spec.dirtyTracking,
      extendMs: EXTEND_MS,
    });
    this.#standby.refillSoon();
    return guest;
  }

  /** The next spare is started when this guest runs, or is gone. */
  prepare(descriptor: VmDescriptor, place: VmPlace): Promise<PagedGuest> {
    const [region, ...others] = descriptor.regions;
    if (region === undefined || others.length > 0 || descriptor.vtpm === null) {
      throw new MigError('DESCRIPTOR_UNSUPPORTED', 'an embedded guest has one region and a vTPM');
    }
    // A port of the source's machine means nothing here.
    const { workload } = descriptor;
    return this.#launch(place, {
      ...placeOf(place),
      name: descriptor.name,
      vmId: descriptor.vmId,
      start: 'incoming',
      ramBytes: region.bytes,
      vcpus: descriptor.vcpus,
      workload: workload.kind === 'kv' ? { kind: 'kv', port: 0 } : workload,
      fill: 0,
      imagePath: null,
      imageBytes: descriptor.imageBytes,
      dirtyTracking: 'auto',
      extendMs: EXTEND_MS,
    });
  }

  async attach(place: VmPlace): Promise<PagedGuest | 'gone' | 'unreachable'> {
    const deadline = performance.now() + GUEST_ATTACH_MS_MAX;
    while (guestIn(place.memoryDir) !== undefined) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return 'unreachable';
      try {
        return await this.#attach(place, readConfig(place).ramBytes, leftMs);
      } catch {
        // It is about to serve, to end, or to do neither.
        await delay(ATTACH_PAUSE_MS);
      }
    }
    return 'gone';
  }

  close(): Promise<void> {
    return this.#standby.close();
  }

  /** Makes a waiting process this guest. Leaves nothing behind when it fails. */
  async #launch(place: VmPlace, config: GuestConfig): Promise<PagedGuest> {
    // What an earlier guest of that name left when its host went down is nobody's any more.
    if (existsSync(place.memoryDir) && guestIn(place.memoryDir) !== undefined) {
      throw new MigError('GUEST_SILENT', `a process of an earlier ${place.name} lives`);
    }
    rmSync(place.memoryDir, { recursive: true, force: true });
    await destroyVtpm(place);
    const { config: file, pid: pidFile } = files(place);
    try {
      mkdirSync(place.memoryDir, { recursive: true, mode: 0o700 });
      mkdirSync(place.stateDir, { recursive: true, mode: 0o700 });
      writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
      const pid = await this.#standby.take().assign(path.resolve(file));
      writeFileSync(pidFile, String(pid), { mode: 0o600 });
      return await this.#attach(place, config.ramBytes, GUEST_ATTACH_MS_MAX);
    } catch (thrown) {
      this.#standby.refillSoon();
      rmSync(place.memoryDir, { recursive: true, force: true });
      await destroyVtpm(place);
      // What has no code of its own is the disk's.
      throw MigError.from(thrown, 'STORE_FAILED');
    }
  }

  #attach(place: VmPlace, ramBytes: number, limitMs: number): Promise<PagedGuest> {
    return RamGuest.attach(place, ramBytes, limitMs, () => this.#standby.refillSoon());
  }
}

/** Where the guest's files are; absolute, for it has another working folder. */
const placeOf = (place: VmPlace): Pick<GuestConfig, 'memoryDir' | 'vtpmDir' | 'logPath'> => ({
  memoryDir: path.resolve(place.memoryDir),
  vtpmDir: path.resolve(vtpmPath(place)),
  logPath: path.resolve(place.stateDir, 'guest.log'),
});

/** What the guest of a place was started with. */
const readConfig = (place: VmPlace): GuestConfig =>
  guestConfigSchema.parse(JSON.parse(readFileSync(files(place).config, 'utf8')));

function imageBytes(file: string | undefined): number {
  if (file === undefined) return 0;
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isFile() !== true) throw new MigError('REQUEST_INVALID', `no image ${file}`);
  return found.size;
}

class RamGuest implements PagedGuest {
  readonly moves = 'pages';
  readonly memory: GuestMemory;
  readonly #place: VmPlace;
  readonly #client: AgentClient;
  readonly #pid: number;
  readonly #settled: () => void;
  #lifecycle: Lifecycle;

  private constructor(
    place: VmPlace,
    ramBytes: number,
    client: AgentClient,
    pid: number,
    lifecycle: Lifecycle,
    settled: () => void,
  ) {
    this.#place = place;
    this.#client = client;
    this.#pid = pid;
    this.#lifecycle = lifecycle;
    this.#settled = settled;
    this.memory = {
      ramPath: path.join(place.memoryDir, 'ram'),
      ramBytes,
      exchangePath: path.join(place.memoryDir, 'exchange'),
      trapPath: path.join(place.memoryDir, TRAP_SOCKET),
    };
  }

  /** `settled` is called when it begins to run, and when it is gone. */
  static async attach(
    place: VmPlace,
    ramBytes: number,
    limitMs: number,
    settled: () => void,
  ): Promise<RamGuest> {
    const client = await AgentClient.connect(files(place).socket);
    try {
      const [{ state, pid }] = await Promise.all([
        client.request({ op: 'status' }, limitMs),
        // What an earlier daemon tracked nobody will collect, and whom it throttled nobody waits for.
        client.request({ op: 'untrackDirty' }, limitMs),
        client.request({ op: 'throttle', percent: 0 }, limitMs),
      ]);
      return new RamGuest(place, ramBytes, client, pid, state, settled);
    } catch (thrown) {
      client.close();
      throw thrown;
    }
  }

  get lifecycle(): Lifecycle {
    return this.#lifecycle;
  }

  get gone(): AbortSignal {
    return this.#client.gone;
  }

  async describe(): Promise<VmDescriptor> {
    const descriptor = await this.#client.request({ op: 'describe' });
    const bytes = descriptor.regions.map((region) => region.bytes);
    if (descriptor.name !== this.#place.name || String(bytes) !== String(this.memory.ramBytes)) {
      throw new MigError('GUEST_FAILED', 'it says that it is another');
    }
    return descriptor;
  }

  async status(): Promise<EmbeddedStatus> {
    return await this.#client.request({ op: 'status' });
  }

  async trackDirty(): Promise<void> {
    await this.#client.request({ op: 'trackDirty' });
  }

  async collectDirty(into: 'replace' | 'add'): Promise<{ dirtyPages: number }> {
    return await this.#client.request({ op: 'collectDirty', into });
  }

  async untrackDirty(): Promise<void> {
    await this.#client.request({ op: 'untrackDirty' });
  }

  async pause(): Promise<void> {
    await this.#client.request({ op: 'pause' });
    if (this.#lifecycle === 'running') this.#lifecycle = 'paused';
  }

  async hold(): Promise<void> {
    await this.#client.request({ op: 'hold' });
    if (this.#lifecycle === 'running') this.#lifecycle = 'held';
  }

  async halt(): Promise<void> {
    await this.#client.request({ op: 'halt' });
    if (this.#lifecycle === 'running') this.#lifecycle = 'held';
  }

  async trapAbsent(): Promise<void> {
    await this.#client.request({ op: 'trapAbsent' });
  }

  async untrap(): Promise<void> {
    await this.#client.request({ op: 'untrap' });
  }

  async resume(): Promise<void> {
    await this.#client.request({ op: 'resume' });
    this.#lifecycle = 'running';
    this.#settled();
  }

  async throttle(percent: number): Promise<void> {
    await this.#client.request({ op: 'throttle', percent });
  }

  async exportState(): Promise<{ stateBytes: number }> {
    return await this.#client.request({ op: 'exportState' });
  }

  async importState(): Promise<void> {
    await this.#client.request({ op: 'importState' });
  }

  async check(): Promise<SelfCheck> {
    return await this.#client.request({ op: 'check' });
  }

  async vtpm(command: VtpmCommand): Promise<VtpmReply> {
    return await this.#client.request({ op: 'vtpm', command });
  }

  async destroy(): Promise<void> {
    const known = findGuest(this.#pid, this.#place.memoryDir);
    const quit = this.#client.request({ op: 'quit' }).catch(() => undefined);
    // One that hangs does not answer: it is killed.
    await (known === undefined ? quit : processGone(known));
    this.#client.close();
    // The last name and the last mapping gone, tmpfs frees the pages; the kernel zeroes a page before
    // anyone gets it again.
    rmSync(this.#place.memoryDir, { recursive: true, force: true });
    this.#settled();
  }
}
