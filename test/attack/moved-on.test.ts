/**
 * A VM that goes on to a third host while its first one has not said farewell: it waits for that word,
 * or for an operator's; and a first host that takes its VM back by then destroys nothing that came later.
 */
import { test } from 'tap';
import { sayAborted, sayToken } from '../../src/protocol/handover/matter.ts';
import { eventually } from '../process/refusal.ts';
import { HostileLink, matterOf } from './hostile-link.ts';
import { destinationInDoubt } from './in-doubt.ts';

void test('who was not told farewell does not go on, but by an operator’s statement', async (t) => {
  await using it = await destinationInDoubt();
  const { cluster, api, vm, subject } = it;
  const { migrationId } = subject;
  const link = await it.links.asked(migrationId);
  await link.expect('DONE');
  link.say(sayToken(matterOf(subject, it.digest)));
  await link.expect('ACTIVATED');
  await it.silence();
  link.close();
  await cluster.startHost('host-c');
  await t.rejects(api.migrate(vm, 'host-c'), { code: 'IN_DOUBT' }, 'host-a could have it back');
  t.match(await api.show(vm), { state: 'running', epoch: 2 });

  const fenced = await api.call<object>('resolve', { migrationId, peerFenced: true });
  t.match(fenced, { fencing: { operator: String } });
  t.match(await api.migrate(vm, 'host-c'), { outcome: 'completed' });

  const back = await HostileLink.connect(cluster, 'host-a', 'host-b');
  back.send({ type: 'RESOLVE', migrationId });
  back.say(sayAborted(migrationId, 'source', 'FENCED'));
  await eventually('host-b says that there are two', async () => {
    await api.list();
    return cluster.get('host-b').log.some((line) => line.includes('TWO_LIVES'));
  });
  t.match(await api.call('history'), [{ migrationId, code: 'TWO_LIVES' }, {}]);
  const c = cluster.get('host-c').api;
  t.match(await c.migrate(vm, 'host-b'), { outcome: 'completed' }, 'it comes home');
  t.match(await api.show(vm), { state: 'running', epoch: 4 }, 'and nobody destroys it');
  const isOver = async () => (await api.call<unknown[]>('status')).length === 0;
  await eventually('nor wants to', isOver);
});
