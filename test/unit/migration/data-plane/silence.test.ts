import { test } from 'tap';
import type { Clock } from '../../../../src/base/ports.ts';
import { Silence } from '../../../../src/migration/data-plane/silence.ts';

/** Time that goes on when told to. */
function virtualTime(): { clock: Clock; pass: (ms: number) => void } {
  let now = 0;
  const timers = new Set<{ at: number; fire: () => void }>();
  const clock: Clock = {
    now: () => now,
    wall: () => now,
    after: (delayMs, fire) => {
      const timer = { at: now + delayMs, fire };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
  };
  const pass = (ms: number) => {
    now += ms;
    for (const timer of timers) {
      if (timer.at > now) continue;
      timers.delete(timer);
      timer.fire();
    }
  };
  return { clock, pass };
}

void test('silence is told at its limit, and not before', (t) => {
  const { clock, pass } = virtualTime();
  let silent = 0;
  const silence = new Silence(clock, 100, () => (silent += 1));
  pass(500);
  t.equal(silent, 0, 'nothing is due yet');
  silence.watch(() => true);
  pass(99);
  t.equal(silent, 0);
  silence.heard();
  pass(99);
  t.equal(silent, 0, 'heard in between');
  pass(1);
  t.equal(silent, 1);
  pass(1000);
  t.equal(silent, 1, 'once');
  t.end();
});

void test('what has come is not waited for', (t) => {
  const { clock, pass } = virtualTime();
  let [silent, isDue] = [0, true];
  const silence = new Silence(clock, 100, () => (silent += 1));
  silence.watch(() => isDue);
  isDue = false;
  pass(1000);
  t.equal(silent, 0);
  isDue = true;
  silence.watch(() => isDue);
  silence.stop();
  pass(1000);
  t.equal(silent, 0, 'stopped');
  t.end();
});
