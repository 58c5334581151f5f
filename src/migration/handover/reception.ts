/**
 * Links that other hosts open about a handover: who it is, about which migration, and who answers.
 * A migration that is settled here is answered with its last word, from its record.
 */
import { sign, type KeyObject } from 'node:crypto';
import { EARLY_WORDS_MAX, HANDOVER_WORD_MS_MAX } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/ports.ts';
import type { Say } from '../../protocol/handover/matter.ts';
import type { Message } from '../../protocol/messages.ts';
import type { MigrationRecord, RecordStore } from '../../store/records.ts';
import type { ControlChannel } from '../../transport/control.ts';
import { Conversation } from '../conversation.ts';
import type { Inventory } from '../inventory.ts';
import { concede } from './concession.ts';
import type { Handovers } from './handovers.ts';
import { lastWord } from './last-word.ts';

/** A session that still holds on to a connection which the other host has left. */
export interface Session {
  /** The host at its other end. */
  readonly peer: string;
  /** Ends, or goes on without that connection. */
  peerReturned(): void;
  readonly ended: Promise<unknown>;
}

export interface ReceptionParts {
  readonly store: RecordStore;
  readonly handovers: Handovers;
  readonly inventory: Inventory;
  readonly clock: Clock;
  readonly random: Random;
  readonly silenceMs: number;
  readonly hostKey: () => KeyObject;
  readonly sessionOf: (migrationId: string) => Session | undefined;
}

/** Serves one link to its end. Never throws. */
export function receiveHandover(parts: ReceptionParts, channel: ControlChannel): void {
  const { clock, silenceMs } = parts;
  const link = new Conversation(channel, 'destination');
  const limit = clock.after(HANDOVER_WORD_MS_MAX, () => link.close());
  const early: Message[] = [];
  let isAsked = false;
  const close = () => {
    limit.cancel();
    link.close();
  };
  const message = (received: Message) => {
    if (isAsked) early.push(received);
    if (early.length > EARLY_WORDS_MAX) close();
    if (isAsked) return;
    isAsked = true;
    if (received.type !== 'RESOLVE') {
      close();
      return;
    }
    void serve(received.migrationId);
  };
  const serve = async (migrationId: string): Promise<void> => {
    const hear = await answer(parts, link, migrationId).catch(() => undefined);
    limit.cancel();
    if (hear === undefined) link.close();
    else for (const word of early) hear(word);
  };
  link.listen({ message, broken: close, closed: close }, clock, silenceMs);
}

type Hear = (message: Message) => void;

/** Who hears the words of this link from now on; undefined when nobody does. */
async function answer(
  parts: ReceptionParts,
  link: Conversation,
  migrationId: string,
): Promise<Hear | undefined> {
  const { store, handovers, sessionOf } = parts;
  const session = sessionOf(migrationId);
  if (session?.peer === link.peer.name) {
    session.peerReturned();
    await session.ended;
  }
  // What is said is what a crash of ours would find.
  await store.confirm();
  const record = store.migration(migrationId);
  if (record === undefined) {
    link.send({ type: 'UNKNOWN' });
    return undefined;
  }
  const other = record.direction === 'outgoing' ? record.to : record.from;
  if (other !== link.peer.name) return undefined;
  const handover = handovers.get(migrationId);
  if (handover === undefined) return settled(parts, link, record);
  handover.accept(link);
  return (message) => handover.hear(message);
}

/** Whatever is said, the answer is the last word: which an activation may change once more. */
function settled(
  parts: ReceptionParts,
  link: Conversation,
  record: MigrationRecord,
): Hear | undefined {
  const word = lastWord(record);
  if (word === undefined) return undefined;
  const say = ({ message, statement }: Say) =>
    link.send({ ...message, signature: sign(null, statement, parts.hostKey()) });
  const reply = async (message: Message): Promise<void> => {
    const conceded =
      message.type === 'ACTIVATED' ? await concede(parts, link, record, message) : undefined;
    say(conceded ?? word);
  };
  const hear = (message: Message) => void reply(message).catch(() => link.close());
  const limit = parts.clock.after(HANDOVER_WORD_MS_MAX, () => link.close());
  const ended = () => limit.cancel();
  link.passTo({ message: hear, broken: () => link.close(), closed: ended });
  return hear;
}
