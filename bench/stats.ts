/** Median, minimum and maximum of a few runs: what every figure is told with. */

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly n: number;
}

/** Throws on an empty list: a figure without a run is no figure. */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error('no runs');
  const sorted = values.toSorted((a, b) => a - b);
  const at = (i: number): number => sorted[i] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
    n: sorted.length,
  };
}

/** The value below which `share` (0 to 1) of the runs lie, by the nearest rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** The ratio run by run: contestants that ran next to each other are compared with each other. */
export const pairwise = (a: readonly number[], b: readonly number[]): number[] =>
  a.slice(0, b.length).map((value, i) => value / (b[i] ?? Number.NaN));

/** `0.83 (0.79–0.88)` */
export const show = ({ median, min, max }: Spread, digits = 2): string =>
  `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
