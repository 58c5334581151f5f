/**
 * One side of `convergence.ts`: guests that write at shares of the rate of the link that this process is
 * behind, moved by every means in turn. Arguments: runs, the link's rate in bits a second.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB, MiB, PAGE_BYTES } from '../src/base/units.ts';
import type { MigrateOptions } from '../src/protocol/options.ts';
import { Cluster } from '../test/process/cluster.ts';
import { IS_SHORT } from './pace.ts';
import { QemuTraveller, type Means } from './qemu/traveller.ts';
import { Traveller } from './traveller.ts';

/** QEMU 7.2 loses dirty pages under TCG where it is a multiple of 256 KiB. */
export const MEMORY_BYTES = 160 * MiB - 8 * KiB;
const WORKING_SET_BYTES = 64 * MiB;
/** Of the link's rate. */
const SHARES = [0.5, 0.9, 1.5];
/** By then a migration is to be over. */
export const LIMIT_MS = IS_SHORT ? 5000 : 7000;
/** Less than it takes to send what a guest that writes faster than the link leaves after each round. */
const DOWNTIME_LIMIT_MS = 100;
/** How long a guest runs undisturbed, so that its progress is known. */
const UNDISTURBED_MS = 1500;

const BY_MIGD: Readonly<Record<string, Partial<MigrateOptions>>> = {
  'plain pre-copy': { timeoutMs: LIMIT_MS },
  'auto-converge': { timeoutMs: LIMIT_MS, autoConverge: true },
  // A quarter of the time is left for what is sent while the guest stands still.
  'on-timeout pause': { timeoutMs: (LIMIT_MS * 3) / 4, onTimeout: 'pause' },
  'post-copy': { timeoutMs: LIMIT_MS, mode: 'post-copy' },
  hybrid: { timeoutMs: LIMIT_MS, mode: 'hybrid' },
};
const BY_QEMU: Readonly<Record<string, Means>> = {
  'QEMU auto-converge': { capabilities: ['auto-converge'] },
  'QEMU post-copy': { capabilities: ['postcopy-ram'] },
};
export const YARDSTICKS = Object.keys(BY_QEMU);

/** One attempt. */
export interface Attempt {
  readonly share: number;
  readonly means: string;
  /** null: completed; else the code of what became of it. */
  readonly code: string | null;
  /** From the request until every page is there, or until it was given up. */
  readonly totalMs: number;
  readonly downtimeMs: number | null;
  /** Run time that the guest lost meanwhile, by what it wrote against what it wrote before. */
  readonly guestMsLost: number;
  /** What the guest wrote before, in bytes a second. */
  readonly writtenBps: number;
}

/** What either kind of guest can. */
interface Contestant {
  readonly means: string;
  readonly guest: {
    pause(): Promise<void>;
    resume(): Promise<void>;
    writes(): Promise<number>;
  };
  readonly attempt: () => Promise<Pick<Attempt, 'code' | 'totalMs' | 'downtimeMs'>>;
}

async function measure(share: number, { means, guest, attempt }: Contestant): Promise<Attempt> {
  await guest.resume();
  const before = await progress(guest);
  await sleep(UNDISTURBED_MS);
  const began = await progress(guest);
  const outcome = await attempt();
  const ended = await progress(guest);
  await guest.pause();
  const perMs = (began.writes - before.writes) / (began.atMs - before.atMs);
  const guestMsLost = ended.atMs - began.atMs - (ended.writes - began.writes) / perMs;
  return { share, means, ...outcome, guestMsLost, writtenBps: perMs * 1000 * PAGE_BYTES };
}

async function progress(guest: Contestant['guest']) {
  const writes = await guest.writes();
  return { writes, atMs: performance.now() };
}

async function byMigd(cluster: Cluster, rateBps: number): Promise<Contestant[]> {
  const workload = { kind: 'writer', rateBps, workingSetBytes: WORKING_SET_BYTES };
  const spec = { memoryBytes: MEMORY_BYTES, fill: 0.75, workload };
  const guest = await Traveller.create(cluster, `vm${Math.round(rateBps)}`, spec);
  await guest.move({ downtimeLimitMs: 10_000 });
  await guest.pause();
  return Object.entries(BY_MIGD).map(([means, options]) => ({
    means,
    guest,
    attempt: async () => {
      // Only the time ends it.
      const limits = { downtimeLimitMs: DOWNTIME_LIMIT_MS, roundsMax: 1000 };
      const { code, totalMs, downtimeMs } = await guest.attempt({ ...limits, ...options });
      return { code, totalMs, downtimeMs };
    },
  }));
}

function byQemu(guest: QemuTraveller): Contestant[] {
  const limits = { downtimeLimitMs: DOWNTIME_LIMIT_MS, limitMs: LIMIT_MS };
  return Object.entries(BY_QEMU).map(([means, how]) => ({
    means,
    guest,
    attempt: () => guest.attempt({ ...how, ...limits }),
  }));
}

async function measureAll(runs: number, bitsPerSecond: number): Promise<Attempt[]> {
  const attempts: Attempt[] = [];
  for (const share of SHARES) {
    const rateBps = Math.round((share * bitsPerSecond) / 8);
    await using cluster = await Cluster.start();
    await using qemu = await QemuTraveller.start(MEMORY_BYTES, {
      incompressible: 80,
      hot: WORKING_SET_BYTES / MiB,
      rate: Math.round(rateBps / PAGE_BYTES),
    });
    await qemu.pause();
    const contestants = [...(await byMigd(cluster, rateBps)), ...byQemu(qemu)];
    for (let run = 0; run < runs; run += 1) {
      for (const contestant of contestants) attempts.push(await measure(share, contestant));
    }
  }
  return attempts;
}

if (import.meta.main) {
  process.send?.(await measureAll(Number(process.argv[2]), Number(process.argv[3])));
}
