/** What a daemon expects of the next handover. */
import { test } from 'tap';
import { FIRST_HANDOVER_MS, HandoverCosts } from '../../../src/migration/handover-costs.ts';

void test('the median of the last five handovers to that host', async (t) => {
  const costs = new HandoverCosts();
  t.equal(costs.expected('host-b'), FIRST_HANDOVER_MS);
  costs.learn('host-b', 20);
  t.equal(costs.expected('host-b'), 20);
  for (const ms of [6, 900, 7, 8]) costs.learn('host-b', ms);
  t.equal(costs.expected('host-b'), 8, 'one that was disturbed does not count');
  for (const ms of [4, 4, 4]) costs.learn('host-b', ms);
  t.equal(costs.expected('host-b'), 4, 'old ones are forgotten');
  t.equal(costs.expected('host-c'), FIRST_HANDOVER_MS, 'each host has its own');
});
