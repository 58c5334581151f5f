/**
 * A digest of all guest RAM for `--verify`: SHA-256 over the SHA-256 of each block of 4 MiB, in
 * order, so that the channels' threads can share the blocks. The last block may be shorter.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { MiB } from '../../base/units.ts';
import type { Share } from '../../pages/share.ts';

const BLOCK_BYTES = 4 * MiB;
const DIGEST_BYTES = 32;

/** The digests of a share's blocks, one after the other; other work of the thread goes on between. */
export async function digestShare(ram: Uint8Array, share: Share): Promise<Uint8Array> {
  const digests: Uint8Array[] = [];
  for (let at = share.index * BLOCK_BYTES; at < ram.length; at += share.of * BLOCK_BYTES) {
    digests.push(
      createHash('sha256')
        .update(ram.subarray(at, at + BLOCK_BYTES))
        .digest(),
    );
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
