/** How long and how often a broken session is tried to be followed by another; and where both stand. */
import { test } from 'tap';
import { BACK_OFF_MS_MIN, RECONNECT_WAIT_MS_MAX } from '../../../src/base/limits.ts';
import type { Clock } from '../../../src/base/ports.ts';
import { standingAfter } from '../../../src/migration/held-transfer.ts';
import { Outage } from '../../../src/migration/outage.ts';
import { originAt, standingAt } from '../../../src/migration/standing.ts';
import { NO_COUNTS } from '../../../src/pages/encodings/counts.ts';

/** Time passes only as far as the next timer. */
class Timers implements Clock {
  readonly #waiting: { readonly at: number; readonly fire: () => void }[] = [];
  #now = 0;

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now;
  }

  after(delayMs: number, fire: () => void): { cancel: () => void } {
    const timer = { at: this.#now + delayMs, fire };
    this.#waiting.push(timer);
    return { cancel: () => void this.#waiting.splice(this.#waiting.indexOf(timer), 1) };
  }

  /** How long the next timer made wait. */
  pass(): number {
    const timer = this.#waiting.shift();
    if (timer === undefined) throw new Error('nothing waits');
    const waitedMs = timer.at - this.#now;
    this.#now = timer.at;
    timer.fire();
    return waitedMs;
  }
}

const random = { bytes: (count: number) => new Uint8Array(count).fill(255) };

void test('waits that double, up to a bound, until the time is over', async (t) => {
  const clock = new Timers();
  const outage = new Outage({ clock, random }, 10_000);
  t.equal(outage.leftMs, Number.POSITIVE_INFINITY, 'there is none');
  outage.begin();
  t.equal(outage.leftMs, 10_000);
  const waits: number[] = [];
  for (let isDue = true; isDue;) {
    outage.begin();
    const next = outage.next();
    waits.push(clock.pass());
    isDue = await next;
  }
  t.equal(waits[0], BACK_OFF_MS_MIN);
  t.equal(waits[1], 2 * BACK_OFF_MS_MIN);
  t.equal(Math.max(...waits), RECONNECT_WAIT_MS_MAX);
  t.ok(clock.now() >= 10_000 && clock.now() < 10_000 + RECONNECT_WAIT_MS_MAX);
  t.notOk(await outage.next(), 'nor later');
});

void test('the time of each outage is its own', async (t) => {
  const clock = new Timers();
  const outage = new Outage({ clock, random }, 1_000);
  for (let i = 0; i < 20; i += 1) {
    outage.begin();
    const next = outage.next();
    t.equal(clock.pass(), BACK_OFF_MS_MIN, 'from the first wait again');
    t.ok(await next);
    outage.end();
  }
});

void test('given up: at once, and before it began to wait', async (t) => {
  const clock = new Timers();
  const waiting = new Outage({ clock, random }, 1_000);
  waiting.begin();
  const next = waiting.next();
  waiting.giveUp();
  t.notOk(await next);
  const early = new Outage({ clock, random }, 1_000);
  early.begin();
  early.giveUp();
  t.notOk(await early.next());
});

const ID = '01890a5d-ac96-774b-bcce-b302099a8057';
const extents = (...pages: number[]) =>
  pages.map((count) => ({ pages: count, zeroPages: 0, bytes: count * 4096, counts: NO_COUNTS }));

void test('a session of which nothing counts leaves things as they stood', async (t) => {
  t.equal(standingAfter(ID, null, 0, extents(0, 0)), null, 'the memory is as fresh as it was');
  const first = standingAfter(ID, null, 0, extents(3, 0));
  t.match(first?.point, { round: 0, accepted: [3, 0] });
  t.match(originAt(first), { round: 1 });
  t.equal(standingAfter(ID, first, 1, extents(0)), first, 'whatever its channels');
  const second = standingAfter(ID, first, 2, extents(0));
  t.match(second?.point, { round: 2, accepted: [0] }, 'a round that was confirmed counts');
  t.equal(originAt(null), undefined);
});

void test('both sides know the same lineage, and no other', async (t) => {
  const first = standingAt(ID, null, { round: 0, accepted: [3] });
  const second = standingAt(ID, first, { round: 1, accepted: [4] });
  t.same(standingAfter(ID, first, 1, extents(4)), second);
  t.equal(second.lineage.length, 48);
  t.notSame(standingAt(ID, null, { round: 1, accepted: [4] }).lineage, second.lineage);
});
