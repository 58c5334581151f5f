/**
 * The source's machine: the phases' rules composed, and one answer for everything else. Pure:
 * `(state, event)` in, `(state, effects)` out; the engine in src/migration carries the effects out.
 */
import { MigError } from '../error.ts';
import { answer, machine, type Answers, type Step } from '../machine.ts';
import { MESSAGE_TYPES } from '../messages.ts';
import { abort, refusedByPeer } from './abort.ts';
import { attestation } from './attestation.ts';
import { handover } from './handover.ts';
import { reconnect, timeOverAway } from './reconnect.ts';
import { rounds } from './rounds.ts';
import { serving } from './serving.ts';
import { session } from './session.ts';
import type { Effect, Event, SourceRules, State } from './state.ts';
import { transfer } from './transfer.ts';

const endings: SourceRules<'Aborting' | 'Ended' | 'HandedOver'> = {
  Aborting: {
    abandoned: {
      to: ['Ended'],
      run: ({ plan, outcome, code, detail }) => ({
        state: { kind: 'Ended', plan, outcome, code, detail },
        effects: [{ kind: 'disarm' }, { kind: 'end' }],
      }),
    },
    // Nothing more can be done here; the VM's own state says what it does.
    deadlinePassed: {
      to: ['Ended'],
      run: ({ plan, outcome, code, detail }) => ({
        state: { kind: 'Ended', plan, outcome, code, detail },
        effects: [{ kind: 'end' }],
      }),
    },
  },
  Ended: {},
  HandedOver: {},
};

export const SOURCE_RULES: SourceRules<State['kind']> = {
  ...session,
  ...attestation,
  ...transfer,
  ...rounds,
  ...reconnect,
  ...handover,
  ...serving,
  ...endings,
};

/** Whether the surrender is, or may be, durable: from here nothing is aborted. */
export const mayHaveSurrendered = (state: State): boolean =>
  state.kind === 'Surrendering' || state.kind === 'HandedOver';

const ignored = (state: State): Step<State, Effect> => ({ state, effects: [] });

const isMessage = (kind: string): boolean => (MESSAGE_TYPES as string[]).includes(kind);

const ANSWERS: Answers<State, Event, Effect> = {
  failed: (state, { code, detail }) => abort(state, code, detail),
  peerClosed: (state, { code, detail }) => abort(state, code, detail),
  deadlinePassed: (state) =>
    abort(state, state.kind === 'Connecting' ? 'PEER_UNREACHABLE' : 'PEER_SILENT', state.kind),
  timePassed: (state) =>
    state.kind === 'Idle' ? abort(state, 'TIMEOUT', '') : timeOverAway(state),
  cancelRequested: (state, { code }) => abort(state, code, ''),
  ABORT: (state, { message: { code: named, detail } }) => {
    const { code } = MigError.named(named, detail, 'PEER_CLOSED');
    return refusedByPeer(state, code, detail);
  },
};

const outOfOrder = (kind: string, expected: readonly string[]): string =>
  `${kind}, expected ${expected.filter(isMessage).join(' or ')}`;

/** What happens to an event that the state has no rule for. */
function otherwise(state: State, event: Event, expected: readonly string[]): Step<State, Effect> {
  // While the surrender is written nothing else counts: how that goes is an event of its own.
  if (mayHaveSurrendered(state)) return ignored(state);
  if (['Joined', 'Ended', 'Aborting'].includes(state.kind)) return ignored(state);
  return (
    answer(ANSWERS, state, event) ??
    (isMessage(event.kind)
      ? abort(state, 'MESSAGE_UNEXPECTED', outOfOrder(event.kind, expected))
      : ignored(state))
  );
}

export const stepSource = machine<State, Event, Effect>(SOURCE_RULES, otherwise);

/** Where the source's machine begins. */
export const startSource = (plan: State['plan']): State => ({ kind: 'Idle', plan });
