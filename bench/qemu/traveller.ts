/**
 * A guest of QEMU that QEMU's own migration moves from one process to the next over TCP on loopback, and
 * so over the link that this process is behind. The yardstick of what migd does with a like guest.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Filling } from '../../test/qemu/guest-image.ts';
import { freePort } from '../../test/process/cluster.ts';
import { QemuProcess, type QemuSpec } from './process.ts';

const LOOK_MS = 10;
/** What it is slowed to unless told otherwise is less than the links here carry. */
const UNLIMITED_BPS = 2 ** 40;

/** What a process that was a destination before may still have of these is taken back. */
const CAPABILITIES = ['return-path', 'auto-converge', 'postcopy-ram', 'multifd', 'xbzrle'];

/** How QEMU is told to do it. */
export interface Means {
  readonly capabilities: readonly string[];
  readonly parameters?: Readonly<Record<string, unknown>>;
}

export interface Limits {
  readonly downtimeLimitMs: number;
  /** Then it is cancelled; but one in post-copy cannot be. */
  readonly limitMs: number;
}

export interface QemuOutcome {
  /** null: completed. */
  readonly code: string | null;
  readonly totalMs: number;
  readonly downtimeMs: number | null;
  readonly bytesSent: number;
}

const statusSchema = z.object({
  status: z.string().default('none'),
  downtime: z.number().optional(),
  ram: z.object({ transferred: z.number() }).optional(),
});

export class QemuTraveller {
  readonly #dir: string;
  readonly #spec: QemuSpec;
  #here: QemuProcess;
  #count = 1;

  private constructor(dir: string, spec: QemuSpec, here: QemuProcess) {
    this.#dir = dir;
    this.#spec = spec;
    this.#here = here;
  }

  /** Resolves when the guest has filled its memory. */
  static async start(memoryBytes: number, filling: Filling): Promise<QemuTraveller> {
    const dir = mkdtempSync(path.join(tmpdir(), 'migd-qemu-'));
    const spec = { memoryBytes, filling };
    try {
      const traveller = new QemuTraveller(
        dir,
        spec,
        await QemuProcess.start(dir, 'vm0', spec, false),
      );
      await using unless = new AsyncDisposableStack();
      unless.use(traveller);
      await traveller.writes();
      unless.move();
      return traveller;
    } catch (thrown) {
      rmSync(dir, { recursive: true, force: true });
      throw thrown;
    }
  }

  async pause(): Promise<void> {
    await this.#here.tell('stop');
  }

  async resume(): Promise<void> {
    await this.#here.tell('cont');
  }

  /** Pages that the guest has written so far, as it says next. */
  async writes(): Promise<number> {
    return (await this.#here.nextLine()).writes;
  }

  /** Writes its memory to a file, as it is while the guest stands still. */
  async saveMemory(file: string): Promise<void> {
    await this.pause();
    await this.#here.tell('pmemsave', { val: 0, size: this.#spec.memoryBytes, filename: file });
    await this.resume();
  }

  /** Moves it to another process. Throws when the guest finds a page that is not as it must be. */
  async attempt(how: Means & Limits): Promise<QemuOutcome> {
    const there = await QemuProcess.start(this.#dir, `vm${this.#count}`, this.#spec, true);
    this.#count += 1;
    const uri = `tcp:127.0.0.1:${await freePort()}`;
    for (const end of [this.#here, there]) await configure(end, how);
    await there.tell('migrate-incoming', { uri });
    const beganAt = performance.now();
    await this.#here.tell('migrate', { uri });
    const { status, downtime, ram } = await this.#end(how, beganAt + how.limitMs);
    const totalMs = performance.now() - beganAt;
    const hasMoved = status === 'completed';
    const left = hasMoved ? this.#here : there;
    if (hasMoved) this.#here = there;
    await left[Symbol.asyncDispose]();
    const { bad } = await this.#here.nextLine();
    if (bad > 0) throw new Error(`${bad} bad pages in a guest of QEMU`);
    return {
      code: hasMoved ? null : status,
      totalMs,
      downtimeMs: hasMoved ? (downtime ?? null) : null,
      bytesSent: ram?.transferred ?? 0,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#here[Symbol.asyncDispose]();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** How it ended. */
  async #end(how: Means, giveUpAt: number): Promise<z.infer<typeof statusSchema>> {
    let isAfter = false;
    for (;;) {
      const now = await this.#here.ask('query-migrate', {}, statusSchema);
      if (['completed', 'failed', 'cancelled'].includes(now.status)) return now;
      if (how.capabilities.includes('postcopy-ram') && now.status === 'active' && !isAfter) {
        await this.#here.tell('migrate-start-postcopy');
        isAfter = true;
      }
      if (performance.now() > giveUpAt && !isAfter) await this.#here.tell('migrate_cancel');
      await sleep(LOOK_MS);
    }
  }
}

/** Without the return path QEMU 7.2 says that all is well when it is not. */
async function configure(end: QemuProcess, how: Means & Limits): Promise<void> {
  const wanted = new Set(['return-path', ...how.capabilities]);
  await end.tell('migrate-set-capabilities', {
    capabilities: CAPABILITIES.map((capability) => ({
      capability,
      state: wanted.has(capability),
    })),
  });
  await end.tell('migrate-set-parameters', {
    'max-bandwidth': UNLIMITED_BPS,
    'max-postcopy-bandwidth': UNLIMITED_BPS,
    'downtime-limit': how.downtimeLimitMs,
    ...how.parameters,
  });
}
