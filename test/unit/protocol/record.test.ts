/** Record headers and ends of rounds: golden bytes, and every field at its bound and one past it. */
import { test } from 'tap';
import { RECORD_BYTES_MAX } from '../../../src/base/limits.ts';
import { encodeHeader, parseHeader, type RecordHeader } from '../../../src/protocol/record.ts';
import { decodeRoundEnd, encodeRoundEnd } from '../../../src/protocol/round-end.ts';

const GOLDEN = '01020003000010040000000100000005';
const header: RecordHeader = { kind: 'state', channel: 3, length: 4100, sequence: 2 ** 32 + 5 };

void test('a header has these bytes', async (t) => {
  t.equal(Buffer.from(encodeHeader(header)).toString('hex'), GOLDEN);
  t.same(parseHeader(Buffer.from(GOLDEN, 'hex')), header);
});

/** The golden header with `value` (hex) in place of the bytes at `at`. */
const changed = (at: number, value: string): Buffer =>
  Buffer.from(GOLDEN.slice(0, at * 2) + value + GOLDEN.slice(at * 2 + value.length), 'hex');

const u32 = (value: number): string => value.toString(16).padStart(8, '0');

void test('a header that is not ours is RECORD_MALFORMED', async (t) => {
  const bad = {
    'version 0': changed(0, '00'),
    'version 2': changed(0, '02'),
    'kind 0': changed(1, '00'),
    'kind 7': changed(1, '07'),
    'one byte too many plaintext': changed(4, u32(RECORD_BYTES_MAX + 1)),
    'sequence of 2^53': changed(8, '0020000000000000'),
    'a byte short': Buffer.from(GOLDEN.slice(2), 'hex'),
    'a byte long': Buffer.from(`${GOLDEN}00`, 'hex'),
  };
  for (const [what, bytes] of Object.entries(bad)) {
    t.throws(() => parseHeader(bytes), { code: 'RECORD_MALFORMED' }, what);
  }
  t.equal(parseHeader(changed(4, u32(RECORD_BYTES_MAX))).length, RECORD_BYTES_MAX);
  t.equal(parseHeader(changed(8, '001fffffffffffff')).sequence, Number.MAX_SAFE_INTEGER);
});

void test('a header of our own beyond its limits is a bug', async (t) => {
  t.throws(() => encodeHeader({ ...header, length: RECORD_BYTES_MAX + 1 }));
  t.throws(() => encodeHeader({ ...header, sequence: 2 ** 53 }));
  t.throws(() => encodeHeader({ ...header, sequence: -1 }));
});

void test('the end of a round', async (t) => {
  const end = { round: 7, pages: 0xfffffffe, zeroPages: 258 };
  const bytes = encodeRoundEnd(end);
  t.equal(Buffer.from(bytes).toString('hex'), '00000007fffffffe00000102');
  t.same(decodeRoundEnd(bytes), end);
  t.throws(() => decodeRoundEnd(bytes.subarray(1)), { code: 'RECORD_MALFORMED' });
});
