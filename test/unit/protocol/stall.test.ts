/** Whether rounds shrink: sequences as guests and links make them. */
import { test } from 'tap';
import {
  afterStep,
  endsIn,
  HOPELESS,
  remembered,
  throttledFurther,
  THROTTLING,
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

const throttles = (facts: readonly RoundFacts[]): boolean => endsIn(THROTTLING, facts);
const gives = (facts: readonly RoundFacts[]): boolean => endsIn(HOPELESS, facts);
/** After any of the rounds. */
const ever = (judge: (facts: readonly RoundFacts[]) => boolean, facts: readonly RoundFacts[]) =>
  facts.some((_, n) => judge(facts.slice(0, n + 1)));

void test('rounds that shrink are no stall', async (t) => {
  t.notOk(throttles([]));
  t.notOk(ever(throttles, rounds(guest, steady(10_000, 8))));
  t.ok(ever(throttles, rounds({ ...guest, dirtyPps: 8000 }, steady(10_000, 8))), 'too slowly');
  t.notOk(ever(gives, rounds({ ...guest, dirtyPps: 8000 }, steady(10_000, 30))), 'but they do');
});

void test('a dip of the bandwidth is none, nor a longer one, nor a burst of writes', async (t) => {
  for (let at = 0; at < 7; at += 1) {
    const dip = steady(10_000, 8).map((pps, n) => (n === at ? 1000 : pps));
    t.notOk(ever(throttles, rounds(guest, dip)), `a dip at ${at}`);
    const twice = steady(10_000, 8).map((pps, n) => (n === at || n === at + 1 ? 3000 : pps));
    t.notOk(ever(throttles, rounds(guest, twice)), `two in a row at ${at}`);
    const burst = steady(6000, 8).map((pps, n) => (n === at ? 60_000 : pps));
    t.notOk(ever(throttles, rounds(guest, steady(10_000, 8), burst)), `a burst at ${at}`);
  }
});

void test('a guest that writes as fast as the link or faster is one', async (t) => {
  for (const dirtyPps of [10_000, 30_000]) {
    const facts = rounds({ ...guest, dirtyPps }, steady(10_000, 10));
    t.equal(
      facts.findIndex((_, n) => throttles(facts.slice(0, n + 1))),
      2,
    );
    t.equal(
      facts.findIndex((_, n) => gives(facts.slice(0, n + 1))),
      9,
    );
  }
  const slower = rounds(guest, [...steady(10_000, 4), ...steady(3000, 4)]);
  t.equal(
    slower.findIndex((_, n) => throttles(slower.slice(0, n + 1))),
    6,
    'three slow ones',
  );
});

void test('small rounds and paced ones tell nothing', async (t) => {
  const stalled = { owedBefore: 5000, owedAfter: 5000, isPaced: false };
  const small = { ...stalled, owedBefore: 255, owedAfter: 255 };
  const paced = { ...stalled, isPaced: true };
  t.notOk(throttles([small, small, small, paced, paced, paced]));
  t.notOk(throttles([stalled, small, paced, stalled]));
  t.ok(throttles([stalled, small, stalled, paced, stalled]), 'they are passed over');
});

void test('the throttle goes up in steps, each judged anew', async (t) => {
  const steps: number[] = [];
  for (let percent = 0; steps.length < 10; steps.push(percent)) percent = throttledFurther(percent);
  t.same(steps, [20, 30, 40, 50, 60, 70, 80, 90, 99, 99]);
  const stalled = { owedBefore: 5000, owedAfter: 5000, isPaced: false };
  const after = afterStep([stalled, stalled, stalled]);
  t.notOk(throttles([...after, stalled]));
  t.ok(throttles([...after, stalled, stalled]));
  const many = Array.from({ length: 50 }).reduce<readonly RoundFacts[]>(
    (facts) => remembered(facts, stalled),
    [],
  );
  t.equal(many.length, HOPELESS.rounds);
});
