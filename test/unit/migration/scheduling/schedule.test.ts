/** Whose turn it is: limits, turns, destinations that are full; and, of any history, that nobody is forgotten. */
import * as fc from 'fast-check';
import { test } from 'tap';
import {
  BUSY_WAIT_MS_MAX,
  BUSY_WAIT_MS_MIN,
  PRIORITY_STEP_MS,
} from '../../../../src/base/limits.ts';
import { Schedule, type Request } from '../../../../src/migration/scheduling/schedule.ts';

const LIMITS = { outgoingMax: 2, perPeerMax: 2, queueMax: 100, busyMs: 60_000 };

const request = (id: string, more: Partial<Request> = {}): Request => ({
  id,
  to: 'host-b',
  priority: 5,
  atMs: 0,
  ...more,
});

/** All that may begin now, in order. */
function begun(schedule: Schedule, nowMs = 0): string[] {
  const ids: string[] = [];
  for (;;) {
    const next = schedule.next(nowMs);
    if (next === undefined) return ids;
    ids.push(next.id);
  }
}

function scheduleOf(requests: readonly Request[], limits: Partial<typeof LIMITS> = {}): Schedule {
  const schedule = new Schedule({ ...LIMITS, ...limits });
  for (const each of requests) schedule.add(each, each.atMs);
  return schedule;
}

void test('as many begin as may, the others when one has ended, in order of their turns', (t) => {
  const schedule = scheduleOf([
    request('first'),
    request('second'),
    request('low', { priority: 4 }),
    request('third'),
    request('high', { priority: 6, atMs: 1 }),
  ]);
  t.same(begun(schedule), ['high', 'first'], 'whoever was there before anything began');
  t.equal(schedule.placeOf('high'), undefined);
  t.equal(schedule.placeOf('second'), 1);
  t.equal(schedule.placeOf('low'), 3);
  t.same(begun(schedule), []);
  schedule.ended('high');
  t.same(begun(schedule), ['second']);
  schedule.ended('third');
  t.same(begun(schedule), [], 'one that waited and went frees no place');
  schedule.ended('first');
  t.same(begun(schedule), ['low']);
  schedule.ended('never heard of');
  t.end();
});

void test('waiting makes up for a priority', (t) => {
  const old = request('old', { priority: 2, atMs: 0 });
  const sameTurn = request('young', { priority: 3, atMs: PRIORITY_STEP_MS });
  t.same(begun(scheduleOf([old, sameTurn])), ['old', 'young'], 'the same turn: who came first');
  const sooner = { ...sameTurn, atMs: PRIORITY_STEP_MS - 1 };
  t.same(begun(scheduleOf([old, sooner])), ['young', 'old']);
  t.end();
});

void test('a full destination holds up nobody who goes elsewhere', (t) => {
  const schedule = scheduleOf(
    [request('b1'), request('b2'), request('c1', { to: 'host-c' }), request('b3')],
    { outgoingMax: 3, perPeerMax: 1 },
  );
  t.same(begun(schedule), ['b1', 'c1']);
  schedule.ended('c1');
  t.same(begun(schedule), []);
  schedule.ended('b1');
  t.same(begun(schedule), ['b2']);
  t.end();
});

void test('the queue is bounded; who begins at once does not wait', (t) => {
  const limits = { outgoingMax: 1, queueMax: 1 };
  const schedule = scheduleOf([request('a')], limits);
  begun(schedule);
  schedule.add(request('b'), 0);
  t.throws(() => schedule.add(request('c'), 0), { code: 'QUEUE_FULL' });
  t.equal(schedule.placeOf('c'), undefined);
  schedule.ended('b');
  schedule.add(request('c'), 0);
  const none = scheduleOf([request('a')], { ...limits, queueMax: 0 });
  t.same(begun(none), ['a']);
  t.throws(() => none.add(request('b'), 0), { code: 'QUEUE_FULL' });
  t.end();
});

void test('a destination that is busy is tried by one alone, in waits that double', (t) => {
  const ids = ['b1', 'b2', 'b3'];
  const schedule = scheduleOf([...ids.map((id) => request(id)), request('c1', { to: 'host-c' })], {
    outgoingMax: 9,
    perPeerMax: 9,
    busyMs: 1e9,
  });
  t.same(begun(schedule), [...ids, 'c1']);
  for (const id of ids.slice(0, 2)) {
    t.ok(schedule.refused(id, 0, 1));
    schedule.comeBack(id);
  }
  schedule.admitted('b3');
  t.same(begun(schedule), ['b1', 'b2'], 'a place for one may be places for more');
  let nowMs = 0;
  t.ok(schedule.refused('b1', nowMs, 1) && schedule.refused('b2', nowMs, 0.5));
  schedule.comeBack('b1');
  t.same(begun(schedule, nowMs), [], 'it has just said so');
  schedule.comeBack('b2');
  for (let waitMs = BUSY_WAIT_MS_MIN; waitMs < BUSY_WAIT_MS_MAX; waitMs *= 2) {
    nowMs = schedule.nextMs(nowMs) ?? 0;
    t.same(begun(schedule, nowMs - 1), []);
    t.same(begun(schedule, nowMs), ['b1'], 'the one whose turn it is');
    t.ok(schedule.refused('b1', nowMs, 1));
    schedule.comeBack('b1');
  }
  t.equal((schedule.nextMs(nowMs) ?? 0) - nowMs, BUSY_WAIT_MS_MAX);
  schedule.ended('b3');
  t.same(begun(schedule, nowMs), ['b1'], 'one of ours gave its place back');
  schedule.admitted('b1');
  t.same(begun(schedule, nowMs), ['b2']);
  t.equal(schedule.nextMs(0), undefined);
  t.end();
});

void test('nobody waits for a busy destination for longer than he may', (t) => {
  const schedule = scheduleOf([request('old'), request('young', { atMs: 30_000 })], {
    outgoingMax: 1,
  });
  t.same(begun(schedule), ['old']);
  t.ok(schedule.refused('old', 0, 1));
  schedule.comeBack('old');
  t.same(begun(schedule, 59_999), ['old']);
  t.ok(schedule.refused('old', 59_999, 1));
  schedule.comeBack('old');
  t.same(begun(schedule, 70_000), ['old']);
  t.notOk(schedule.refused('old', 70_000, 1));
  schedule.ended('old');
  t.same(begun(schedule, 70_000), ['young'], 'the next hears it soon');
  t.ok(schedule.refused('young', 70_000, 1), 'and has waited for less');
  schedule.comeBack('young');
  schedule.ended('young');
  schedule.add(request('later', { atMs: 70_001 }), 70_001);
  t.same(begun(schedule, 70_001), ['later'], 'what nobody waits for is forgotten');
  t.notOk(scheduleOf([], { busyMs: 0 }).refused('later', 0, 1));
  t.end();
});

const turn = ({ atMs, priority }: Request): number => atMs - priority * PRIORITY_STEP_MS;

type Step =
  | { readonly kind: 'add'; readonly to: string; readonly priority: number }
  | { readonly kind: 'admit' | 'refuse' | 'end' | 'withdraw'; readonly which: number }
  | { readonly kind: 'pass'; readonly ms: number };

const PEERS = ['host-b', 'host-c', 'host-d'];
const which = fc.nat();
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('add' as const),
      to: fc.constantFrom(...PEERS),
      priority: fc.integer({ min: 0, max: 9 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('admit', 'refuse', 'end', 'withdraw'),
      which,
    }),
  },
  fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 0, max: 100_000 }) }),
);
const limits = fc.record({
  outgoingMax: fc.integer({ min: 1, max: 4 }),
  perPeerMax: fc.integer({ min: 1, max: 4 }),
  queueMax: fc.constant(1000),
  busyMs: fc.constantFrom(0, 60_000, 1e9),
});

/** The schedule, and beside it what must be true of it, kept in the plainest way. */
class Model {
  readonly #limits: typeof LIMITS;
  readonly #schedule: Schedule;
  readonly waiting = new Map<string, Request>();
  readonly leaving = new Map<string, Request>();
  /** Destinations that said no since they last admitted one of ours. */
  readonly #busy = new Set<string>();
  nowMs = 0;
  #added = 0;

  constructor(of: typeof LIMITS) {
    this.#limits = of;
    this.#schedule = new Schedule(of);
  }

  take(taken: Step): void {
    switch (taken.kind) {
      case 'add': {
        this.#added += 1;
        const { to, priority } = taken;
        const added = { id: `vm${this.#added}`, to, priority, atMs: this.nowMs };
        this.#schedule.add(added, this.nowMs);
        this.waiting.set(added.id, added);
        break;
      }
      case 'pass':
        this.nowMs += taken.ms;
        break;
      case 'admit':
      case 'refuse':
      case 'end':
      case 'withdraw':
        this.#happen(taken.kind, taken.which);
    }
    this.#begin();
  }

  #happen(kind: 'admit' | 'refuse' | 'end' | 'withdraw', at: number): void {
    const from = kind === 'withdraw' ? this.waiting : this.leaving;
    const chosen = [...from.values()][at % Math.max(from.size, 1)];
    if (chosen === undefined) return;
    const { id, to } = chosen;
    if (kind === 'admit') {
      this.#schedule.admitted(id);
      this.#busy.delete(to);
      return;
    }
    if (kind === 'refuse') this.#busy.add(to);
    from.delete(id);
    if (kind === 'refuse' && this.#schedule.refused(id, this.nowMs, 1)) {
      this.#schedule.comeBack(id);
      this.waiting.set(id, chosen);
    } else {
      this.#schedule.ended(id);
    }
    const left = [...this.waiting.values(), ...this.leaving.values()];
    if (!left.some((other) => other.to === to)) this.#busy.delete(to);
  }

  /** Begins what may, and looks at each whether it is its turn. */
  #begin(): void {
    for (;;) {
      const next = this.#schedule.next(this.nowMs);
      if (next === undefined) break;
      if (!this.waiting.delete(next.id)) throw new Error(`${next.id} did not wait`);
      const passed = [...this.waiting.values()].find(
        (it) => it.to === next.to && turn(it) < turn(next),
      );
      if (passed !== undefined) throw new Error(`${next.id} passed ${passed.id}`);
      this.leaving.set(next.id, next);
    }
    if (this.leaving.size > this.#limits.outgoingMax) throw new Error('too many');
    for (const peer of PEERS) {
      if (this.#countTo(peer) > this.#limits.perPeerMax) throw new Error(`too many to ${peer}`);
    }
    if (this.leaving.size === this.#limits.outgoingMax) return;
    for (const { id, to } of this.waiting.values()) {
      if (this.#countTo(to) < this.#limits.perPeerMax && !this.#busy.has(to)) {
        throw new Error(`${id} waits for nothing`);
      }
    }
  }

  #countTo(peer: string): number {
    return [...this.leaving.values()].filter(({ to }) => to === peer).length;
  }
}

void test('of any history: no limit is passed, no turn is missed, everyone gets his', (t) => {
  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 60 }), (of, steps) => {
      const model = new Model(of);
      for (const each of steps) model.take(each);
      // Destinations have places from now on, and what leaves ends.
      for (let left = steps.length + 1; left > 0; left -= 1) {
        model.take({ kind: 'pass', ms: BUSY_WAIT_MS_MAX });
        model.take({ kind: 'admit', which: 0 });
        model.take({ kind: 'end', which: 0 });
      }
      return model.waiting.size === 0 && model.leaving.size === 0;
    }),
    { numRuns: 500 },
  );
  t.end();
});

void test('nobody starves: who came later by all steps of priority comes later', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 9 }),
      fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 40, maxLength: 60 }),
      (priority, gaps) => {
        const schedule = scheduleOf([request('busy'), request('meek', { priority })], {
          outgoingMax: 1,
        });
        const order = begun(schedule);
        const boundMs = (9 - priority) * PRIORITY_STEP_MS;
        let nowMs = 0;
        for (const [i, gapMs] of gaps.entries()) {
          nowMs += gapMs;
          // Two of the highest priority for each that ends: the queue only grows.
          for (const j of [0, 1]) {
            schedule.add(request(`${i}-${j}`, { priority: 9, atMs: nowMs }), nowMs);
          }
          schedule.ended(order.at(-1) ?? '');
          order.push(...begun(schedule, nowMs));
          if (order.includes('meek')) return true;
          const before = order.slice(1).map((id) => Number(id.split('-')[0]));
          const arrivedMs = (at: number) => gaps.slice(0, at + 1).reduce((a, b) => a + b, 0);
          if (before.some((at) => arrivedMs(at) >= boundMs)) return false;
        }
        return true;
      },
    ),
  );
  t.end();
});
