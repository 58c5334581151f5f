/**
 * A connection that breaks before the stop-and-copy: the session is set up and attested anew, under a
 * new nonce, and the rounds go on from what the destination says it holds. Meanwhile the guest runs,
 * and what it writes is tracked. What is not a mere break (a refusal, a failed check) is an abort.
 */
import { SESSIONS_MAX } from '../../base/limits.ts';
import type { Code } from '../codes.ts';
import type { Row, Step } from '../machine.ts';
import { isBreak } from '../session.ts';
import { abort } from './abort.ts';
import { heldAtTimeout, unthrottled } from './course.ts';
import type { Breakable, Effect, Event, Outage, SourceRules, State } from './state.ts';

/** Ends a session that broke: for another one where both hosts can, else for good. */
function breakOff(state: Breakable, code: Code, detail: string): Step<State, Effect> {
  const outage = isBreak(code) ? outageOf(state, code, detail) : null;
  if (outage === null) return abort(state, code, detail);
  return {
    state: { kind: 'Reconnecting', plan: state.plan, outage },
    effects: [{ kind: 'disarm' }, ...unthrottled(outage.course), { kind: 'reconnect' }],
  };
}

/** Null when there is nothing to go on with. */
function outageOf(state: Breakable, code: Code, detail: string): Outage | null {
  if ('outage' in state) return state.outage;
  const { plan, agreed, course, sessions } = state;
  // A guest that stands still does not wait for a network.
  const isHeld = course.isTimeOver && heldAtTimeout(plan).length > 0;
  if (!agreed.resumes || isHeld || sessions === SESSIONS_MAX) return null;
  return { code, detail, course, sessions };
}

/**
 * The time is over while no page is on its way. Between two sessions the guest is stopped when the next
 * one stands: it does not wait for a network. Before the first page there is nothing to finish, and all of
 * it may still follow.
 */
export function timeOverAway(state: State): Step<State, Effect> {
  if (!('outage' in state)) return { state, effects: [] };
  const { plan, outage } = state;
  if (outage === null && plan.options.onTimeout === 'post-copy') {
    const options = { ...plan.options, mode: 'post-copy' as const };
    return { state: { ...state, plan: { ...plan, options } }, effects: [] };
  }
  if (outage === null) return abort(state, 'TIMEOUT', 'before the first page was sent');
  const course = { ...outage.course, isTimeOver: true };
  return { state: { ...state, outage: { ...outage, course } }, effects: [] };
}

/** What all states have in common whose session may break. */
export const breaks: Row<State, Event, Effect, Breakable> = {
  peerClosed: {
    to: ['Reconnecting', 'Aborting'],
    run: (state, { code, detail }) => breakOff(state, code, detail),
  },
  failed: {
    to: ['Reconnecting', 'Aborting'],
    run: (state, { code, detail }) => breakOff(state, code, detail),
  },
  deadlinePassed: {
    to: ['Reconnecting', 'Aborting'],
    run: (state) =>
      breakOff(state, state.kind === 'Connecting' ? 'PEER_UNREACHABLE' : 'PEER_SILENT', state.kind),
  },
};

export const reconnect: SourceRules<'Reconnecting'> = {
  Reconnecting: {
    reconnectDue: {
      to: ['Connecting'],
      run: ({ plan, outage }, { nonce }) => ({
        state: { kind: 'Connecting', plan: { ...plan, nonce }, outage },
        effects: [{ kind: 'arm', deadline: 'connect' }, { kind: 'connect' }],
      }),
    },
    reconnectGivenUp: {
      to: ['Aborting'],
      run: (state, { detail }) => {
        const { outage } = state;
        return abort(state, outage.code, `${outage.detail}; ${detail}`, 'say nothing');
      },
    },
    // The end of what is ended.
    peerClosed: { to: ['Reconnecting'], run: (state) => ({ state, effects: [] }) },
    failed: {
      to: ['Reconnecting', 'Aborting'],
      run: (state, { code, detail }) =>
        isBreak(code) ? { state, effects: [] } : abort(state, code, detail, 'say nothing'),
    },
  },
};
