/** How a migration is shown: each form as a function of the events. */
import { test } from 'tap';
import { bar, shareOf } from '../../../src/cli/progress/bar.ts';
import { Lines } from '../../../src/cli/progress/lines.ts';
import { after, drawn, NOTHING_SHOWN, redrawn } from '../../../src/cli/progress/live.ts';
import type { MigrationEvent } from '../../../src/migration/report.ts';

const migrationId = '01890000-0000-7000-8000-000000000000';

const started: MigrationEvent = {
  event: 'started',
  migrationId,
  vm: 'vm1',
  from: 'host-a',
  to: 'host-b',
  memoryBytes: 2 ** 28,
};

const queued: MigrationEvent = {
  event: 'queued',
  migrationId,
  vm: 'vm1',
  from: 'host-a',
  to: 'host-b',
  priority: 5,
  place: 3,
  code: null,
  detail: '',
};

void test('one that waits says where, and for whom', async (t) => {
  const lines = new Lines();
  t.equal(lines.of(queued), `${migrationId}: vm1 waits for its turn, place 3`);
  const sentBack = { ...queued, place: 1, code: 'DEST_BUSY', detail: '8 incoming' } as const;
  t.match(lines.of(sentBack), /place 1: DEST_BUSY \(8 incoming\)$/);
  const waiting = after(NOTHING_SHOWN, queued);
  t.match(drawn(waiting)[0], 'vm1: host-a → host-b  queued, place 3');
  t.match(drawn(after(waiting, started))[0], '  session, round 0');
});

const progress = (round: number, sentBytes: number, remainingBytes: number): MigrationEvent => ({
  event: 'progress',
  migrationId,
  phase: 'pre-copy',
  round,
  sentBytes,
  remainingBytes,
  dirtyRateBps: 20e6,
  bandwidthBps: 1e9,
  predictedDowntimeMs: 12,
  etaMs: 3400,
  throttlePercent: 0,
});

const round: MigrationEvent = {
  event: 'round',
  migrationId,
  n: 0,
  isWhole: true,
  pages: 65_536,
  zeroPages: 100,
  bytesSent: 2 ** 28,
  durationMs: 250,
  deferredPages: 0,
  dirtyPagesAfter: 7,
  bandwidthBps: 1e9,
  predictedDowntimeMs: 12,
};

void test('a bar is as long as its share', async (t) => {
  t.equal(bar(0), `${'░'.repeat(30)}   0 %`);
  t.equal(bar(0.5), `${'█'.repeat(15)}${'░'.repeat(15)}  50 %`);
  t.equal(bar(1), `${'█'.repeat(30)} 100 %`);
  t.equal(shareOf({ sentBytes: 0, remainingBytes: 0 }), 0, 'nothing is known');
  t.equal(shareOf({ sentBytes: 3, remainingBytes: 1 }), 0.75);
});

void test('lines: a round is told of five times at most', async (t) => {
  const lines = new Lines();
  t.equal(lines.of(started), `${migrationId}: vm1 from host-a to host-b`);
  t.equal(lines.of({ event: 'phase', migrationId, phase: 'pre-copy' }), 'phase pre-copy');
  const told = (n: number) =>
    Array.from({ length: 101 }, (_, sent) => lines.of(progress(n, sent, 100 - sent))).filter(
      (line) => line !== undefined,
    );
  t.same(told(0), [
    `  ${bar(0)}, 100 B remaining, 3.4 s left`,
    `  ${bar(0.25)}, 75 B remaining, 3.4 s left`,
    `  ${bar(0.5)}, 50 B remaining, 3.4 s left`,
    `  ${bar(0.75)}, 25 B remaining, 3.4 s left`,
    `  ${bar(1)}, 0 B remaining, 3.4 s left`,
  ]);
  t.equal(told(1).length, 5, 'the next round begins anew');
  t.equal(
    lines.of(round),
    'round 0: 65536 pages (100 zero), in 250 ms at 1 GB/s, 7 dirty after, predicted downtime 12 ms',
  );
});

void test('lines: what is done to converge, and whether it is enough', async (t) => {
  const lines = new Lines();
  const told = (event: Partial<MigrationEvent>) =>
    lines.of({ migrationId, ...event } as MigrationEvent);
  t.equal(told({ event: 'throttle', percent: 30 }), 'the guest is throttled by 30 %');
  t.equal(told({ event: 'throttle', percent: 0 }), 'the guest runs unthrottled again');
  t.match(told({ ...round, deferredPages: 5 }), /, 7 dirty after \(5 left for last\),/);
  const deadline = { event: 'deadline', askedMs: 30_000 } as const;
  t.equal(
    told({ ...deadline, feasible: false, predictedMs: 45_000 }),
    'the deadline of 30.0 s cannot be held: 45.0 s at best',
  );
  t.match(told({ ...deadline, feasible: false, predictedMs: null }), /no end in sight/);
  t.match(told({ ...deadline, feasible: true, predictedMs: 29_000 }), /can be held again/);
});

void test('the block on a terminal shows throttle and deadline while they matter', async (t) => {
  const feasible = { event: 'deadline', migrationId, askedMs: 30_000, predictedMs: 1 } as const;
  const busy = [
    { event: 'throttle', migrationId, percent: 40 } as const,
    { ...feasible, feasible: false },
  ].reduce(after, NOTHING_SHOWN);
  t.match(drawn(busy)[2], /  throttled 40 %$/);
  t.match(drawn(busy)[3], /cannot be held/);
  t.equal(drawn(after(busy, { ...feasible, feasible: true })).length, 3);
});

void test('the block on a terminal shows what is known so far', async (t) => {
  t.same(drawn(NOTHING_SHOWN).length, 3);
  const phase: MigrationEvent = { event: 'phase', migrationId, phase: 'pre-copy' };
  const shown = [started, phase, progress(1, 30, 10)].reduce(after, NOTHING_SHOWN);
  t.same(drawn(shown), [
    'vm1: host-a → host-b  pre-copy, round 1',
    `${bar(0.75)}  10 B remaining, 3.4 s left`,
    'bandwidth 1 GB/s  dirty rate 20 MB/s  predicted downtime 12 ms',
  ]);
  t.match(drawn(after(shown, round))[1], '100 %', 'a round that ended is whole');
});

void test('it is drawn where it stood', async (t) => {
  t.equal(redrawn(0, ['a', 'b']), '\r\u001B[Ja\nb\n');
  t.equal(redrawn(2, ['c']), '\u001B[2A\r\u001B[Jc\n');
  t.equal(redrawn(1, []), '\u001B[1A\r\u001B[J');
});
