/**
 * The destination's machine: the phases' rules composed, and one answer for everything else. Pure,
 * as the source's.
 */
import { MigError } from '../error.ts';
import { answer, machine, type Answers, type Step } from '../machine.ts';
import { MESSAGE_TYPES } from '../messages.ts';
import { abort, completed, doubt } from './abort.ts';
import { attestation } from './attestation.ts';
import { handover } from './handover.ts';
import { session } from './session.ts';
import type { DestinationRules, Effect, Event, Plan, State } from './state.ts';
import { transfer } from './transfer.ts';

const endings: DestinationRules<'Aborting' | 'Ended'> = {
  Aborting: {
    abandoned: {
      to: ['Ended'],
      run: ({ plan, outcome, code, detail }) => ({
        state: { kind: 'Ended', plan, outcome, code, detail },
        effects: [{ kind: 'disarm' }, { kind: 'end' }],
      }),
    },
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

export const DESTINATION_RULES: DestinationRules<State['kind']> = {
  ...session,
  ...attestation,
  ...transfer,
  ...handover,
  ...endings,
};

/** Whether this state may hold the only copy of the VM, so that nothing of it is destroyed. */
export const mayHoldTheOnlyCopy = (state: State): boolean =>
  ['AwaitingSurrender', 'Activating', 'Starting', 'AwaitingDeletion', 'Filing'].includes(
    state.kind,
  );

const ignored = (state: State): Step<State, Effect> => ({ state, effects: [] });

const isMessage = (event: Event): boolean => (MESSAGE_TYPES as string[]).includes(event.kind);

/** How a state ends when its migration cannot go on in order. */
function settle(state: State, code: Parameters<typeof abort>[1], detail: string) {
  // The VM runs here: only the certificate of its deletion at the source is missing.
  if (state.kind === 'AwaitingDeletion' || state.kind === 'Filing') {
    return completed(state, `without the deletion certificate: ${code} ${detail}`.trim());
  }
  return mayHoldTheOnlyCopy(state) ? doubt(state, code, detail) : abort(state, code, detail);
}

const ANSWERS: Answers<State, Event, Effect> = {
  failed: (state, { code, detail }) => settle(state, code, detail),
  peerClosed: (state, { code, detail }) =>
    // ACTIVE may be durable already: the VM is started whether or not the source listens.
    state.kind === 'Activating' || state.kind === 'Starting'
      ? ignored(state)
      : settle(state, code, detail),
  deadlinePassed: (state) => settle(state, 'PEER_SILENT', state.kind),
  cancelRequested: (state, { code }) =>
    mayHoldTheOnlyCopy(state) ? ignored(state) : abort(state, code, ''),
  ABORT: (state, { message: { code: named, detail } }) => {
    const { code } = MigError.named(named, detail, 'PEER_CLOSED');
    return mayHoldTheOnlyCopy(state)
      ? settle(state, code, detail)
      : abort(state, code, detail, 'say nothing');
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

export const stepDestination = machine<State, Event, Effect>(DESTINATION_RULES, otherwise);

/** Where the destination's machine begins: a host has connected. */
export const startDestination = (plan: Plan): Step<State, Effect> => ({
  state: { kind: 'AwaitingHello', plan },
  effects: [{ kind: 'arm', deadline: 'reply' }],
});
