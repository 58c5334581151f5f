/**
 * A handover with pages left at the source: it keeps them until the destination has said that it is whole,
 * and nothing in between brings the VM back.
 */
import { test } from 'tap';
import {
  beginDestinationHandover,
  stepDestinationHandover,
} from '../../../../src/protocol/handover/destination.ts';
import {
  beginSourceHandover,
  stepSourceHandover,
} from '../../../../src/protocol/handover/source.ts';
import type { SharedEvent } from '../../../../src/protocol/handover/matter.ts';
import {
  DESTINATION_SAYS,
  FAILED,
  FENCING,
  forged,
  MATTER,
  PARTED,
  SOURCE_SAYS,
  SPLIT,
  told,
  UNKNOWN,
} from './words.ts';

const { running, activated, abort } = DESTINATION_SAYS;
const { surrender, deleted, reclaimed } = SOURCE_SAYS;
const FENCED: SharedEvent = { kind: 'fenced', fencing: FENCING };
const FAULTS = { network: 3, minor: 2, latencyMs: { mean: 1, p99: 2, max: 2 } };

// The source.

const linked = beginSourceHandover(SPLIT, 'linked').state;
const inDoubt = beginSourceHandover(SPLIT, 'alone').state;
const serving = stepSourceHandover(linked, running).state;
const alone = stepSourceHandover(serving, PARTED).state;
const ALONE = ['ServingAlone', 'disarm', 'part', 'retryLater'];

void test('S serves when it runs at the destination, on its signed word', async (t) => {
  for (const state of [linked, inDoubt]) {
    t.same(told(stepSourceHandover(state, running)), ['Serving', 'disarm', 'serve']);
    t.match(told(stepSourceHandover(state, forged(running))), ['InDoubt']);
  }
  const whole = beginSourceHandover(MATTER, 'linked').state;
  t.match(told(stepSourceHandover(whole, running)), ['InDoubt'], 'where nothing was left');
});

void test('S deletes when all of it is there, and not before', async (t) => {
  for (const state of [serving, alone]) {
    t.same(told(stepSourceHandover(state, activated)), ['Deleting', 'disarm', 'deleteGuest']);
    t.same(told(stepSourceHandover(state, forged(activated))), ALONE);
    t.same(told(stepSourceHandover(state, running)), ['Serving', 'disarm'], 'said again');
    t.same(told(stepSourceHandover(state, forged(running))), ALONE);
  }
  const { effects } = stepSourceHandover(serving, {
    ...activated,
    message: { ...activated.message, faults: FAULTS },
  });
  t.match(effects, [{ kind: 'disarm' }, { kind: 'deleteGuest', faults: FAULTS }]);
});

void test('nothing gives it back to S any more', async (t) => {
  const events: readonly SharedEvent[] = [abort, UNKNOWN, FENCED, PARTED, FAILED, reclaimed];
  for (const state of [serving, alone]) {
    for (const event of events) {
      t.match(stepSourceHandover(state, event).state.kind, /^Serving/, event.kind);
    }
  }
});

void test('S asks until it is answered', async (t) => {
  t.same(told(stepSourceHandover(serving, PARTED)), ALONE);
  t.same(told(stepSourceHandover(alone, { kind: 'due' })), ['ServingAlone', 'reach']);
  const asked = ['ServingAlone', 'SURRENDER', 'arm'];
  t.same(told(stepSourceHandover(alone, { kind: 'reached' })), asked);
  t.same(told(stepSourceHandover(alone, { kind: 'deadlinePassed' })), ALONE);
  t.same(told(stepSourceHandover(alone, PARTED)), ['ServingAlone', 'disarm', 'retryLater']);
});

// The destination.

const prepared = beginDestinationHandover(SPLIT, 'linked').state;
const doubting = beginDestinationHandover(SPLIT, 'alone').state;
const activating = stepDestinationHandover(prepared, surrender).state;
const starting = stepDestinationHandover(activating, { kind: 'activeRecorded' }).state;
const pulling = stepDestinationHandover(starting, { kind: 'guestStarted' }).state;

void test('D says that it runs, and that it is whole when it is', async (t) => {
  const started = stepDestinationHandover(starting, { kind: 'guestStarted' });
  t.same(told(started), ['Pulling', 'RUNNING', 'pull']);
  t.same(told(stepDestinationHandover(pulling, surrender)), ['Pulling', 'RUNNING'], 'asked');
  const whole = stepDestinationHandover(pulling, { kind: 'whole', faults: FAULTS });
  t.same(told(whole), ['AwaitingDeletion', 'ACTIVATED', 'arm']);
  t.match(whole.effects, [{ message: { faults: FAULTS } }, {}]);
  const again = stepDestinationHandover(whole.state, surrender);
  t.match(again.effects, [{ message: { faults: FAULTS } }, {}], 'with what there was to say');
});

void test('D pulls whatever becomes of the link, and again when that fails', async (t) => {
  t.equal(stepDestinationHandover(pulling, PARTED).state, pulling);
  t.same(told(stepDestinationHandover(pulling, FAILED)), ['Pulling', 'retryLater']);
  t.same(told(stepDestinationHandover(pulling, { kind: 'due' })), ['Pulling', 'pull']);
  t.same(told(stepDestinationHandover(pulling, deleted)), ['Pulling', 'part'], 'too early');
  t.same(told(stepDestinationHandover(pulling, { kind: 'lost' })), [
    'AwaitingDeletion',
    'ACTIVATED',
    'arm',
  ]);
  t.same(told(beginDestinationHandover(SPLIT, 'pulling')), ['Pulling', 'pull'], 'after a crash');
});

void test('D without what a fenced source has is no VM', async (t) => {
  t.same(told(stepDestinationHandover(doubting, FENCED)), ['Discarding', 'disarm', 'discard']);
});
