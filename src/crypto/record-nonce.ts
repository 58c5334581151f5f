/**
 * The nonce of a record: `channel u16 ‖ 0 u16 ‖ sequence u64`, in CTR followed by 32 bits that count
 * the blocks of the record. A key belongs to one channel and direction and a sequence never repeats
 * under it, so neither does a nonce (NIST SP 800-38D §8.2.1, deterministic construction).
 */
import type { Suite } from './suites.ts';

export function recordNonce(suite: Suite, channel: number, sequence: number): Uint8Array {
  const nonce = new Uint8Array(suite.nonceBytes);
  const view = new DataView(nonce.buffer);
  view.setUint16(0, channel);
  view.setUint32(4, Math.floor(sequence / 2 ** 32));
  view.setUint32(8, sequence % 2 ** 32);
  return nonce;
}
