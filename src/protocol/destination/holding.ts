/**
 * A connection that breaks while pages are coming: what has come is held, with the guest process, its
 * memory and its name, for the source to come back to in another session. Not for ever: nothing is
 * prepared yet, and the source has all of it.
 */
import type { Code } from '../codes.ts';
import type { Row, Step } from '../machine.ts';
import { isBreak } from '../session.ts';
import { abort } from './abort.ts';
import type { DestinationRules, Effect, Event, State } from './state.ts';

type Breakable = Extract<State, { kind: 'Receiving' | 'ConfirmingRound' }>;

function breakOff(state: Breakable, code: Code, detail: string): Step<State, Effect> {
  if (!state.agreed.resumes || !isBreak(code)) return abort(state, code, detail);
  const { plan, migrationId } = state;
  const round = state.kind === 'Receiving' ? state.round : state.end.round;
  return {
    state: { kind: 'Holding', plan, migrationId, code, detail },
    effects: [
      { kind: 'arm', deadline: 'hold' },
      { kind: 'hold', round },
    ],
  };
}

/** What the states have in common whose session may break. */
export const breaks: Row<State, Event, Effect, Breakable> = {
  peerClosed: {
    to: ['Holding', 'Aborting'],
    run: (state, { code, detail }) => breakOff(state, code, detail),
  },
  failed: {
    to: ['Holding', 'Aborting'],
    run: (state, { code, detail }) => breakOff(state, code, detail),
  },
  deadlinePassed: {
    to: ['Holding', 'Aborting'],
    run: (state) => breakOff(state, 'PEER_SILENT', state.kind),
  },
};

type Holding = Extract<State, { kind: 'Holding' }>;

const unchanged = (state: Holding): Step<State, Effect> => ({ state, effects: [] });

const giveUp = (state: Holding): Step<State, Effect> =>
  abort(state, state.code, state.detail, 'say nothing');

export const holding: DestinationRules<'Holding' | 'PassedOn'> = {
  Holding: {
    /** Another session of the same migration has taken all that is held. */
    passedOn: {
      to: ['PassedOn'],
      run: ({ plan, migrationId }) => ({
        state: { kind: 'PassedOn', plan, migrationId },
        effects: [{ kind: 'disarm' }, { kind: 'letGo' }],
      }),
    },
    notHeld: { to: ['Aborting'], run: giveUp },
    deadlinePassed: { to: ['Aborting'], run: giveUp },
    // The control connection may outlive the data channels: of what still comes only ABORT counts.
    ROUND_END: { to: ['Holding'], run: unchanged },
    FINAL: { to: ['Holding'], run: unchanged },
    peerClosed: { to: ['Holding'], run: unchanged },
    failed: {
      to: ['Holding', 'Aborting'],
      run: (state, { code, detail }) =>
        isBreak(code) ? unchanged(state) : abort(state, code, detail),
    },
  },
  PassedOn: {},
};
