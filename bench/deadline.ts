/**
 * Migrations that are told when to finish: how near to that time the VM runs at the destination, behind
 * links of two rates; and, where that cannot be, how soon it is said.
 */
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/base/units.ts';
import { MEMORY_BYTES, type Told } from './deadline-run.ts';
import { behind, GIGABIT, TEN_GIGABIT } from './link.ts';
import { IS_SHORT } from './pace.ts';
import type { Bar } from './plot.ts';
import type { Report } from './report.ts';
import { show, spread } from './stats.ts';

const RUNS = IS_SHORT ? 1 : 3;
const PROGRAM = fileURLToPath(new URL('deadline-run.ts', import.meta.url));
/** Of the time asked for. */
const WITHIN = 0.05;

export async function deadline(): Promise<Report> {
  const bars: Bar[] = [];
  const findings: string[] = [];
  const runs: Record<string, readonly Told[]> = {};
  for (const link of [TEN_GIGABIT, GIGABIT]) {
    const args = [String(RUNS), String(link.bitsPerSecond)];
    const measured = await behind<Told[]>(link, PROGRAM, args);
    runs[link.name] = measured;
    const kinds = Map.groupBy(measured, ({ guest, askedMs }) => `${guest}, ${askedMs / 1000} s`);
    for (const [kind, list] of kinds) {
      const label = `${link.name}, ${kind}`;
      if (list.every(({ isFeasible }) => isFeasible)) {
        bars.push({ label, value: spread(list.map(missedPercent)) });
        findings.push(`${label}: ${heldBy(list)}`);
      } else findings.push(`${label}: ${saidBy(list)}`);
    }
  }
  return {
    name: 'deadline',
    title: `A guest of ${MEMORY_BYTES / MiB} MiB, told when to finish: how far from it`,
    unit: '% of the time asked for, early or late',
    bars,
    findings,
    runs,
  };
}

const missedPercent = ({ metMs, askedMs }: Told): number =>
  Math.abs((metMs ?? Number.NaN) / askedMs - 1) * 100;

function heldBy(list: readonly Told[]): string {
  const ratios = list.map(({ metMs, askedMs }) => (metMs ?? Number.NaN) / askedMs);
  const held = ratios.filter((ratio) => Math.abs(ratio - 1) <= WITHIN).length;
  const doubted = list.filter(({ saidMs }) => saidMs !== null).length;
  return [
    `ran there after ${show(spread(ratios), 3)} of the time asked for`,
    `${held} of ${list.length} within ${WITHIN * 100} % (must be all)`,
    `said to be infeasible ${doubted} times (must be none)`,
  ].join('; ');
}

function saidBy(list: readonly Told[]): string {
  const said = list.flatMap(({ saidMs }) => (saidMs === null ? [] : [saidMs]));
  const unsaid = list.length - said.length;
  const foreseen = list.flatMap(({ predictedMs, metMs }) =>
    predictedMs === null || metMs === null ? [] : [predictedMs / metMs],
  );
  return [
    unsaid > 0 ? `${unsaid} of ${list.length} not said to be infeasible` : 'always said',
    ...(said.length > 0 ? [`after ${show(spread(said), 1)} ms`] : []),
    ...(foreseen.length > 0
      ? [`the end foreseen then is ${show(spread(foreseen))} of the real one`]
      : ['refused, nothing was sent']),
  ].join('; ');
}
