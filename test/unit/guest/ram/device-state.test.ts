/** Device state: round trip, and every malformed one refused with a code. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { decodeDeviceState, encodeDeviceState } from '../../../../src/guest/ram/device-state.ts';
import { REGISTERS } from '../../../../src/guest/ram/shared.ts';

const register = fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => x + 0);
const rows = fc.array(fc.array(register, { minLength: REGISTERS, maxLength: REGISTERS }), {
  minLength: 1,
  maxLength: 64,
});

void test('registers come back as they were', async () => {
  fc.assert(
    fc.property(rows, (registers) => {
      const decoded = decodeDeviceState(encodeDeviceState(registers), registers.length);
      if (JSON.stringify(decoded) !== JSON.stringify(registers)) throw new Error('changed');
    }),
  );
});

void test('a state for another number of vCPUs is refused', (t) => {
  const row = Array<number>(REGISTERS).fill(1);
  const state = encodeDeviceState([row, row]);
  t.throws(() => decodeDeviceState(state, 1), { code: 'GUEST_FAILED' });
  t.throws(() => decodeDeviceState(state, 3), { code: 'GUEST_FAILED' });
  t.end();
});

void test('a mutated state is refused with a code or still has the form of one', async () => {
  const row = Array.from({ length: REGISTERS }, (_, i) => i * 1.5);
  const intact = encodeDeviceState([row]);
  fc.assert(
    fc.property(fc.nat({ max: intact.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
      const forged = Buffer.from(intact);
      forged[at] = byte;
      try {
        const [only] = decodeDeviceState(forged, 1);
        if (only?.length !== REGISTERS || !only.every(Number.isFinite)) throw new Error('form');
      } catch (thrown) {
        if ((thrown as { code?: string }).code !== 'GUEST_FAILED') throw thrown;
      }
    }),
    { numRuns: 500 },
  );
});

void test('forms that JSON allows and a vCPU does not', (t) => {
  const ones = `[${Array(REGISTERS).fill('1').join()}]`;
  for (const text of [
    '',
    '{}',
    'null',
    `{"version":2,"registers":[${ones}]}`,
    `{"version":1,"registers":[${ones}],"more":1}`,
    '{"version":1,"registers":[]}',
    '{"version":1,"registers":[[1]]}',
    `{"version":1,"registers":[${ones.replace('1', '1e999')}]}`,
    `{"version":1,"registers":[${ones.replace('1', 'null')}]}`,
  ]) {
    t.throws(() => decodeDeviceState(Buffer.from(text), 1), { code: 'GUEST_FAILED' }, text);
  }
  t.end();
});
