/**
 * Phase C at the source: offer the VM, join the data channels, pre-copy in rounds until what is left
 * fits into the downtime limit, then pause the guest and send the rest with the device state and the
 * vTPM.
 */
import { MigError } from '../error.ts';
import { finalStatement, type Subject } from '../statement.ts';
import { abort, refusedByPeer } from './abort.ts';
import { bandwidthAfter, decide } from './convergence.ts';
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
      run: ({ plan, agreed }, { descriptor }) => {
        const { migrationId, from, options, epoch } = plan;
        const subject: Subject = {
          migrationId,
          vmId: descriptor.vmId,
          epoch,
          from,
          to: options.to,
        };
        return {
          state: { kind: 'AwaitingAcceptance', plan, agreed, subject },
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
  },

  AwaitingAcceptance: {
    ACCEPT: {
      to: ['JoiningChannels', 'Aborting'],
      run: (state, { message }) => {
        const { plan, agreed, subject } = state;
        if (message.ports.length !== agreed.channels) {
          return abort(state, 'MESSAGE_MALFORMED', 'ACCEPT with another number of ports');
        }
        return {
          state: { kind: 'JoiningChannels', plan, agreed, subject },
          effects: [
            { kind: 'arm', deadline: 'work' },
            { kind: 'joinChannels', agreed, ports: message.ports },
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
  },

  JoiningChannels: {
    channelsJoined: {
      to: ['SendingRound'],
      run: ({ plan, agreed, subject }) => ({
        state: { kind: 'SendingRound', plan, agreed, subject, round: 0, bandwidthBps: 0 },
        effects: [{ kind: 'disarm' }, { kind: 'sendRound', round: 0 }],
      }),
    },
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
  },

  Collecting: {
    dirtyCollected: {
      to: ['Pausing', 'SendingRound', 'Aborting'],
      run: (state, { dirtyPages, roundMs }) => {
        const { plan, agreed, subject, sent, round } = state;
        const { downtimeLimitMs, roundsMax } = plan.options;
        const bandwidthBps = bandwidthAfter(state.bandwidthBps, sent.bytesSent, roundMs);
        const next = { plan, agreed, subject, round: round + 1, bandwidthBps };
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
