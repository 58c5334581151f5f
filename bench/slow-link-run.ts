/**
 * One side of `slow-link.ts`: guests with memory of several kinds, moved by migd and by QEMU in turn behind
 * the link that this process is in. Arguments: runs, the link's rate in bits a second.
 *
 * migd's guest is made of what QEMU's guest of the same kind holds, byte by byte, its kernel included; pages
 * that are written all the while lie behind that.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { KiB, MiB, PAGE_BYTES } from '../src/base/units.ts';
import type { Filling } from '../test/qemu/guest-image.ts';
import { Cluster } from '../test/process/cluster.ts';
import { IS_SHORT, rest } from './pace.ts';
import { QemuTraveller, type Means } from './qemu/traveller.ts';
import { Traveller } from './traveller.ts';

/** QEMU 7.2 loses dirty pages under TCG where it is a multiple of 256 KiB. */
const MEMORY_BYTES = 160 * MiB - 8 * KiB;
const CONTENT_MIB = 64;
const HOT_MIB = 16;
/** Of each page that is written, at its end. */
const CHANGED_BYTES = 16;
/** What is written, of the link's rate. */
const WRITTEN_SHARE = 0.5;
const DOWNTIME_LIMIT_MS = 300;
/** Nothing here takes this long. */
const LIMIT_MS = 60_000;

const BY_QEMU: Readonly<Record<string, Means>> = {
  'QEMU multifd zstd': {
    capabilities: ['multifd'],
    parameters: { 'multifd-compression': 'zstd' },
  },
  'QEMU xbzrle': { capabilities: ['xbzrle'], parameters: { 'xbzrle-cache-size': 64 * MiB } },
};
export const YARDSTICKS = Object.keys(BY_QEMU);

/** Kinds of memory; what a guest of QEMU holds besides its kernel. */
const CONTENTS: Readonly<Record<string, Filling>> = {
  zero: { zero: CONTENT_MIB },
  duplicate: { duplicate: CONTENT_MIB },
  compressible: { compressible: CONTENT_MIB },
};
const KINDS = [...Object.keys(CONTENTS), 're-dirtied'];

/** One migration. */
export interface Sent {
  readonly kind: string;
  readonly by: string;
  readonly totalMs: number;
  /** All that the link carried, both ways, headers included. */
  readonly linkBytes: number;
  /** By migd: what its pages would have been as they are. */
  readonly plainBytes: number | null;
}

interface Contestant {
  readonly by: string;
  readonly guest: { pause(): Promise<void>; resume(): Promise<void> };
  readonly move: () => Promise<Pick<Sent, 'totalMs' | 'plainBytes'>>;
}

/** What loopback of this network namespace has carried, from proc(5). */
function carriedBytes(): number {
  const line = /^ *lo: *(\d+) /m.exec(readFileSync('/proc/self/net/dev', 'utf8'));
  return Number(line?.[1]);
}

/** Pages a second that are written where they are. */
const writtenPages = (bitsPerSecond: number): number =>
  Math.round((WRITTEN_SHARE * bitsPerSecond) / 8 / PAGE_BYTES);

function fillingOf(kind: string, bitsPerSecond: number): Filling {
  const [incompressible, hot] = [CONTENT_MIB, HOT_MIB];
  return CONTENTS[kind] ?? { incompressible, hot, rate: writtenPages(bitsPerSecond) };
}

/** The memory of a guest of QEMU as a file. */
async function image(filling: Filling, file: string): Promise<string> {
  await using qemu = await QemuTraveller.start(MEMORY_BYTES, filling);
  await qemu.saveMemory(file);
  return file;
}

async function byMigd(cluster: Cluster, kind: string, bitsPerSecond: number): Promise<Contestant> {
  const isWritten = CONTENTS[kind] === undefined;
  const hotBytes = isWritten ? HOT_MIB * MiB : 0;
  const still = isWritten ? { incompressible: CONTENT_MIB - HOT_MIB } : fillingOf(kind, 0);
  const writer = {
    kind: 'writer',
    rateBps: writtenPages(bitsPerSecond) * PAGE_BYTES,
    workingSetBytes: hotBytes,
    changedBytes: CHANGED_BYTES,
  };
  const table = Math.ceil((MEMORY_BYTES + hotBytes) / PAGE_BYTES / 1000) * PAGE_BYTES;
  const guest = await Traveller.create(cluster, kind, {
    memoryBytes: MEMORY_BYTES + hotBytes + table,
    imagePath: await image(still, path.join(cluster.dir, `${kind}.image`)),
    fill: isWritten ? 1 : 0,
    workload: isWritten ? writer : { kind: 'idle' },
  });
  const move = async () => {
    const { totalMs, pagesSent } = await guest.move({ downtimeLimitMs: DOWNTIME_LIMIT_MS });
    return { totalMs, plainBytes: pagesSent * PAGE_BYTES };
  };
  return { by: 'migd', guest, move };
}

function byQemu(guest: QemuTraveller): Contestant[] {
  const limits = { downtimeLimitMs: DOWNTIME_LIMIT_MS, limitMs: LIMIT_MS };
  return Object.entries(BY_QEMU).map(([by, means]) => ({
    by,
    guest,
    move: async () => {
      const { code, totalMs } = await guest.attempt({ ...means, ...limits });
      if (code !== null) throw new Error(`${by}: ${code}`);
      return { totalMs, plainBytes: null };
    },
  }));
}

async function measure(runs: number, bitsPerSecond: number): Promise<Sent[]> {
  const all: Sent[] = [];
  for (const kind of IS_SHORT ? KINDS.slice(-2) : KINDS) {
    await using cluster = await Cluster.start();
    const contestants = [await byMigd(cluster, kind, bitsPerSecond)];
    await contestants[0]?.guest.pause();
    await using qemu = await QemuTraveller.start(MEMORY_BYTES, fillingOf(kind, bitsPerSecond));
    await qemu.pause();
    contestants.push(...byQemu(qemu));
    for (let run = 0; run < runs; run += 1) {
      for (const { by, guest, move } of contestants) {
        await guest.resume();
        await rest();
        const before = carriedBytes();
        const { totalMs, plainBytes } = await move();
        const linkBytes = carriedBytes() - before;
        await guest.pause();
        all.push({ kind, by, totalMs, linkBytes, plainBytes });
      }
    }
  }
  return all;
}

if (import.meta.main) {
  process.send?.(await measure(Number(process.argv[2]), Number(process.argv[3])));
}
