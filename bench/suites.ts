/**
 * The survey's comparison of ciphers: what each costs a migration, against none at all, behind links of
 * two rates, in pre-copy and in post-copy. Records go straight on TCP (form `sealed`), so that a suite is all there is.
 */
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/base/units.ts';
import { ALL_SUITE_NAMES, type SuiteName } from '../src/protocol/options.ts';
import { behind, GIGABIT, TEN_GIGABIT, type Link } from './link.ts';
import { IS_SHORT } from './pace.ts';
import type { Bar } from './plot.ts';
import type { Report } from './report.ts';
import { pairwise, show, spread } from './stats.ts';
import { COMPARED_MODES, MEMORY_BYTES, type Moved } from './suites-run.ts';

const RUNS = IS_SHORT ? 2 : 3;
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
  'network page faults': ({ networkFaults }) => networkFaults,
  'minor page faults': ({ minorFaults }) => minorFaults,
};

export async function suites(): Promise<Report> {
  const bars: Bar[] = [];
  const findings: string[] = [];
  const runs: Record<string, readonly Moved[]> = {};
  for (const [link, goal] of GOALS) {
    const measured = await behind<Moved[]>(link, PROGRAM, [String(RUNS)]);
    runs[link.name] = measured;
    for (const mode of COMPARED_MODES) {
      const of = (suite: SuiteName) =>
        measured.filter((moved) => moved.suite === suite && moved.mode === mode);
      const pagesMs = (suite: SuiteName) => of(suite).map((moved) => moved.pagesMs);
      for (const suite of ALL_SUITE_NAMES) {
        const label = `${link.name}, ${mode}, ${suite}`;
        bars.push({ label, value: spread(pagesMs(suite)), yardstick: suite === 'none' });
        const ofNone = show(spread(pairwise(pagesMs(suite), pagesMs('none'))), 3);
        const isGoal = suite === ALL_SUITE_NAMES[0] && mode === 'pre-copy';
        const must = isGoal ? ` (must be at most ${goal})` : '';
        findings.push(`${label}: ${ofNone} of none${must}; ${metricsOf(of(suite))}`);
      }
    }
  }
  return {
    name: 'suites',
    title: `A guest of ${MEMORY_BYTES / MiB} MiB that writes 5 MB/s: all its pages, by suite`,
    unit: 'ms',
    bars,
    findings,
    runs,
  };
}

const metricsOf = (list: readonly Moved[]): string =>
  Object.entries(METRICS)
    .map(([metric, valueOf]) => `${metric} ${show(spread(list.map(valueOf)), 0)}`)
    .join('; ');
