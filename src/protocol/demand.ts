/**
 * The plaintext of a `demand` record: the pages that a guest waits for at the destination, u32 each,
 * big-endian, in the order in which it touched them.
 */
import { DEMAND_PAGES_MAX } from '../base/limits.ts';
import { MigError } from './error.ts';

const PAGE_NUMBER_BYTES = 4;
export const DEMAND_BYTES_MAX = DEMAND_PAGES_MAX * PAGE_NUMBER_BYTES;

export function encodeDemand(pages: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pages.length * PAGE_NUMBER_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, page] of pages.entries()) view.setUint32(index * PAGE_NUMBER_BYTES, page);
  return bytes;
}

/** Whether a record of so many bytes can be one. */
export const isDemandLength = (bytes: number): boolean =>
  bytes > 0 && bytes <= DEMAND_BYTES_MAX && bytes % PAGE_NUMBER_BYTES === 0;

/** The pages asked for, of a guest of `pageCount`. Throws RECORD_MALFORMED. */
export function decodeDemand(bytes: Uint8Array, pageCount: number): number[] {
  if (!isDemandLength(bytes.length)) {
    throw new MigError('RECORD_MALFORMED', `a demand of ${bytes.length} bytes`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / PAGE_NUMBER_BYTES }, (_, index) => {
    const page = view.getUint32(index * PAGE_NUMBER_BYTES);
    if (page >= pageCount) throw new MigError('RECORD_MALFORMED', `page ${page} of ${pageCount}`);
    return page;
  });
}
