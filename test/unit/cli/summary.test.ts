/** The result for people, its exit status, and rows in columns. */
import { test } from 'tap';
import { exitStatusOf, explained, summary } from '../../../src/cli/progress/summary.ts';
import { table } from '../../../src/cli/table.ts';
import type { MigrationResult, Outcome } from '../../../src/migration/report.ts';
import { CODES } from '../../../src/protocol/codes.ts';
import { NO_COUNTS } from '../../../src/pages/encodings/counts.ts';

const COMPLETED: MigrationResult = {
  event: 'result',
  migrationId: '01890000-0000-7000-8000-000000000000',
  vm: 'vm1',
  from: 'host-a',
  to: 'host-b',
  outcome: 'completed',
  code: null,
  detail: '',
  mode: 'pre-copy',
  suite: 'aes-256-gcm+hmac-sha256',
  form: 'tls',
  engine: 'native',
  channels: 2,
  memoryBytes: 2 ** 28,
  queuedMs: 0,
  totalMs: 1234,
  downtimeMs: 21.4,
  stoppedBy: 'downtime-limit',
  throttle: { maxPercent: 0, guestMsLost: 0 },
  deadline: null,
  setupMs: 40,
  attestMs: 8,
  transferMs: 1100,
  handoverMs: 30,
  rounds: [],
  postCopy: null,
  resumes: 0,
  pagesSent: 65_536,
  zeroPages: 100,
  bytesSent: 2 ** 28,
  encodings: {
    ...NO_COUNTS,
    zero: { pages: 100, bytes: 1600 },
    zstd: { pages: 65_436, bytes: 2 ** 26 },
  },
  throughputBps: 5e8,
  attestation: {
    source: { format: 'software', verdict: 'accepted' },
    destination: { format: 'tpm2', verdict: 'accepted' },
  },
  vtpm: {
    moved: true,
    deletedAtSource: true,
    deletionCertificate: { statementBase64: '', signatureBase64: '', signer: 'host-a' },
  },
  verified: true,
};

void test('a completed migration', async (t) => {
  t.same(summary(COMPLETED).split('\n'), [
    'completed: vm1 runs at host-b (migration 01890000-0000-7000-8000-000000000000)',
    '  total 1.2 s: session 40 ms, attestation 8 ms, transfer 1.1 s, handover and deletion 30 ms',
    '  downtime 21 ms',
    '  0 rounds, 65536 pages (100 zero), 256 MiB sent at 500 MB/s',
    '  pages by encoding: zero 100 in 1.6 KiB, zstd 65436 in 64 MiB',
    '  aes-256-gcm+hmac-sha256, 2 data channels (tls, native)',
    '  host-a: accepted by software evidence (proves identity only, not the platform’s state)',
    '  host-b: accepted by tpm2 evidence',
    '  vTPM moved, deleted at host-a (certificate signed by host-a)',
    '  every page verified on both sides',
  ]);
  const hurried = summary({
    ...COMPLETED,
    stoppedBy: 'timeout',
    throttle: { maxPercent: 40, guestMsLost: 1500 },
    deadline: { askedMs: 30_000, metMs: 30_100, feasible: true },
  }).split('\n');
  t.equal(hurried[2], '  downtime 21 ms: stopped when the time was over');
  t.equal(hurried[3], '  throttled by up to 40 %: the guest lost 1.5 s');
  t.equal(hurried[4], '  asked to finish in 30.0 s, finished in 30.1 s');
  const plain = summary({
    ...COMPLETED,
    downtimeMs: null,
    verified: false,
    vtpm: { moved: false, deletedAtSource: false, deletionCertificate: null },
  });
  t.match(plain, '  downtime unknown\n');
  t.match(summary({ ...COMPLETED, queuedMs: 3400 }), '\n  waited 3.4 s for its turn\n');
  t.match(plain, /\n {2}no vTPM$/, 'what was not verified is not said to be');
});

void test('every other outcome says where the VM is, what happened and what to do', async (t) => {
  const status: Readonly<Record<Exclude<Outcome, 'completed'>, number>> = {
    failed: 1,
    refused: 3,
    cancelled: 4,
    'in-doubt': 5,
  };
  t.equal(exitStatusOf(COMPLETED), 0);
  for (const [outcome, exit] of Object.entries(status) as [
    Exclude<Outcome, 'completed'>,
    number,
  ][]) {
    const result = { ...COMPLETED, outcome, code: 'PEER_SILENT', detail: 'host-b' } as const;
    t.equal(exitStatusOf(result), exit);
    t.same(summary(result).split('\n'), [
      outcome === 'in-doubt'
        ? 'in-doubt: vm1 is paused at host-a'
        : `${outcome}: vm1 is still at host-a`,
      `migctl: PEER_SILENT: ${CODES.PEER_SILENT.what} (host-b)`,
      CODES.PEER_SILENT.remedy,
    ]);
  }
  t.same(explained('CANCELLED', '')[0], `migctl: CANCELLED: ${CODES.CANCELLED.what}`);
});

void test('rows stand in columns', async (t) => {
  const columns = { NAME: (n: number) => 'x'.repeat(n), N: String };
  t.equal(table([6, 1], columns, 'none'), 'NAME    N\nxxxxxx  6\nx       1');
  t.equal(table([], columns, 'none'), 'none');
});
