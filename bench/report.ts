/** What every benchmark leaves: a table on the terminal, a JSON file, an SVG plot. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { barChart, type Bar } from './plot.ts';
import { show } from './stats.ts';

export interface Report {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Bar[];
  /** Ratios and other figures worth a line of their own, with what they must reach. */
  readonly findings: readonly string[];
  /** Everything measured, run by run. */
  readonly runs: unknown;
}

const machine = () => ({
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryBytes: totalmem(),
  system: `${platform()} ${release()} ${arch()}`,
  node: process.version,
  openssl: process.versions.openssl,
});

export function publish(report: Report): void {
  const { name, title, unit, bars, findings, runs } = report;
  console.log(`\n${title} [${unit}]`);
  const width = Math.max(...bars.map(({ label }) => label.length));
  for (const { label, value } of bars) console.log(`  ${label.padEnd(width)}  ${show(value)}`);
  for (const finding of findings) console.log(`  → ${finding}`);
  mkdirSync('bench/results', { recursive: true });
  const body = { name, title, unit, machine: machine(), bars, findings, runs };
  writeFileSync(`bench/results/${name}.json`, `${JSON.stringify(body, null, 2)}\n`);
  writeFileSync(`bench/results/${name}.svg`, barChart(title, unit, bars));
}
