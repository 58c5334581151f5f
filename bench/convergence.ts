/**
 * Guests that write at half, nine tenths and one and a half of what the link carries, moved by every means
 * there is, with a time limit; QEMU's own means on the same link beside them. What each costs the guest:
 * how long it stood still, and how much of its own work it did not get done meanwhile.
 */
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/base/units.ts';
import { LIMIT_MS, MEMORY_BYTES, YARDSTICKS, type Attempt } from './convergence-run.ts';
import { behind, GIGABIT } from './link.ts';
import { IS_SHORT } from './pace.ts';
import type { Report } from './report.ts';
import { show, spread } from './stats.ts';

const RUNS = IS_SHORT ? 1 : 3;
const PROGRAM = fileURLToPath(new URL('convergence-run.ts', import.meta.url));

export async function convergence(): Promise<Report> {
  const args = [String(RUNS), String(GIGABIT.bitsPerSecond)];
  const attempts = await behind<Attempt[]>(GIGABIT, PROGRAM, args);
  const kinds = [
    ...Map.groupBy(attempts, ({ share, means }) => `${share} × the link, ${means}`),
  ] as const;
  return {
    name: 'convergence',
    title: `A guest of ${Math.round(MEMORY_BYTES / MiB)} MiB that half of is written, over ${GIGABIT.name}`,
    unit: `ms of its own time that the guest lost (limit ${LIMIT_MS} ms)`,
    bars: kinds.map(([label, list]) => ({
      label: list.every(({ code }) => code === null) ? label : `${label} (not in time)`,
      value: spread(list.map(({ guestMsLost }) => Math.max(guestMsLost, 0))),
      yardstick: list.every(({ means }) => YARDSTICKS.includes(means)),
    })),
    findings: kinds.map(([label, list]) => `${label}: ${told(list)}`),
    runs: attempts,
  };
}

function told(list: readonly Attempt[]): string {
  const inTime = list.filter(({ code, totalMs }) => code === null && totalMs <= LIMIT_MS).length;
  const codes = new Set(list.flatMap(({ code }) => (code === null ? [] : [code])));
  const downtimes = list.flatMap(({ downtimeMs }) => (downtimeMs === null ? [] : [downtimeMs]));
  const lost = list.map(({ guestMsLost, totalMs }) => (guestMsLost / totalMs) * 100);
  return [
    `${inTime} of ${list.length} within ${LIMIT_MS} ms${codes.size > 0 ? ` (${[...codes].join(', ')})` : ''}`,
    `took ${show(spread(list.map(({ totalMs }) => totalMs)), 0)} ms`,
    ...(downtimes.length > 0 ? [`downtime ${show(spread(downtimes), 0)} ms`] : []),
    `lost ${show(spread(list.map(({ guestMsLost }) => guestMsLost)), 0)} ms, ${show(spread(lost), 0)} % of the guest's time`,
    `it wrote ${show(spread(list.map(({ writtenBps }) => writtenBps / 1e6)), 0)} MB/s before`,
  ].join('; ');
}
