/**
 * Phase B at the source: appraise the destination's evidence first, then show ours. Nothing about
 * the guest is said before both appraisals passed; keys exist only after them.
 */
import { MigError } from '../error.ts';
import { abort, refusedByPeer } from './abort.ts';
import { breaks } from './reconnect.ts';
import type { Effect, SourceRules } from './state.ts';

export const attestation: SourceRules<
  'AwaitingEvidence' | 'AppraisingPeer' | 'MakingEvidence' | 'AwaitingVerdict'
> = {
  AwaitingEvidence: {
    ATT_EVIDENCE: {
      to: ['AppraisingPeer', 'Aborting'],
      run: (state, { message }) => {
        const { plan, agreed, outage } = state;
        if (!plan.formats.includes(message.evidence.format)) {
          return abort(state, 'ATT_FORMAT', message.evidence.format);
        }
        return {
          state: {
            kind: 'AppraisingPeer',
            plan,
            agreed,
            outage,
            peerNonce: message.nonce,
            challenge: { formats: message.formats, policyDigest: message.policyDigest },
          },
          effects: [
            { kind: 'arm', deadline: 'work' },
            {
              kind: 'appraise',
              evidence: message.evidence,
              nonce: plan.nonce,
              policyDigest: plan.policyDigest,
            },
          ],
        };
      },
    },
    ...breaks,
  },

  AppraisingPeer: {
    appraised: {
      to: ['MakingEvidence', 'Aborting'],
      run: (state, { code, detail }) => {
        if (code === null) {
          const { plan, agreed, outage, peerNonce, challenge } = state;
          return {
            state: { kind: 'MakingEvidence', plan, agreed, outage, peerNonce },
            effects: [{ kind: 'makeEvidence', ...challenge, nonce: peerNonce }],
          };
        }
        const verdict = { type: 'SVR_ATT_FAILED', code, detail } as const;
        const ended = abort(state, code, detail, 'say nothing');
        return { ...ended, effects: [{ kind: 'send', message: verdict }, ...ended.effects] };
      },
    },
    ...breaks,
  },

  MakingEvidence: {
    evidenceMade: {
      to: ['AwaitingVerdict'],
      run: (state, { evidence }) => ({
        state: { ...state, kind: 'AwaitingVerdict' },
        effects: [
          { kind: 'send', message: { type: 'SVR_ATT_OK', evidence } },
          { kind: 'arm', deadline: 'reply' },
        ],
      }),
    },
    ...breaks,
  },

  AwaitingVerdict: {
    CLI_ATT_OK: {
      to: ['Describing', 'AwaitingPull'],
      run: (state) => {
        const { plan, agreed, outage, peerNonce } = state;
        const keys: Effect = { kind: 'deriveKeys', nonceS: plan.nonce, nonceD: peerNonce };
        return plan.purpose === 'serve'
          ? {
              state: { kind: 'AwaitingPull', plan, agreed, outage },
              effects: [keys, { kind: 'arm', deadline: 'reply' }],
            }
          : {
              state: { ...state, kind: 'Describing' },
              effects: [keys, { kind: 'arm', deadline: 'work' }, { kind: 'describe' }],
            };
      },
    },
    CLI_ATT_FAILED: {
      to: ['Aborting'],
      run: (state, { message }) => {
        const { code } = MigError.named(message.code, message.detail, 'ATT_MALFORMED');
        return refusedByPeer(state, code, message.detail);
      },
    },
    ...breaks,
  },
};
