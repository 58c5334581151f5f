/** Phase A at the source: connect, offer what we speak, check what the destination picked. */
import { PROTOCOL_VERSION } from '../messages.ts';
import { mayLeavePages } from '../options.ts';
import { POST_COPY, RESUME } from '../session.ts';
import { abort } from './abort.ts';
import { breaks } from './reconnect.ts';
import type { SourceRules } from './state.ts';

export const session: SourceRules<'Idle' | 'Connecting' | 'AwaitingHelloOk'> = {
  Idle: {
    started: {
      to: ['Connecting'],
      run: ({ plan }) => ({
        state: { kind: 'Connecting', plan, outage: null },
        effects: [{ kind: 'arm', deadline: 'connect' }, { kind: 'connect' }],
      }),
    },
  },

  Connecting: {
    connected: {
      to: ['AwaitingHelloOk'],
      run: ({ plan, outage }) => ({
        state: { kind: 'AwaitingHelloOk', plan, outage },
        effects: [
          {
            kind: 'send',
            message: {
              type: 'HELLO',
              versionMin: PROTOCOL_VERSION,
              versionMax: PROTOCOL_VERSION,
              migrationId: plan.migrationId,
              to: plan.options.to,
              suites: [...plan.suites],
              forms: [...plan.forms],
              encodings: [...plan.encodings],
              channels: plan.options.channels,
              features: [
                ...(plan.resumes ? [RESUME] : []),
                ...(mayLeavePages(plan.options) ? [POST_COPY] : []),
              ],
            },
          },
          { kind: 'arm', deadline: 'reply' },
        ],
      }),
    },
    ...breaks,
  },

  AwaitingHelloOk: {
    HELLO_OK: {
      to: ['AwaitingEvidence', 'Aborting'],
      run: (state, { message }) => {
        const { plan, outage } = state;
        const suite = plan.suites.find((name) => name === message.suite);
        const form = plan.forms.find((name) => name === message.form);
        if (message.version !== PROTOCOL_VERSION) {
          return abort(state, 'VERSION_MISMATCH', `picked ${message.version}`);
        }
        if (suite === undefined) return abort(state, 'SUITE_MISMATCH', `picked ${message.suite}`);
        if (form === undefined) return abort(state, 'FORM_MISMATCH', `picked ${message.form}`);
        if (message.channels > plan.options.channels) {
          return abort(state, 'MESSAGE_MALFORMED', 'more channels than offered');
        }
        const encodings = plan.encodings.filter((name) => message.encodings.includes(name));
        if (encodings.length !== message.encodings.length) {
          return abort(state, 'MESSAGE_MALFORMED', 'an encoding that was not offered');
        }
        // Not every page can be sent otherwise.
        if (!encodings.includes('raw')) return abort(state, 'MESSAGE_MALFORMED', 'no raw pages');
        const resumes = plan.resumes && message.features.includes(RESUME);
        const postCopy = mayLeavePages(plan.options) && message.features.includes(POST_COPY);
        if (postCopy !== mayLeavePages(plan.options)) {
          return abort(state, 'POSTCOPY_UNSUPPORTED', plan.options.to);
        }
        const { channels } = message;
        const agreed = { suite, form, encodings, channels, resumes, postCopy };
        return {
          state: { kind: 'AwaitingEvidence', plan, agreed, outage },
          effects: [
            {
              kind: 'send',
              message: {
                type: 'ATT_REQUEST',
                nonce: plan.nonce,
                formats: [...plan.formats],
                pcrSelection: [],
                policyDigest: plan.policyDigest,
              },
            },
            { kind: 'arm', deadline: 'reply' },
          ],
        };
      },
    },
    ...breaks,
  },
};
