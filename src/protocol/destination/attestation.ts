/** Phase B at the destination: show our evidence, then appraise the source's. */
import { MigError } from '../error.ts';
import { abort } from './abort.ts';
import type { DestinationRules, Effect } from './state.ts';

export const attestation: DestinationRules<
  'AwaitingAttRequest' | 'MakingEvidence' | 'AwaitingSourceVerdict' | 'AppraisingSource'
> = {
  AwaitingAttRequest: {
    ATT_REQUEST: {
      to: ['MakingEvidence'],
      run: ({ plan, migrationId, agreed }, { message }) => ({
        state: { kind: 'MakingEvidence', plan, migrationId, agreed, peerNonce: message.nonce },
        effects: [
          { kind: 'arm', deadline: 'work' },
          {
            kind: 'makeEvidence',
            formats: message.formats,
            nonce: message.nonce,
            policyDigest: message.policyDigest,
          },
        ],
      }),
    },
  },

  MakingEvidence: {
    evidenceMade: {
      to: ['AwaitingSourceVerdict'],
      run: (state, { evidence }) => {
        const { plan } = state;
        return {
          state: { ...state, kind: 'AwaitingSourceVerdict' },
          effects: [
            {
              kind: 'send',
              message: {
                type: 'ATT_EVIDENCE',
                evidence,
                nonce: plan.nonce,
                formats: [...plan.formats],
                policyDigest: plan.policyDigest,
              },
            },
            { kind: 'arm', deadline: 'reply' },
          ],
        };
      },
    },
  },

  AwaitingSourceVerdict: {
    SVR_ATT_OK: {
      to: ['AppraisingSource', 'Aborting'],
      run: (state, { message }) => {
        const { plan } = state;
        if (!plan.formats.includes(message.evidence.format)) {
          return abort(state, 'ATT_FORMAT', message.evidence.format);
        }
        return {
          state: { ...state, kind: 'AppraisingSource' },
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
    SVR_ATT_FAILED: {
      to: ['Aborting'],
      run: (state, { message }) => {
        const { code } = MigError.named(message.code, message.detail, 'ATT_MALFORMED');
        return abort(state, code, message.detail, 'say nothing');
      },
    },
  },

  AppraisingSource: {
    appraised: {
      to: ['AwaitingOffer', 'Reopening', 'Aborting'],
      run: (state, { code, detail }) => {
        const { plan, migrationId, agreed, peerNonce } = state;
        if (code !== null) {
          const verdict = { type: 'CLI_ATT_FAILED', code, detail } as const;
          const step = abort(state, code, detail, 'say nothing');
          return { ...step, effects: [{ kind: 'send', message: verdict }, ...step.effects] };
        }
        const attested: Effect[] = [
          { kind: 'send', message: { type: 'CLI_ATT_OK' } },
          { kind: 'deriveKeys', nonceS: peerNonce, nonceD: plan.nonce },
        ];
        return plan.purpose === 'serve'
          ? {
              state: { kind: 'Reopening', plan, migrationId, agreed },
              effects: [...attested, { kind: 'arm', deadline: 'work' }, { kind: 'reopen', agreed }],
            }
          : {
              state: { kind: 'AwaitingOffer', plan, migrationId, agreed },
              effects: [...attested, { kind: 'arm', deadline: 'reply' }],
            };
      },
    },
  },
};
