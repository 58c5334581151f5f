/** A bar chart as SVG: a bar at the median of each row, a whisker from its minimum to its maximum. */
import type { Spread } from './stats.ts';

export interface Bar {
  readonly label: string;
  readonly value: Spread;
  /** A yardstick is drawn lighter than a contestant. */
  readonly yardstick?: boolean;
}

const WIDTH = 820;
const LABELS = 300;
const ROW = 26;
const TOP = 44;

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** `unit` names the axis; it starts at zero. */
export function barChart(title: string, unit: string, bars: readonly Bar[]): string {
  const largest = Math.max(...bars.map(({ value }) => value.max), Number.MIN_VALUE);
  const x = (value: number): number => LABELS + (value / largest) * (WIDTH - LABELS - 110);
  const rows = bars.map(({ label, value, yardstick }, i) => {
    const y = TOP + i * ROW;
    const middle = y + ROW / 2 - 3;
    const colour = yardstick === true ? '#b9c4d0' : '#3f6fa5';
    return [
      `<text x="${LABELS - 8}" y="${middle + 4}" text-anchor="end">${escape(label)}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${(x(value.median) - LABELS).toFixed(1)}" height="${ROW - 8}" fill="${colour}"/>`,
      `<path d="M${x(value.min).toFixed(1)} ${middle}H${x(value.max).toFixed(1)}" stroke="#222" stroke-width="1.5"/>`,
      `<text x="${(x(value.max) + 6).toFixed(1)}" y="${middle + 4}">${value.median.toPrecision(3)}</text>`,
    ].join('');
  });
  const height = TOP + bars.length * ROW + 24;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="12" y="22" font-size="15">${escape(title)}</text>`,
    ...rows,
    `<text x="${LABELS}" y="${height - 8}" fill="#555">${escape(unit)}: median, whisker from minimum to maximum</text>`,
    '</svg>',
    '',
  ].join('\n');
}
