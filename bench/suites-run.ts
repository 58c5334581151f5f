/** One side of `suites.ts`: every suite in turn, in two modes, behind the link that this process is in. Argument: runs. */
import { MiB } from '../src/base/units.ts';
import type { MigrationResult } from '../src/migration/report.ts';
import { ALL_SUITE_NAMES, type MigrateOptions, type SuiteName } from '../src/protocol/options.ts';
import { Cluster } from '../test/process/cluster.ts';
import { IS_SHORT, rest } from './pace.ts';
import { Traveller } from './traveller.ts';
import { warm } from './warm.ts';

export const MEMORY_BYTES = IS_SHORT ? 64 * MiB : 256 * MiB;
/** Written all the while, so that there are rounds. */
const WORKLOAD = { kind: 'writer', rateBps: 5e6, workingSetBytes: 32 * MiB };

export const COMPARED_MODES = ['pre-copy', 'post-copy'] as const;
type Mode = (typeof COMPARED_MODES)[number];

/** A cipher that is slower than the guest writes gets there all the same. */
const MODE_OPTIONS: { readonly [M in Mode]: Partial<MigrateOptions> } = {
  'pre-copy': { mode: 'pre-copy', timeoutMs: 60_000, onTimeout: 'pause' },
  'post-copy': { mode: 'post-copy' },
};

/** What Hu et al. (2015) compare, of one migration. */
export interface Moved {
  readonly suite: SuiteName;
  readonly mode: Mode;
  readonly totalMs: number;
  /** While pages were sent: all rounds, and what followed the guest. */
  readonly pagesMs: number;
  readonly downtimeMs: number;
  readonly pagesSent: number;
  readonly bandwidthBps: number;
  readonly networkFaults: number;
  readonly minorFaults: number;
}

function movedOf(suite: SuiteName, mode: Mode, result: MigrationResult): Moved {
  const { totalMs, downtimeMs, pagesSent, bytesSent, rounds, postCopy } = result;
  const roundsMs = rounds.reduce((sum, { durationMs }) => sum + durationMs, 0);
  const pagesMs = roundsMs + (postCopy?.durationMs ?? 0);
  return {
    suite,
    mode,
    totalMs,
    pagesMs,
    downtimeMs: downtimeMs ?? Number.NaN,
    pagesSent,
    bandwidthBps: (bytesSent / pagesMs) * 1000,
    networkFaults: postCopy?.faults?.network ?? 0,
    minorFaults: postCopy?.faults?.minor ?? 0,
  };
}

async function measure(runs: number): Promise<Moved[]> {
  const config = { suites: ALL_SUITE_NAMES };
  await using cluster = await Cluster.start({ 'host-a': { config }, 'host-b': { config } });
  const spec = { memoryBytes: MEMORY_BYTES, fill: 1, workload: WORKLOAD };
  const guest = await Traveller.create(cluster, 'vm1', spec);
  const all: Moved[] = [];
  for (let run = -1; run < runs; run += 1) {
    for (const mode of COMPARED_MODES) {
      for (const suite of ALL_SUITE_NAMES) {
        // The slowest needs no warming.
        if (run < 0 && suite !== 'none') continue;
        await rest();
        warm(MEMORY_BYTES);
        const result = await guest.move({ suite, form: 'sealed', ...MODE_OPTIONS[mode] });
        if (run >= 0) all.push(movedOf(suite, mode, result));
      }
    }
  }
  return all;
}

if (import.meta.main) process.send?.(await measure(Number(process.argv[2])));
