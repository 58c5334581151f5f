/** One side of `suites.ts`: every suite in turn, behind the link that this process is in. Argument: runs. */
import { MiB } from '../src/base/units.ts';
import type { MigrationResult } from '../src/migration/report.ts';
import { ALL_SUITE_NAMES, type SuiteName } from '../src/protocol/options.ts';
import { Cluster } from '../test/process/cluster.ts';
import { IS_SHORT, rest } from './pace.ts';
import { Traveller } from './traveller.ts';
import { warm } from './warm.ts';

export const MEMORY_BYTES = IS_SHORT ? 64 * MiB : 512 * MiB;
/** Written all the while, so that there are rounds. */
const WORKLOAD = { kind: 'writer', rateBps: 10e6, workingSetBytes: 32 * MiB };

/** What Hu et al. (2015) compare, of one migration. */
export interface Moved {
  readonly totalMs: number;
  readonly pagesMs: number;
  readonly downtimeMs: number;
  readonly pagesSent: number;
  readonly bandwidthBps: number;
}
export type Suites = Readonly<Record<string, readonly Moved[]>>;

function movedOf({ totalMs, downtimeMs, pagesSent, bytesSent, rounds }: MigrationResult): Moved {
  const pagesMs = rounds.reduce((sum, { durationMs }) => sum + durationMs, 0);
  return {
    totalMs,
    pagesMs,
    downtimeMs: downtimeMs ?? Number.NaN,
    pagesSent,
    bandwidthBps: (bytesSent / pagesMs) * 1000,
  };
}

async function measure(runs: number): Promise<Suites> {
  const config = { suites: ALL_SUITE_NAMES };
  await using cluster = await Cluster.start({ 'host-a': { config }, 'host-b': { config } });
  const spec = { memoryBytes: MEMORY_BYTES, fill: 1, workload: WORKLOAD };
  const guest = await Traveller.create(cluster, 'vm1', spec);
  const moved = new Map<SuiteName, Moved[]>(ALL_SUITE_NAMES.map((suite) => [suite, []]));
  for (let run = -1; run < runs; run += 1) {
    for (const [suite, list] of moved) {
      // The slowest needs no warming.
      if (run < 0 && suite !== 'none') continue;
      await rest();
      warm(MEMORY_BYTES);
      const result = await guest.move({ suite, form: 'sealed' });
      if (run >= 0) list.push(movedOf(result));
    }
  }
  return Object.fromEntries(moved);
}

if (import.meta.main) process.send?.(await measure(Number(process.argv[2])));
