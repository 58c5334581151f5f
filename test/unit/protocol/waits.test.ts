/**
 * Every wait has a limit: in each state that a machine rests in, a deadline is armed, a back-off runs,
 * or what it waits for is bounded elsewhere, by name.
 */
import { test } from 'tap';
import {
  beginDestinationHandover,
  DESTINATION_HANDOVER,
  stepDestinationHandover,
} from '../../../src/protocol/handover/destination.ts';
import type { Matter } from '../../../src/protocol/handover/matter.ts';
import {
  beginSourceHandover,
  SOURCE_HANDOVER,
  stepSourceHandover,
} from '../../../src/protocol/handover/source.ts';
import { Pair } from './pair.ts';
import { descriptor, MESSAGE_SAMPLES, MIGRATION_ID } from './samples.ts';

/** What bounds a state without a deadline of its own. */
const BOUNDED_ELSEWHERE: Readonly<Record<string, string>> = {
  Idle: 'it waits for nothing',
  SendingRound: 'a channel on which nothing moves is dead (data-plane/silence.ts)',
  Receiving: 'a source that does not answer pings is dead (transport/control.ts)',
  Surrendering: 'a write that blocks ends or fails',
  HandedOver: 'the handover has its own',
  Ended: 'it is over',
};

void test('a session waits for nothing without a limit', async (t) => {
  const armed = { source: false, destination: true };
  const seen = new Set<string>();
  const note = (side: 'source' | 'destination') => (effect: { readonly kind: string }) => {
    if (effect.kind === 'arm') armed[side] = true;
    if (effect.kind === 'disarm') armed[side] = false;
    return undefined;
  };
  const check = (pair: Pair): void => {
    for (const side of ['source', 'destination'] as const) {
      const { kind } = pair[side];
      seen.add(`${side} ${kind}`);
      if (!armed[side] && BOUNDED_ELSEWHERE[kind] === undefined) {
        throw new Error(`the ${side} waits for ever in ${kind}`);
      }
    }
  };
  new Pair({ dirty: [5000, 10], source: note('source'), destination: note('destination') }).run(
    check,
  );
  t.ok(seen.size > 25, `of ${seen.size} states`);
});

const matter: Matter = {
  leavesPages: true,
  subject: {
    migrationId: MIGRATION_ID,
    vmId: descriptor().vmId,
    epoch: 1,
    from: 'host-a',
    to: 'host-b',
  },
  transcriptDigest: new Uint8Array(48),
  signedByPeer: () => true,
};

/**
 * As long as pages come: their channels end when nothing moves on them, the link when nobody answers its
 * pings, and either is an event.
 */
const WHILE_PAGES_COME: ReadonlySet<string> = new Set(['Serving', 'Pulling']);

/** Effects of which something comes: their end is the end of the wait. */
const isBounded = (effects: readonly { readonly kind: string }[]): boolean =>
  effects.some(({ kind }) => !['say', 'disarm', 'part'].includes(kind));

const EVENTS = [
  ...MESSAGE_SAMPLES.map((message) => ({ kind: message.type, message })),
  {
    kind: 'ABORT',
    message: { type: 'ABORT', code: 'FENCED', detail: '', signature: new Uint8Array(64) },
  },
  { kind: 'reached' },
  { kind: 'parted', code: 'PEER_CLOSED', detail: '' },
  { kind: 'deadlinePassed' },
  { kind: 'due' },
  { kind: 'failed', code: 'STORE_FAILED', detail: '' },
  { kind: 'fenced', fencing: { operator: 'someone', atMs: 0 } },
  { kind: 'lost' },
  { kind: 'guestLives' },
  { kind: 'guestDeleted', deletion: {} },
  { kind: 'whole', faults: {} },
  ...['goneRecorded', 'reclaimed', 'activeRecorded', 'guestStarted', 'filed', 'discarded'].map(
    (kind) => ({ kind }),
  ),
];

interface Stepped {
  readonly state: { readonly kind: string };
  readonly effects: readonly { readonly kind: string }[];
}

/** What is armed stays so where nothing changed but what was said. */
const isWaitedOn = (before: object, { state, effects }: Stepped): boolean =>
  before === state && effects.every(({ kind }) => kind === 'say');

/** Every state that can be reached by these events, each entered with something that ends its wait. */
function explore(begin: readonly Stepped[], step: (state: never, event: never) => Stepped) {
  const reached = new Set<string>();
  const open = [...begin];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { state, effects } = next;
    const isOver = state.kind === 'Settled' || WHILE_PAGES_COME.has(state.kind);
    if (!isOver && !isBounded(effects)) {
      throw new Error(`it waits for ever in ${state.kind}`);
    }
    if (reached.has(state.kind)) continue;
    reached.add(state.kind);
    for (const event of EVENTS) {
      const after = step(state as never, event as never);
      if (!isWaitedOn(state, after)) open.push(after);
    }
  }
  return reached;
}

void test('a handover waits for nothing without a limit, and can be settled from everywhere', async (t) => {
  const source = explore(
    [beginSourceHandover(matter, 'linked'), beginSourceHandover(matter, 'alone')],
    stepSourceHandover,
  );
  t.same([...source].toSorted(), Object.keys(SOURCE_HANDOVER).toSorted());
  const destination = explore(
    (['linked', 'alone', 'active', 'pulling'] as const).map((from) =>
      beginDestinationHandover(matter, from),
    ),
    stepDestinationHandover,
  );
  t.same([...destination].toSorted(), Object.keys(DESTINATION_HANDOVER).toSorted());
});
