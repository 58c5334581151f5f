/**
 * A digest of all guest RAM for `--verify`: SHA-256 over the SHA-256 of each block of 4 MiB, in
 * order, so that the channels' threads can share the blocks. The last block may be shorter.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { KiB, MiB } from '../../base/units.ts';
import type { PageSource } from '../../pages/batcher.ts';
import type { Share } from '../../pages/share.ts';

const BLOCK_BYTES = 4 * MiB;
const DIGEST_BYTES = 32;
/** Read at a time: what fits into a core's cache. */
const PIECE_BYTES = 256 * KiB;

/** The digests of a share's blocks, one after the other; other work of the thread goes on between. */
export async function digestShare(
  ram: PageSource,
  ramBytes: number,
  share: Share,
): Promise<Uint8Array> {
  const piece = new Uint8Array(PIECE_BYTES);
  const digests: Uint8Array[] = [];
  for (let at = share.index * BLOCK_BYTES; at < ramBytes; at += share.of * BLOCK_BYTES) {
    const hash = createHash('sha256');
    const end = Math.min(at + BLOCK_BYTES, ramBytes);
    for (let from = at; from < end; from += PIECE_BYTES) {
      const next = piece.subarray(0, Math.min(PIECE_BYTES, end - from));
      ram.read(next, from);
      hash.update(next);
    }
    digests.push(hash.digest());
    await setImmediate();
  }
  return Buffer.concat(digests);
}

/** The digest of the whole from every share's digests, in order of shares. */
export function combineShares(shares: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  const blocks = shares.reduce((sum, share) => sum + share.length / DIGEST_BYTES, 0);
  for (let block = 0; block < blocks; block += 1) {
    const at = Math.floor(block / shares.length) * DIGEST_BYTES;
    const share = shares[block % shares.length];
    if (share !== undefined) hash.update(share.subarray(at, at + DIGEST_BYTES));
  }
  return hash.digest();
}
