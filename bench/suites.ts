/**
 * The survey's comparison of ciphers: what each costs a migration, against none at all, behind links of
 * two rates. Records go straight on TCP (form `sealed`), so that a suite is all there is.
 */
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/base/units.ts';
import { ALL_SUITE_NAMES, type SuiteName } from '../src/protocol/options.ts';
import { behind, GIGABIT, TEN_GIGABIT, type Link } from './link.ts';
import { IS_SHORT } from './pace.ts';
import type { Bar } from './plot.ts';
import type { Report } from './report.ts';
import { pairwise, show, spread } from './stats.ts';
import { MEMORY_BYTES, type Moved, type Suites } from './suites-run.ts';

const RUNS = IS_SHORT ? 2 : 5;
const PROGRAM = fileURLToPath(new URL('suites-run.ts', import.meta.url));
/** What the default suite may take, as a multiple of what `none` does. */
const GOALS: readonly (readonly [Link, number])[] = [
  [TEN_GIGABIT, 1.1],
  [GIGABIT, 1.02],
];

const METRICS: Readonly<Record<string, (moved: Moved) => number>> = {
  'migration time, ms': ({ totalMs }) => totalMs,
  'downtime, ms': ({ downtimeMs }) => downtimeMs,
  'pages transferred': ({ pagesSent }) => pagesSent,
  'bandwidth, MB/s': ({ bandwidthBps }) => bandwidthBps / 1e6,
};

export async function suites(): Promise<Report> {
  const bars: Bar[] = [];
  const findings: string[] = [];
  const runs: Record<string, Suites> = {};
  for (const [link, goal] of GOALS) {
    const measured = await behind<Suites>(link, PROGRAM, [String(RUNS)]);
    runs[link.name] = measured;
    const of = (suite: SuiteName, metric: (moved: Moved) => number) =>
      (measured[suite] ?? []).map(metric);
    const pagesMs = (suite: SuiteName) => of(suite, (each) => each.pagesMs);
    for (const suite of ALL_SUITE_NAMES) {
      const label = `${link.name}, ${suite}`;
      const value = spread(pagesMs(suite));
      bars.push({ label, value, yardstick: suite === 'none' });
      const ofNone = show(spread(pairwise(pagesMs(suite), pagesMs('none'))), 3);
      const isDefault = suite === ALL_SUITE_NAMES[0];
      const metrics = Object.entries(METRICS).map(
        ([metric, valueOf]) => `${metric} ${show(spread(of(suite, valueOf)), 0)}`,
      );
      findings.push(
        `${label}: ${ofNone} of none${isDefault ? ` (must be at most ${goal})` : ''}; ${metrics.join('; ')}`,
      );
    }
  }
  return {
    name: 'suites',
    title: `A guest of ${MEMORY_BYTES / MiB} MiB that writes 10 MB/s: all rounds, by suite`,
    unit: 'ms',
    bars,
    findings,
    runs,
  };
}
