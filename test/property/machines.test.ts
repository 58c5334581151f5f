/**
 * The two machines of a session under everything at once: events in any interleaving, effects that fail after
 * they took effect, messages lost, doubled, held back or invented, deadlines, cancels, broken
 * connections. Whatever happens, no invariant breaks, and both come to an end.
 */
import * as fc from 'fast-check';
import { test } from 'tap';
import type * as D from '../../src/protocol/destination/state.ts';
import type { Message } from '../../src/protocol/messages.ts';
import type * as S from '../../src/protocol/source/state.ts';
import { invariants, Pair } from '../unit/protocol/pair.ts';
import { MESSAGE_SAMPLES } from '../unit/protocol/samples.ts';

type Side = 'source' | 'destination';

/** What happens next to one side. */
type Happening =
  | { readonly kind: 'step' }
  | { readonly kind: 'message'; readonly message: Message }
  | { readonly kind: 'event'; readonly event: (typeof TROUBLES)[number] };

/** Events that may come at any time. */
const TROUBLES = [
  { kind: 'deadlinePassed' },
  { kind: 'timePassed' },
  { kind: 'cancelRequested', code: 'CANCELLED' },
  { kind: 'peerClosed', code: 'PEER_CLOSED', detail: '' },
  { kind: 'failed', code: 'CHANNEL_LOST', detail: '' },
] as const;

/** What becomes of a message on its way; most of them arrive. */
type Fate = 'arrives' | 'is lost' | 'comes twice' | 'is held back';

const sides = fc.constantFrom<Side>('source', 'destination');
const steps = fc.record({ side: sides, happening: fc.constant<Happening>({ kind: 'step' }) });
const troubles = fc.record({
  side: sides,
  happening: fc.oneof(
    fc.constantFrom(...TROUBLES).map((event): Happening => ({ kind: 'event', event })),
    fc.constantFrom(...MESSAGE_SAMPLES).map((message): Happening => ({ kind: 'message', message })),
  ),
});
const script = fc.array(
  fc.oneof({ weight: 30, arbitrary: steps }, { weight: 1, arbitrary: troubles }),
  {
    maxLength: 200,
  },
);
const fates = fc.infiniteStream(
  fc.oneof(
    { weight: 40, arbitrary: fc.constant<Fate>('arrives') },
    { weight: 1, arbitrary: fc.constantFrom<Fate>('is lost', 'comes twice', 'is held back') },
  ),
);

/** Effects whose work was done and whose answer was a failure: a write that may be on disk. */
const failing = fc.subarray(['surrender', 'prepare'], { maxLength: 1 });

function give(pair: Pair, side: Side, event: { readonly kind: string }): void {
  if (side === 'source') pair.giveSource(event as S.Event);
  else pair.giveDestination(event as D.Event);
}

function happen(pair: Pair, side: Side, happening: Happening): void {
  if (happening.kind === 'event') give(pair, side, happening.event);
  if (happening.kind === 'message') {
    give(pair, side, { kind: happening.message.type, message: happening.message } as S.Event);
  }
  pair.step(side);
  invariants(pair);
}

/** Lets everything end: what is under way goes on, and every wait has its limit. */
function end(pair: Pair): void {
  for (let waits = 0; waits < 100; waits += 1) {
    pair.settle(invariants);
    if (isAtRest(pair.source) && isAtRest(pair.destination)) return;
    give(pair, 'source', { kind: 'deadlinePassed' });
    give(pair, 'destination', { kind: 'deadlinePassed' });
  }
  throw new Error(`never ends: ${pair.source.kind}, ${pair.destination.kind}`);
}

type State = Pair['source'] | Pair['destination'];

/** Ended, or left to the handover, which has a simulation of its own (test/sim). */
const isAtRest = ({ kind }: State): boolean => kind === 'Ended' || kind === 'HandedOver';

const outcomeOf = (state: State): string => (state.kind === 'Ended' ? state.outcome : state.kind);

/** What must be true of two ends of one session. */
function agree({ source, destination, facts }: Pair): void {
  if (source.kind === 'Ended' && !facts.sourceMayRun) {
    throw new Error('given up, and it does not run at the source');
  }
  if (destination.kind === 'Ended' && facts.destinationHolds) {
    throw new Error('given up, and the destination is not clean');
  }
  if (source.kind === 'HandedOver' && destination.kind !== 'HandedOver') {
    throw new Error('surrendered to nobody');
  }
}

void test('whatever happens: one life, no loss, and an end', async (t) => {
  const outcomes = new Set<string>();
  fc.assert(
    fc.property(script, fates, failing, (happenings, fate, fails) => {
      const held: Message[] = [];
      const failure = { code: 'STORE_FAILED', detail: '' } as const;
      const isToFail = (effect: { readonly kind: string }) => fails.includes(effect.kind);
      const pair = new Pair({
        dirty: [5000, 10],
        onWire: (message) => {
          const what = fate.next().value;
          if (what === 'is lost') return [];
          if (what === 'is held back') {
            held.push(message);
            return [];
          }
          return what === 'comes twice' ? [message, message] : [message];
        },
        afterSource: (effect) => {
          const kind = effect.kind === 'surrender' ? 'surrenderFailed' : 'failed';
          return isToFail(effect) ? [{ kind, ...failure }] : undefined;
        },
        afterDestination: (effect) =>
          isToFail(effect) ? [{ kind: 'failed', ...failure }] : undefined,
      });
      pair.giveSource({ kind: 'started' });
      for (const { side, happening } of happenings) happen(pair, side, happening);
      for (const message of held) {
        for (const side of ['source', 'destination'] as const) {
          happen(pair, side, { kind: 'message', message });
        }
      }
      end(pair);
      agree(pair);
      outcomes.add(`${outcomeOf(pair.source)}, ${outcomeOf(pair.destination)}`);
    }),
    { numRuns: 3000 },
  );
  // The search must reach the interesting ends, or it would pass in vain.
  for (const pairOfOutcomes of [
    'HandedOver, HandedOver',
    'cancelled, cancelled',
    'failed, failed',
    'failed, HandedOver',
  ]) {
    t.ok(outcomes.has(pairOfOutcomes), pairOfOutcomes);
  }
});
