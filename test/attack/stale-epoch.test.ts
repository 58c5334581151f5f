/**
 * Old copies of a VM: a host offers a VM with an epoch that was active at host-b, or an older one. It is
 * refused, also when the VM is deleted there and the daemon was started anew; a newer epoch is not.
 */
import { test } from 'tap';
import { Cluster, smallGuest } from '../process/cluster.ts';
import { HostileSource } from './hostile-source.ts';

const VM = 'vm1';

/** What host-b answers to the offer of a VM; whoever offers goes away then. */
async function answerTo(cluster: Cluster, vmId: string, epoch: number): Promise<object> {
  await using source = await HostileSource.connect(cluster, 'host-c');
  await source.attest();
  source.send(source.offer({ vmId }, { epoch }));
  const { type, ...more } = (await source.next()) ?? { type: 'nothing' };
  return 'code' in more ? { type, code: more.code } : { type };
}

void test('what ran here does not come back with its epoch, nor with an older one', async (t) => {
  await using cluster = await Cluster.start();
  cluster.pki.issue('host-c', 'host');
  await cluster.a.call('vm.create', smallGuest(VM));
  t.match(await cluster.a.migrate(VM, 'host-b'), { outcome: 'completed' });
  const { vmId } = await cluster.b.show(VM);
  const refused = { type: 'REFUSED', code: 'EPOCH_STALE' };
  const taken = { type: 'REFUSED', code: 'NAME_TAKEN' };
  const accepted = { type: 'ACCEPT' };

  const answers = async () => [
    await answerTo(cluster, vmId, 1),
    await answerTo(cluster, vmId, 2),
    await answerTo(cluster, vmId, 3),
  ];
  t.same(await answers(), [taken, taken, taken], 'while it runs here, under whatever name');

  t.match(await cluster.b.migrate(VM, 'host-a'), { outcome: 'completed' });
  t.same(await answers(), [refused, refused, accepted], 'when it went on');

  t.match(await cluster.a.migrate(VM, 'host-b'), { outcome: 'completed' }, 'it itself may return');
  await cluster.b.call('vm.delete', { name: VM });
  await cluster.stopHost('host-b');
  await cluster.startHost('host-b');
  t.same(await answers(), [refused, refused, refused], 'when it is deleted');
  t.same(await answerTo(cluster, vmId, 5), accepted);
});
