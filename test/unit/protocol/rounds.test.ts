/** The source's machine in its rounds: throttle, time, and what a broken session keeps of both. */
import { test } from 'tap';
import { MiB, PAGE_BYTES } from '../../../src/base/units.ts';
import type { Code } from '../../../src/protocol/codes.ts';
import { contradictionIn, migrateOptionsSchema } from '../../../src/protocol/options.ts';
import { startSource, stepSource } from '../../../src/protocol/source/machine.ts';
import type { Effect, Event, State } from '../../../src/protocol/source/state.ts';
import { dirtyCollected } from './samples.ts';
import { joining, planWith, simulate } from './simulated-rounds.ts';

const PAGES = 25_600;
const tag = new Uint8Array(48);
const joined: Event = { kind: 'channelsJoined', owedPages: PAGES, elapsedMs: 0 };
const sent: Event = {
  kind: 'roundSent',
  sent: { pages: PAGES, zeroPages: 0, bytesSent: PAGES * PAGE_BYTES, tag },
};
const arrived = (round: number): Event => ({
  kind: 'ROUND_OK',
  message: { type: 'ROUND_OK', round },
});
const stalled: Event = { ...dirtyCollected(PAGES), roundMs: 1000 };
const aRound = (n: number, collected: Event = stalled): Event[] => [sent, arrived(n), collected];
const timePassed: Event = { kind: 'timePassed' };
const lost: Event = { kind: 'failed', code: 'CHANNEL_LOST', detail: '' };

interface Run {
  readonly state: State;
  /** Of the last step. */
  readonly effects: readonly Effect[];
}

const run = (options: object, events: readonly Event[]): Run =>
  events.reduce<Run>(({ state }, event) => stepSource(state, event), {
    state: joining(planWith(options)),
    effects: [],
  });

const kinds = ({ effects }: Run): string[] => effects.map(({ kind }) => kind);
const throttles = ({ effects }: Pick<Run, 'effects'>): number[] =>
  effects.flatMap((effect) => (effect.kind === 'throttle' ? [effect.percent] : []));

const PAUSE = { timeoutMs: 1000, onTimeout: 'pause' };

const rounds = (count: number): Event[] => [
  joined,
  ...Array.from({ length: count }, (_, n) => aRound(n)).flat(),
];

void test('auto-converge: throttled after three rounds that do not shrink, then every two', async (t) => {
  const options = { autoConverge: true };
  const steps = [1, 2, 3, 4, 5, 6, 7, 8].map((count) => throttles(run(options, rounds(count))));
  t.same(steps, [[], [], [20], [], [30], [], [40], []]);
  t.same(throttles(run({}, rounds(3))), [], 'only where it is allowed');
});

void test('auto-converge: released when the guest stands still, and while nothing is sent', async (t) => {
  const options = { autoConverge: true };
  const throttled = [joined, ...aRound(0), ...aRound(1), ...aRound(2)];
  const stopped = run(options, [...throttled, ...aRound(3, dirtyCollected(0))]);
  t.equal(stopped.state.kind, 'Pausing');
  t.same(kinds(stopped), ['tellRound', 'arm', 'pauseGuest', 'throttle']);
  t.same(throttles(stopped), [0]);
  const broken = run(options, [...throttled, lost]);
  t.same(kinds(broken), ['disarm', 'throttle', 'reconnect']);
  t.same(throttles(broken), [0]);
  const { outage } = broken.state as Extract<State, { kind: 'Reconnecting' }>;
  const again = stepSource({ ...joining(planWith(options)), outage } as State, joined);
  t.same(throttles(again), [20], 'the next session goes on with it');
});

void test('auto-converge: a guest that is too fast for the link converges, and not without', async (t) => {
  const world = {
    memoryBytes: 256 * MiB,
    linkBps: () => 50e6,
    writeBps: () => 150e6,
    workingSetBytes: 128 * MiB,
  };
  t.match(simulate(world, {}).state, { kind: 'Aborting', code: 'NOT_CONVERGING' });
  const ended = simulate(world, { autoConverge: true });
  t.equal(ended.state.kind, 'Pausing');
  const steps = throttles(ended);
  t.same(steps.slice(0, 3), [20, 30, 40]);
  t.equal(steps.at(-1), 0);
});

void test('the time is over in a round: the guest is stopped, what is left is sent', async (t) => {
  const points = [[joined], [joined, sent], [joined, sent, arrived(0)]];
  for (const events of points) {
    const before = run(PAUSE, events).state.kind;
    const over = run(PAUSE, [...events, timePassed]);
    t.equal(over.state.kind, before);
    t.same(kinds(over), ['holdGuest'], before);
    const broken = run(PAUSE, [...events, timePassed, lost]);
    t.match(broken.state, { kind: 'Aborting', code: 'CHANNEL_LOST' }, 'it waits for no network');
  }
  const over = [joined, timePassed];
  const more = run(PAUSE, [...over, ...aRound(0)]);
  t.match(more.state, { kind: 'SendingRound', round: 1 }, 'what was written before goes first');
  const stopped = run(PAUSE, [...over, ...aRound(0), ...aRound(1, dirtyCollected(0))]);
  t.equal(stopped.state.kind, 'Pausing');
  t.match(stopped.effects.at(-1), { kind: 'pauseGuest', why: 'timeout' });
});

void test('the time is over while the guest is throttled and paced: neither lasts', async (t) => {
  const options = { ...PAUSE, timeoutMs: 60_000, deadlineMs: 60_000, autoConverge: true };
  const over = run(options, [joined, timePassed]);
  t.same(kinds(over), ['pace', 'holdGuest']);
  const late = run(options, [joined, timePassed, { ...progress(1), elapsedMs: 1e6 }]);
  t.same(late.effects, []);
  const throttled = run({ ...PAUSE, autoConverge: true }, [
    joined,
    ...aRound(0),
    ...aRound(1),
    ...aRound(2),
    timePassed,
  ]);
  t.same(kinds(throttled), ['holdGuest', 'throttle']);
});

const progress = (pages: number): Extract<Event, { kind: 'progressed' }> => ({
  kind: 'progressed',
  pages,
  bytesSent: pages * PAGE_BYTES,
  remainingPages: PAGES - pages,
  elapsedMs: 0,
});

void test('the time is over where no page is on its way', async (t) => {
  const first = startSource(planWith(PAUSE));
  const code: Code = 'TIMEOUT';
  t.match(stepSource(first, timePassed).state, { kind: 'Aborting', code });
  t.match(run(PAUSE, [timePassed]).state, { kind: 'Aborting', code }, 'nothing was sent yet');
  const waiting = run(PAUSE, [joined, lost, timePassed]);
  t.equal(waiting.state.kind, 'Reconnecting');
  const { outage } = waiting.state as Extract<State, { kind: 'Reconnecting' }>;
  const again = stepSource({ ...joining(planWith(PAUSE)), outage } as State, joined);
  t.match(again.effects, [{ kind: 'disarm' }, { kind: 'holdGuest' }, { kind: 'sendRound' }]);
  const pausing = run(PAUSE, [joined, ...aRound(0, dirtyCollected(0)), timePassed]);
  t.equal(pausing.state.kind, 'Pausing');
  t.same(pausing.effects, [], 'it stands still already');
});

const contradiction = (options: object): string | undefined =>
  contradictionIn(migrateOptionsSchema.parse({ vm: 'vm1', to: 'host-b', ...options }));

void test('options that contradict themselves', async (t) => {
  t.equal(contradiction({}), undefined);
  t.equal(contradiction({ timeoutMs: 1000, onTimeout: 'pause', deadlineMs: 1000 }), undefined);
  t.match(contradiction({ onTimeout: 'pause' }), /without a timeout/);
  t.match(contradiction({ timeoutMs: 999, deadlineMs: 1000 }), /before the deadline/);
});
