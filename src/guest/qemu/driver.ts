/**
 * The driver of QEMU: a VM is a QEMU and its swtpm, both processes of their own that outlive the daemon.
 * Both work in the VM's memory folder, by which they are found again and ended together.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { GUEST_ATTACH_MS_MAX } from '../../base/limits.ts';
import type { Random } from '../../base/ports.ts';
import type { QemuVm } from '../../protocol/descriptor.ts';
import { MigError } from '../../protocol/error.ts';
import { nameSchema } from '../../protocol/options.ts';
import { makeSwtpmFolder, SWTPM_KEY } from '../../vtpm/swtpm-at-rest.ts';
import {
  destroyVtpm,
  swtpmPath,
  type GuestDriver,
  type GuestStatus,
  type Lifecycle,
  type StreamedGuest,
  type VmPlace,
} from '../driver.ts';
import {
  findGuest,
  guestIn,
  isRunning,
  processGone,
  signal,
  type KnownProcess,
} from '../living-process.ts';
import {
  qemuArguments,
  QMP_SOCKET,
  SWTPM_LINK,
  SWTPM_SOCKET,
  swtpmArguments,
} from './command-line.ts';
import { descriptionSchema, memoryBytes, refuseUnsafe, type Description } from './description.ts';
import { listens, probe, QEMU, start, SWTPM, whenReady } from './programs.ts';
import { QmpClient } from './qmp.ts';

/** What a new VM is to be. */
export interface QemuSpec {
  readonly name: string;
  readonly description: Description;
}

/** What a daemon that comes back must know of it. */
const keptSchema = z.strictObject({
  name: nameSchema,
  vmId: z.uuid(),
  description: descriptionSchema,
});
type Kept = z.infer<typeof keptSchema>;

const files = (place: VmPlace) => ({
  kept: path.join(place.stateDir, 'qemu.json'),
  log: path.join(place.stateDir, 'guest.log'),
  pid: path.join(place.memoryDir, 'pid'),
  qmp: path.join(place.memoryDir, QMP_SOCKET),
  swtpm: path.join(place.memoryDir, SWTPM_SOCKET),
});

const systemRandom: Random = { bytes: (count) => randomBytes(count) };
const emptySchema = z.object({});
const runStateSchema = z.object({ status: z.string().max(64) });

/** Between two tries to reach a QEMU that lives. */
const ATTACH_PAUSE_MS = 10;

export class QemuDriver implements GuestDriver<QemuSpec, StreamedGuest> {
  /** Whether a place is one of its VMs'. */
  owns(place: VmPlace): boolean {
    return existsSync(files(place).kept);
  }

  /** Throws QEMU_UNUSABLE, VM_UNSAFE, DEST_CAPACITY; GUEST_FAILED with QEMU's own words. Leaves nothing behind then. */
  async create({ name, description }: QemuSpec, place: VmPlace): Promise<StreamedGuest> {
    const [version] = await Promise.all([
      probe(QEMU),
      description.tpm === 'none' ? undefined : probe(SWTPM),
    ]);
    refuseUnsafe(description, version);
    await checkRoom(place, memoryBytes(description));
    if (existsSync(place.memoryDir) && guestIn(place.memoryDir) !== undefined) {
      throw new MigError('GUEST_SILENT', `a process of an earlier ${name} lives`);
    }
    // What an earlier guest of that name left when its host went down is nobody's any more.
    await clear(place);
    try {
      const guest = await launch({ name, vmId: randomUUID(), description }, place);
      await guest.resume();
      return guest;
    } catch (thrown) {
      await endAll(place);
      await clear(place);
      throw MigError.from(thrown, 'STORE_FAILED');
    }
  }

  async attach(place: VmPlace): Promise<StreamedGuest | 'gone' | 'unreachable'> {
    const deadline = performance.now() + GUEST_ATTACH_MS_MAX;
    let known: KnownProcess | undefined;
    while ((known = qemuOf(place)) !== undefined) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return 'unreachable';
      try {
        return await QemuGuest.attach(place, known, leftMs);
      } catch {
        // It is about to end, or another client has its monitor.
        await delay(ATTACH_PAUSE_MS);
      }
    }
    // Its vTPM has secrets in memory, and nobody to use them.
    await endAll(place);
    return 'gone';
  }
}

/** QEMU takes all the memory at its start, page by page, until there is no more. Throws DEST_CAPACITY. */
async function checkRoom({ memoryDir }: VmPlace, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path.dirname(memoryDir));
  if (bytes > bavail * bsize) {
    throw new MigError('DEST_CAPACITY', `${bytes} bytes asked, ${bavail * bsize} free`);
  }
}

/** Makes the folders and starts both programs; the guest stands still. */
async function launch(kept: Kept, place: VmPlace): Promise<QemuGuest> {
  const { kept: file, log: logPath, pid: pidFile, qmp, swtpm } = files(place);
  mkdirSync(place.memoryDir, { recursive: true, mode: 0o700 });
  mkdirSync(place.stateDir, { recursive: true, mode: 0o700 });
  writeFileSync(file, JSON.stringify(kept), { mode: 0o600 });
  const where = { folder: place.memoryDir, logPath };
  if (kept.description.tpm !== 'none') {
    makeSwtpmFolder(swtpmPath(place), systemRandom);
    symlinkSync(realpathSync(swtpmPath(place)), path.join(place.memoryDir, SWTPM_LINK));
    await whenReady(start(SWTPM, swtpmArguments(SWTPM_KEY), where), logPath, () => listens(swtpm));
  }
  const started = start(QEMU, qemuArguments(kept, kept.description), where);
  writeFileSync(pidFile, String(started.pid), { mode: 0o600 });
  return await whenReady(started, logPath, async (leftMs) => {
    const client = await QmpClient.connect(qmp, leftMs);
    const known = qemuOf(place);
    if (known === undefined) throw new MigError('GUEST_FAILED', 'it ended');
    return QemuGuest.over(client, place, known);
  });
}

/** The QEMU of a place, if it lives. */
function qemuOf(place: VmPlace): KnownProcess | undefined {
  const { pid } = files(place);
  if (!existsSync(pid)) return undefined;
  const known = findGuest(Number(readFileSync(pid, 'utf8')), place.memoryDir);
  return known !== undefined && isRunning(known) ? known : undefined;
}

/** Ends every process of a place; a QEMU that is told to ends without its guest's consent. */
async function endAll(place: VmPlace): Promise<void> {
  for (;;) {
    const known = qemuOf(place) ?? guestIn(place.memoryDir);
    if (known === undefined) return;
    signal(known, 'SIGTERM');
    await processGone(known);
  }
}

async function clear(place: VmPlace): Promise<void> {
  // The last name and the last mapping gone, tmpfs frees the pages; the kernel zeroes a page before
  // anyone gets it again.
  rmSync(place.memoryDir, { recursive: true, force: true });
  await destroyVtpm(place);
}

class QemuGuest implements StreamedGuest {
  readonly moves = 'stream';
  readonly #client: QmpClient;
  readonly #place: VmPlace;
  readonly #process: KnownProcess;
  #lifecycle: Lifecycle = 'paused';

  private constructor(client: QmpClient, place: VmPlace, known: KnownProcess) {
    this.#client = client;
    this.#place = place;
    this.#process = known;
    // Whoever stops it, its guest that powers off among them, says so here.
    client.events.listen(({ event }) => {
      if (event === 'STOP') this.#lifecycle = 'paused';
      if (event === 'RESUME') this.#lifecycle = 'running';
    });
  }

  /** Takes the client over. Throws what its first answer is not. */
  static async over(client: QmpClient, place: VmPlace, known: KnownProcess): Promise<QemuGuest> {
    try {
      const guest = new QemuGuest(client, place, known);
      await guest.status();
      return guest;
    } catch (thrown) {
      client.close();
      throw thrown;
    }
  }

  static async attach(place: VmPlace, known: KnownProcess, limitMs: number): Promise<QemuGuest> {
    return QemuGuest.over(await QmpClient.connect(files(place).qmp, limitMs), place, known);
  }

  get lifecycle(): Lifecycle {
    return this.#lifecycle;
  }

  get gone(): AbortSignal {
    return this.#client.gone;
  }

  describe(): Promise<QemuVm> {
    const text = readFileSync(files(this.#place).kept, 'utf8');
    const { name, vmId, description } = keptSchema.parse(JSON.parse(text));
    return Promise.resolve({
      driver: 'qemu',
      name,
      vmId,
      regions: [{ id: 0, bytes: memoryBytes(description) }],
      vcpus: description.vcpus,
      vtpm: description.tpm === 'none' ? null : { kind: 'swtpm' },
    });
  }

  async status(): Promise<GuestStatus> {
    const { status } = await this.#client.execute('query-status', {}, runStateSchema);
    this.#lifecycle = status === 'running' ? 'running' : 'paused';
    return { state: this.#lifecycle, pid: this.#process.pid };
  }

  async pause(): Promise<void> {
    await this.#client.execute('stop', {}, emptySchema);
    await this.status();
  }

  async resume(): Promise<void> {
    await this.#client.execute('cont', {}, emptySchema);
    await this.status();
  }

  async destroy(): Promise<void> {
    await endAll(this.#place);
    this.#client.close();
    rmSync(this.#place.memoryDir, { recursive: true, force: true });
  }
}
