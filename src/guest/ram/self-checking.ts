/**
 * Self-checking pages. A page carries its number, its version, a checksum and a payload that follows
 * from both; the guest's table holds the version it must have. So a lost, stale, moved or damaged
 * page is found without trusting whoever moved it. All stores are plain ones.
 *
 *     word 0 page number │ 1 version │ 2 checksum │ 3 constant ^ kept │ 4 … 1023 payload
 *
 * Real programs seldom change all of a page: the first `kept` words of the payload may be those of version 1.
 */
import { PAGE_BYTES } from '../../base/units.ts';

const WORDS = PAGE_BYTES / 4;
const CONSTANT = 0x6d696764; // "migd"

/** Where the payload of (page, version) begins; no two are alike, none compresses. */
const seedOf = (page: number, version: number): number =>
  (Math.imul(page + 1, 0x9e3779b1) ^ Math.imul(version, 0x85ebca6b)) | 0;

/** Words of the payload: at most so many are kept. */
export const PAYLOAD_WORDS = WORDS - 4;

/** Writes page `page` as `version` into RAM, seen as 32-bit words. */
export function writePage(ram: Uint32Array, page: number, version: number, kept = 0): void {
  const base = page * WORDS;
  const changedFrom = base + 4 + kept;
  let x = seedOf(page, 1);
  let sum = 0;
  for (let i = base + 4; i < base + WORDS; i += 1) {
    if (i === changedFrom) x = seedOf(page, version);
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    const word = x ^ (x >>> 15);
    ram[i] = word;
    sum = (Math.imul(sum, 31) + word) | 0;
  }
  ram[base] = page;
  ram[base + 1] = version;
  ram[base + 2] = sum;
  ram[base + 3] = CONSTANT ^ kept;
}

/** Whether page `page` holds exactly what `version` of it must be; version 0 is all zero. */
export function isPageIntact(ram: Uint32Array, page: number, version: number): boolean {
  const base = page * WORDS;
  if (version === 0) {
    for (let i = base; i < base + WORDS; i += 1) if (ram[i] !== 0) return false;
    return true;
  }
  if (ram[base] !== page || ram[base + 1] !== version) return false;
  const kept = (ram[base + 3] ?? 0) ^ CONSTANT;
  if (kept < 0 || kept > PAYLOAD_WORDS) return false;
  const changedFrom = base + 4 + kept;
  let x = seedOf(page, 1);
  let sum = 0;
  for (let i = base + 4; i < base + WORDS; i += 1) {
    if (i === changedFrom) x = seedOf(page, version);
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    const word = x ^ (x >>> 15);
    if (ram[i] !== word >>> 0) return false;
    sum = (Math.imul(sum, 31) + word) | 0;
  }
  return ram[base + 2] === sum >>> 0;
}
