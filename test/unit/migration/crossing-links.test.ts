/** Both hosts of a handover open a link at once: what is said on the one is not lost to the other. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { test } from 'tap';
import type { Clock } from '../../../src/base/ports.ts';
import type { Conversation, Listener } from '../../../src/migration/conversation.ts';
import { Handover } from '../../../src/migration/handover/handover.ts';
import {
  beginSourceHandover,
  stepSourceHandover,
  type SourceDone,
  type SourceState,
  type SourceWork,
} from '../../../src/protocol/handover/source.ts';
import {
  activatedStatement,
  receiptStatement,
  type Subject,
} from '../../../src/protocol/statement.ts';

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const subject: Subject = { migrationId: 'm', vmId: 'v', epoch: 1, from: 'host-a', to: 'host-b' };

/** A link as the handover sees it, and what was done with it. */
class PretendLink {
  readonly peer = { publicKey };
  readonly said: string[] = [];
  listener: Listener | undefined;
  isClosed = false;

  listen(listener: Listener): void {
    this.listener = listener;
  }

  passTo(listener: Listener): void {
    this.listener = listener;
  }

  send({ type }: { readonly type: string }): void {
    this.said.push(type);
  }

  close(): void {
    this.isClosed = true;
  }

  get link(): Conversation {
    return this as unknown as Conversation;
  }
}

/** Timers that fire when told to. */
function stillClock(): { readonly clock: Clock; readonly fire: () => void } {
  const waiting = new Set<() => void>();
  const after: Clock['after'] = (_, timer) => {
    waiting.add(timer);
    return { cancel: () => waiting.delete(timer) };
  };
  return {
    clock: { now: () => 0, wall: () => 0, after },
    fire: () => {
      for (const timer of waiting) {
        waiting.delete(timer);
        timer();
      }
    },
  };
}

const digest = new Uint8Array(48);
const signed = (statement: Uint8Array) => sign(null, statement, privateKey);

type Opening = PromiseWithResolvers<Conversation>;
const ENDS: Readonly<Record<string, (opening: Opening, ours: PretendLink) => void>> = {
  'opens after all': (opening, ours) => opening.resolve(ours.link),
  fails: (opening) => opening.reject(new Error('refused')),
};

for (const [what, end] of Object.entries(ENDS)) {
  void test(`theirs came while ours was being opened, and ours ${what}`, async (t) => {
    const { clock, fire } = stillClock();
    const opening: Opening = Promise.withResolvers();
    const works: string[] = [];
    const handover = new Handover<SourceState, SourceWork, SourceDone>(
      {
        clock,
        random: { bytes: (count) => new Uint8Array(count) },
        hostKey: () => privateKey,
        silenceMs: 1,
        connect: () => opening.promise,
      },
      {
        begin: (matter) => beginSourceHandover(matter, 'alone'),
        step: stepSourceHandover,
        work: (effect) => {
          works.push(effect.kind);
          return Promise.withResolvers<SourceDone>().promise;
        },
      },
      { subject, transcriptDigest: digest },
    );
    fire();
    const [theirs, ours] = [new PretendLink(), new PretendLink()];
    handover.accept(theirs.link);
    const receipt = signed(receiptStatement(subject, digest));
    theirs.listener?.message({ type: 'DONE', signature: receipt });
    t.same(theirs.said, ['SURRENDER']);

    end(opening, ours);
    await setImmediate();
    t.equal(handover.state, 'AwaitingActivated');
    t.notOk(theirs.isClosed, 'what is said there is heard');
    theirs.listener?.message({
      type: 'ACTIVATED',
      final: null,
      signature: signed(activatedStatement(subject)),
    });
    t.same(works, ['deleteGuest']);
    t.same(ours.said, []);
    handover.stop();
  });
}
