/** When the source stops the guest before all of it was sent, and what it then says of the rest. */
import { test } from 'tap';
import { MiB } from '../../../src/base/units.ts';
import { decide, type Progress } from '../../../src/protocol/source/convergence.ts';
import { stepSource as step } from '../../../src/protocol/source/machine.ts';
import type { Effect, Plan, State } from '../../../src/protocol/source/state.ts';
import { mayLeavePages } from '../../../src/protocol/options.ts';
import { joining, planWith } from './simulated-rounds.ts';

const JOINED = { kind: 'channelsJoined', owedPages: 1000, elapsedMs: 10 } as const;

const pauseOf = (effects: readonly Effect[]): Effect | undefined =>
  effects.find(({ kind }) => kind === 'pauseGuest');

void test('post-copy stops it as soon as the channels have joined', async (t) => {
  const { state, effects } = step(joining(planWith({ mode: 'post-copy' })), JOINED);
  t.equal(state.kind, 'Pausing');
  t.match(pauseOf(effects), { round: 0, why: 'post-copy', leavesPages: true });
});

void test('with --on-timeout post-copy nothing that was not sent ends it', async (t) => {
  const plan = planWith({ timeoutMs: 1000, onTimeout: 'post-copy' });
  const over = step(joining(plan), { kind: 'timePassed' });
  t.equal(over.state.kind, 'JoiningChannels');
  const { state, effects } = step(over.state, JOINED);
  t.equal(state.kind, 'Pausing');
  t.match(pauseOf(effects), { round: 0, why: 'timeout', leavesPages: true });
});

/** In a round of a migration with these options. */
const sending = (plan: Plan): State => step(joining(plan), JOINED).state;

void test('in a round the guest runs on, and the round under way is the last', async (t) => {
  const running = sending(planWith({ timeoutMs: 1000, onTimeout: 'post-copy' }));
  const over = step(running, { kind: 'timePassed' });
  t.notOk(over.effects.some(({ kind }) => kind === 'holdGuest'));
  const held = sending(planWith({ timeoutMs: 1000, onTimeout: 'pause' }));
  t.ok(step(held, { kind: 'timePassed' }).effects.some(({ kind }) => kind === 'holdGuest'));
});

const progress = (more: Partial<Progress>, owedAfter = 900): Progress => ({
  round: 1,
  roundsMax: 30,
  rounds: [{ owedBefore: 1000, owedAfter, isPaced: false }],
  cost: { bandwidthBps: MiB, handoverMs: 8 },
  downtimeLimitMs: 18,
  mode: 'hybrid',
  onTimeout: 'cancel',
  isTimeOver: false,
  isEarly: false,
  ...more,
});
const POST_COPY = { kind: 'post-copy', why: 'post-copy' };

void test('hybrid: rounds as long as they help, and nothing is left that fits into the downtime', async (t) => {
  t.same(decide(progress({})), POST_COPY, 'a round that left most of it');
  t.same(decide(progress({}, 700)), { kind: 'another round' });
  t.same(decide(progress({ round: 29 }, 700)), POST_COPY, 'the last one');
  t.match(decide(progress({}, 0)), { kind: 'stop-and-copy', why: 'downtime-limit' });
});

void test('the time is over: what is left is left, unless it fits', async (t) => {
  const over = { mode: 'pre-copy', onTimeout: 'post-copy', isTimeOver: true } as const;
  t.same(decide(progress(over)), { kind: 'post-copy', why: 'timeout' });
  t.same(decide(progress(over, 1)), { kind: 'stop-and-copy', why: 'timeout' });
  t.same(decide(progress({ ...over, onTimeout: 'pause' })), { kind: 'another round' });
});

const features = (options: object): readonly string[] => {
  const idle: State = { kind: 'Connecting', plan: planWith(options), outage: null };
  const [hello] = step(idle, { kind: 'connected' }).effects;
  return hello?.kind === 'send' && hello.message.type === 'HELLO' ? hello.message.features : [];
};

void test('what may leave pages is offered to the destination as such', async (t) => {
  for (const options of [
    { mode: 'post-copy' },
    { mode: 'hybrid' },
    { timeoutMs: 1000, onTimeout: 'post-copy' },
  ]) {
    t.ok(mayLeavePages(planWith(options).options));
    t.same(features(options), ['resume', 'post-copy']);
  }
  t.same(features({}), ['resume']);
});

const pull = (...ports: number[]) => ({ kind: 'PULL', message: { type: 'PULL', ports } }) as const;

void test('a session to serve says nothing that could be taken for an end', async (t) => {
  const plan: Plan = { ...planWith({ mode: 'post-copy' }), purpose: 'serve' };
  const agreed = { suite: 'aes-256-gcm+hmac-sha256', form: 'tls', channels: 1 } as const;
  const awaiting: State = {
    kind: 'AwaitingPull',
    plan,
    agreed: { ...agreed, encodings: ['zero', 'raw'], resumes: false, postCopy: true },
    outage: null,
  };
  const failed = { kind: 'failed', code: 'CHANNEL_LOST', detail: '' } as const;
  for (const event of [failed, pull(7000), { kind: 'deadlinePassed' } as const]) {
    const { state, effects } = step(awaiting, event);
    t.equal(state.kind, 'Aborting');
    t.notOk(
      effects.some(({ kind }) => kind === 'sendSigned'),
      'no ABORT',
    );
  }
  const { state } = step(awaiting, pull(7000, 7001));
  t.equal(step(state, JOINED).state.kind, 'Joined');
});
