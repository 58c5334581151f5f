/**
 * Phase C at the source: offer the VM, join the data channels; after the rounds (rounds.ts), with the
 * guest standing still, send the rest with the device state and the vTPM.
 */
import { MigError } from '../error.ts';
import type { Step } from '../machine.ts';
import { finalStatement, type Subject } from '../statement.ts';
import { portsOf } from '../session.ts';
import { abort, refusedByPeer } from './abort.ts';
import { begin, FRESH_COURSE } from './course.ts';
import { breaks } from './reconnect.ts';
import type { StopReason } from './convergence.ts';
import type { Effect, SourceRules, State, Transferring } from './state.ts';

export const transfer: SourceRules<
  'Describing' | 'AwaitingAcceptance' | 'JoiningChannels' | 'Pausing' | 'SendingFinal'
> = {
  Describing: {
    described: {
      to: ['AwaitingAcceptance'],
      run: ({ plan, agreed, outage }, { descriptor }) => {
        const { migrationId, from, options, epoch } = plan;
        const subject: Subject = {
          migrationId,
          vmId: descriptor.vmId,
          epoch,
          from,
          to: options.to,
        };
        return {
          state: { kind: 'AwaitingAcceptance', plan, agreed, subject, outage },
          effects: [
            {
              kind: 'send',
              message: {
                type: 'OFFER',
                descriptor,
                epoch,
                policyDigest: plan.policyDigest,
                verify: options.verify,
              },
            },
            { kind: 'arm', deadline: 'admission' },
          ],
        };
      },
    },
    ...breaks,
  },

  AwaitingAcceptance: {
    ACCEPT: {
      to: ['JoiningChannels', 'Aborting'],
      run: (state, { message }) => {
        const { plan, agreed, subject, outage } = state;
        const { ports, resume } = message;
        if (ports.length !== portsOf(agreed)) {
          return abort(state, 'MESSAGE_MALFORMED', 'ACCEPT with another number of ports');
        }
        if (resume !== null && outage === null) {
          return abort(state, 'TRANSCRIPT_MISMATCH', 'it holds what was not sent');
        }
        // A destination that holds nothing, because it was restarted or nothing arrived, gets it all.
        const round = resume === null ? 0 : resume.round + 1;
        return {
          state: { kind: 'JoiningChannels', plan, agreed, subject, outage, round },
          effects: [
            { kind: 'arm', deadline: 'work' },
            { kind: 'joinChannels', agreed, ports, resume },
          ],
        };
      },
    },
    REFUSED: {
      to: ['Aborting'],
      run: (state, { message }) => {
        const { code } = MigError.named(message.code, message.detail, 'POLICY_DENIED');
        return refusedByPeer(state, code, message.detail);
      },
    },
    ...breaks,
  },

  JoiningChannels: {
    channelsJoined: {
      to: ['SendingRound', 'Pausing'],
      run: ({ plan, agreed, subject, outage, round }, joined) => {
        const sessions = (outage?.sessions ?? 0) + 1;
        if (plan.options.mode === 'post-copy') {
          const next = { plan, agreed, subject, round, course: FRESH_COURSE, sessions };
          // Asked for from the start, or what became of it.
          const why = plan.options.onTimeout === 'post-copy' ? 'timeout' : 'post-copy';
          return pausing(next, why, true);
        }
        const { course, effects } = begin(plan, outage?.course ?? FRESH_COURSE, round, joined);
        return {
          state: { kind: 'SendingRound', plan, agreed, subject, round, course, sessions },
          effects: [{ kind: 'disarm' }, ...effects],
        };
      },
    },
    ...breaks,
  },

  Pausing: {
    guestPaused: {
      to: ['SendingFinal'],
      run: (state, { stateBytes }) => ({
        state: { ...state, kind: 'SendingFinal' },
        effects: [
          { kind: 'arm', deadline: 'confirm' },
          {
            kind: 'sendFinal',
            round: state.round,
            stateBytes,
            leavesPages: state.leavesPages,
          },
        ],
      }),
    },
  },

  SendingFinal: {
    finalSent: {
      to: ['AwaitingDone'],
      run: (
        { plan, subject, round, leavesPages },
        { transcriptDigest, stateBytes, memoryDigest },
      ) => ({
        state: { kind: 'AwaitingDone', plan, subject, transcriptDigest, leavesPages },
        effects: [
          {
            kind: 'sendSigned',
            message: { type: 'FINAL', round, transcriptDigest, stateBytes, memoryDigest },
            statement: finalStatement(subject, transcriptDigest, stateBytes, memoryDigest),
          },
          { kind: 'arm', deadline: 'confirm' },
        ],
      }),
    },
  },
};

/** The guest is stopped; what is then owed goes with its state, or is left for later. */
export const pausing = (
  next: Transferring,
  why: StopReason,
  leavesPages: boolean,
): Step<Extract<State, { kind: 'Pausing' }>, Effect> => ({
  state: { kind: 'Pausing', ...next, leavesPages },
  effects: [
    { kind: 'arm', deadline: 'work' },
    { kind: 'pauseGuest', round: next.round, why, leavesPages },
  ],
});
