/** Whatever bytes arrive, the codec gives a valid message or a coded error, never anything else. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { MESSAGE_BYTES_MAX } from '../../src/base/limits.ts';
import { decodeMessage, encodeMessage } from '../../src/protocol/codec.ts';
import { MigError } from '../../src/protocol/error.ts';
import { MESSAGE_TYPES, type Message } from '../../src/protocol/messages.ts';
import { MESSAGE_SAMPLES } from '../unit/protocol/samples.ts';

const CODED = new Set<string>(['MESSAGE_MALFORMED', 'MESSAGE_TOO_LARGE', 'MESSAGE_UNKNOWN']);

const decodes = (frame: Uint8Array): Message | undefined => {
  try {
    return decodeMessage(frame);
  } catch (thrown) {
    if (thrown instanceof MigError && CODED.has(thrown.code)) return undefined;
    throw thrown;
  }
};

void test('there is a sample of every type, and each survives the round trip', async (t) => {
  t.same(
    MESSAGE_SAMPLES.map(({ type }) => type),
    MESSAGE_TYPES,
  );
  for (const sample of MESSAGE_SAMPLES) {
    const frame = encodeMessage(sample);
    t.same(encodeMessage(decodeMessage(frame)), frame, sample.type);
  }
});

void test('random bytes are refused with a code', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 512 }), (frame) => {
      decodes(frame);
    }),
    { numRuns: 2000 },
  );
});

void test('a mutated or cut message is valid or refused with a code', async () => {
  const samples = MESSAGE_SAMPLES.map((message) => encodeMessage(message));
  fc.assert(
    fc.property(
      fc.constantFrom(...samples),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
      fc.nat(),
      (sample, changes, cut) => {
        const frame = Uint8Array.from(sample);
        for (const [at, value] of changes) frame[at % frame.length] = value;
        decodes(frame);
        decodes(frame.subarray(0, cut % (frame.length + 1)));
      },
    ),
    { numRuns: 3000 },
  );
});

void test('an unknown or missing field, a wrong size: each is refused', async (t) => {
  const [hello] = MESSAGE_SAMPLES;
  const request = MESSAGE_SAMPLES.find(({ type }) => type === 'ATT_REQUEST');
  const wrong = [
    { ...hello, more: 1 },
    { ...hello, to: '../etc' },
    { ...request, nonce: new Uint8Array(31) },
    { ...request, nonce: 'text' },
    { type: 'CLI_ATT_OK', __proto__: { a: 1 }, extra: null },
  ];
  for (const message of wrong) {
    t.throws(() => decodeMessage(encodeMessage(message as Message)), { code: 'MESSAGE_MALFORMED' });
  }
  t.throws(() => decodeMessage(encodeMessage({ type: 'NO_SUCH' } as unknown as Message)), {
    code: 'MESSAGE_UNKNOWN',
  });
});

void test('a message at the limit of size passes, one past it does not', async (t) => {
  const frame = new Uint8Array(MESSAGE_BYTES_MAX + 1);
  t.throws(() => decodeMessage(frame), { code: 'MESSAGE_TOO_LARGE' });
  t.throws(() => decodeMessage(frame.subarray(1)), { code: 'MESSAGE_MALFORMED' });
});
