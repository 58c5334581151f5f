/**
 * How long a guest stands still, with everything that happens meanwhile: its last pages, its state,
 * signatures and disk syncs. 1 GiB that is written at several rates, evenly or by a Zipf law; against
 * the downtime that was predicted when the guest was paused. All guests exist at once and take turns;
 * those whose turn it is not are paused.
 *
 * The design's other yardstick, QEMU on the same load, comes with the driver for QEMU.
 */
import { GiB, MiB } from '../src/base/units.ts';
import type { MigrationResult } from '../src/migration/report.ts';
import { Cluster } from '../test/process/cluster.ts';
import { IS_SHORT } from './pace.ts';
import type { Report } from './report.ts';
import { percentile, show, spread } from './stats.ts';
import { Traveller } from './traveller.ts';

const MEMORY_BYTES = IS_SHORT ? 128 * MiB : GiB;
const RUNS = IS_SHORT ? 2 : 6;
/** Of the load that the goal speaks of: enough for a 99th percentile to be more than the maximum. */
const RUNS_OF_GOAL = IS_SHORT ? 3 : 101;
const RATES_BPS = [10e6, 50e6, 200e6];
const KINDS = ['writer', 'zipf'] as const;
const GOAL = { kind: 'writer', rateBps: 50e6, medianMs: 10, p99Ms: 30, predictedWithin: 0.2 };

interface Load {
  readonly kind: (typeof KINDS)[number];
  readonly rateBps: number;
  readonly guest: Traveller;
  /** ms, run by run. */
  readonly measured: number[];
  readonly predicted: number[];
}

/** What was expected of the stop-and-copy when it was decided on. */
const predictedMs = ({ rounds }: MigrationResult): number =>
  rounds.at(-1)?.predictedDowntimeMs ?? Number.NaN;

async function run(load: Load): Promise<void> {
  await load.guest.resume();
  const result = await load.guest.move();
  await load.guest.pause();
  load.measured.push(result.downtimeMs ?? Number.NaN);
  load.predicted.push(predictedMs(result));
}

async function create(cluster: Cluster): Promise<Load[]> {
  const loads: Load[] = [];
  for (const kind of KINDS) {
    for (const rateBps of RATES_BPS) {
      const workload = {
        kind,
        rateBps,
        workingSetBytes: MEMORY_BYTES / 4,
        ...(kind === 'zipf' ? { skew: 1 } : {}),
      };
      const spec = { memoryBytes: MEMORY_BYTES, fill: 0.7, workload };
      const guest = await Traveller.create(cluster, `${kind}-${rateBps / 1e6}`, spec);
      await guest.pause();
      loads.push({ kind, rateBps, guest, measured: [], predicted: [] });
    }
  }
  return loads;
}

export async function downtime(): Promise<Report> {
  await using cluster = await Cluster.start();
  const loads = await create(cluster);
  for (let i = 0; i < RUNS; i += 1) for (const load of loads) await run(load);
  const goal = loads.find(({ kind, rateBps }) => kind === GOAL.kind && rateBps === GOAL.rateBps);
  if (goal === undefined) throw new Error('the load of the goal is not among the loads');
  while (goal.measured.length < RUNS_OF_GOAL) await run(goal);
  return {
    name: 'downtime',
    title: `Downtime of a guest of ${MEMORY_BYTES / MiB} MiB, a quarter of it written`,
    unit: 'ms',
    bars: loads.flatMap((load) => [
      { label: `${nameOf(load)}: predicted`, value: spread(load.predicted), yardstick: true },
      { label: nameOf(load), value: spread(load.measured) },
    ]),
    findings: [
      ...loads.map((load) => `${nameOf(load)}: measured ÷ predicted ${show(spread(ratios(load)))}`),
      `${nameOf(goal)}, ${goal.measured.length} runs: median ${spread(goal.measured).median.toFixed(1)} ms (must be at most ${GOAL.medianMs}), 99 % within ${percentile(goal.measured, 0.99).toFixed(1)} ms (at most ${GOAL.p99Ms})`,
      `${nameOf(goal)}: ${share(goal)} % of predictions within ${GOAL.predictedWithin * 100} % of what was measured`,
    ],
    runs: loads.map((load) => ({
      load: nameOf(load),
      measured: load.measured,
      predicted: load.predicted,
    })),
  };
}

const nameOf = ({ kind, rateBps }: Load): string =>
  `${rateBps / 1e6} MB/s, ${kind === 'zipf' ? 'zipf' : 'uniform'}`;

const ratios = ({ measured, predicted }: Load): number[] =>
  measured.map((ms, i) => ms / (predicted[i] ?? Number.NaN));

function share(load: Load): number {
  const within = ratios(load).filter((ratio) => Math.abs(ratio - 1) <= GOAL.predictedWithin);
  return Math.round((within.length / load.measured.length) * 100);
}
