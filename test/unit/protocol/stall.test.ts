/** Whether rounds shrink: sequences as guests and links make them. */
import { test } from 'tap';
import {
  afterStep,
  HOPELESS_ROUNDS,
  remembered,
  stalledRounds,
  throttledFurther,
  THROTTLING_ROUNDS,
  type RoundFacts,
} from '../../../src/protocol/source/stall.ts';

interface Guest {
  /** Pages that it writes a second, all of them different, and how many it has. */
  readonly dirtyPps: number;
  readonly pages: number;
}

/** The rounds of a guest over a link of so many pages a second, a figure a round. */
function rounds(guest: Guest, linkPps: readonly number[], dirtyPps: readonly number[] = []) {
  const facts: RoundFacts[] = [];
  let owed = guest.pages;
  for (const [n, pps] of linkPps.entries()) {
    const seconds = owed / pps;
    const owedAfter = Math.round(Math.min(seconds * (dirtyPps[n] ?? guest.dirtyPps), guest.pages));
    facts.push({ owedBefore: owed, owedAfter, isPaced: false });
    owed = owedAfter;
  }
  return facts;
}

const guest: Guest = { dirtyPps: 6000, pages: 100_000 };
const steady = (pps: number, count: number): number[] => Array.from({ length: count }, () => pps);

void test('rounds that shrink are no stall', async (t) => {
  t.equal(stalledRounds([]), 0);
  t.equal(stalledRounds(rounds(guest, steady(10_000, 8))), 0);
});

void test('one dip of the bandwidth is none, nor two in a row, nor a burst of writes', async (t) => {
  for (let at = 0; at < 7; at += 1) {
    const dip = steady(10_000, 8).map((pps, n) => (n === at ? 1000 : pps));
    const deep = rounds(guest, dip);
    for (let n = 1; n <= deep.length; n += 1) {
      t.ok(stalledRounds(deep.slice(0, n)) < THROTTLING_ROUNDS, `a dip at ${at}, after ${n}`);
    }
    const twice = steady(10_000, 8).map((pps, n) => (n === at || n === at + 1 ? 3000 : pps));
    t.ok(stalledRounds(rounds(guest, twice)) < THROTTLING_ROUNDS);
    const burst = steady(6000, 8).map((pps, n) => (n === at ? 60_000 : pps));
    t.ok(stalledRounds(rounds(guest, steady(10_000, 8), burst)) < THROTTLING_ROUNDS);
  }
});

void test('a guest that writes as fast as the link or faster is one', async (t) => {
  t.equal(stalledRounds(rounds({ ...guest, dirtyPps: 10_000 }, steady(10_000, 8))), 8);
  t.equal(stalledRounds(rounds({ ...guest, dirtyPps: 30_000 }, steady(10_000, 8))), 8);
  const slower = rounds(guest, [...steady(10_000, 4), ...steady(3000, 4)]);
  t.equal(stalledRounds(slower), 4, 'since the link became slower');
});

void test('small rounds and paced ones tell nothing', async (t) => {
  const stalled = { owedBefore: 5000, owedAfter: 5000, isPaced: false };
  const small = { ...stalled, owedBefore: 255, owedAfter: 255 };
  const paced = { ...stalled, isPaced: true };
  t.equal(stalledRounds([small, small, paced, paced]), 0);
  t.equal(stalledRounds([stalled, small, paced, stalled]), 2, 'they are passed over');
});

void test('the throttle goes up in steps, each judged anew', async (t) => {
  const steps: number[] = [];
  for (let percent = 0; steps.length < 10; steps.push(percent)) percent = throttledFurther(percent);
  t.same(steps, [20, 30, 40, 50, 60, 70, 80, 90, 99, 99]);
  const stalled = { owedBefore: 5000, owedAfter: 5000, isPaced: false };
  const after = afterStep([stalled, stalled, stalled]);
  t.equal(stalledRounds(after), 1);
  const many = Array.from({ length: 50 }).reduce<readonly RoundFacts[]>(
    (facts) => remembered(facts, stalled),
    [],
  );
  t.equal(many.length, HOPELESS_ROUNDS);
});
