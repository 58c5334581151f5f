/**
 * Slow links, where what is not sent counts most: guests with pages of zeros, the same page over and over,
 * pages that compress, and pages of which a little changes again and again. Against what QEMU has for
 * them, multifd with zstd and xbzrle, on the same link and the same memory; and against plain pages.
 */
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/base/units.ts';
import { behind, GIGABIT, type Link } from './link.ts';
import { IS_SHORT } from './pace.ts';
import type { Bar } from './plot.ts';
import type { Report } from './report.ts';
import { YARDSTICKS, type Sent } from './slow-link-run.ts';
import { pairwise, show, spread } from './stats.ts';

const RUNS = IS_SHORT ? 1 : 3;
const PROGRAM = fileURLToPath(new URL('slow-link-run.ts', import.meta.url));
const HUNDRED_MEGABIT: Link = { name: '100 Mb/s', bitsPerSecond: 1e8 };

export async function slowLink(): Promise<Report> {
  const bars: Bar[] = [];
  const findings: string[] = [];
  const runs: Record<string, readonly Sent[]> = {};
  for (const link of [GIGABIT, HUNDRED_MEGABIT]) {
    const args = [String(RUNS), String(link.bitsPerSecond)];
    const measured = await behind<Sent[]>(link, PROGRAM, args);
    runs[link.name] = measured;
    for (const [kind, list] of Map.groupBy(measured, (sent) => sent.kind)) {
      const label = `${link.name}, ${kind}`;
      for (const [by, own] of Map.groupBy(list, (sent) => sent.by)) {
        const value = spread(own.map(({ totalMs }) => totalMs));
        bars.push({ label: `${label}, ${by}`, value, yardstick: YARDSTICKS.includes(by) });
        const carried = spread(own.map(({ linkBytes }) => linkBytes / MiB));
        findings.push(`${label}, ${by}: ${show(value, 0)} ms, ${show(carried, 1)} MiB`);
      }
      findings.push(...YARDSTICKS.map((by) => `${label}: ${against(list, by)}`));
      findings.push(`${label}: ${againstPlain(list)}`);
    }
  }
  return {
    name: 'slow-link',
    title: 'The same memory over slow links, by migd and by QEMU',
    unit: 'ms',
    bars,
    findings,
    runs,
  };
}

const ofMigd = (list: readonly Sent[]) => list.filter(({ by }) => by === 'migd');

function against(list: readonly Sent[], yardstick: string): string {
  const theirs = list.filter(({ by }) => by === yardstick);
  const ratio = (of: (sent: Sent) => number) =>
    show(spread(pairwise(ofMigd(list).map(of), theirs.map(of))));
  const bytes = ratio(({ linkBytes }) => linkBytes);
  return `migd ${bytes} of the bytes and ${ratio(({ totalMs }) => totalMs)} of the time of ${yardstick} (each must be below 1)`;
}

function againstPlain(list: readonly Sent[]): string {
  const shares = ofMigd(list).map(({ linkBytes, plainBytes }) => linkBytes / (plainBytes ?? 0));
  return `migd ${show(spread(shares))} of the bytes of its pages as they are`;
}
