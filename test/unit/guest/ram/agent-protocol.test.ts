/** Frames between daemon and guest: round trip, split anywhere, bounded, garbage refused with a code. */
import * as fc from 'fast-check';
import { test } from 'tap';
import {
  AGENT_FRAME_BYTES_MAX,
  agentRequestSchema,
  encodeFrame,
  FrameDecoder,
} from '../../../../src/guest/ram/agent-protocol.ts';

const value = fc.oneof(
  fc.record({ id: fc.nat(), result: fc.dictionary(fc.string({ maxLength: 8 }), fc.nat()) }),
  fc.string(),
  fc.constant(null),
  fc.array(fc.boolean()),
);

void test('frames come out as they went in, however the stream is split', async () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 8 }), fc.array(fc.nat()), (values, cuts) => {
      const stream = Buffer.concat(values.map((each) => encodeFrame(each)));
      const at = cuts.map((cut) => cut % (stream.length + 1)).toSorted((a, b) => a - b);
      const decoder = new FrameDecoder();
      const out = [0, ...at].flatMap((from, i) =>
        decoder.push(stream.subarray(from, at[i] ?? stream.length)),
      );
      if (JSON.stringify(out) !== JSON.stringify(values)) throw new Error(JSON.stringify(out));
    }),
  );
});

void test('a frame byte by byte', (t) => {
  const decoder = new FrameDecoder();
  const frame = encodeFrame({ id: 1, op: 'status' });
  const out = [...frame].flatMap((byte) => decoder.push(Buffer.from([byte])));
  t.same(out, [{ id: 1, op: 'status' }]);
  t.end();
});

const announcing = (bytes: number): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes);
  return length;
};

void test('the largest frame is waited for, one byte more is refused before it comes', (t) => {
  t.same(new FrameDecoder().push(announcing(AGENT_FRAME_BYTES_MAX)), []);
  t.throws(() => new FrameDecoder().push(announcing(AGENT_FRAME_BYTES_MAX + 1)), {
    code: 'GUEST_FAILED',
  });
  t.end();
});

void test('bytes that are no message are refused with a code', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
      try {
        new FrameDecoder().push(Buffer.concat([announcing(bytes.length), bytes]));
      } catch (thrown) {
        if ((thrown as { code?: string }).code !== 'GUEST_FAILED') throw thrown;
      }
    }),
    { numRuns: 1000 },
  );
});

const accepted = (request: unknown): boolean => agentRequestSchema.safeParse(request).success;

void test('requests are strict', (t) => {
  t.ok(accepted({ id: 1, op: 'pause' }));
  t.ok(accepted({ id: 1, op: 'throttle', percent: 99 }));
  t.notOk(accepted({ id: 1, op: 'throttle', percent: 100 }));
  t.notOk(accepted({ id: 1, op: 'throttle' }));
  t.notOk(accepted({ id: 1, op: 'pause', more: true }));
  t.notOk(accepted({ id: 1.5, op: 'pause' }));
  t.notOk(accepted({ id: 1, op: 'explode' }));
  t.notOk(accepted({ op: 'pause' }));
  t.notOk(accepted(null));
  t.end();
});
