/** Saved vTPM states: what goes in comes out, and nothing but VTPM_FAILED comes of garbage. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { VTPM_NV_INDEX_BYTES_MAX } from '../../src/base/limits.ts';
import { MigError } from '../../src/protocol/error.ts';
import type { VtpmCommand } from '../../src/vtpm/command.ts';
import { NV_INDEX_FIRST } from '../../src/vtpm/nv-storage.ts';
import { open, seal } from '../../src/vtpm/sealed-state.ts';
import { SoftwareTpm } from '../../src/vtpm/software-tpm.ts';
import { StillClock, systemRandom } from '../unit/vtpm/fixtures.ts';

const ALL = Array.from({ length: 24 }, (_, index) => index);
const EVERYTHING = [
  { bank: 'sha256', indexes: ALL },
  { bank: 'sha384', indexes: ALL },
] as const;

const pcrIndex = fc.nat({ max: 23 });
/** Few indexes, so that commands meet. */
const nvIndex = fc.nat({ max: 5 }).map((offset) => NV_INDEX_FIRST + offset * 0x1000);
const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: 1, maxLength });

const command: fc.Arbitrary<VtpmCommand> = fc.oneof(
  fc.record({ type: fc.constant('pcr-event'), index: pcrIndex, event: bytes(64) }),
  fc.record({ type: fc.constant('nv-define-counter'), index: nvIndex }),
  fc.record({ type: fc.constant('nv-increment'), index: nvIndex }),
  fc.record({
    type: fc.constant('nv-define'),
    index: nvIndex,
    sizeBytes: fc.oneof(fc.constant(4), fc.integer({ min: 1, max: VTPM_NV_INDEX_BYTES_MAX })),
  }),
  fc.record({
    type: fc.constant('nv-write'),
    index: nvIndex,
    data: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  }),
);

/** The import's outcome: a vTPM, or undefined for the one refusal that is allowed. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof MigError && thrown.code === 'VTPM_FAILED') return undefined;
    throw thrown;
  }
}

void test('a vTPM after any commands goes on elsewhere as if it had stayed', async () => {
  fc.assert(
    fc.property(
      fc.array(command, { maxLength: 30 }),
      fc.array(command, { maxLength: 10 }),
      fc.nat({ max: 1e9 }),
      (before, after, elapsedMs) => {
        const clock = new StillClock();
        using stayed = SoftwareTpm.create(clock);
        for (const each of before) stayed.execute(each);
        clock.nowMs += elapsedMs;
        const state = stayed.exportState();
        using moved = SoftwareTpm.importState(state, clock);
        if (!moved.exportState().equals(state)) throw new Error('the state changed');
        for (const each of after) {
          const [here, there] = [stayed.execute(each), moved.execute(each)];
          if (JSON.stringify(here) !== JSON.stringify(there)) throw new Error('replies differ');
        }
        if (!moved.exportState().equals(stayed.exportState())) throw new Error('states differ');
        const values = [stayed, moved].map((tpm) => JSON.stringify(tpm.readPcrs(EVERYTHING)));
        if (values[0] !== values[1]) throw new Error('PCRs differ');
      },
    ),
  );
});

/** One saved state with both kinds of NV index. */
function sampleState(): Buffer {
  using tpm = SoftwareTpm.create(new StillClock());
  tpm.execute({ type: 'nv-define-counter', index: NV_INDEX_FIRST });
  tpm.execute({ type: 'nv-define', index: NV_INDEX_FIRST + 1, sizeBytes: 40 });
  tpm.extendEvent(3, Buffer.from('event'));
  return tpm.exportState();
}

void test('a mutated state is refused with VTPM_FAILED, or is a state of its own', async () => {
  const state = sampleState();
  // Most of the state is PCR values, where every change is valid: aim at the rest half of the time.
  const structured = fc.oneof(
    fc.nat({ max: 110 }),
    fc.integer({ min: state.length - 80, max: state.length - 1 }),
    fc.nat({ max: state.length - 1 }),
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(structured, fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }),
      (changes) => {
        const mutated = Buffer.from(state);
        for (const [at, byte] of changes) mutated.writeUInt8(byte, at);
        using tpm = attempt(() => SoftwareTpm.importState(mutated, new StillClock()));
        if (tpm === undefined) return;
        if (!tpm.exportState().equals(mutated)) throw new Error('two encodings of one state');
        tpm.quote(Buffer.alloc(32), EVERYTHING);
      },
    ),
    { numRuns: 400 },
  );
});

const imported = (input: Uint8Array): unknown =>
  attempt(() => SoftwareTpm.importState(input, new StillClock()));

void test('a state cut anywhere, or followed by anything, or any bytes at all: refused', async (t) => {
  const state = sampleState();
  for (let length = 0; length < state.length; length++) {
    if (imported(state.subarray(0, length)) !== undefined) t.fail(`accepted ${length} bytes`);
  }
  fc.assert(
    fc.property(
      bytes(200),
      (tail) =>
        imported(Buffer.concat([state, tail])) === undefined && imported(tail) === undefined,
    ),
  );
});

void test('a sealed state opens to itself under its key; altered or cut it is refused', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat({ max: Number.MAX_SAFE_INTEGER - 1 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (state, counter, position, flip) => {
        const key = Buffer.from(systemRandom.bytes(32));
        const sealed = seal(state, key, counter, systemRandom);
        if (!open(sealed, key).equals(state)) throw new Error('another state came out');
        const at = position % sealed.length;
        if (attempt(() => open(sealed.subarray(0, at), key)) !== undefined) {
          throw new Error('a cut file was accepted');
        }
        sealed.writeUInt8(sealed.readUInt8(at) ^ flip, at);
        if (attempt(() => open(sealed, key)) !== undefined) throw new Error('forgery accepted');
      },
    ),
  );
});

void test('whatever is executed, the answer is a reply', async () => {
  using tpm = SoftwareTpm.create(new StillClock());
  const types = ['pcr-extend', 'pcr-event', 'pcr-read', 'nv-define', 'nv-write', 'quote'];
  const anything = fc.oneof(
    fc.anything({ withBigInt: true, withTypedArray: true, withMap: true, withNullPrototype: true }),
    fc.record(
      {
        type: fc.constantFrom(...types),
        index: fc.anything(),
        selection: fc.anything(),
        data: fc.anything(),
        nonce: fc.anything(),
        sizeBytes: fc.anything(),
      },
      { requiredKeys: ['type'] },
    ),
  );
  fc.assert(fc.property(anything, (input) => tpm.execute(input).type === 'failed'));
});
