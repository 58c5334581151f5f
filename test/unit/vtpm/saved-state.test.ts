import { createPublicKey, verify } from 'node:crypto';
import { test } from 'tap';
import { VTPM_COUNTER_MAX, VTPM_STATE_BYTES_MAX } from '../../../src/base/limits.ts';
import { NV_INDEX_FIRST } from '../../../src/vtpm/nv-storage.ts';
import { SoftwareTpm } from '../../../src/vtpm/software-tpm.ts';
import { expectReply, refusalOf, StillClock } from './fixtures.ts';

const SELECTION = [
  { bank: 'sha256', indexes: [0, 7] },
  { bank: 'sha384', indexes: [7] },
] as const;

/** Offsets of the layout in `state-layout.ts`. */
const AT = { version: 8, clock: 10, safe: 26, scalar: 29, nvCount: 95 + 3 + 768 + 3 + 1152 };

const refusal = (state: Buffer): string =>
  refusalOf(() => SoftwareTpm.importState(state, new StillClock()));

/** A vTPM with one counter, one ordinary index and something in its PCRs. */
function usedTpm(clock: StillClock): SoftwareTpm {
  const tpm = SoftwareTpm.create(clock);
  tpm.extendEvent(7, Buffer.from('event'));
  tpm.execute({ type: 'nv-define', index: NV_INDEX_FIRST + 9, sizeBytes: 5 });
  tpm.execute({ type: 'nv-write', index: NV_INDEX_FIRST + 9, data: Buffer.from('hello') });
  tpm.execute({ type: 'nv-define-counter', index: NV_INDEX_FIRST + 1 });
  tpm.execute({ type: 'nv-increment', index: NV_INDEX_FIRST + 1 });
  return tpm;
}

void test('a vTPM continues exactly where its state was saved', async (t) => {
  const clock = new StillClock();
  using before = usedTpm(clock);
  clock.nowMs += 777;
  const state = before.exportState();
  const elsewhere = new StillClock();
  elsewhere.nowMs = 12;
  using after = SoftwareTpm.importState(state, elsewhere);
  t.same(after.readPcrs(SELECTION), before.readPcrs(SELECTION));
  t.same(after.publicKeys(), before.publicKeys());
  t.match(after.readClock(), { clockMs: 777, resetCount: 0, restartCount: 0, clockSafe: true });
  elsewhere.nowMs += 3;
  t.equal(after.readClock().clockMs, 780, 'the clock goes on, without the time in between');

  const read = expectReply('nv', after.execute({ type: 'nv-read', index: NV_INDEX_FIRST + 9 }));
  t.equal(Buffer.from(read.data).toString(), 'hello');
  const { attest, signature } = after.quote(Buffer.from('nonce'), SELECTION);
  const key = Buffer.from(before.publicKeys().attestation);
  t.ok(verify('sha256', attest, createPublicKey({ key, format: 'der', type: 'spki' }), signature));

  for (const tpm of [before, after]) tpm.extendEvent(7, Buffer.from('next'));
  t.same(after.readPcrs(SELECTION), before.readPcrs(SELECTION), 'PCRs continue');
});

void test('the saved state may be wiped after the import', async (t) => {
  using before = usedTpm(new StillClock());
  const state = before.exportState();
  using after = SoftwareTpm.importState(state, new StillClock());
  const copy = Buffer.from(state);
  state.fill(0);
  t.ok(after.exportState().equals(copy));
});

void test('a counter only goes up, over any number of moves', async (t) => {
  const index = NV_INDEX_FIRST + 1;
  let tpm = usedTpm(new StillClock());
  for (let expected = 2; expected < 12; expected++) {
    t.equal(expectReply('counter', tpm.execute({ type: 'nv-increment', index })).value, expected);
    const state = tpm.exportState();
    tpm[Symbol.dispose]();
    tpm = SoftwareTpm.importState(state, new StillClock());
    t.equal(tpm.execute({ type: 'nv-define-counter', index }).type, 'failed');
  }
  tpm[Symbol.dispose]();
});

void test('a counter at its limit is refused, not wrapped; a saved one past it too', async (t) => {
  using tpm = usedTpm(new StillClock());
  const state = tpm.exportState();
  const valueAt = AT.nvCount + 2 + 7;
  t.equal(state.readBigUInt64BE(valueAt), 1n, 'the counter is where this test thinks');
  state.writeBigUInt64BE(BigInt(VTPM_COUNTER_MAX), valueAt);
  using full = SoftwareTpm.importState(state, new StillClock());
  const index = NV_INDEX_FIRST + 1;
  const reply = expectReply('failed', full.execute({ type: 'nv-increment', index }));
  t.equal(reply.detail, 'the counter is at its limit');
  t.same(full.execute({ type: 'nv-read-counter', index }), {
    type: 'counter',
    value: VTPM_COUNTER_MAX,
  });
  state.writeBigUInt64BE(BigInt(VTPM_COUNTER_MAX) + 1n, valueAt);
  t.match(refusal(state), /too large/);
});

void test('every field of a saved state is checked', async (t) => {
  using tpm = usedTpm(new StillClock());
  const order = Buffer.from(
    'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551',
    'hex',
  );
  const first = AT.nvCount + 2;
  const second = first + 7 + 8;
  const cases: [string, RegExp, (state: Buffer) => unknown][] = [
    ['magic', /it is none/, (state) => state.fill(0, 0, 1)],
    ['version', /version 2, not 1/, (state) => state.writeUInt16BE(2, AT.version)],
    ['clock', /too large/, (state) => state.writeUInt8(0xff, AT.clock)],
    ['safe', /a flag/, (state) => state.writeUInt8(2, AT.safe)],
    ['key of 0', /private key/, (state) => state.fill(0, AT.scalar, AT.scalar + 32)],
    ['key of n', /private key/, (state) => order.copy(state, AT.scalar)],
    ['key too long', /too long/, (state) => state.writeUInt16BE(33, AT.scalar - 2)],
    ['key too short', /private key/, (state) => state.writeUInt16BE(31, AT.scalar - 2)],
    ['bank', /PCR bank/, (state) => state.writeUInt16BE(4, 95)],
    ['PCR count', /number of PCRs/, (state) => state.writeUInt8(23, 97)],
    ['NV count', /too many/, (state) => state.writeUInt16BE(65, AT.nvCount)],
    ['NV count more than there are', /cut short/, (state) => state.writeUInt16BE(3, AT.nvCount)],
    ['NV count fewer', /bytes follow/, (state) => state.writeUInt16BE(1, AT.nvCount)],
    ['NV handle', /out of order/, (state) => state.writeUInt32BE(0x02000000, second)],
    ['NV below', /out of order/, (state) => state.writeUInt32BE(0x00ffffff, first)],
    ['NV twice', /out of order/, (state) => state.copy(state, second, first, first + 4)],
    ['NV kind', /kind/, (state) => state.writeUInt8(2, first + 4)],
    ['counter size', /another size/, (state) => state.writeUInt16BE(7, first + 5)],
    ['contents too long', /too long/, (state) => state.writeUInt16BE(2049, second + 5)],
    ['no contents', /empty/, (state) => state.writeUInt16BE(0, second + 5)],
  ];
  for (const [what, expected, alter] of cases) {
    const state = tpm.exportState();
    alter(state);
    t.match(refusal(state), expected, what);
  }
  const n1 = tpm.exportState();
  order.copy(n1, AT.scalar);
  n1.writeUInt8(0x50, AT.scalar + 31);
  using edge = SoftwareTpm.importState(n1, new StillClock());
  t.ok(edge.publicKeys().endorsement.length > 0, 'n − 1 is a key');
});

void test('a state beyond the limit is refused before it is read', async (t) => {
  using tpm = usedTpm(new StillClock());
  const padded = (bytes: number): Buffer => Buffer.concat([tpm.exportState()], bytes);
  t.match(refusal(padded(VTPM_STATE_BYTES_MAX)), /bytes follow/);
  t.match(refusal(padded(VTPM_STATE_BYTES_MAX + 1)), /too large/);
});
