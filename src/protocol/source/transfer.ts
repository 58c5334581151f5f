/**
 * Phase C at the source: offer the VM, join the data channels, pre-copy in rounds until what is left
 * fits into the downtime limit, then pause the guest and send the rest with the device state and the
 * vTPM.
 */
import { MigError } from '../error.ts';
import { finalStatement, type Subject } from '../statement.ts';
import { abort, refusedByPeer } from './abort.ts';
import { bandwidthAfter, decide } from './convergence.ts';
import { breaks } from './reconnect.ts';
import type { SourceRules } from './state.ts';

export const transfer: SourceRules<
  | 'Describing'
  | 'AwaitingAcceptance'
  | 'JoiningChannels'
  | 'SendingRound'
  | 'AwaitingRoundOk'
  | 'Collecting'
  | 'Pausing'
  | 'SendingFinal'
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
        if (ports.length !== agreed.channels) {
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
      to: ['SendingRound'],
      run: ({ plan, agreed, subject, outage, round }) => ({
        state: {
          kind: 'SendingRound',
          plan,
          agreed,
          subject,
          round,
          bandwidthBps: outage?.bandwidthBps ?? 0,
          sessions: (outage?.sessions ?? 0) + 1,
        },
        effects: [{ kind: 'disarm' }, { kind: 'sendRound', round }],
      }),
    },
    ...breaks,
  },

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
    ...breaks,
  },

  Collecting: {
    dirtyCollected: {
      to: ['Pausing', 'SendingRound', 'Aborting'],
      run: (state, { dirtyPages, roundMs }) => {
        const { plan, agreed, subject, sent, sessions } = state;
        const { downtimeLimitMs, roundsMax } = plan.options;
        const bandwidthBps = bandwidthAfter(state.bandwidthBps, sent.bytesSent, roundMs);
        const next = { plan, agreed, subject, sessions, round: state.round + 1, bandwidthBps };
        // A round that broke is no round that the guest was too fast for.
        const round = state.round - (sessions - 1);
        const cost = { bandwidthBps, handoverMs: plan.handoverMs };
        const sentPages = sent.pages;
        switch (decide({ round, roundsMax, sentPages, dirtyPages, cost, downtimeLimitMs })) {
          case 'stop-and-copy':
            return {
              state: { kind: 'Pausing', ...next },
              effects: [{ kind: 'arm', deadline: 'work' }, { kind: 'pauseGuest' }],
            };
          case 'another round':
            return {
              state: { kind: 'SendingRound', ...next },
              effects: [{ kind: 'disarm' }, { kind: 'sendRound', round: next.round }],
            };
          case 'give up':
            return abort(
              state,
              'NOT_CONVERGING',
              `${dirtyPages} pages dirty after ${round + 1} rounds`,
            );
        }
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
          { kind: 'sendFinal', round: state.round, stateBytes },
        ],
      }),
    },
  },

  SendingFinal: {
    finalSent: {
      to: ['AwaitingDone'],
      run: ({ plan, subject, round }, { transcriptDigest, stateBytes, memoryDigest }) => ({
        state: { kind: 'AwaitingDone', plan, subject, transcriptDigest },
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
