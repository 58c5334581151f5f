/** The embedded guest's device state: the registers of its vCPUs, as bytes for the exchange. */
import { z } from 'zod';
import { MigError } from '../../protocol/error.ts';
import { REGISTERS } from './shared.ts';

const stateSchema = z.strictObject({
  version: z.literal(1),
  registers: z.array(z.array(z.number()).length(REGISTERS)).min(1).max(64),
});

/** Registers, one row a vCPU, as JSON bytes. */
export const encodeDeviceState = (registers: readonly (readonly number[])[]): Buffer =>
  Buffer.from(JSON.stringify({ version: 1, registers }));

/** Throws GUEST_FAILED when the bytes are not such a state for `vcpus` vCPUs. */
export function decodeDeviceState(
  bytes: Uint8Array,
  vcpus: number,
): readonly (readonly number[])[] {
  try {
    const { registers } = stateSchema.parse(JSON.parse(Buffer.from(bytes).toString()));
    if (registers.length === vcpus) return registers;
  } catch (cause) {
    throw new MigError('GUEST_FAILED', 'device state malformed', { cause });
  }
  throw new MigError('GUEST_FAILED', 'device state of another number of vCPUs');
}
