/**
 * The destination runs a VM that this host never surrendered: an operator stated that we were off. Where
 * our guest is gone nothing can run that epoch here any more, and what is left of it is destroyed in
 * order; where it lives, the statement was wrong, and neither host can mend that. It must show what we
 * signed of all that we sent: who never held the VM has no say about ours.
 */
import { createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { sayDeleted, type Say } from '../../protocol/handover/matter.ts';
import type { MessageOf, SignedFinal } from '../../protocol/messages.ts';
import { activatedStatement, finalStatement, type Subject } from '../../protocol/statement.ts';
import type { MigrationRecord } from '../../store/records.ts';
import type { Conversation } from '../conversation.ts';
import { gone } from '../journal.ts';
import { writeAtLast } from '../write-at-last.ts';
import { destroyForGood } from './deletion.ts';
import type { ReceptionParts } from './reception.ts';

/**
 * The word to answer with; undefined when there is nothing to concede. Throws VM_MIGRATING while that is
 * not known yet, as when it is being conceded: no word is better than the last one, which ends the asking.
 */
export async function concede(
  parts: ReceptionParts,
  link: Conversation,
  record: MigrationRecord,
  { final, signature: activation }: MessageOf<'ACTIVATED'>,
): Promise<Say | undefined> {
  const { store, inventory, hostKey } = parts;
  if (record.direction !== 'outgoing' || record.state !== 'aborted') return undefined;
  const vm = store.vm(record.vm);
  if (vm?.state !== 'active') return undefined;
  const { migrationId, from, to } = record;
  // A VM that was taken back, or went on since, has another epoch: that activation is not of it.
  const subject: Subject = { migrationId, vmId: vm.vmId, epoch: vm.epoch, from, to };
  if (!verify(null, activatedStatement(subject), link.peer.publicKey, activation)) return undefined;
  if (final === null || !isOurWord(subject, final, createPublicKey(hostKey()))) return undefined;
  using _claim = inventory.claim(vm.name, 'VM_MIGRATING');
  if ((await inventory.find(vm.name)) !== 'gone') return undefined;
  const facts = await destroyForGood(parts, migrationId, activation);
  const say = sayDeleted(subject, facts);
  const { statement } = say;
  const proof = { activation, facts, statement, signature: sign(null, statement, hostKey()) };
  const { vmId, epoch } = vm;
  const handover = { vmId, epoch, transcriptDigest: final.transcriptDigest };
  // As if it had been surrendered: that step is left out, not another one taken.
  const surrendered = { ...vm, state: 'surrendered', migrationId } as const;
  const change = gone({ vm: surrendered, migration: { ...record, handover } }, proof);
  await writeAtLast(parts, () => change);
  return say;
}

const isOurWord = (subject: Subject, final: SignedFinal, ourKey: KeyObject): boolean => {
  const { transcriptDigest, stateBytes, memoryDigest, signature } = final;
  const statement = finalStatement(subject, transcriptDigest, stateBytes, memoryDigest);
  return verify(null, statement, ourKey, signature);
};
