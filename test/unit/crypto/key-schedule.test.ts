/** The key schedule against `hkdfSync`, keys apart from each other, and secrets that are gone. */
import { hkdfSync } from 'node:crypto';
import { test } from 'tap';
import { hkdfExpand, hkdfExtract } from '../../../src/crypto/hkdf.ts';
import {
  DirectionKeys,
  KEY_BYTES,
  keyInfo,
  SessionSecret,
  type Direction,
} from '../../../src/crypto/key-schedule.ts';
import { Secret } from '../../../src/crypto/secret.ts';

const bytes = (length: number, value: number): Buffer => Buffer.alloc(length, value);
const input = {
  exporter: bytes(48, 1),
  nonceS: bytes(32, 2),
  nonceD: bytes(32, 3),
  transcriptHash: bytes(48, 4),
};
const salt = Buffer.concat([input.nonceS, input.nonceD]);

void test('extract and expand are the two halves of HKDF', async (t) => {
  for (const length of [1, 32, 48, 49, 200]) {
    const whole = Buffer.from(hkdfSync('sha384', input.exporter, salt, 'info', length));
    const halves = hkdfExpand(hkdfExtract(salt, input.exporter), Buffer.from('info'), length);
    t.same(Buffer.from(halves), whole, `${length} bytes`);
  }
  t.throws(() => hkdfExpand(bytes(48, 1), bytes(1, 1), 255 * 48 + 1));
});

void test('every key is what RFC 5869 says of its label, channel, direction and TH', async (t) => {
  using secret = SessionSecret.extract(input);
  const labels = { enc: 'migd/1 enc\0', mac: 'migd/1 mac\0', join: 'migd/1 join\0' };
  for (const [direction, byte] of [
    ['to-destination', 1],
    ['to-source', 2],
  ] as const) {
    using keys = secret.channelKeys(0x0102, direction);
    for (const purpose of ['enc', 'mac', 'join'] as const) {
      const place = Uint8Array.of(1, 2, byte);
      const info = Buffer.concat([Buffer.from(labels[purpose]), place, input.transcriptHash]);
      const expected = hkdfSync('sha384', input.exporter, salt, info, KEY_BYTES[purpose]);
      t.same(Buffer.from(keys[purpose].expose()), Buffer.from(expected), `${purpose} ${direction}`);
    }
  }
});

void test('no two keys are the same, and each input changes all of them', async (t) => {
  const seen = new Set<string>();
  const changes = [
    {},
    ...Object.keys(input).map((name) => ({
      [name]: bytes(name === 'nonceS' || name === 'nonceD' ? 32 : 48, 9),
    })),
  ];
  for (const change of changes) {
    using secret = SessionSecret.extract({ ...input, ...change });
    for (const channel of [0, 1, 0xffff]) {
      for (const direction of ['to-destination', 'to-source'] satisfies Direction[]) {
        using keys = secret.channelKeys(channel, direction);
        for (const key of [keys.enc, keys.mac, keys.join]) {
          seen.add(Buffer.from(key.expose().subarray(0, 32)).toString('hex'));
        }
      }
    }
  }
  t.equal(seen.size, changes.length * 3 * 2 * 3);
});

void test('a wiped secret is zero and cannot be used', async (t) => {
  const raw = Uint8Array.from(bytes(32, 7));
  const key = new Secret('enc', raw);
  t.equal(key.expose(), raw);
  key[Symbol.dispose]();
  t.same(raw, new Uint8Array(32));
  t.throws(() => key.expose(), { name: 'AssertionFailed' });
  key[Symbol.dispose]();
  const secret = SessionSecret.extract(input);
  secret[Symbol.dispose]();
  t.throws(() => secret.channelKeys(0, 'to-source'), { name: 'AssertionFailed' });
});

void test('keys move between threads and are then no longer here', async (t) => {
  using secret = SessionSecret.extract(input);
  using reference = secret.channelKeys(1, 'to-destination');
  const keys = secret.channelKeys(1, 'to-destination');
  using moved = DirectionKeys.receive(keys.release());
  t.same(moved.enc.expose(), reference.enc.expose());
  t.same(moved.join.expose(), reference.join.expose());
  t.throws(() => keys.enc.expose(), { name: 'AssertionFailed' });
});

void test('what cannot be right is a bug: lengths, channels, views on shared buffers', async (t) => {
  t.throws(() => SessionSecret.extract({ ...input, exporter: bytes(32, 1) }));
  t.throws(() => SessionSecret.extract({ ...input, nonceD: bytes(31, 1) }));
  t.throws(() => SessionSecret.extract({ ...input, transcriptHash: bytes(32, 1) }));
  t.throws(() => keyInfo('enc', 0x10000, 'to-source', input.transcriptHash));
  t.throws(() => new Secret('enc', new Uint8Array(new ArrayBuffer(64), 0, 32)));
  t.throws(() => new Secret('enc', new Uint8Array(0)));
});
