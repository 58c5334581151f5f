/**
 * A session in which pages come that are missing of a VM which runs here: its channels, and nothing that
 * changes what is on record.
 */
import type { DestinationRules } from './state.ts';

export const pulling: DestinationRules<'Reopening' | 'Joined'> = {
  Reopening: {
    reopened: {
      to: ['Reopening'],
      run: (state, { ports }) => ({
        state,
        effects: [{ kind: 'send', message: { type: 'PULL', ports: [...ports] } }],
      }),
    },
    joined: {
      to: ['Joined'],
      run: ({ plan, migrationId }) => ({
        state: { kind: 'Joined', plan, migrationId },
        effects: [{ kind: 'disarm' }],
      }),
    },
  },
  Joined: {},
};
