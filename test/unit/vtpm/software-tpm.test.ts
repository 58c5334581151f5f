import { createHash } from 'node:crypto';
import { Packr } from 'msgpackr';
import { test } from 'tap';
import {
  VTPM_DETAIL_CHARS_MAX,
  VTPM_EVENT_BYTES_MAX,
  VTPM_NONCE_BYTES_MAX,
  VTPM_NV_INDEX_BYTES_MAX,
  VTPM_NV_INDEX_COUNT_MAX,
} from '../../../src/base/limits.ts';
import type { VtpmCommand } from '../../../src/vtpm/command.ts';
import { NV_INDEX_FIRST, NV_INDEX_LAST } from '../../../src/vtpm/nv-storage.ts';
import { SoftwareTpm } from '../../../src/vtpm/software-tpm.ts';
import { expectReply, refusalOf, StillClock } from './fixtures.ts';

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
/** That many zero bytes. */
const at = (bytes: number): Uint8Array => new Uint8Array(bytes);
const all = Array.from({ length: 24 }, (_, index) => index);

void test('PCRs start at zero and extend as computed by hand', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  const everything = tpm.readPcrs([
    { bank: 'sha256', indexes: all },
    { bank: 'sha384', indexes: all },
  ]);
  t.equal(everything.length, 48);
  t.ok(everything.every(({ digest }) => digest.every((byte) => byte === 0)));

  for (const byte of [0xaa, 0xbb]) {
    const sha256 = Buffer.alloc(32, byte);
    const sha384 = Buffer.alloc(48, byte);
    t.same(tpm.execute({ type: 'pcr-extend', index: 23, sha256, sha384 }), { type: 'done' });
  }
  const selection = [
    { bank: 'sha384', indexes: [22, 23] },
    { bank: 'sha256', indexes: [23] },
  ] as const;
  // Made with Python's hashlib.
  const [untouched, long, short] = tpm.readPcrs(selection);
  t.equal(hex(untouched?.digest), '00'.repeat(48));
  t.equal(
    hex(long?.digest),
    'dea02caf4a6cbe4cd8ad7fcdfac84a784056e8d0f52aa524f160f5d321a40bc24bab8ea1a6787e7b39d459446cafa226',
  );
  t.equal(hex(short?.digest), 'aaf51febf5ed5e45e5bcd62d127a21328f3b78b943377466fb57cf303b814b9a');

  tpm.execute({ type: 'pcr-event', index: 23, event: Buffer.from('kernel 6.12') });
  const reply = expectReply('pcrs', tpm.execute({ type: 'pcr-read', selection }));
  t.same(
    reply.values.map(({ bank, index, digest }) => [bank, index, hex(digest)]),
    [
      ['sha384', 22, '00'.repeat(48)],
      [
        'sha384',
        23,
        '5a9f886da725871e442d39c86e6ec09daf80a08f2b04ac6cf5225bcb93fededd35a96722ebbb614c23a842305b3db99a',
      ],
      ['sha256', 23, '36e931503dd1e9ec4227cbf529cf23244d776977d700d7e1ef28ce65822cab32'],
    ],
  );
});

void test('a value that was read does not change with the PCR', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  const [before] = tpm.readPcrs([{ bank: 'sha256', indexes: [0] }]);
  tpm.extendEvent(0, Buffer.from('event'));
  t.equal(hex(before?.digest), '00'.repeat(32));
});

void test('NV: counters count, ordinary indexes hold bytes, neither is taken for the other', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  const [counter, ordinary] = [NV_INDEX_FIRST, NV_INDEX_LAST];
  const refuse = (command: VtpmCommand, detail: string): void => {
    t.same(tpm.execute(command), { type: 'failed', code: 'VTPM_FAILED', detail });
  };
  refuse({ type: 'nv-increment', index: counter }, 'the NV index is not defined');
  t.same(tpm.execute({ type: 'nv-define-counter', index: counter }), { type: 'done' });
  t.same(tpm.execute({ type: 'nv-read-counter', index: counter }), { type: 'counter', value: 0 });
  t.same(tpm.execute({ type: 'nv-increment', index: counter }), { type: 'counter', value: 1 });
  t.same(tpm.execute({ type: 'nv-increment', index: counter }), { type: 'counter', value: 2 });
  t.same(tpm.execute({ type: 'nv-read-counter', index: counter }), { type: 'counter', value: 2 });
  refuse({ type: 'nv-define-counter', index: counter }, 'the NV index is already defined');
  refuse({ type: 'nv-define', index: counter, sizeBytes: 8 }, 'the NV index is already defined');
  refuse({ type: 'nv-read', index: counter }, 'the NV index is a counter');
  refuse({ type: 'nv-write', index: counter, data: Buffer.alloc(8) }, 'the NV index is a counter');

  t.same(tpm.execute({ type: 'nv-define', index: ordinary, sizeBytes: 3 }), { type: 'done' });
  const data = Buffer.from([1, 2, 3]);
  t.same(tpm.execute({ type: 'nv-write', index: ordinary, data }), { type: 'done' });
  data.fill(9);
  const read = expectReply('nv', tpm.execute({ type: 'nv-read', index: ordinary }));
  t.equal(hex(read.data), '010203', 'the vTPM keeps a copy');
  refuse(
    { type: 'nv-write', index: ordinary, data: data.subarray(1) },
    'the NV index has another size',
  );
  refuse({ type: 'nv-increment', index: ordinary }, 'the NV index is no counter');
  refuse({ type: 'nv-read', index: ordinary - 1 }, 'the NV index is not defined');
});

void test('limits of commands: at the bound, and one past it', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  const selection = [{ bank: 'sha256', indexes: [0] }];
  const index = NV_INDEX_FIRST;
  const accepted: unknown[] = [
    { type: 'pcr-event', index: 23, event: at(VTPM_EVENT_BYTES_MAX) },
    { type: 'pcr-event', index: 0, event: at(0) },
    { type: 'quote', nonce: at(VTPM_NONCE_BYTES_MAX), selection },
    { type: 'nv-define', index, sizeBytes: VTPM_NV_INDEX_BYTES_MAX },
    { type: 'nv-write', index, data: at(VTPM_NV_INDEX_BYTES_MAX) },
  ];
  for (const command of accepted) t.not(tpm.execute(command).type, 'failed');
  const refused: [unknown, string][] = [
    [
      { type: 'pcr-event', index: 0, event: at(VTPM_EVENT_BYTES_MAX + 1) },
      'event expected 0 to 1024 bytes',
    ],
    [
      { type: 'quote', nonce: at(VTPM_NONCE_BYTES_MAX + 1), selection },
      'nonce expected 0 to 64 bytes',
    ],
    [
      { type: 'nv-write', index, data: at(VTPM_NV_INDEX_BYTES_MAX + 1) },
      'data expected 1 to 2048 bytes',
    ],
    [{ type: 'pcr-extend', index: 0, sha256: at(31), sha384: at(48) }, 'sha256 expected 32 bytes'],
    [{ type: 'pcr-extend', index: 0, sha256: at(32), sha384: 'x' }, 'sha384 expected 48 bytes'],
    [
      { type: 'pcr-read', selection: [{ bank: 'sha256', indexes: [3, 3] }] },
      'selection.0.indexes expected ascending indexes',
    ],
    [
      { type: 'pcr-read', selection: [...selection, ...selection] },
      'selection expected each bank once',
    ],
  ];
  for (const [command, detail] of refused) {
    t.same(tpm.execute(command), {
      type: 'failed',
      code: 'VTPM_FAILED',
      detail: `bad command: ${detail}`,
    });
  }
  const alsoRefused: unknown[] = [
    { type: 'pcr-event', index: 24, event: at(1) },
    { type: 'pcr-event', index: -1, event: at(1) },
    { type: 'pcr-event', index: 0.5, event: at(1) },
    { type: 'pcr-event', index: 0, event: at(1), more: 1 },
    { type: 'nv-define', index: index + 1, sizeBytes: VTPM_NV_INDEX_BYTES_MAX + 1 },
    { type: 'nv-define', index: index + 1, sizeBytes: 0 },
    { type: 'nv-define', index: NV_INDEX_FIRST - 1, sizeBytes: 1 },
    { type: 'nv-define', index: NV_INDEX_LAST + 1, sizeBytes: 1 },
    { type: 'pcr-read', selection: [] },
    { type: 'pcr-read', selection: [{ bank: 'sha1', indexes: [0] }] },
    { type: 'pcr-read', selection: [{ bank: 'sha256', indexes: [] }] },
    { type: 'unknown' },
    { ['x'.repeat(5000)]: 1, type: 'read-clock' },
    {},
    [],
    null,
    undefined,
    7,
    new Proxy(
      {},
      {
        get: () => {
          throw new Error('hostile');
        },
      },
    ),
  ];
  for (const command of alsoRefused) {
    const reply = expectReply('failed', tpm.execute(command));
    t.equal(reply.code, 'VTPM_FAILED');
    t.ok(reply.detail.length <= VTPM_DETAIL_CHARS_MAX);
  }
});

void test('64 NV indexes fit, the 65th does not', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  for (let count = 0; count < VTPM_NV_INDEX_COUNT_MAX; count++) {
    const index = NV_INDEX_FIRST + count;
    t.same(tpm.execute({ type: 'nv-define', index, sizeBytes: VTPM_NV_INDEX_BYTES_MAX }), {
      type: 'done',
    });
  }
  const index = NV_INDEX_FIRST + VTPM_NV_INDEX_COUNT_MAX;
  const reply = expectReply('failed', tpm.execute({ type: 'nv-define-counter', index }));
  t.equal(reply.detail, 'no further NV index fits');
  const state = tpm.exportState();
  using again = SoftwareTpm.importState(state, new StillClock());
  t.ok(again.exportState().equals(state), 'the fullest vTPM passes through its saved state');
});

void test('clock, reset', async (t) => {
  const clock = new StillClock();
  using tpm = SoftwareTpm.create(clock);
  clock.nowMs += 1500.5;
  const start = { type: 'clock', resetCount: 0, restartCount: 0, clockSafe: true };
  t.same(tpm.execute({ type: 'read-clock' }), { ...start, clockMs: 1500 });
  tpm.extendEvent(4, Buffer.from('boot'));
  tpm.execute({ type: 'nv-define-counter', index: NV_INDEX_FIRST });
  tpm.execute({ type: 'nv-increment', index: NV_INDEX_FIRST });
  const keys = tpm.publicKeys();

  tpm.reset(false);
  clock.nowMs += 10;
  t.same(tpm.readClock(), { clockMs: 1510, resetCount: 1, restartCount: 0, clockSafe: false });
  t.equal(hex(tpm.readPcrs([{ bank: 'sha256', indexes: [4] }])[0]?.digest), '00'.repeat(32));
  t.equal(
    expectReply('counter', tpm.execute({ type: 'nv-read-counter', index: NV_INDEX_FIRST })).value,
    1,
  );
  t.same(tpm.publicKeys(), keys);
  tpm.reset(true);
  t.match(tpm.readClock(), { resetCount: 2, clockSafe: true });
});

void test('commands and replies pass a mailbox', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  const packr = new Packr({ useRecords: false });
  const commands: VtpmCommand[] = [
    { type: 'pcr-event', index: 1, event: Buffer.from('x') },
    { type: 'pcr-read', selection: [{ bank: 'sha256', indexes: [1] }] },
    { type: 'nv-define-counter', index: NV_INDEX_FIRST },
    { type: 'nv-increment', index: NV_INDEX_FIRST },
    { type: 'public-keys' },
    { type: 'read-clock' },
    { type: 'quote', nonce: Buffer.alloc(32, 7), selection: [{ bank: 'sha384', indexes: [1] }] },
  ];
  for (const command of commands) {
    for (const carried of [packr.unpack(packr.pack(command)), structuredClone(command)]) {
      const reply = tpm.execute(carried);
      if (command.type !== 'nv-define-counter') t.not(reply.type, 'failed');
      t.same(structuredClone(reply), reply);
      t.same(packr.pack(packr.unpack(packr.pack(reply))), packr.pack(reply));
    }
  }
});

void test('after disposal nothing is left and every use is refused', async (t) => {
  const tpm = SoftwareTpm.create(new StillClock());
  tpm[Symbol.dispose]();
  tpm[Symbol.dispose]();
  t.equal(
    refusalOf(() => tpm.exportState()),
    'the vTPM was wiped',
  );
  t.equal(
    refusalOf(() => tpm.readClock()),
    'the vTPM was wiped',
  );
  t.same(tpm.execute({ type: 'public-keys' }), {
    type: 'failed',
    code: 'VTPM_FAILED',
    detail: 'the vTPM was wiped',
  });
});

void test('two vTPMs have different keys', async (t) => {
  using one = SoftwareTpm.create(new StillClock());
  using two = SoftwareTpm.create(new StillClock());
  const keys = [one, two].flatMap((tpm) => Object.values(tpm.publicKeys()));
  const digests = keys.map((key) => createHash('sha256').update(key).digest('hex'));
  t.equal(new Set(digests).size, 4);
});
