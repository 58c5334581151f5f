/** Sealer and opener: every suite by both makes of ciphers, every way to be wrong, the limits. */
import { createCipheriv, createHmac, randomBytes } from 'node:crypto';
import { test } from 'tap';
import { RECORDS_PER_KEY_MAX } from '../../../src/base/limits.ts';
import { SessionSecret } from '../../../src/crypto/key-schedule.ts';
import { portableCiphers, type RecordCiphers } from '../../../src/crypto/record-cipher.ts';
import { Opener } from '../../../src/crypto/opener.ts';
import { Sealer, type SealerOptions } from '../../../src/crypto/sealer.ts';
import { ciphertextBytes, SUITES } from '../../../src/crypto/suites.ts';
import { combineTags } from '../../../src/crypto/transcript.ts';
import { nativeCiphers } from '../../../src/native/record-cipher.ts';
import { whyNotNative } from '../../../src/native/self-test.ts';
import { ALL_SUITE_NAMES, type SuiteName } from '../../../src/protocol/options.ts';
import { RECORD_HEADER_BYTES } from '../../../src/protocol/record.ts';

const DEFAULT: SuiteName = 'aes-256-gcm+hmac-sha256';
const CHANNEL = 5;

const secret = SessionSecret.extract({
  exporter: randomBytes(48),
  nonceS: randomBytes(32),
  nonceD: randomBytes(32),
  transcriptHash: randomBytes(48),
});

const MAKES: Record<string, RecordCiphers> = { portable: portableCiphers, native: nativeCiphers };

const options = (suite: SuiteName = DEFAULT, ciphers = portableCiphers): SealerOptions => ({
  ciphers,
  suite: SUITES[suite],
  keys: secret.channelKeys(CHANNEL, 'to-destination'),
  channel: CHANNEL,
});

/** The record's plaintext, its ciphertext given in pieces of `step` bytes. */
function openWhole(opener: Opener, record: Uint8Array, step = record.length): Buffer {
  const header = opener.begin(record.subarray(0, RECORD_HEADER_BYTES));
  const end = RECORD_HEADER_BYTES + opener.bodyBytes(header.length);
  const body = record.subarray(RECORD_HEADER_BYTES, end);
  const plaintext: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += step) {
    // What is opened in place must not change what was sent.
    plaintext.push(opener.update(Uint8Array.from(body.subarray(at, at + step))));
  }
  opener.finish(record.subarray(end));
  return Buffer.concat(plaintext);
}

const EVERY = ALL_SUITE_NAMES.flatMap((suite) =>
  Object.entries(MAKES).map(([make, ciphers]) => ({ suite, make, ciphers })),
);

for (const { suite, make, ciphers } of EVERY) {
  void test(`${suite}, ${make}: pieces in, the same bytes out, tags agree`, async (t) => {
    using sealer = new Sealer(options(suite, ciphers));
    using opener = new Opener(options(suite, ciphers));
    const pieces = [randomBytes(20), randomBytes(9000), Buffer.alloc(0), randomBytes(1)];
    const whole = Buffer.concat(pieces);
    const { blockBytes } = SUITES[suite];
    for (const step of [1, 16, 4097, 100_000].map((bytes) =>
      ciphertextBytes(SUITES[suite], bytes),
    )) {
      const record = Buffer.concat(sealer.seal('pages', pieces));
      t.equal(record.length, opener.recordBytes(whole.length));
      t.equal((record.length - RECORD_HEADER_BYTES - opener.tagBytes) % blockBytes, 0);
      t.same(openWhole(opener, record, step), whole, `in pieces of ${step}`);
    }
    t.equal(openWhole(opener, Buffer.concat(sealer.seal('end', []))).length, 0, 'an empty record');
    t.same(sealer.endRound(), opener.endRound());
    t.same(sealer.endRound(), opener.endRound(), 'the next round chains');
  });

  // What authenticates nothing is refused unless a configuration names it.
  if (suite === 'none') continue;
  void test(`${suite}, ${make}: any flipped bit is RECORD_FORGED, or refused by its header`, async (t) => {
    const record = Buffer.concat(new Sealer(options(suite)).seal('state', [randomBytes(40)]));
    for (let at = 0; at < record.length; at += 1) {
      const forged = Buffer.from(record);
      forged.writeUInt8(forged.readUInt8(at) ^ (1 << (at % 8)), at);
      const isRefused = (thrown: unknown): boolean =>
        thrown instanceof Error &&
        'code' in thrown &&
        (at < RECORD_HEADER_BYTES
          ? ['RECORD_MALFORMED', 'RECORD_ORDER', 'RECORD_FORGED'].includes(String(thrown.code))
          : thrown.code === 'RECORD_FORGED');
      try {
        using opener = new Opener(options(suite, ciphers));
        openWhole(opener, forged);
        t.fail(`accepted a flip in byte ${at}`);
      } catch (thrown) {
        if (!isRefused(thrown)) throw thrown;
      }
    }
  });
}

for (const suite of ALL_SUITE_NAMES) {
  void test(`${suite}: both makes seal the same bytes`, async (t) => {
    using portable = new Sealer(options(suite, portableCiphers));
    using native = new Sealer(options(suite, nativeCiphers));
    for (const pieces of [[], [randomBytes(1)], [randomBytes(100_000), randomBytes(15)]]) {
      const [one, other] = [portable, native].map((each) => each.seal('pages', pieces));
      t.same(Buffer.concat(one ?? []), Buffer.concat(other ?? []));
    }
    t.same(portable.endRound(), native.endRound());
  });
}

void test('the native engine can be used here', async (t) => {
  t.equal(whyNotNative(), undefined);
});

void test('a kind changed in the header is forged: the header is associated data', async (t) => {
  const record = Buffer.concat(new Sealer(options()).seal('state', [randomBytes(40)]));
  record.writeUInt8(1, 1);
  t.throws(() => openWhole(new Opener(options()), record), { code: 'RECORD_FORGED' });
});

void test('the GCM record is what node:crypto makes of nonce, header and key', async (t) => {
  using keys = secret.channelKeys(CHANNEL, 'to-destination');
  const sealer = new Sealer(options());
  sealer.seal('pages', [Buffer.from('first')]);
  const record = Buffer.concat(sealer.seal('pages', [Buffer.from('second')]));
  const nonce = Buffer.from('000500000000000000000001', 'hex');
  const cipher = createCipheriv('aes-256-gcm', keys.enc.expose(), nonce);
  cipher.setAAD(record.subarray(0, RECORD_HEADER_BYTES));
  const ciphertext = Buffer.concat([cipher.update('second'), cipher.final()]);
  t.same(record.subarray(RECORD_HEADER_BYTES), Buffer.concat([ciphertext, cipher.getAuthTag()]));
});

const ends = (record: readonly Uint8Array[]) => [record.at(0), record.at(-1)] as Uint8Array[];

void test('the transcript is the chain that protocol.md describes', async (t) => {
  using keys = secret.channelKeys(CHANNEL, 'to-destination');
  const sealer = new Sealer(options());
  const hmac = (previous: Uint8Array, parts: Uint8Array[]) =>
    createHmac('sha256', keys.mac.expose())
      .update('migd/1 transcript\0')
      .update(previous)
      .update(Buffer.concat(parts))
      .digest();
  const first = [...ends(sealer.seal('pages', [randomBytes(9)])), ...ends(sealer.seal('end', []))];
  const tag0 = sealer.endRound();
  t.same(tag0, hmac(Buffer.alloc(32), first));
  const second = ends(sealer.seal('end', []));
  t.same(sealer.endRound(), hmac(tag0, second));
});

void test('records out of order, repeated, dropped, of another channel: RECORD_ORDER', async (t) => {
  const sealer = new Sealer(options());
  const [r0, r1, r2] = [0, 1, 2].map((n) => Buffer.concat(sealer.seal('pages', [Buffer.of(n)])));
  if (r0 === undefined || r1 === undefined || r2 === undefined) throw new Error('three records');
  const order = { code: 'RECORD_ORDER' };
  t.throws(() => openWhole(new Opener(options()), r1), order, 'the first is missing');
  const opener = new Opener(options());
  t.same(openWhole(opener, r0), Buffer.of(0));
  t.throws(() => openWhole(opener, r0), order, 'repeated');
  t.throws(() => openWhole(opener, r2), order, 'one was dropped');
  t.same(openWhole(opener, r1), Buffer.of(1), 'a refused header opens nothing');
  const elsewhere = new Opener({ ...options(), channel: CHANNEL + 1 });
  t.throws(() => openWhole(elsewhere, r0), order, 'another channel');
});

void test('a record spliced in from another channel or session is forged', async (t) => {
  const keys = secret.channelKeys(CHANNEL + 1, 'to-destination');
  const spliced = Buffer.concat(new Sealer({ ...options(), keys }).seal('pages', [Buffer.of(1)]));
  t.throws(() => openWhole(new Opener(options()), spliced), { code: 'RECORD_FORGED' });
});

void test('a sealer stops at its limit of records, and so does an opener', async (t) => {
  const sealer = new Sealer({ ...options(), recordsMax: 2 });
  const records = [sealer.seal('end', []), sealer.seal('end', [])].map((r) => Buffer.concat(r));
  t.throws(() => sealer.seal('end', []), { code: 'KEY_EXHAUSTED' });
  const opener = new Opener({ ...options(), recordsMax: 1 });
  for (const [index, record] of records.entries()) {
    if (index === 0) openWhole(opener, record);
    else t.throws(() => openWhole(opener, record), { code: 'KEY_EXHAUSTED' });
  }
  t.throws(() => new Sealer({ ...options(), recordsMax: RECORDS_PER_KEY_MAX + 1 }));
});

void test('a wiped sealer seals nothing', async (t) => {
  for (const ciphers of Object.values(MAKES)) {
    const sealer = new Sealer(options(DEFAULT, ciphers));
    sealer[Symbol.dispose]();
    t.throws(() => sealer.seal('end', []), { name: 'AssertionFailed' });
  }
});

void test('combined tags depend on purpose, number and order', async (t) => {
  const [a, b] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const all = [
    combineTags('round', [a, b]),
    combineTags('final', [a, b]),
    combineTags('round', [b, a]),
    combineTags('round', [a]),
  ];
  t.equal(new Set(all.map((tag) => tag.toString('hex'))).size, all.length);
  t.ok(all.every((tag) => tag.length === 48));
});
