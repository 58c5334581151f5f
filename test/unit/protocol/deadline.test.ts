/** Migrations that are told when to finish: simulated rounds over links of all kinds. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { MiB } from '../../../src/base/units.ts';
import { isInfeasible } from '../../../src/protocol/source/deadline.ts';
import { simulate, type Ended, type World } from './simulated-rounds.ts';

const busy = { writeBps: () => 50e6, workingSetBytes: 256 * MiB };

const judgements = ({ effects }: Ended): boolean[] =>
  effects.flatMap((effect) => (effect.kind === 'tellDeadline' ? [effect.isFeasible] : []));

const isHeld = ({ atMs, state }: Ended, deadlineMs: number): boolean =>
  state.kind === 'Pausing' && Math.abs(atMs - deadlineMs) <= 0.05 * deadlineMs;

const FEASIBLE: Readonly<Record<string, Partial<World>>> = {
  'an idle guest': {},
  'a guest that writes evenly': busy,
  'bursts of writes': { ...busy, writeBps: (atMs) => (atMs % 2000 < 300 ? 400e6 : 20e6) },
  'a link that is half as fast for a while': {
    ...busy,
    linkBps: (atMs) => (atMs > 3000 && atMs < 6000 ? 300e6 : 600e6),
  },
  'a link with dips': { ...busy, linkBps: (atMs) => (atMs % 3000 < 200 ? 20e6 : 1000e6) },
  'a link that becomes slow': { ...busy, linkBps: (atMs) => (atMs < 4000 ? 1000e6 : 200e6) },
};

for (const [name, world] of Object.entries(FEASIBLE)) {
  void test(`held within 5 %: ${name}`, async (t) => {
    for (const deadlineMs of [10_000, 30_000, 120_000]) {
      const ended = simulate(world, { deadlineMs });
      t.ok(isHeld(ended, deadlineMs), `${deadlineMs} ms: at ${Math.round(ended.atMs)} ms`);
      t.notOk(judgements(ended).includes(false), 'never said to be impossible');
      t.ok(ended.rounds <= 25, `${ended.rounds} rounds`);
    }
  });
}

void test('held within 5 % on any steady link that has room for it', async () => {
  const worlds = fc.record({
    memoryMiB: fc.integer({ min: 16, max: 4096 }),
    linkBps: fc.integer({ min: 50e6, max: 2000e6 }),
    writeShare: fc.double({ min: 0, max: 0.3, noNaN: true }),
    workingShare: fc.double({ min: 0, max: 0.5, noNaN: true }),
    spare: fc.double({ min: 2.5, max: 20, noNaN: true }),
  });
  fc.assert(
    fc.property(worlds, ({ memoryMiB, linkBps, writeShare, workingShare, spare }) => {
      const memoryBytes = memoryMiB * MiB;
      const deadlineMs = Math.round(Math.max((spare * memoryBytes * 1000) / linkBps, 3000));
      const world = {
        memoryBytes,
        linkBps: () => linkBps,
        writeBps: () => writeShare * linkBps,
        workingSetBytes: workingShare * memoryBytes,
      };
      const ended = simulate(world, { deadlineMs });
      if (!isHeld(ended, deadlineMs)) throw new Error(`${deadlineMs}: ${ended.atMs}`);
      if (ended.rounds > 30) throw new Error(`${ended.rounds} rounds`);
    }),
    { numRuns: 300 },
  );
});

void test('the bandwidth is what it takes, not what there is, and never above the limit', async (t) => {
  const { effects } = simulate(busy, { deadlineMs: 30_000, maxBandwidthBps: 100 * MiB });
  const paces = effects.flatMap((effect) => (effect.kind === 'pace' ? [effect.paceBps] : []));
  t.ok(Math.abs((paces[0] ?? 0) - (1024 * MiB) / 21) < 2 * MiB, 'seven tenths of the time');
  t.equal(paces.at(-1), null, 'the guest stands still as short as can be');
});

void test('what cannot be held is said at once, and it goes on as fast as it can', async (t) => {
  const slow = simulate({ ...busy, linkBps: () => 60e6 }, { deadlineMs: 10_000 });
  const told = slow.effects.filter((effect) => effect.kind === 'tellDeadline');
  t.notOk(judgements(slow).includes(true), 'and not taken back');
  t.ok(told.length <= 12, `${told.length} times`);
  const late = told.map(({ predictedMs }) => predictedMs);
  t.ok((late[0] ?? 0) > 10_500);
  t.ok(late.some((predictedMs) => predictedMs > 16_000 && predictedMs < 20_000));
  const unhurried = simulate({ ...busy, linkBps: () => 60e6 }, {});
  t.ok(slow.atMs < unhurried.atMs + 1500, `${slow.atMs}, without a deadline ${unhurried.atMs}`);
});

void test('a guest that writes faster than may be sent has no end in sight', async (t) => {
  const options = { deadlineMs: 30_000, maxBandwidthBps: 100e6 };
  const ended = simulate({ writeBps: () => 500e6, workingSetBytes: 900 * MiB }, options);
  const told = ended.effects.find(({ kind }) => kind === 'tellDeadline');
  t.match(told, { isFeasible: false });
  t.match(ended.state, { kind: 'Aborting', code: 'NOT_CONVERGING' });
  const throttled = simulate(
    { writeBps: () => 500e6, workingSetBytes: 900 * MiB },
    { ...options, autoConverge: true, roundsMax: 100 },
  );
  t.equal(throttled.state.kind, 'Pausing');
});

void test('not even one copy of the memory fits into the time', async (t) => {
  const terms = { deadlineMs: 1010, handoverMs: 10, maxBandwidthBps: 100 * MiB, channels: 1 };
  t.equal(isInfeasible(terms, 100 * MiB), false);
  t.equal(isInfeasible(terms, 100 * MiB + 4096), true);
  t.equal(isInfeasible({ ...terms, maxBandwidthBps: undefined }, 2 ** 50), false, 'who knows');
  t.equal(isInfeasible({ ...terms, handoverMs: 2000 }, 0), true);
});
