/**
 * The rounds of phase C at the source: pages go, the destination has them, what was written meanwhile
 * is collected; then another round, the stop-and-copy, or the end.
 */
import type { Step } from '../machine.ts';
import { abort } from './abort.ts';
import { decide, type Progress } from './convergence.ts';
import {
  type Course,
  costOf,
  goOn,
  heldAtTimeout,
  learned,
  repaced,
  standingAfter,
  termsOf,
  unpaced,
  unthrottled,
} from './course.ts';
import { isEarly, midRound, type Standing } from './deadline.ts';
import { breaks } from './reconnect.ts';
import { pausing } from './transfer.ts';
import type { Effect, SourceRules, State } from './state.ts';

type Collecting = Extract<State, { kind: 'Collecting' }>;
/** A session in the middle of its rounds. */
type InRound = Extract<State, { kind: 'SendingRound' | 'AwaitingRoundOk' | 'Collecting' }>;

export const rounds: SourceRules<'SendingRound' | 'AwaitingRoundOk' | 'Collecting'> = {
  SendingRound: {
    roundSent: {
      to: ['AwaitingRoundOk'],
      run: (state, { sent }) => ({
        state: { ...state, kind: 'AwaitingRoundOk', sent },
        effects: [
          {
            kind: 'send',
            message: {
              type: 'ROUND_END',
              round: state.round,
              pages: sent.pages,
              zeroPages: sent.zeroPages,
              bytes: sent.bytesSent,
              tag: sent.tag,
            },
          },
          { kind: 'arm', deadline: 'confirm' },
        ],
      }),
    },
    progressed: {
      to: ['SendingRound'],
      run: (state, point) => {
        const { plan, course } = state;
        const terms = termsOf(plan);
        if (terms === null || course.pacing === null || course.isTimeOver) {
          return { state, effects: [] };
        }
        const turn = repaced(course, midRound(terms, course.pacing, point));
        return { state: { ...state, course: turn.course }, effects: turn.effects };
      },
    },
    timePassed: { to: ['SendingRound'], run: stopNow },
    ...breaks,
  },

  AwaitingRoundOk: {
    ROUND_OK: {
      to: ['Collecting', 'Aborting'],
      run: (state, { message }) => {
        if (message.round !== state.round) {
          return abort(state, 'MESSAGE_UNEXPECTED', `ROUND_OK ${message.round}`);
        }
        return {
          state: { ...state, kind: 'Collecting' },
          effects: [
            { kind: 'arm', deadline: 'work' },
            { kind: 'collectDirty', round: state.round, sent: state.sent },
          ],
        };
      },
    },
    timePassed: { to: ['AwaitingRoundOk'], run: stopNow },
    ...breaks,
  },

  Collecting: {
    dirtyCollected: {
      to: ['Pausing', 'SendingRound', 'Aborting'],
      run: (state, collected) => {
        const { plan, agreed, subject, sent, sessions, round } = state;
        const course = learned(state.course, sent, collected);
        const standing = standingAfter(plan, course, collected);
        const { dirtyPages, deferredPages, roundMs } = collected;
        const { bandwidthBps, dirtyBps, downtimeMs } = standing;
        const told: Effect = {
          kind: 'tellRound',
          sent,
          dirtyPages,
          deferredPages,
          roundMs,
          dirtyBps,
          bandwidthBps,
          predictedDowntimeMs: downtimeMs,
        };
        const next = { plan, agreed, subject, sessions, round: round + 1, course };
        const decision = decide(progressOf(state, course, standing));
        switch (decision.kind) {
          case 'stop-and-copy':
          case 'post-copy': {
            const { state: pause, effects } = pausing(
              next,
              decision.why,
              decision.kind === 'post-copy',
            );
            return {
              state: pause,
              effects: [told, ...unpaced(course), ...effects, ...unthrottled(course)],
            };
          }
          case 'another round': {
            const turn = goOn(plan, course, round + 1, standing);
            return {
              state: { kind: 'SendingRound', ...next, course: turn.course },
              effects: [told, { kind: 'disarm' }, ...turn.effects],
            };
          }
          case 'give up': {
            const aborted = abort(state, 'NOT_CONVERGING', whyNot(state, course, dirtyPages));
            return { ...aborted, effects: [told, ...aborted.effects] };
          }
        }
      },
    },
    timePassed: { to: ['Collecting'], run: stopNow },
    ...breaks,
  },
};

/** A round that broke is no round that the guest was too fast for. */
const roundsOf = ({ round, sessions }: Collecting): number => round + 1 - (sessions - 1);

const whyNot = (state: Collecting, { throttlePercent }: Course, dirtyPages: number): string =>
  [
    `${dirtyPages} pages dirty after ${roundsOf(state)} rounds`,
    ...(throttlePercent > 0 ? [`throttled by ${throttlePercent} %`] : []),
  ].join(', ');

function progressOf(state: Collecting, course: Course, standing: Standing): Progress {
  const { plan } = state;
  const { mode, downtimeLimitMs, roundsMax, onTimeout } = plan.options;
  const terms = termsOf(plan);
  return {
    round: roundsOf(state) - 1,
    roundsMax,
    rounds: course.rounds,
    cost: costOf(plan, course),
    downtimeLimitMs,
    mode,
    onTimeout,
    isTimeOver: course.isTimeOver,
    isEarly: terms !== null && isEarly(terms, standing),
  };
}

/** The time is over: the guest stands still from now on, or the round under way is the last one. */
function stopNow(state: InRound): Step<State, Effect> {
  const { plan, course } = state;
  return {
    state: { ...state, course: { ...course, isTimeOver: true } },
    effects: [...unpaced(course), ...heldAtTimeout(plan), ...unthrottled(course)],
  };
}
