/**
 * Quantities as people write them. Sizes are binary (`1G` is 2^30 bytes), rates decimal (`50MB` is
 * 50,000,000 bytes a second, `10Gbit` an eighth of 10^10), durations and percentages plain. What has
 * no unit, or is no whole number of what it counts, is refused: a guess would be wrong by 1,000.
 */
import { GiB, KiB, MiB } from '../base/units.ts';
import { MigError } from '../protocol/error.ts';

const BINARY: Readonly<Record<string, number>> = { '': 1, K: KiB, M: MiB, G: GiB, T: 1024 * GiB };
const DECIMAL: Readonly<Record<string, number>> = { '': 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12 };
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60_000, h: 3_600_000 };

const SIZE = /^(\d+(?:\.\d+)?)([KMGT]?)(?:iB)?$/;
const RATE = /^(\d+(?:\.\d+)?)([kKMGT]?)(B|bit)(?:\/s)?$/;
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/;
const PERCENT = /^(\d+(?:\.\d+)?)%$/;

/** Bytes from `1G`, `512M`, `262136K`, `1.5GiB`, `4096`. Throws USAGE. */
export function parseSize(text: string): number {
  const [, amount, unit = ''] = SIZE.exec(text) ?? refuse(text, 'a size such as 512M or 1G');
  return whole(Number(amount) * (BINARY[unit] ?? Number.NaN), text, 'bytes');
}

/** Bytes a second from `50MB`, `200MB/s`, `10Gbit`. Throws USAGE. */
export function parseRate(text: string): number {
  const [, amount, prefix = '', unit] =
    RATE.exec(text) ?? refuse(text, 'a rate such as 50MB or 10Gbit');
  const perSecond = Number(amount) * (DECIMAL[prefix.toUpperCase()] ?? Number.NaN);
  return whole(unit === 'bit' ? perSecond / 8 : perSecond, text, 'bytes a second');
}

/** Milliseconds from `50ms`, `30s`, `5m`, `1h`. Throws USAGE. */
export function parseDuration(text: string): number {
  const [, amount, unit = ''] =
    DURATION.exec(text) ?? refuse(text, 'a duration such as 50ms, 30s or 5m');
  return whole(Number(amount) * (MILLISECONDS[unit] ?? Number.NaN), text, 'milliseconds');
}

/** A share, 0 to 1, from `25%`. Throws USAGE. */
export function parsePercent(text: string): number {
  const [, amount] = PERCENT.exec(text) ?? refuse(text, 'a percentage such as 25%');
  const share = Number(amount) / 100;
  return share <= 1 ? share : refuse(text, 'at most 100%');
}

function whole(value: number, text: string, unit: string): number {
  // A fraction in the text may miss the whole number it means by the last bit of a double.
  const rounded = Math.round(value);
  const near = Math.abs(value - rounded) <= rounded * 4 * Number.EPSILON;
  return near && Number.isSafeInteger(rounded)
    ? rounded
    : refuse(text, `a whole number of ${unit}`);
}

function refuse(text: string, expected: string): never {
  throw new MigError('USAGE', `${text}: expected ${expected}`);
}

/** `1.5 GiB`; for people, so rounded. */
export const formatSize = (bytes: number): string => scaled(bytes, 1024, BINARY_UNITS);
/** `50.0 MB/s`. */
export const formatRate = (bps: number): string => `${scaled(bps, 1000, DECIMAL_UNITS)}/s`;

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const DECIMAL_UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

function scaled(value: number, base: number, units: readonly string[]): string {
  let rest = value;
  let unit = 0;
  while (rest >= base && unit < units.length - 1) {
    rest /= base;
    unit += 1;
  }
  return `${unit === 0 || Number.isInteger(rest) ? Math.round(rest) : rest.toFixed(1)} ${units[unit]}`;
}

/** `12 ms`, `3.4 s`, `2 min 5 s`. */
export function formatDuration(ms: number): string {
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
