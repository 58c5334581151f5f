/**
 * Whether size and number matter: the time for a GiB of guests from 64 MiB up, the memory of the daemons
 * meanwhile, and many guests at once against one.
 */
import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { GiB, KiB, MiB } from '../src/base/units.ts';
import { Cluster, type Daemon } from '../test/process/cluster.ts';
import { IS_SHORT, rest } from './pace.ts';
import type { Report } from './report.ts';
import { show, spread } from './stats.ts';
import { Traveller } from './traveller.ts';
import { warm } from './warm.ts';

const SIZES = [64 * MiB, 256 * MiB, GiB, 4 * GiB, 8 * GiB];
const RUNS = IS_SHORT ? 2 : 5;
const LOOK_MS = 20;
const GOALS = { sizes: 0.1, memoryMiB: 96, together: 0.95 };
const CROWD = { count: 16, memoryBytes: 64 * MiB };

/** Private memory of a process in bytes: what would come back if it ended. */
function privateBytes({ process: { pid } }: Daemon): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const lines = [...rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)];
  return lines.reduce((sum, [, kib]) => sum + Number(kib) * KiB, 0);
}

/** The most that either daemon had while `work` went on. */
async function peakOf(cluster: Cluster, work: Promise<unknown>): Promise<number> {
  let peak = 0;
  const over = work.then(() => 'over' as const);
  while ((await Promise.race([over, sleep(LOOK_MS, 'not yet' as const)])) !== 'over') {
    for (const daemon of cluster.daemons.values()) peak = Math.max(peak, privateBytes(daemon));
  }
  return peak;
}

interface Size {
  readonly bytes: number;
  readonly msPerGib: number[];
  readonly peakMiB: number[];
}

async function sizeOf(bytes: number): Promise<Size> {
  await using cluster = await Cluster.start();
  const guest = await Traveller.create(cluster, 'vm1', { memoryBytes: bytes, fill: 1 });
  const size: Size = { bytes, msPerGib: [], peakMiB: [] };
  for (let run = -1; run < RUNS; run += 1) {
    await rest();
    warm(bytes);
    const moving = guest.move();
    const peak = await peakOf(cluster, moving);
    const { rounds } = await moving;
    if (run < 0) continue;
    const ms = rounds.reduce((sum, { durationMs }) => sum + durationMs, 0);
    size.msPerGib.push((ms * GiB) / bytes);
    size.peakMiB.push(peak / MiB);
  }
  return size;
}

/** ms for all of them at once, and for as many bytes in one; both from request to result. */
async function crowd(): Promise<{ readonly together: number[]; readonly one: number[] }> {
  const { count, memoryBytes } = CROWD;
  const limits = { incomingMax: count, outgoingMax: count, perPeerMax: count };
  await using cluster = await Cluster.start({
    'host-a': { config: { limits } },
    'host-b': { config: { limits } },
  });
  const spec = { memoryBytes, fill: 1 };
  const many = await Promise.all(
    Array.from({ length: count }, (_, i) => Traveller.create(cluster, `vm${i}`, spec)),
  );
  const whole = { memoryBytes: count * memoryBytes, fill: 1 };
  const one = await Traveller.create(cluster, 'whole', whole);
  const times = { together: [] as number[], one: [] as number[] };
  for (let run = -1; run < RUNS; run += 1) {
    await rest();
    warm(whole.memoryBytes);
    const beganAt = performance.now();
    await Promise.all(many.map((guest) => guest.move()));
    const togetherMs = performance.now() - beganAt;
    await rest();
    warm(whole.memoryBytes);
    const { totalMs } = await one.move();
    if (run < 0) continue;
    times.together.push(togetherMs);
    times.one.push(totalMs);
  }
  return times;
}

const named = (bytes: number): string => `${bytes / MiB} MiB`;

export async function scaling(): Promise<Report> {
  // Both hosts' guests, and what is warmed.
  const possible = SIZES.filter((bytes) => 2.2 * bytes < freemem());
  const sizes: Size[] = [];
  for (const bytes of IS_SHORT ? possible.slice(0, 2) : possible) sizes.push(await sizeOf(bytes));
  const times = await crowd();
  const reference = sizes.find(({ bytes }) => bytes === GiB) ?? sizes.at(-1);
  const base = spread(reference?.msPerGib ?? []).median;
  const together = spread(times.one.map((ms, i) => ms / (times.together[i] ?? Number.NaN)));
  return {
    name: 'scaling',
    title: 'Guests of several sizes, incompressible, idle: time per GiB',
    unit: 'ms per GiB',
    bars: sizes.map(({ bytes, msPerGib }) => ({ label: named(bytes), value: spread(msPerGib) })),
    findings: [
      ...sizes.map(
        ({ bytes, msPerGib, peakMiB }) =>
          `${named(bytes)}: ${(spread(msPerGib).median / base).toFixed(2)} of the time per GiB at ${named(reference?.bytes ?? 0)} (must be within ${GOALS.sizes}); at most ${show(spread(peakMiB), 0)} MiB of private memory a daemon (must be at most ${GOALS.memoryMiB})`,
      ),
      ...SIZES.filter((bytes) => !possible.includes(bytes)).map(
        (bytes) =>
          `${named(bytes)}: not measured, it does not fit twice into this machine's free memory`,
      ),
      `${CROWD.count} guests of ${named(CROWD.memoryBytes)} at once: ${show(together)} of the throughput of one guest as large as all (must be at least ${GOALS.together})`,
    ],
    runs: { sizes, times },
  };
}
