/** One side of `deadline.ts`: every guest in turn, behind the link that this process is in. Arguments: runs, link's rate. */
import { MiB } from '../src/base/units.ts';
import type { MigrationEvent } from '../src/migration/report.ts';
import type { MigrateOptions } from '../src/protocol/options.ts';
import { Cluster, type ApiError } from '../test/process/cluster.ts';
import { IS_SHORT, rest } from './pace.ts';
import { Traveller } from './traveller.ts';

export const MEMORY_BYTES = IS_SHORT ? 64 * MiB : 256 * MiB;
const WORKING_SET_BYTES = MEMORY_BYTES / 4;

const LONG_MS = 4000;
const TELLING_MS = 500;

const GUESTS = {
  idle: { kind: 'idle' },
  'written at 20 MB/s': { kind: 'writer', rateBps: 20e6, workingSetBytes: WORKING_SET_BYTES },
  'written at 50 MB/s, zipf': {
    kind: 'zipf',
    rateBps: 50e6,
    workingSetBytes: WORKING_SET_BYTES,
    skew: 1,
  },
} as const;

/** One migration that was told when to finish; times in ms since it was asked for. */
export interface Told {
  readonly guest: string;
  readonly askedMs: number;
  /** Whether the link and the guest leave enough time, by arithmetic. */
  readonly isFeasible: boolean;
  /** When the VM ran at the destination; null: never. */
  readonly metMs: number | null;
  /** When it was first said that it cannot be held; null: never. */
  readonly saidMs: number | null;
  /** What was predicted then; null: no end, or nothing was said. */
  readonly predictedMs: number | null;
}

/** Moves the guest; what was said of the deadline meanwhile. */
async function told(
  guest: Traveller,
  named: Pick<Told, 'guest' | 'askedMs' | 'isFeasible'>,
  options: Partial<MigrateOptions> = {},
): Promise<Told> {
  await rest();
  const beganAt = performance.now();
  let said: { readonly saidMs: number; readonly predictedMs: number | null } | undefined;
  const hear = (event: MigrationEvent) => {
    if (event.event !== 'deadline' || event.feasible) return;
    said ??= { saidMs: performance.now() - beganAt, predictedMs: event.predictedMs };
  };
  const asked = { deadlineMs: named.askedMs, ...options };
  try {
    const { deadline } = await guest.move(asked, hear);
    const metMs = deadline?.metMs ?? null;
    return { ...named, metMs, saidMs: null, predictedMs: null, ...said };
  } catch (thrown) {
    if ((thrown as Partial<ApiError>).code !== 'DEADLINE_INFEASIBLE') throw thrown;
    const saidMs = performance.now() - beganAt;
    return { ...named, metMs: null, saidMs, predictedMs: null };
  }
}

/** Two copies' time, rounded up to a second; and one that is longer by far. */
function askedOf(copyMs: number): number[] {
  const shortMs = Math.ceil((2 * copyMs) / 1000) * 1000;
  return [shortMs, ...(shortMs < LONG_MS ? [LONG_MS] : [])];
}

async function measure(runs: number, bitsPerSecond: number): Promise<Told[]> {
  await using cluster = await Cluster.start();
  const guests: (readonly [string, Traveller])[] = [];
  for (const [i, [name, workload]] of Object.entries(GUESTS).entries()) {
    const guest = await Traveller.create(cluster, `vm${i}`, {
      memoryBytes: MEMORY_BYTES,
      fill: 1,
      workload,
    });
    await guest.move();
    await guest.pause();
    guests.push([name, guest]);
  }
  const copyMs = (MEMORY_BYTES / (bitsPerSecond / 8)) * 1000;
  const all: Told[] = [];
  for (let run = 0; run < runs; run += 1) {
    for (const [name, guest] of guests) {
      await guest.resume();
      for (const askedMs of askedOf(copyMs)) {
        all.push(await told(guest, { guest: name, askedMs, isFeasible: true }));
      }
      await guest.pause();
    }
    const [, idle] = guests[0] ?? [];
    if (idle === undefined) continue;
    await idle.resume();
    // Nobody knows the link before the pages flow; and of a short time half is over by then.
    const halfMs = Math.round(copyMs / 2);
    if (halfMs >= TELLING_MS) {
      const unknown = { guest: 'idle, half the time of a copy', askedMs: halfMs };
      all.push(await told(idle, { ...unknown, isFeasible: false }));
    }
    const limit = { maxBandwidthBps: Math.floor(MEMORY_BYTES / 8) };
    const capped = { guest: 'idle, limited to an eighth a second', askedMs: 4000 };
    all.push(await told(idle, { ...capped, isFeasible: false }, limit));
    await idle.pause();
  }
  return all;
}

if (import.meta.main) {
  process.send?.(await measure(Number(process.argv[2]), Number(process.argv[3])));
}
