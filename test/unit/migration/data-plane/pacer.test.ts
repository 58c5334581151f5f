/** A channel kept to a rate, in virtual time. */
import { test } from 'tap';
import type { Clock } from '../../../../src/base/ports.ts';
import { Pacer } from '../../../../src/migration/data-plane/pacer.ts';

/** Time passes only while somebody waits for it. */
class Waiting implements Clock {
  #now = 0;
  now = (): number => this.#now;
  wall = (): number => 0;
  after(delayMs: number, fire: () => void) {
    let isCancelled = false;
    queueMicrotask(() => {
      if (isCancelled) return;
      this.#now += delayMs;
      fire();
    });
    return { cancel: () => void (isCancelled = true) };
  }
}

/** How long it takes to send `records` of 256 KiB; the limit is set again before each. */
async function sendingMs(records: number, limitBps: (record: number) => number | undefined) {
  const clock = new Waiting();
  const pacer = new Pacer(clock);
  for (let record = 0; record < records; record += 1) {
    pacer.setLimit(limitBps(record));
    await pacer.take(256 * 1024);
  }
  await pacer.take(0);
  return clock.now();
}

void test('a rate is kept', async (t) => {
  t.equal(await sendingMs(16, () => 4 * 1024 * 1024), 1000);
  t.equal(await sendingMs(16, () => undefined), 0);
});

void test('a rate that is set often is kept as well: what is owed stays owed', async (t) => {
  const rates = [4, 8].map((mib) => mib * 1024 * 1024);
  const ms = await sendingMs(16, (record) => rates[record % 2]);
  t.ok(ms > 700 && ms < 730, `${ms} ms: seven records at the one, nine at the other`);
  t.equal(await sendingMs(16, (record) => (record < 8 ? undefined : rates[0])), 500);
});
