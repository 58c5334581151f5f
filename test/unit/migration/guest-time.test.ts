/** What throttling costs a guest. */
import { test } from 'tap';
import { GuestTime } from '../../../src/migration/guest-time.ts';

void test('each step costs its share of the time that it held', async (t) => {
  let now = 1000;
  const time = new GuestTime({
    now: () => now,
    wall: () => 0,
    after: () => ({ cancel: () => {} }),
  });
  const later = (ms: number, percent: number) => {
    now += ms;
    time.throttled(percent);
  };
  later(500, 20);
  later(1000, 50);
  t.equal(time.percent, 50);
  later(100, 0);
  later(5000, 0);
  t.same(time.lost, { maxPercent: 50, guestMsLost: 250 });
  t.equal(time.percent, 0);
});
