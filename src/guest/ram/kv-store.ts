/**
 * A key-value store that lives wholly in guest RAM: a hash table of fixed slots with open addressing.
 * Everything it knows is in its pages, so moving the pages moves the store. Two slots a page:
 *
 *     0 state u32 (0 free, 1 used, 2 deleted) │ 4 key length u16 │ 6 value length u16 │
 *     8 version u32 │ 12 checksum u32 │ 16 key, 64 bytes │ 80 value, at most 1,968 bytes
 */
import { PAGE_BYTES } from '../../base/units.ts';

const SLOT_BYTES = PAGE_BYTES / 2;
const KEY_AT = 16;
const VALUE_AT = 80;
export const KEY_BYTES_MAX = VALUE_AT - KEY_AT;
export const VALUE_BYTES_MAX = SLOT_BYTES - VALUE_AT;

const FREE = 0;
const USED = 1;
const DELETED = 2;
/** A slot that was never used. */
const BLANK = Buffer.alloc(SLOT_BYTES);

export interface KvAudit {
  readonly entries: number;
  readonly bad: number;
  readonly versionSum: number;
  readonly firstBadPage: number | null;
}

export class KvStore {
  readonly #bytes: Buffer;
  readonly #slots: number;

  /** `bytes`: the store's pages. A table of zeros is an empty store. */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#slots = Math.floor(bytes.length / SLOT_BYTES);
  }

  /** The value of a key, or undefined. */
  get(key: string): string | undefined {
    const slot = this.#find(Buffer.from(key));
    if (slot === undefined || this.#state(slot) !== USED) return undefined;
    const at = slot * SLOT_BYTES;
    const length = this.#bytes.readUInt16LE(at + 6);
    return this.#bytes.toString('utf8', at + VALUE_AT, at + VALUE_AT + length);
  }

  /** Stores a value; returns the byte written to (for a dirty log), or undefined when it is full. */
  set(key: string, value: string): number | undefined {
    const keyBytes = Buffer.from(key);
    const slot = this.#find(keyBytes);
    if (slot === undefined) return undefined;
    const at = slot * SLOT_BYTES;
    const version = this.#bytes.readUInt32LE(at + 8) + 1;
    keyBytes.copy(this.#bytes, at + KEY_AT);
    const length = this.#bytes.write(value, at + VALUE_AT, VALUE_BYTES_MAX);
    this.#bytes.writeUInt16LE(keyBytes.length, at + 4);
    this.#bytes.writeUInt16LE(length, at + 6);
    this.#bytes.writeUInt32LE(version, at + 8);
    this.#bytes.writeUInt32LE(USED, at);
    this.#bytes.writeUInt32LE(this.#checksum(at), at + 12);
    return at;
  }

  /** Deletes a key; returns the byte written to, or undefined when there is none. */
  delete(key: string): number | undefined {
    const slot = this.#find(Buffer.from(key));
    if (slot === undefined || this.#state(slot) !== USED) return undefined;
    const at = slot * SLOT_BYTES;
    this.#bytes.writeUInt32LE(DELETED, at);
    this.#bytes.writeUInt32LE(this.#bytes.readUInt32LE(at + 8) + 1, at + 8);
    this.#bytes.writeUInt32LE(this.#checksum(at), at + 12);
    return at;
  }

  /**
   * Checks every slot; the sum of their versions is the number of writes ever done. `bad` and
   * `firstBadPage` count pages.
   */
  audit(): KvAudit {
    let entries = 0;
    let bad = 0;
    let versionSum = 0;
    let firstBadPage: number | null = null;
    let lastBadPage: number | null = null;
    for (let slot = 0; slot < this.#slots; slot += 1) {
      const at = slot * SLOT_BYTES;
      const state = this.#state(slot);
      if (state === USED) entries += 1;
      versionSum += this.#bytes.readUInt32LE(at + 8);
      if (this.#isIntact(slot) || lastBadPage === slot >> 1) continue;
      bad += 1;
      lastBadPage = slot >> 1;
      firstBadPage ??= lastBadPage;
    }
    return { entries, bad, versionSum, firstBadPage };
  }

  #state(slot: number): number {
    return this.#bytes.readUInt32LE(slot * SLOT_BYTES);
  }

  #isIntact(slot: number): boolean {
    const at = slot * SLOT_BYTES;
    if (this.#state(slot) === FREE) return BLANK.compare(this.#bytes, at, at + SLOT_BYTES) === 0;
    const lengthsFit =
      this.#bytes.readUInt16LE(at + 4) <= KEY_BYTES_MAX &&
      this.#bytes.readUInt16LE(at + 6) <= VALUE_BYTES_MAX;
    return lengthsFit && this.#bytes.readUInt32LE(at + 12) === this.#checksum(at);
  }

  /** The slot of a key, or the one to put it into; undefined when there is no room. */
  #find(key: Buffer): number | undefined {
    let reusable: number | undefined;
    const start = fnv1a(key) % this.#slots;
    for (let i = 0; i < this.#slots; i += 1) {
      const slot = (start + i) % this.#slots;
      const state = this.#state(slot);
      if (state === FREE) return reusable ?? slot;
      const at = slot * SLOT_BYTES + KEY_AT;
      const length = this.#bytes.readUInt16LE(at - KEY_AT + 4);
      if (length === key.length && this.#bytes.subarray(at, at + length).equals(key)) return slot;
      if (state === DELETED) reusable ??= slot;
    }
    return reusable;
  }

  /** Over everything in the slot that counts. */
  #checksum(at: number): number {
    const key = this.#bytes.readUInt16LE(at + 4);
    const value = this.#bytes.readUInt16LE(at + 6);
    const head = fnv1a(this.#bytes.subarray(at, at + 12));
    const middle = fnv1a(this.#bytes.subarray(at + KEY_AT, at + KEY_AT + key), head);
    return fnv1a(this.#bytes.subarray(at + VALUE_AT, at + VALUE_AT + value), middle);
  }
}

/** FNV-1a, 32 bits: spreads keys and notices accidents; it keeps nobody out. */
function fnv1a(bytes: Uint8Array, start = 0x811c9dc5): number {
  let hash = start;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
