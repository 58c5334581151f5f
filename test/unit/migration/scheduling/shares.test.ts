/** Shares of a bandwidth: examples, and what fairness means, of any claims. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { fairShares, type Claim } from '../../../../src/migration/scheduling/shares.ts';

const claim = (id: string, maxBps = Number.POSITIVE_INFINITY, weight = 1): Claim => ({
  id,
  weight,
  maxBps,
});

const shares = (capBps: number, ...all: Claim[]) => Object.fromEntries(fairShares(capBps, all));

void test('examples', (t) => {
  t.same(shares(100), {});
  t.same(shares(100, claim('a')), { a: 100 });
  t.same(shares(100, claim('a'), claim('b')), { a: 50, b: 50 });
  t.same(shares(100, claim('a', 10), claim('b'), claim('c')), { a: 10, b: 45, c: 45 });
  t.same(shares(100, claim('a', 10), claim('b', 40), claim('c')), { a: 10, b: 40, c: 50 });
  t.same(shares(100, claim('a', 10), claim('b', 20)), { a: 10, b: 20 }, 'nobody wants the rest');
  t.same(shares(90, claim('a', undefined, 2), claim('b')), { a: 60, b: 30 });
  t.same(shares(90, claim('a', 30, 2), claim('b')), { a: 30, b: 60 });
  t.end();
});

const claims = fc
  .array(
    fc.record({
      weight: fc.integer({ min: 1, max: 10 }),
      maxBps: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 0, max: 2e9 })),
    }),
    { maxLength: 20 },
  )
  .map((all) => all.map((each, i) => ({ id: `vm${i}`, ...each })));

void test('within the cap and everyone’s own, nothing wasted, nobody better off than his weight', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e9 }), claims, (capBps, all) => {
      const shared = fairShares(capBps, all);
      const shareOf = ({ id }: Claim) => shared.get(id) ?? Number.NaN;
      const sum = all.reduce((total, each) => total + shareOf(each), 0);
      const wanted = all.reduce((total, { maxBps }) => total + maxBps, 0);
      // Rounded down, each of them.
      const lostBps = all.length;
      const isWithin = sum <= capBps && all.every((each) => shareOf(each) <= each.maxBps);
      const isUsed = sum >= Math.min(capBps, wanted) - lostBps;
      // Whoever gets less than he wants has no less for his weight than anybody else.
      const isFair = all
        .filter((each) => shareOf(each) < each.maxBps)
        .every((each) =>
          all.every(
            (other) => shareOf(other) / other.weight <= shareOf(each) / each.weight + lostBps,
          ),
        );
      return isWithin && isUsed && isFair;
    }),
    { numRuns: 1000 },
  );
  t.end();
});
