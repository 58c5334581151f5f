/** What a handover waits for, how long, who is told of it, and what an operator can do meanwhile. */
import { setImmediate } from 'node:timers/promises';
import { test } from 'tap';
import { HANDOVER_WORD_MS_MAX, IN_DOUBT_ANSWER_MS_MAX } from '../../../src/base/limits.ts';
import { MigError } from '../../../src/protocol/error.ts';
import type { DestinationDone } from '../../../src/protocol/handover/destination.ts';
import type { SourceDone } from '../../../src/protocol/handover/source.ts';
import {
  activatedStatement,
  receiptStatement,
  tokenStatement,
} from '../../../src/protocol/statement.ts';
import {
  destinationHandover,
  digest,
  Hours,
  PretendLink,
  signed,
  sourceHandover,
  subject,
} from './pretend-handover.ts';

const receipt = { type: 'DONE', signature: signed(receiptStatement(subject, digest)) } as const;
const token = { type: 'SURRENDER', signature: signed(tokenStatement(subject, digest)) } as const;
const activated = {
  type: 'ACTIVATED',
  final: null,
  signature: signed(activatedStatement(subject)),
} as const;
const never = () => Promise.withResolvers<never>().promise;

/** Whether a promise is resolved by now. */
async function isResolved(promise: Promise<unknown>): Promise<boolean> {
  await setImmediate();
  const no = {};
  return (await Promise.race([promise, Promise.resolve(no)])) !== no;
}

void test('who says the same again and again is not waited for any longer', async (t) => {
  const clock = new Hours();
  const link = new PretendLink();
  const handover = sourceHandover({ clock, link: link.link }, never);
  for (let minute = 0; minute < 10; minute += 1) {
    clock.pass(HANDOVER_WORD_MS_MAX / 10);
    link.hears(receipt);
  }
  t.equal(handover.state, 'InDoubt');
  t.ok(link.isClosed);
  t.same(handover.cause, { code: 'PEER_SILENT', detail: 'AwaitingActivated' });
  handover.stop();
});

void test('who answers each link, and never with what is waited for, is no answer', async (t) => {
  const clock = new Hours();
  const links: PretendLink[] = [];
  const handover = sourceHandover(
    {
      clock,
      connect: () => {
        const link = new PretendLink();
        links.push(link);
        return Promise.resolve(link.link);
      },
    },
    (effect) =>
      effect.kind === 'reclaim' ? Promise.resolve<SourceDone>({ kind: 'reclaimed' }) : never(),
  );
  clock.pass(IN_DOUBT_ANSWER_MS_MAX);
  await setImmediate();
  t.ok(await isResolved(handover.unanswered), 'its operator is told');
  const [link] = links;
  t.same(link?.said, ['RESOLVE', 'SURRENDER']);
  link?.hears(receipt);
  t.equal(handover.state, 'AwaitingActivated');
  handover.fence({ operator: 'alice', atMs: 0 });
  t.ok(link?.isClosed, 'and can settle it');
  t.match(await handover.settled, { outcome: 'reclaimed', code: 'FENCED' });
});

void test('before that an operator is not to decide what the other host may be about to say', async (t) => {
  const clock = new Hours();
  const link = new PretendLink();
  const handover = sourceHandover({ clock, link: link.link }, never);
  t.throws(() => handover.fence({ operator: 'alice', atMs: 0 }), { code: 'VM_STATE' });
  handover.stop();
});

void test('what is said to nobody is not waited for', async (t) => {
  const clock = new Hours();
  const link = new PretendLink();
  const started = Promise.withResolvers<DestinationDone>();
  const handover = destinationHandover({ clock, link: link.link }, (effect) =>
    effect.kind === 'recordActive'
      ? Promise.resolve<DestinationDone>({ kind: 'activeRecorded' })
      : started.promise,
  );
  link.hears(token);
  await setImmediate();
  handover.askNow();
  started.resolve({ kind: 'guestStarted' });
  await setImmediate();
  t.equal(handover.state, 'Uncertified', 'it asks anew, and soon');
  handover.stop();
});

void test('work that fails again and again is told, and goes on when it can be done', async (t) => {
  const clock = new Hours();
  const link = new PretendLink();
  let isFull = true;
  const handover = sourceHandover({ clock, link: link.link }, ({ kind }) => {
    if (kind !== 'deleteGuest') return Promise.resolve<SourceDone>({ kind: 'goneRecorded' });
    if (isFull) return Promise.reject(new MigError('STORE_FAILED', 'ENOSPC'));
    const nothing = { stateDigest: new Uint8Array(0), filesDestroyed: 0, bytesOverwritten: 0 };
    return Promise.resolve<SourceDone>({ kind: 'guestDeleted', deletion: nothing });
  });
  link.hears(activated);
  await setImmediate();
  t.same(handover.cause, { code: 'STORE_FAILED', detail: 'ENOSPC' });
  t.notOk(await isResolved(handover.unanswered), 'not yet');
  clock.pass(IN_DOUBT_ANSWER_MS_MAX);
  t.ok(await isResolved(handover.unanswered));
  t.ok(handover.isDecided, 'it runs there whatever is left here');
  isFull = false;
  clock.pass(HANDOVER_WORD_MS_MAX);
  t.match(await handover.settled, { outcome: 'gone' });
});
