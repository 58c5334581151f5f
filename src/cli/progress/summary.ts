/** The result of a migration, for people; and its exit status. */
import type { AttestationReport, MigrationResult, Outcome } from '../../migration/report.ts';
import { CODES, EXIT, type Code } from '../../protocol/codes.ts';
import { ENCODING_NAMES } from '../../protocol/options.ts';
import type { StopReason } from '../../protocol/source/convergence.ts';
import { formatDuration, formatRate, formatSize } from '../quantities.ts';

const STATUS: { readonly [O in Outcome]: number } = {
  completed: EXIT.completed,
  failed: EXIT.failed,
  refused: EXIT.refused,
  cancelled: EXIT.cancelled,
  'in-doubt': EXIT.inDoubt,
};

export const exitStatusOf = ({ outcome }: MigrationResult): number => STATUS[outcome];

export const summary = (result: MigrationResult): string =>
  (result.outcome === 'completed' ? success(result) : failure(result)).join('\n');

function success(result: MigrationResult): readonly string[] {
  const { vm, from, to, vtpm, attestation } = result;
  return [
    `completed: ${vm} runs at ${to} (migration ${result.migrationId})`,
    `  total ${formatDuration(result.totalMs)}: session ${formatDuration(result.setupMs)}, attestation ${formatDuration(result.attestMs)}, transfer ${formatDuration(result.transferMs)}, handover and deletion ${formatDuration(result.handoverMs)}`,
    ...(result.queuedMs < QUEUED_MS_TOLD
      ? []
      : [`  waited ${formatDuration(result.queuedMs)} for its turn`]),
    `  downtime ${result.downtimeMs === null ? 'unknown' : formatDuration(result.downtimeMs)}${STOPPED[result.stoppedBy ?? 'downtime-limit']}`,
    ...converged(result),
    `  ${result.rounds.length} rounds, ${result.pagesSent} pages (${result.zeroPages} zero), ${formatSize(result.bytesSent)} sent at ${formatRate(result.throughputBps)}`,
    ...encoded(result),
    ...(result.resumes === 0
      ? []
      : [`  the connection broke and was made again ${times(result.resumes)}`]),
    `  ${result.suite}, ${result.channels} data channel${result.channels === 1 ? '' : 's'} (${result.form}, ${result.engine})`,
    `  ${from}: ${attested(attestation.source)}`,
    `  ${to}: ${attested(attestation.destination)}`,
    vtpm.moved
      ? `  vTPM moved${vtpm.deletedAtSource ? `, deleted at ${from} (certificate signed by ${vtpm.deletionCertificate?.signer})` : ''}`
      : '  no vTPM',
    ...(result.verified ? ['  every page verified on both sides'] : []),
  ];
}

/** By what its pages went. */
function encoded({ encodings }: MigrationResult): readonly string[] {
  const each = ENCODING_NAMES.filter((name) => encodings[name].pages > 0).map(
    (name) => `${name} ${encodings[name].pages} in ${formatSize(encodings[name].bytes)}`,
  );
  return each.length === 0 ? [] : [`  pages by encoding: ${each.join(', ')}`];
}

/** Where the downtime limit did not hold. */
const STOPPED: { readonly [S in StopReason]: string } = {
  'downtime-limit': '',
  timeout: ': stopped when the time was over',
  rounds: ': stopped after the last round',
  'post-copy': ': the rest followed',
};

/** What it took to get there in time. */
function converged({ throttle, deadline }: MigrationResult): readonly string[] {
  const { maxPercent, guestMsLost } = throttle;
  return [
    ...(maxPercent === 0
      ? []
      : [`  throttled by up to ${maxPercent} %: the guest lost ${formatDuration(guestMsLost)}`]),
    ...(deadline === null
      ? []
      : [
          `  asked to finish in ${formatDuration(deadline.askedMs)}, finished in ${deadline.metMs === null ? 'an unknown time' : formatDuration(deadline.metMs)}`,
        ]),
  ];
}
/** What passes before a migration that need not wait begins is not worth a line. */
const QUEUED_MS_TOLD = 10;

const times = (count: number): string => (count === 1 ? 'once' : `${count} times`);

function failure({ outcome, code, detail, vm, from }: MigrationResult): readonly string[] {
  const where = outcome === 'in-doubt' ? `${vm} is paused at ${from}` : `${vm} is still at ${from}`;
  return [`${outcome}: ${where}`, ...(code === null ? [] : explained(code, detail))];
}

/** What happened and what to do, as every error is told. */
export const explained = (code: Code, detail: string): readonly string[] => [
  `migctl: ${code}: ${CODES[code].what}${detail === '' ? '' : ` (${detail})`}`,
  CODES[code].remedy,
];

/** Software evidence is never shown without saying how little it proves (design: protocol, phase B). */
const attested = ({ format, verdict }: AttestationReport): string =>
  format === 'software'
    ? `${verdict} by software evidence (proves identity only, not the platform’s state)`
    : `${verdict} by ${format} evidence`;
