/** A migration's bandwidth: the least of what is asked, in every session. */
import { test } from 'tap';
import { BandwidthLimit } from '../../../src/migration/bandwidth-limit.ts';

function limited() {
  const set: (number | undefined)[] = [];
  return { set, setBandwidthLimit: (bps: number | undefined) => void set.push(bps) };
}

void test('the least of what is asked holds, whoever asks first', async (t) => {
  const limit = new BandwidthLimit();
  const channels = limited();
  limit.applyTo(channels);
  t.same(channels.set, [], 'nobody asked');
  limit.ask('deadline', 5e6);
  limit.ask('operator', 8e6);
  limit.ask('deadline', 9e6);
  limit.ask('deadline', null);
  limit.ask('operator', null);
  t.same(channels.set, [5e6, 8e6, undefined]);
});

void test('it holds in the next session as well', async (t) => {
  const limit = new BandwidthLimit();
  limit.ask('operator', 8e6);
  const [first, second] = [limited(), limited()];
  limit.applyTo(first);
  limit.ask('deadline', 5e6);
  limit.applyTo(second);
  limit.ask('deadline', 6e6);
  t.same(first.set, [8e6, 5e6]);
  t.same(second.set, [5e6, 6e6]);
});
