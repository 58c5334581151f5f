/** Links that the other host opens about a handover: as src/migration/handover/reception.ts. */
import { EARLY_WORDS_MAX, HANDOVER_WORD_MS_MAX } from '../../src/base/limits.ts';
import { lastWord } from '../../src/migration/handover/last-word.ts';
import { sayDeleted, type Say } from '../../src/protocol/handover/matter.ts';
import type { Message, MessageOf } from '../../src/protocol/messages.ts';
import { activatedStatement, finalStatement, type Subject } from '../../src/protocol/statement.ts';
import type { MigrationRecord } from '../../src/store/records.ts';
import type { Daemon } from './daemon.ts';
import { migrationIn } from './disk.ts';
import type { End } from './network.ts';
import { isSignedBy, sign } from './signature.ts';

type Hear = (message: Message) => void;

export function receiveHandover(daemon: Daemon, link: End): void {
  const early: Message[] = [];
  let isAsked = false;
  const limit = daemon.clock.after(HANDOVER_WORD_MS_MAX, () => link.close());
  const close = () => {
    limit.cancel();
    link.close();
  };
  const message = (received: Message) => {
    if (isAsked) {
      early.push(received);
      if (early.length > EARLY_WORDS_MAX) close();
      return;
    }
    isAsked = true;
    if (received.type !== 'RESOLVE') {
      close();
      return;
    }
    const serve = (isSo: boolean) => {
      const hear = isSo ? answer(daemon, link, received.migrationId) : undefined;
      limit.cancel();
      if (hear === undefined) link.close();
      else for (const word of early) hear(word);
    };
    afterSession(daemon, link, received.migrationId, () => daemon.confirm(serve));
  };
  link.listen({ message, closed: close });
}

/** A session that the other host has left ends first. */
function afterSession(daemon: Daemon, link: End, migrationId: string, then: () => void): void {
  const session = daemon.sessionOf(migrationId);
  if (session?.peer !== link.peer) {
    then();
    return;
  }
  session.peerReturned();
  session.onEnded(then);
}

/** Who hears the words of this link from now on; undefined when nobody does. */
function answer(daemon: Daemon, link: End, migrationId: string): Hear | undefined {
  const record = daemon.isBlank ? undefined : migrationIn(daemon.machine.disk.seen, migrationId);
  if (record === undefined) {
    link.send({ type: 'UNKNOWN' });
    return undefined;
  }
  const handover = daemon.handovers.get(migrationId);
  if (handover !== undefined) {
    handover.accept(link);
    return (message) => handover.hear(message);
  }
  const word = lastWord(record);
  // What is being conceded is not on disk yet.
  const isConceding = record.state === 'gone' && daemon.isClaimed;
  if (word === undefined || isConceding) return undefined;
  const say = ({ message, statement }: Say) => daemon.say(link, message, statement, migrationId);
  const hear = (message: Message) => {
    if (message.type === 'ACTIVATED') concede(daemon, link, record, message, () => say(word), say);
    else say(word);
  };
  const limit = daemon.clock.after(HANDOVER_WORD_MS_MAX, () => link.close());
  link.listen({ message: hear, closed: () => limit.cancel() });
  return hear;
}

/** The destination runs by an operator's statement what was never surrendered here: concession.ts. */
function concede(
  daemon: Daemon,
  link: End,
  record: MigrationRecord,
  { final, signature: activation }: MessageOf<'ACTIVATED'>,
  refuse: () => void,
  agree: (say: Say) => void,
): void {
  const { migrationId, direction, state, from, to } = record;
  const { vm } = daemon.machine.disk.seen;
  const isOurs = direction === 'outgoing' && state === 'aborted' && vm?.state === 'active';
  if (!isOurs) {
    refuse();
    return;
  }
  const subject: Subject = { migrationId, vmId: vm.vmId, epoch: vm.epoch, from, to };
  if (!isSignedBy(link.peer, activatedStatement(subject), activation)) {
    refuse();
    return;
  }
  if (final === null) {
    refuse();
    return;
  }
  const { transcriptDigest, stateBytes, memoryDigest } = final;
  const sent = finalStatement(subject, transcriptDigest, stateBytes, memoryDigest);
  if (!isSignedBy(daemon.name, sent, final.signature)) {
    refuse();
    return;
  }
  // It is being conceded: no word, until it is.
  if (daemon.isClaimed) {
    link.close();
    return;
  }
  if (daemon.machine.guest !== undefined) {
    refuse();
    return;
  }
  const release = daemon.claim();
  const about = { vmId: vm.vmId, epoch: vm.epoch, transcriptDigest };
  daemon.destroyForGood(migrationId, activation, (facts) => {
    if (facts === undefined) {
      release();
      link.close();
      return;
    }
    const said = sayDeleted(subject, facts);
    const { statement } = said;
    const signature = sign(daemon.name, statement);
    const proof = { activation, facts, statement, signature };
    const change = daemon.build.journal.gone(
      {
        vm: { ...vm, state: 'surrendered', migrationId },
        migration: { ...record, handover: about },
      },
      proof,
    );
    daemon.writeAtLast(
      () => change,
      () => {
        release();
        agree(said);
      },
    );
  });
}
