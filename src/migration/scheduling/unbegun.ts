/** What is told of a migration that ended while it waited for its turn: nothing was sent, nobody was asked. */
import { NO_COUNTS } from '../../pages/encodings/counts.ts';
import type { Code } from '../../protocol/codes.ts';
import type { MigrateOptions } from '../../protocol/options.ts';
import { outcomeOf } from '../../protocol/session.ts';
import type { Engine } from '../../transport/connection.ts';
import type { MigrationResult } from '../report.ts';

const UNATTESTED = { format: '', verdict: 'none' } as const;

export const unbegun = (
  { vm, to, mode, channels, deadlineMs }: MigrateOptions,
  facts: {
    readonly migrationId: string;
    readonly from: string;
    readonly engine: Engine;
    readonly memoryBytes: number;
    readonly queuedMs: number;
  },
  { code, detail }: { readonly code: Code; readonly detail: string },
): MigrationResult => ({
  event: 'result',
  ...facts,
  vm,
  to,
  outcome: outcomeOf(code),
  code,
  detail,
  mode,
  suite: null,
  form: null,
  channels,
  totalMs: 0,
  downtimeMs: null,
  stoppedBy: null,
  throttle: { maxPercent: 0, guestMsLost: 0 },
  deadline: deadlineMs === undefined ? null : { askedMs: deadlineMs, metMs: null, feasible: true },
  setupMs: 0,
  attestMs: 0,
  transferMs: 0,
  handoverMs: 0,
  rounds: [],
  postCopy: null,
  resumes: 0,
  pagesSent: 0,
  zeroPages: 0,
  bytesSent: 0,
  encodings: NO_COUNTS,
  throughputBps: 0,
  attestation: { source: UNATTESTED, destination: UNATTESTED },
  vtpm: { moved: false, deletedAtSource: false, deletionCertificate: null },
  verified: false,
});
