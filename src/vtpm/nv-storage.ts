/**
 * Non-volatile indexes: counters, which only go up, and ordinary indexes of a fixed size, which may
 * hold secrets and are wiped at the end. There is no undefine, so a counter cannot be taken back by
 * defining it anew. Indexes have no authorisation of their own: whoever reaches the vTPM is its guest.
 */
import {
  VTPM_COUNTER_MAX,
  VTPM_NV_INDEX_BYTES_MAX,
  VTPM_NV_INDEX_COUNT_MAX,
} from '../base/limits.ts';
import { MigError } from '../protocol/error.ts';
import { type ByteReader, type ByteWriter, malformed } from './binary.ts';

/** NV handles: TPM_HT_NV_INDEX in the top byte (TPM 2.0 Part 2 §7.2). */
export const NV_INDEX_FIRST = 0x0100_0000;
export const NV_INDEX_LAST = 0x01ff_ffff;

/** TPM_NT values (TPM 2.0 Part 2 §13.2). */
const NT_ORDINARY = 0x0;
const NT_COUNTER = 0x1;
const COUNTER_BYTES = 8;
/** Index, kind and length before each index's contents. */
const ENTRY_HEADER_BYTES = 4 + 1 + 2;

type NvEntry =
  | { readonly kind: 'counter'; readonly value: number }
  | { readonly kind: 'ordinary'; readonly data: Buffer };

export class NvStorage {
  readonly #entries = new Map<number, NvEntry>();

  /** Reads what {@link writeTo} wrote; the indexes must ascend. Throws VTPM_FAILED. */
  static readFrom(reader: ByteReader): NvStorage {
    using guard = new DisposableStack();
    const storage = guard.use(new NvStorage());
    const count = reader.u16();
    if (count > VTPM_NV_INDEX_COUNT_MAX) throw malformed('too many NV indexes');
    let previous = NV_INDEX_FIRST - 1;
    for (let read = 0; read < count; read++) {
      const index = reader.u32();
      if (index <= previous || index > NV_INDEX_LAST) throw malformed('NV index out of order');
      storage.#entries.set(index, readEntry(reader));
      previous = index;
    }
    guard.move();
    return storage;
  }

  get sizeBytes(): number {
    let size = 2;
    for (const entry of this.#entries.values()) {
      size += ENTRY_HEADER_BYTES + (entry.kind === 'counter' ? COUNTER_BYTES : entry.data.length);
    }
    return size;
  }

  writeTo(writer: ByteWriter): void {
    writer.u16(this.#entries.size);
    for (const [index, entry] of [...this.#entries].toSorted(([a], [b]) => a - b)) {
      writer.u32(index);
      if (entry.kind === 'counter') writer.u8(NT_COUNTER).u16(COUNTER_BYTES).u64(entry.value);
      else writer.u8(NT_ORDINARY).sized(entry.data);
    }
  }

  /** A new counter, at 0. */
  defineCounter(index: number): void {
    this.#define(index, { kind: 'counter', value: 0 });
  }

  /** Adds one and returns the new value; at VTPM_COUNTER_MAX it is refused, never wrapped. */
  increment(index: number): number {
    const value = this.readCounter(index);
    if (value >= VTPM_COUNTER_MAX) throw refused('the counter is at its limit');
    this.#entries.set(index, { kind: 'counter', value: value + 1 });
    return value + 1;
  }

  readCounter(index: number): number {
    const entry = this.#entry(index);
    if (entry.kind !== 'counter') throw refused('the NV index is no counter');
    return entry.value;
  }

  /** A new ordinary index of `sizeBytes` zero bytes. */
  define(index: number, sizeBytes: number): void {
    this.#define(index, { kind: 'ordinary', data: Buffer.alloc(sizeBytes) });
  }

  /** Replaces the whole contents; `data` must have the defined size. */
  write(index: number, data: Uint8Array): void {
    const contents = this.#contents(index);
    if (data.length !== contents.length) throw refused('the NV index has another size');
    contents.set(data);
  }

  /** A copy of the whole contents. */
  read(index: number): Uint8Array {
    return new Uint8Array(this.#contents(index));
  }

  [Symbol.dispose](): void {
    for (const entry of this.#entries.values()) if (entry.kind === 'ordinary') entry.data.fill(0);
    this.#entries.clear();
  }

  #define(index: number, entry: NvEntry): void {
    if (this.#entries.has(index)) throw refused('the NV index is already defined');
    if (this.#entries.size >= VTPM_NV_INDEX_COUNT_MAX) throw refused('no further NV index fits');
    this.#entries.set(index, entry);
  }

  #entry(index: number): NvEntry {
    const entry = this.#entries.get(index);
    if (entry === undefined) throw refused('the NV index is not defined');
    return entry;
  }

  #contents(index: number): Buffer {
    const entry = this.#entry(index);
    if (entry.kind !== 'ordinary') throw refused('the NV index is a counter');
    return entry.data;
  }
}

function readEntry(reader: ByteReader): NvEntry {
  const kind = reader.u8();
  if (kind === NT_COUNTER) {
    if (reader.u16() !== COUNTER_BYTES) throw malformed('a counter of another size');
    return { kind: 'counter', value: reader.u64() };
  }
  if (kind !== NT_ORDINARY) throw malformed('an unknown kind of NV index');
  const bytes = reader.sized(VTPM_NV_INDEX_BYTES_MAX);
  if (bytes.length === 0) throw malformed('an empty NV index');
  const data = Buffer.alloc(bytes.length);
  data.set(bytes);
  return { kind: 'ordinary', data };
}

const refused = (why: string): MigError => new MigError('VTPM_FAILED', why);
