/** Quantities: every written form means its exact number, everything else is refused with USAGE. */
import * as fc from 'fast-check';
import { test } from 'tap';
import {
  formatDuration,
  formatRate,
  formatSize,
  parseDuration,
  parsePercent,
  parseRate,
  parseSize,
} from '../../src/cli/quantities.ts';

const amount = fc.integer({ min: 0, max: 100_000 });
const exponent = fc.integer({ min: 0, max: 3 });

void test('sizes are binary, rates decimal, bits an eighth', async (t) => {
  fc.assert(
    fc.property(amount, exponent, (n, e) => {
      const binary = ['', 'K', 'M', 'G'][e] ?? '';
      const decimal = ['', 'k', 'M', 'G'][e] ?? '';
      const bytes = parseSize(`${n}${binary}`);
      const same = parseSize(`${n}${binary}iB`);
      const rate = parseRate(`${n}${decimal}B`);
      const bits = parseRate(`${n * 8}${decimal}bit/s`);
      return bytes === n * 1024 ** e && same === bytes && rate === n * 1000 ** e && bits === rate;
    }),
  );
  t.equal(parseSize('262136K'), 262_136 * 1024);
  t.equal(parseSize('1.5G'), 1.5 * 1024 ** 3);
  t.equal(parseRate('50MB'), 50e6);
  t.equal(parseRate('200MB/s'), 200e6);
  t.equal(parseRate('10Gbit'), 1.25e9);
});

void test('decimal fractions are exact', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_000_000 }), (thousandths) => {
      const text = (thousandths / 1000).toFixed(3);
      return (
        parseDuration(`${text}s`) === thousandths &&
        parseRate(`${text}kB`) === thousandths &&
        parseRate(`${text}MB`) === thousandths * 1000
      );
    }),
  );
  t.equal(parseDuration('50ms'), 50);
  t.equal(parseDuration('5m'), 300_000);
  t.equal(parseDuration('1h'), 3_600_000);
  t.equal(parsePercent('25%'), 0.25);
  t.equal(parsePercent('100%'), 1);
});

void test('everything else is refused', async (t) => {
  for (const text of ['', '1', 'G', '-1s', '1 s', '1.s', '1S', '0.5ms', '1e3s', '10%']) {
    t.throws(() => parseDuration(text), { code: 'USAGE' }, `duration ${text}`);
  }
  for (const text of ['', 'G', '1GB', '1g', '-1', '0.3', '1.1K', '1e3', '99999999999T', '0x10']) {
    t.throws(() => parseSize(text), { code: 'USAGE' }, `size ${text}`);
  }
  for (const text of ['', '50', '50M', '50mB', '1bit', '50MB/h', 'MB', '1.5B']) {
    t.throws(() => parseRate(text), { code: 'USAGE' }, `rate ${text}`);
  }
  for (const text of ['', '50', '101%', '-1%', '%', '0.5']) {
    t.throws(() => parsePercent(text), { code: 'USAGE' }, `percentage ${text}`);
  }
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const parse of [parseSize, parseRate, parseDuration, parsePercent]) {
        try {
          if (!(parse(text) >= 0)) return false;
        } catch (thrown) {
          if ((thrown as { code?: string }).code !== 'USAGE') return false;
        }
      }
      return true;
    }),
  );
});

void test('for people', async (t) => {
  t.equal(formatSize(256 * 1024 ** 2), '256 MiB');
  t.equal(formatSize(1.5 * 1024 ** 3), '1.5 GiB');
  t.equal(formatRate(1.25e9), '1.3 GB/s');
  t.equal(formatDuration(1.25), '1.3 ms');
  t.equal(formatDuration(49.6), '50 ms');
  t.equal(formatDuration(3400), '3.4 s');
  t.equal(formatDuration(125_000), '2 min 5 s');
});
