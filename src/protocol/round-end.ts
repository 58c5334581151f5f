/**
 * The plaintext of a `roundEnd` record: what one channel carried in the round that it ends.
 *
 *     round u32 │ pages u32 │ zero pages u32        big-endian
 */
import { MigError } from './error.ts';

export const ROUND_END_BYTES = 12;

export interface RoundEnd {
  readonly round: number;
  /** All pages of the round on this channel, zero pages included. */
  readonly pages: number;
  readonly zeroPages: number;
}

export function encodeRoundEnd({ round, pages, zeroPages }: RoundEnd): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ROUND_END_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, round);
  view.setUint32(4, pages);
  view.setUint32(8, zeroPages);
  return bytes;
}

/** Throws RECORD_MALFORMED. */
export function decodeRoundEnd(bytes: Uint8Array): RoundEnd {
  if (bytes.length !== ROUND_END_BYTES) {
    throw new MigError('RECORD_MALFORMED', `an end of round of ${bytes.length} bytes`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return { round: view.getUint32(0), pages: view.getUint32(4), zeroPages: view.getUint32(8) };
}
