/** Both hosts of a handover open a link at once: what is said on the one is not lost to the other. */
import { setImmediate } from 'node:timers/promises';
import { test } from 'tap';
import { BACK_OFF_MS_MIN } from '../../../src/base/limits.ts';
import type { Conversation } from '../../../src/migration/conversation.ts';
import type { SourceDone } from '../../../src/protocol/handover/source.ts';
import { activatedStatement, receiptStatement } from '../../../src/protocol/statement.ts';
import { digest, Hours, PretendLink, signed, sourceHandover, subject } from './pretend-handover.ts';

type Opening = PromiseWithResolvers<Conversation>;
const ENDS: Readonly<Record<string, (opening: Opening, ours: PretendLink) => void>> = {
  'opens after all': (opening, ours) => opening.resolve(ours.link),
  fails: (opening) => opening.reject(new Error('refused')),
};

for (const [what, end] of Object.entries(ENDS)) {
  void test(`theirs came while ours was being opened, and ours ${what}`, async (t) => {
    const clock = new Hours();
    const opening: Opening = Promise.withResolvers();
    const works: string[] = [];
    const handover = sourceHandover({ clock, connect: () => opening.promise }, (effect) => {
      works.push(effect.kind);
      return Promise.withResolvers<SourceDone>().promise;
    });
    clock.pass(BACK_OFF_MS_MIN);
    const [theirs, ours] = [new PretendLink(), new PretendLink()];
    handover.accept(theirs.link);
    theirs.hears({ type: 'DONE', signature: signed(receiptStatement(subject, digest)) });
    t.same(theirs.said, ['SURRENDER']);

    end(opening, ours);
    await setImmediate();
    t.equal(handover.state, 'AwaitingActivated');
    t.notOk(theirs.isClosed, 'what is said there is heard');
    const signature = signed(activatedStatement(subject));
    theirs.hears({ type: 'ACTIVATED', final: null, signature });
    t.same(works, ['deleteGuest']);
    t.same(ours.said, []);
    handover.stop();
  });
}
