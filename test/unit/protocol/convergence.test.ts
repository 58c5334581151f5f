/** When pre-copy stops: the arithmetic of bandwidth, prediction and decision. */
import { test } from 'tap';
import { MiB } from '../../../src/base/units.ts';
import {
  bandwidthAfter,
  decide,
  deferrablePages,
  predictedDowntimeMs,
  type Progress,
} from '../../../src/protocol/source/convergence.ts';
import type { RoundFacts } from '../../../src/protocol/source/stall.ts';

const cost = { bandwidthBps: 409_600_000, handoverMs: 8 };

/** A round that left so much of what it began with. */
const round = (owedAfter: number, owedBefore = 1000): RoundFacts => ({
  owedBefore,
  owedAfter,
  isPaced: false,
});

/** One that does not shrink any more. */
const input: Progress = {
  round: 0,
  roundsMax: 3,
  rounds: [round(1000)],
  cost,
  downtimeLimitMs: 18,
  mode: 'pre-copy',
  onTimeout: 'cancel',
  isTimeOver: false,
  isEarly: false,
};

const STOP = { kind: 'stop-and-copy', why: 'downtime-limit' };
const ANOTHER = { kind: 'another round' };
const GIVE_UP = { kind: 'give up' };

const bandwidth = (previousBps: number, pageBytes: number, roundMs: number, isPaced = false) =>
  bandwidthAfter(previousBps, { pageBytes, roundMs, isPaced });

void test('the bandwidth is that of the last round that was large enough to tell', async (t) => {
  t.equal(bandwidth(0, 1000, 1), 1e6, 'the first round, however small');
  t.equal(bandwidth(5e6, MiB, 1000), MiB);
  t.equal(bandwidth(5e6, MiB - 1, 1000), 5e6, 'a small round measures latency');
  t.equal(bandwidth(1e6, MiB / 2, 100), MiB * 5, 'but so much there is at least');
  t.equal(bandwidth(5e6, 2 * MiB, 1000, true), 5e6, 'a slowed one shows what was asked for');
  t.equal(bandwidth(1e6, 2 * MiB, 1000, true), 2 * MiB, 'but so much there is at least');
  t.ok(Number.isFinite(bandwidth(0, MiB, 0)));
});

void test('a prediction is the sending of what is dirty and the handover', async (t) => {
  t.equal(predictedDowntimeMs(1000, cost), 18);
  t.equal(predictedDowntimeMs(0, cost), 8);
  t.ok(Number.isFinite(predictedDowntimeMs(1000, { bandwidthBps: 0, handoverMs: 0 })));
});

void test('stop-and-copy at the limit, another round past it, an end of rounds', async (t) => {
  t.same(decide(input), STOP);
  const more = { ...input, rounds: [round(1001)] };
  t.same(decide(more), ANOTHER);
  t.same(decide({ ...more, round: 1 }), ANOTHER);
  t.same(decide({ ...more, round: 2 }), GIVE_UP);
  t.same(decide({ ...input, rounds: [round(0)], downtimeLimitMs: 1 }), STOP);
});

void test('a handover that takes longer than the limit does not keep a migration from ending', async (t) => {
  const slow = { ...input, cost: { ...cost, handoverMs: 900 } };
  t.same(decide({ ...slow, rounds: [round(900)] }), STOP, 'half of the limit is for pages');
  t.same(decide({ ...slow, rounds: [round(901)] }), ANOTHER);
});

const after = (owedAfter: number, owedBefore: number): Progress => ({
  ...input,
  rounds: [round(owedAfter, owedBefore)],
});

void test('below the limit it goes on while that makes the downtime noticeably shorter', async (t) => {
  t.same(decide(after(1000, 10_000)), ANOTHER);
  t.same(decide(after(100, 10_000)), STOP, '1 ms beside 8 is not felt');
  t.same(decide(after(101, 10_000)), ANOTHER);
  t.same(decide(after(749, 1000)), ANOTHER);
  t.same(decide(after(750, 1000)), STOP, 'it does not shrink any more');
  t.same(decide({ ...after(1000, 10_000), round: 2 }), STOP, 'the last round');
});

const stalled = (count: number): Progress => ({
  ...input,
  round: count,
  roundsMax: 1000,
  rounds: Array.from({ length: count }, () => round(5000, 5000)),
});

void test('rounds that do not shrink, ten in a row, are given up before the last round', async (t) => {
  t.same(decide(stalled(9)), ANOTHER);
  t.same(decide(stalled(10)), GIVE_UP);
  t.same(decide({ ...stalled(10), onTimeout: 'pause' }), ANOTHER, 'it has an end by its time');
  const last = { ...stalled(10), onTimeout: 'pause', roundsMax: 11 } as const;
  t.same(decide(last), { kind: 'stop-and-copy', why: 'rounds' });
});

void test('when the time is over, what is left is sent whatever the downtime', async (t) => {
  const over = { ...input, isTimeOver: true } as const;
  const stopped = { kind: 'stop-and-copy', why: 'timeout' };
  t.same(decide(over), stopped);
  t.same(decide({ ...over, rounds: [round(100_000)] }), ANOTHER, 'the guest stands still for it');
  t.same(decide({ ...over, rounds: [round(100_000)], round: 2 }), stopped);
});

void test('too early for a deadline: another round, but for the last', async (t) => {
  const early = { ...input, rounds: [round(0)], isEarly: true };
  t.same(decide(early), ANOTHER);
  t.same(decide({ ...early, round: 2 }), STOP);
});

void test('hot pages may take half of what the downtime limit has for pages', async (t) => {
  t.equal(deferrablePages(cost, 18), 500);
  t.equal(deferrablePages({ ...cost, handoverMs: 900 }, 18), 450);
  t.equal(deferrablePages({ bandwidthBps: 0, handoverMs: 8 }, 18), 0);
});
