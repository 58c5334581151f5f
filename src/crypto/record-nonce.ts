/**
 * The nonce of a record: `channel u16 ‖ 0 u16 ‖ sequence u64`, in CTR followed by 32 bits that count
 * the blocks of the record. A key belongs to one channel and direction and a sequence never repeats
 * under it, so neither does a nonce (NIST SP 800-38D §8.2.1, deterministic construction). Where nobody
 * may foresee it, it is the first bytes of HMAC-SHA-256(Key_mac, label ‖ that) instead (SP 800-38A,
 * appendix C). The label keeps these inputs apart from the others under Key_mac (transcript.ts).
 */
import { createHmac } from 'node:crypto';
import type { MacKey } from './key-schedule.ts';
import type { Suite } from './suites.ts';

const COUNT_BYTES = 12;
const LABEL = Buffer.from('migd/1 iv\0');

export function recordNonce(
  { nonceBytes, nonceOf }: Suite,
  key: MacKey,
  channel: number,
  sequence: number,
): Uint8Array {
  const count = new Uint8Array(Math.max(nonceBytes, COUNT_BYTES));
  const view = new DataView(count.buffer);
  view.setUint16(0, channel);
  view.setUint32(4, Math.floor(sequence / 2 ** 32));
  view.setUint32(8, sequence % 2 ** 32);
  if (nonceOf === 'count') return count;
  const prf = createHmac('sha256', key.expose()).update(LABEL).update(count).digest();
  return prf.subarray(0, nonceBytes);
}
