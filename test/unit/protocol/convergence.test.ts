/** When pre-copy stops: the arithmetic of bandwidth, prediction and decision. */
import { test } from 'tap';
import { MiB } from '../../../src/base/units.ts';
import {
  bandwidthAfter,
  decide,
  predictedDowntimeMs,
} from '../../../src/protocol/source/convergence.ts';

const cost = { bandwidthBps: 409_600_000, handoverMs: 8 };
/** One that does not shrink any more. */
const input = {
  round: 0,
  roundsMax: 3,
  sentPages: 1000,
  dirtyPages: 1000,
  cost,
  downtimeLimitMs: 18,
};

void test('the bandwidth is that of the last round that was large enough to tell', async (t) => {
  t.equal(bandwidthAfter(0, 1000, 1), 1e6, 'the first round, however small');
  t.equal(bandwidthAfter(5e6, MiB, 1000), MiB);
  t.equal(bandwidthAfter(5e6, MiB - 1, 1000), 5e6, 'a small round measures latency');
  t.equal(bandwidthAfter(1e6, MiB / 2, 100), MiB * 5, 'but so much there is at least');
  t.ok(Number.isFinite(bandwidthAfter(0, MiB, 0)));
});

void test('a prediction is the sending of what is dirty and the handover', async (t) => {
  t.equal(predictedDowntimeMs(1000, cost), 18);
  t.equal(predictedDowntimeMs(0, cost), 8);
  t.ok(Number.isFinite(predictedDowntimeMs(1000, { bandwidthBps: 0, handoverMs: 0 })));
});

void test('stop-and-copy at the limit, another round past it, an end of rounds', async (t) => {
  t.equal(decide(input), 'stop-and-copy');
  t.equal(decide({ ...input, dirtyPages: 1001 }), 'another round');
  t.equal(decide({ ...input, dirtyPages: 1001, round: 1 }), 'another round');
  t.equal(decide({ ...input, dirtyPages: 1001, round: 2 }), 'give up');
  t.equal(decide({ ...input, dirtyPages: 0, downtimeLimitMs: 1 }), 'stop-and-copy');
});

void test('a handover that takes longer than the limit does not keep a migration from ending', async (t) => {
  const slow = { ...input, cost: { ...cost, handoverMs: 900 } };
  t.equal(decide({ ...slow, dirtyPages: 900 }), 'stop-and-copy', 'half of the limit is for pages');
  t.equal(decide({ ...slow, dirtyPages: 901 }), 'another round');
});

void test('below the limit it goes on while that makes the downtime noticeably shorter', async (t) => {
  const shrinking = { ...input, sentPages: 10_000 };
  t.equal(decide({ ...shrinking, dirtyPages: 1000 }), 'another round');
  t.equal(decide({ ...shrinking, dirtyPages: 100 }), 'stop-and-copy', '1 ms beside 8 is not felt');
  t.equal(decide({ ...shrinking, dirtyPages: 101 }), 'another round');
  t.equal(decide({ ...input, dirtyPages: 749 }), 'another round');
  t.equal(decide({ ...input, dirtyPages: 750 }), 'stop-and-copy', 'it does not shrink any more');
  t.equal(decide({ ...shrinking, dirtyPages: 1000, round: 2 }), 'stop-and-copy', 'the last round');
});
