/** The handover at the destination, rule by rule: who is prepared neither runs nor destroys it on his own. */
import { test } from 'tap';
import {
  beginDestinationHandover,
  stepDestinationHandover as step,
} from '../../../../src/protocol/handover/destination.ts';
import type { SharedEvent } from '../../../../src/protocol/handover/matter.ts';
import {
  DESTINATION_SAYS,
  FAILED,
  FENCING,
  forged,
  MATTER,
  PARTED,
  SOURCE_SAYS,
  told,
  UNKNOWN,
} from './words.ts';

const { surrender, deleted, abort, reclaimed } = SOURCE_SAYS;

const awaiting = beginDestinationHandover(MATTER, 'linked').state;
const inDoubt = beginDestinationHandover(MATTER, 'alone').state;
const activating = step(awaiting, surrender).state;
const starting = step(activating, { kind: 'activeRecorded' }).state;
const announced = step(starting, { kind: 'guestStarted' }).state;
const uncertified = beginDestinationHandover(MATTER, 'active').state;
const filing = step(announced, deleted).state;
const contradicted = step(announced, reclaimed).state;
const discarding = step(awaiting, abort).state;

const DOUBT = ['InDoubt', 'disarm', 'part', 'retryLater'];
const UNCERTIFIED = ['Uncertified', 'disarm', 'part', 'retryLater'];
const DISCARD = ['Discarding', 'disarm', 'discard'];
const ANNOUNCE = ['AwaitingDeletion', 'ACTIVATED', 'arm'];

void test('on the link of the session it says its receipt at once, alone it waits to be linked', async (t) => {
  t.same(told(beginDestinationHandover(MATTER, 'linked')), ['AwaitingSurrender', 'DONE', 'arm']);
  t.same(told(beginDestinationHandover(MATTER, 'alone')), DOUBT);
  t.same(told(step(inDoubt, { kind: 'due' })), ['InDoubt', 'reach']);
  t.same(told(step(inDoubt, { kind: 'reached' })), ['AwaitingSurrender', 'DONE', 'arm']);
  t.same(told(step(inDoubt, PARTED)), ['InDoubt', 'retryLater'], 'and asks again for ever');
});

for (const state of [awaiting, inDoubt]) {
  void test(`${state.kind}: what the source may say`, async (t) => {
    t.same(told(step(state, surrender)), ['Activating', 'disarm', 'recordActive']);
    t.same(told(step(state, abort)), DISCARD, 'it did not surrender');
    t.same(told(step(state, UNKNOWN)), DOUBT, 'no record proves nothing');
    t.same(told(step(state, deleted)), DOUBT, 'GONE without our ACTIVATED is a contradiction');
  });

  void test(`${state.kind}: a word that the source did not sign is not believed`, async (t) => {
    for (const word of [surrender, abort]) {
      t.same(told(step(state, forged(word))), DOUBT, word.kind);
    }
    t.same(told(step(state, DESTINATION_SAYS.abort)), DOUBT, 'nor its own abort, sent back');
  });

  void test(`${state.kind}: what it holds is proved lost`, async (t) => {
    t.same(told(step(state, { kind: 'lost' })), DISCARD);
  });
}

void test('prepared, it neither runs nor aborts on a timer, a broken link or a failure', async (t) => {
  const troubles: readonly SharedEvent[] = [PARTED, FAILED, { kind: 'deadlinePassed' }];
  for (const trouble of troubles) t.same(told(step(awaiting, trouble)), DOUBT, trouble.kind);
});

void test("an operator's statement counts only while the other host's word is missing", async (t) => {
  const fenced = { kind: 'fenced', fencing: FENCING } as const;
  const activation = step(inDoubt, fenced);
  t.same(told(activation), ['Activating', 'disarm', 'recordActive']);
  t.match(
    activation.effects[1],
    { right: { kind: 'fencing', fencing: FENCING } },
    'kept with his name',
  );
  for (const state of [awaiting, activating, starting, announced, uncertified]) {
    t.same(told(step(state, fenced)), [state.kind]);
  }
});

void test('it runs when ACTIVE is on disk, and says so when it runs', async (t) => {
  t.same(told(step(activating, { kind: 'activeRecorded' })), ['Starting', 'startGuest']);
  t.same(told(step(starting, { kind: 'guestStarted' })), ANNOUNCE);
  t.same(told(step(activating, { kind: 'lost' })), DISCARD, 'lost before: the source has its own');
  t.same(told(step(starting, { kind: 'lost' })), ANNOUNCE, 'lost after: it was ours already');
});

for (const state of [announced, uncertified]) {
  void test(`${state.kind}: what the source may say`, async (t) => {
    t.same(told(step(state, surrender)), ANNOUNCE, 'said again');
    t.same(told(step(state, deleted)), ['Filing', 'disarm', 'fileCertificate']);
    t.same(told(step(state, forged(deleted))), UNCERTIFIED);
    t.same(told(step(state, UNKNOWN)), UNCERTIFIED);
  });

  void test(`${state.kind}: the source did not surrender, or took the VM back`, async (t) => {
    t.match(step(state, abort).state, { kind: 'Settled', code: 'TWO_LIVES' });
    t.same(told(step(state, forged(abort))), UNCERTIFIED);
    t.same(told(step(state, reclaimed)), ['Contradicted', 'disarm', 'inspectGuest']);
  });
}

void test('taken back by the source, it gives way where its guest is gone, and only there', async (t) => {
  const gone = step(contradicted, { kind: 'lost' });
  t.same(told(gone), DISCARD);
  t.match(gone.state, { code: 'FENCED' });
  t.match(step(contradicted, { kind: 'guestLives' }).state, { kind: 'Settled', code: 'TWO_LIVES' });
  t.same(told(step(contradicted, FAILED)), UNCERTIFIED, 'nobody knows: asked again');
});

void test('the certificate is asked for until it is there; the VM runs meanwhile', async (t) => {
  const troubles: readonly SharedEvent[] = [PARTED, FAILED, { kind: 'deadlinePassed' }];
  for (const trouble of troubles) t.same(told(step(announced, trouble)), UNCERTIFIED, trouble.kind);
  t.same(told(step(uncertified, { kind: 'due' })), ['Uncertified', 'reach']);
  t.same(told(step(uncertified, { kind: 'reached' })), ANNOUNCE);
  t.same(told(step(uncertified, PARTED)), ['Uncertified', 'retryLater']);
  const filed = step(filing, { kind: 'filed' });
  t.same(told(filed), ['Settled', 'disarm', 'settle']);
  t.match(filed.state, { outcome: 'active', code: null });
});

void test('it says ABORT when the end is on disk, not before', async (t) => {
  const discarded = step(discarding, { kind: 'discarded' });
  t.same(told(discarded), ['Settled', 'ABORT', 'settle']);
  t.match(
    discarded.state,
    { outcome: 'aborted', code: 'CANCELLED' },
    'for the reason that the source gave',
  );
});

void test('what could not be done is done again, whatever becomes of the link', async (t) => {
  for (const [state, work] of [
    [activating, 'recordActive'],
    [starting, 'startGuest'],
    [filing, 'fileCertificate'],
    [discarding, 'discard'],
  ] as const) {
    t.same(told(step(state, FAILED)), [state.kind, 'retryLater']);
    t.same(told(step(state, { kind: 'due' })), [state.kind, work]);
    t.same(told(step(state, PARTED)), [state.kind]);
  }
});
