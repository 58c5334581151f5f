/**
 * Big-endian fields with bounds, as TPM structures and the saved state are made of. The writer
 * fills an allocation of the exact size, so that secrets have one copy to wipe and no pool is
 * shared; the reader refuses to go past the end. Neither knows what the fields mean.
 */
import { assert } from '../base/assert.ts';
import { MigError } from '../protocol/error.ts';

export class ByteWriter {
  readonly #bytes: Buffer;
  #offset = 0;

  /** Room for exactly `sizeBytes`. */
  constructor(sizeBytes: number) {
    this.#bytes = Buffer.alloc(sizeBytes);
  }

  u8(value: number): this {
    this.#offset = this.#bytes.writeUInt8(value, this.#offset);
    return this;
  }

  u16(value: number): this {
    this.#offset = this.#bytes.writeUInt16BE(value, this.#offset);
    return this;
  }

  u32(value: number): this {
    this.#offset = this.#bytes.writeUInt32BE(value, this.#offset);
    return this;
  }

  /** An exact integer, 0 to 2^53 − 1, in eight bytes. */
  u64(value: number): this {
    this.#offset = this.#bytes.writeBigUInt64BE(BigInt(value), this.#offset);
    return this;
  }

  raw(bytes: Uint8Array): this {
    assert(this.#offset + bytes.length <= this.#bytes.length, 'the allocation was too small');
    this.#bytes.set(bytes, this.#offset);
    this.#offset += bytes.length;
    return this;
  }

  /** A TPM2B: the length in two bytes, then the bytes. */
  sized(bytes: Uint8Array): this {
    return this.u16(bytes.length).raw(bytes);
  }

  /** The bytes, which must fill the allocation. */
  finish(): Buffer {
    assert(this.#offset === this.#bytes.length, 'the allocation was too large');
    return this.#bytes;
  }
}

/** Reads from `bytes` without copying; every method throws VTPM_FAILED past the end. */
export class ByteReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(): number {
    return this.raw(1).readUInt8();
  }

  u16(): number {
    return this.raw(2).readUInt16BE();
  }

  u32(): number {
    return this.raw(4).readUInt32BE();
  }

  /** An integer up to 2^53 − 1; a larger one is refused. */
  u64(): number {
    const value = this.raw(8).readBigUInt64BE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('a number is too large');
    return Number(value);
  }

  /** A view on the next `count` bytes. */
  raw(count: number): Buffer {
    const end = this.#offset + count;
    if (end > this.#bytes.length) throw malformed('it is cut short');
    const view = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return view;
  }

  /** A view on a TPM2B of at most `maxBytes`. */
  sized(maxBytes: number): Buffer {
    const count = this.u16();
    if (count > maxBytes) throw malformed('a field is too long');
    return this.raw(count);
  }

  /** States that nothing follows. */
  end(): void {
    if (this.#offset !== this.#bytes.length) throw malformed('bytes follow its end');
  }
}

/** The refusal of a saved state. */
export const malformed = (why: string): MigError =>
  new MigError('VTPM_FAILED', `saved state refused: ${why}`);
