/**
 * The source's machine: the phases' rules composed, and one answer for everything else. Pure:
 * `(state, event)` in, `(state, effects)` out; the engine in src/migration carries the effects out.
 */
import type { Code } from '../codes.ts';
import { MigError } from '../error.ts';
import { answer, machine, type Answers, type Step } from '../machine.ts';
import { MESSAGE_TYPES } from '../messages.ts';
import { abort, doubt, refusedByPeer } from './abort.ts';
import { attestation } from './attestation.ts';
import { handover } from './handover.ts';
import { session } from './session.ts';
import type { Effect, Event, SourceRules, State } from './state.ts';
import { transfer } from './transfer.ts';

const endings: SourceRules<'Aborting' | 'Ended'> = {
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
};

export const SOURCE_RULES: SourceRules<State['kind']> = {
  ...session,
  ...attestation,
  ...transfer,
  ...handover,
  ...endings,
};

/** Whether the surrender is, or may be, durable: from here nothing is aborted. */
export const mayHaveSurrendered = (state: State): boolean =>
  ['Surrendering', 'AwaitingActivated', 'Deleting', 'RecordingGone'].includes(state.kind);

const ignored = (state: State): Step<State, Effect> => ({ state, effects: [] });

const isMessage = (event: Event): boolean => (MESSAGE_TYPES as string[]).includes(event.kind);

/** How a state ends when its migration cannot go on in order. */
const settle = (state: State, code: Code, detail: string): Step<State, Effect> =>
  mayHaveSurrendered(state) ? doubt(state, code, detail) : abort(state, code, detail);

const ANSWERS: Answers<State, Event, Effect> = {
  failed: (state, { code, detail }) =>
    // The data channels are done with, and how the surrender's write goes is an event of its own.
    state.kind === 'Surrendering' ? ignored(state) : settle(state, code, detail),
  peerClosed: (state, { code, detail }) => {
    // Once ACTIVATED came the destination is not needed any more to finish.
    if (state.kind === 'Deleting' || state.kind === 'RecordingGone') return ignored(state);
    // A token that was not sent cannot be used; sending it will fail and then it is in doubt.
    if (state.kind === 'Surrendering') return ignored(state);
    return settle(state, code, detail);
  },
  deadlinePassed: (state) =>
    settle(state, state.kind === 'Connecting' ? 'PEER_UNREACHABLE' : 'PEER_SILENT', state.kind),
  cancelRequested: (state, { code }) =>
    mayHaveSurrendered(state) ? ignored(state) : abort(state, code, ''),
  ABORT: (state, { message: { code: named, detail } }) => {
    const { code } = MigError.named(named, detail, 'PEER_CLOSED');
    return mayHaveSurrendered(state)
      ? doubt(state, code, detail)
      : refusedByPeer(state, code, detail);
  },
};

/** What happens to an event that the state has no rule for. */
function otherwise(state: State, event: Event, expected: readonly string[]): Step<State, Effect> {
  if (state.kind === 'Ended' || state.kind === 'Aborting') return ignored(state);
  return (
    answer(ANSWERS, state, event) ??
    (isMessage(event)
      ? settle(state, 'MESSAGE_UNEXPECTED', `${event.kind}, expected ${expected.join(' or ')}`)
      : ignored(state))
  );
}

export const stepSource = machine<State, Event, Effect>(SOURCE_RULES, otherwise);

/** Where the source's machine begins. */
export const startSource = (plan: State['plan']): State => ({ kind: 'Idle', plan });
