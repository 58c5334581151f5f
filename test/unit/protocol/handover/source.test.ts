/** The handover at the source, rule by rule: who surrendered runs it again only on proof. */
import { test } from 'tap';
import type { SharedEvent } from '../../../../src/protocol/handover/matter.ts';
import {
  beginSourceHandover,
  stepSourceHandover as step,
  type SourceState,
} from '../../../../src/protocol/handover/source.ts';
import {
  DELETION,
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

const { done, activated, abort } = DESTINATION_SAYS;

const awaiting = beginSourceHandover(MATTER, 'linked').state;
const inDoubt = beginSourceHandover(MATTER, 'alone').state;
const deleting = step(awaiting, activated).state;
const recording = step(deleting, { kind: 'guestDeleted', deletion: DELETION }).state;
const reclaiming = step(awaiting, abort).state;

const DOUBT = ['InDoubt', 'disarm', 'part', 'retryLater'];

void test('on the link of the session it says its token at once, alone it waits to be linked', async (t) => {
  t.same(told(beginSourceHandover(MATTER, 'linked')), ['AwaitingActivated', 'SURRENDER', 'arm']);
  t.same(told(beginSourceHandover(MATTER, 'alone')), DOUBT);
  t.same(told(step(inDoubt, { kind: 'due' })), ['InDoubt', 'reach']);
  t.same(told(step(inDoubt, { kind: 'reached' })), ['AwaitingActivated', 'SURRENDER', 'arm']);
  t.same(told(step(inDoubt, PARTED)), ['InDoubt', 'retryLater'], 'and asks again for ever');
});

for (const state of [awaiting, inDoubt]) {
  void test(`${state.kind}: what the destination may say`, async (t) => {
    // Who is waited for already does not get longer for it.
    const wait = state === inDoubt ? ['arm'] : [];
    t.same(told(step(state, done)), ['AwaitingActivated', 'SURRENDER', ...wait], 'the token again');
    t.same(told(step(state, activated)), ['Deleting', 'disarm', 'deleteGuest']);
    t.same(told(step(state, abort)), ['Reclaiming', 'disarm', 'reclaim'], 'it lost what it held');
    t.same(told(step(state, UNKNOWN)), DOUBT, 'no record proves nothing');
  });

  void test(`${state.kind}: a word that the destination did not sign is not believed`, async (t) => {
    for (const word of [done, activated, abort]) {
      t.same(told(step(state, forged(word))), DOUBT, word.kind);
    }
    t.same(told(step(state, SOURCE_SAYS.abort)), DOUBT, 'nor its own abort, sent back');
  });
}

void test('silence, a broken link or a word that cannot be said: in doubt, and nothing is undone', async (t) => {
  const troubles: readonly SharedEvent[] = [PARTED, FAILED, { kind: 'deadlinePassed' }];
  for (const trouble of troubles) t.same(told(step(awaiting, trouble)), DOUBT, trouble.kind);
  t.match(step(awaiting, { kind: 'deadlinePassed' }).state, { cause: { code: 'PEER_SILENT' } });
});

/** The effect by which it takes the VM back. */
const reclaim = (from: SourceState, event: SharedEvent) =>
  step(from, event).effects.find(({ kind }) => kind === 'reclaim');

void test('it reclaims with the epoch after the one that it promised, never with that', async (t) => {
  const { epoch } = MATTER.subject;
  t.match(reclaim(awaiting, abort), { epoch: epoch + 2, reason: { code: 'STATE_LOST' } });
  const fenced = reclaim(inDoubt, { kind: 'fenced', fencing: FENCING });
  t.match(fenced, { epoch: epoch + 2, reason: { code: 'FENCED', fencing: FENCING } });
  const again = step(step(reclaiming, FAILED).state, { kind: 'due' });
  t.match(again.effects, [{ kind: 'reclaim', epoch: epoch + 2 }], 'the same after a failure');
});

void test("an operator's statement counts only while the other host's word is missing", async (t) => {
  const fenced = { kind: 'fenced', fencing: FENCING } as const;
  t.same(told(step(inDoubt, fenced)), ['Reclaiming', 'disarm', 'reclaim']);
  for (const state of [awaiting, deleting, recording, reclaiming]) {
    t.same(told(step(state, fenced)), [state.kind]);
  }
});

void test('it says DELETED when the vTPM is destroyed and GONE is on disk, not before', async (t) => {
  t.same(told(step(deleting, { kind: 'guestDeleted', deletion: DELETION })), [
    'RecordingGone',
    'recordGone',
  ]);
  const gone = step(recording, { kind: 'goneRecorded' });
  t.same(told(gone), ['Settled', 'DELETED', 'settle']);
  t.match(gone.state, { outcome: 'gone', code: null });
  const reclaimed = step(reclaiming, { kind: 'reclaimed' });
  t.same(told(reclaimed), ['Settled', 'settle']);
  t.match(reclaimed.state, { outcome: 'reclaimed', code: 'STATE_LOST' });
});

void test('what could not be done is done again, whatever becomes of the link', async (t) => {
  for (const [state, work] of [
    [deleting, 'deleteGuest'],
    [recording, 'recordGone'],
    [reclaiming, 'reclaim'],
  ] as const) {
    t.same(told(step(state, FAILED)), [state.kind, 'retryLater']);
    t.same(told(step(state, { kind: 'due' })), [state.kind, work]);
    t.same(told(step(state, PARTED)), [state.kind]);
    t.same(told(step(state, abort)), [state.kind], 'decided is decided');
  }
});
