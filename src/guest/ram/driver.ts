/** The driver of embedded guests: starts their processes, finds them again, ends them. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { GUEST_QUIT_MS_MAX, GUEST_START_MS_MAX } from '../../base/limits.ts';
import type { VmDescriptor } from '../../protocol/descriptor.ts';
import { MigError } from '../../protocol/error.ts';
import type { VtpmCommand, VtpmReply } from '../../vtpm/command.ts';
import {
  destroyVtpm,
  vtpmPath,
  type Guest,
  type GuestDriver,
  type GuestMemory,
  type GuestStatus,
  type SelfCheck,
  type VmPlace,
  type VmSpec,
} from '../driver.ts';
import { guestConfigSchema, type GuestConfig } from './agent-protocol.ts';
import { AgentClient } from './client.ts';

const MAIN = fileURLToPath(new URL('process/main.ts', import.meta.url));
const EXTEND_MS = 1000;

const files = (place: VmPlace) => ({
  config: path.join(place.stateDir, 'guest.json'),
  log: path.join(place.stateDir, 'guest.log'),
  pid: path.join(place.memoryDir, 'pid'),
  socket: path.join(place.memoryDir, 'agent.sock'),
});

export const ramDriver: GuestDriver = {
  name: 'ram',

  create(spec: VmSpec, place: VmPlace): Promise<Guest> {
    return launch(place, {
      name: spec.name,
      vmId: randomUUID(),
      start: 'new',
      memoryDir: place.memoryDir,
      vtpmDir: vtpmPath(place),
      ramBytes: spec.memoryBytes,
      vcpus: spec.vcpus,
      workload: spec.workload,
      fill: spec.fill,
      imagePath: spec.imagePath === undefined ? null : path.resolve(spec.imagePath),
      imageBytes: imageBytes(spec.imagePath),
      dirtyTracking: spec.dirtyTracking,
      extendMs: EXTEND_MS,
    });
  },

  prepare(descriptor: VmDescriptor, place: VmPlace): Promise<Guest> {
    const [region, ...others] = descriptor.regions;
    if (region === undefined || others.length > 0 || descriptor.vtpm === null) {
      throw new MigError('DESCRIPTOR_UNSUPPORTED', 'an embedded guest has one region and a vTPM');
    }
    // A port of the source's machine means nothing here.
    const { workload } = descriptor;
    return launch(place, {
      name: descriptor.name,
      vmId: descriptor.vmId,
      start: 'incoming',
      memoryDir: place.memoryDir,
      vtpmDir: vtpmPath(place),
      ramBytes: region.bytes,
      vcpus: descriptor.vcpus,
      workload: workload.kind === 'kv' ? { kind: 'kv', port: 0 } : workload,
      fill: 0,
      imagePath: null,
      imageBytes: descriptor.imageBytes,
      dirtyTracking: 'auto',
      extendMs: EXTEND_MS,
    });
  },

  async attach(place: VmPlace): Promise<Guest | undefined> {
    try {
      const { config, pid } = files(place);
      const { ramBytes } = guestConfigSchema.parse(JSON.parse(readFileSync(config, 'utf8')));
      return await RamGuest.attach(place, ramBytes, Number(readFileSync(pid, 'utf8')));
    } catch {
      return undefined;
    }
  },
};

function imageBytes(file: string | undefined): number {
  if (file === undefined) return 0;
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isFile() !== true) throw new MigError('REQUEST_INVALID', `no image ${file}`);
  return found.size;
}

/** Starts a guest process and waits for its first word. Leaves nothing behind when it fails. */
async function launch(place: VmPlace, config: GuestConfig): Promise<Guest> {
  // What an earlier guest of that name left when its host went down is nobody's any more.
  rmSync(place.memoryDir, { recursive: true, force: true });
  await destroyVtpm(place);
  mkdirSync(place.memoryDir, { recursive: true, mode: 0o700 });
  mkdirSync(place.stateDir, { recursive: true, mode: 0o700 });
  try {
    const pid = await startProcess(place, config);
    writeFileSync(files(place).pid, String(pid), { mode: 0o600 });
    return await RamGuest.attach(place, config.ramBytes, pid);
  } catch (thrown) {
    rmSync(place.memoryDir, { recursive: true, force: true });
    await destroyVtpm(place);
    throw thrown;
  }
}

async function startProcess(place: VmPlace, config: GuestConfig): Promise<number> {
  const { config: file, log } = files(place);
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const out = openSync(log, 'a', 0o600);
  // A session of its own and an empty environment: it outlives the daemon and inherits nothing.
  const child = spawn(process.execPath, [MAIN, file], {
    detached: true,
    env: {},
    stdio: ['ignore', out, out, 'pipe'],
  });
  closeSync(out);
  const { pid } = child;
  try {
    const word = await firstWord(child.stdio[3] as Readable);
    if (pid === undefined || !('ready' in word)) {
      throw MigError.named(word['code'] ?? '', word['detail'] ?? '', 'GUEST_FAILED');
    }
    child.unref();
    return pid;
  } catch (thrown) {
    child.kill('SIGKILL');
    throw thrown;
  }
}

/** What the process says on descriptor 3 before it closes it. */
async function firstWord(stream: Readable): Promise<Record<string, string>> {
  const timer = setTimeout(
    () => stream.destroy(new MigError('GUEST_SILENT', 'it did not start')),
    GUEST_START_MS_MAX,
  );
  try {
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    if (text === '') throw new MigError('GUEST_FAILED', 'it ended before it was ready');
    return JSON.parse(text) as Record<string, string>;
  } finally {
    clearTimeout(timer);
  }
}

class RamGuest implements Guest {
  readonly memory: GuestMemory;
  readonly #place: VmPlace;
  readonly #client: AgentClient;
  readonly #pid: number;
  #paused: boolean;

  private constructor(
    place: VmPlace,
    ramBytes: number,
    client: AgentClient,
    pid: number,
    paused: boolean,
  ) {
    this.#place = place;
    this.#client = client;
    this.#pid = pid;
    this.#paused = paused;
    this.memory = {
      ramPath: path.join(place.memoryDir, 'ram'),
      ramBytes,
      exchangePath: path.join(place.memoryDir, 'exchange'),
    };
  }

  static async attach(place: VmPlace, ramBytes: number, pid: number): Promise<RamGuest> {
    const client = await AgentClient.connect(files(place).socket);
    try {
      const { state } = await client.request({ op: 'status' });
      return new RamGuest(place, ramBytes, client, pid, state !== 'running');
    } catch (thrown) {
      client.close();
      throw thrown;
    }
  }

  get isPaused(): boolean {
    return this.#paused;
  }

  async describe(): Promise<VmDescriptor> {
    const descriptor = await this.#client.request({ op: 'describe' });
    const bytes = descriptor.regions.map((region) => region.bytes);
    if (descriptor.name !== this.#place.name || String(bytes) !== String(this.memory.ramBytes)) {
      throw new MigError('GUEST_FAILED', 'it says that it is another');
    }
    return descriptor;
  }

  async status(): Promise<GuestStatus> {
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
    this.#paused = true;
  }

  async resume(): Promise<void> {
    await this.#client.request({ op: 'resume' });
    this.#paused = false;
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
    await this.#client.request({ op: 'quit' }).catch(() => undefined);
    await processGone(this.#pid, files(this.#place).config);
    this.#client.close();
    // The last name and the last mapping gone, tmpfs frees the pages; the kernel zeroes a page before
    // anyone gets it again.
    rmSync(this.#place.memoryDir, { recursive: true, force: true });
  }
}

/** Waits for the end of a process, which need not be our child; kills it after a limit. */
async function processGone(pid: number, config: string): Promise<void> {
  const deadline = performance.now() + GUEST_QUIT_MS_MAX;
  while (isGuest(pid, config)) {
    if (performance.now() > deadline) process.kill(pid, 'SIGKILL');
    await new Promise((resolve) => {
      setTimeout(resolve, 1);
    });
  }
}

/** Whether `pid` is still the guest of that configuration: numbers of processes are used again. */
function isGuest(pid: number, config: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`\0${config}\0`);
  } catch {
    return false;
  }
}
