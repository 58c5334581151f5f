/** Whole pages as one zstd frame (RFC 8878), and back within bounds. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { FRAME_OVERHEAD_BYTES_MAX, FRAME_PAGES_MAX } from '../../base/limits.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import { MigError } from '../../protocol/error.ts';

/** Higher levels cost more than they save on any link that is worth to compress for and not yet slow. */
const LEVEL = 1;
/** The largest frame's: what the frame's own header asks for is never given beyond it. */
const WINDOW_LOG = Math.log2(FRAME_PAGES_MAX * PAGE_BYTES);

const COMPRESSING = {
  [constants.ZSTD_c_compressionLevel]: LEVEL,
  [constants.ZSTD_c_windowLog]: WINDOW_LOG,
};
const EXPANDING = { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG };

/** At most the pages' own bytes and FRAME_OVERHEAD_BYTES_MAX. */
export const frameOf = (pages: Uint8Array): Uint8Array =>
  zstdCompressSync(pages, {
    chunkSize: pages.length + FRAME_OVERHEAD_BYTES_MAX,
    params: COMPRESSING,
  });

/** The `bytes` that a frame stands for, exactly so many. Throws RECORD_MALFORMED. */
export function expand(frame: Uint8Array, bytes: number): Uint8Array {
  let pages: Uint8Array;
  try {
    pages = zstdDecompressSync(frame, {
      // A little more: what fills its room to the last byte is given another one.
      chunkSize: bytes + 64,
      maxOutputLength: bytes,
      params: EXPANDING,
    });
  } catch (cause) {
    throw new MigError('RECORD_MALFORMED', `a frame of other than ${bytes} bytes`, { cause });
  }
  if (pages.length !== bytes) {
    throw new MigError('RECORD_MALFORMED', `a frame of ${pages.length} bytes, not ${bytes}`);
  }
  return pages;
}
