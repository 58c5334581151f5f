/**
 * The header of a data record. A record is `header ‖ ciphertext ‖ tag`; the header is associated
 * data, so that none of it can be changed unnoticed. Big-endian:
 *
 *     0 version u8 │ 1 kind u8 │ 2 channel u16 │ 4 length of the plaintext u32 │ 8 sequence u64
 *
 * It knows nothing of keys or of what the plaintext says.
 */
import { assert } from '../base/assert.ts';
import { RECORD_BYTES_MAX } from '../base/limits.ts';
import { MigError } from './error.ts';

export const RECORD_VERSION = 1;
export const RECORD_HEADER_BYTES = 16;

/**
 * `pages`: a batch (pages/batch.ts) · `state`: device state ‖ vTPM · `absent`: the bitmap of the pages that
 * do not come before the guest runs · `demand`: pages that it waits for (demand.ts) · the others: how far
 * it is.
 */
export const RECORD_KINDS = {
  pages: 1,
  state: 2,
  roundEnd: 3,
  end: 4,
  absent: 5,
  demand: 6,
} as const;
export type RecordKind = keyof typeof RECORD_KINDS;

const KIND_OF = new Map(
  Object.entries(RECORD_KINDS).map(([kind, byte]) => [byte as number, kind as RecordKind]),
);

export interface RecordHeader {
  readonly kind: RecordKind;
  readonly channel: number;
  /** Bytes of the plaintext, and of the ciphertext: every suite keeps the length. */
  readonly length: number;
  /** Counts the records of one channel and direction from 0. */
  readonly sequence: number;
}

/** The 16 bytes of a header of our own. */
export function encodeHeader(header: RecordHeader): Uint8Array<ArrayBuffer> {
  const { kind, channel, length, sequence } = header;
  assert(length <= RECORD_BYTES_MAX, 'a record larger than its limit');
  assert(Number.isSafeInteger(sequence) && sequence >= 0, 'a sequence out of range');
  const bytes = new Uint8Array(RECORD_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, RECORD_VERSION);
  view.setUint8(1, RECORD_KINDS[kind]);
  view.setUint16(2, channel);
  view.setUint32(4, length);
  view.setUint32(8, Math.floor(sequence / 2 ** 32));
  view.setUint32(12, sequence % 2 ** 32);
  return bytes;
}

/** The header in exactly 16 bytes from the peer. Throws RECORD_MALFORMED. */
export function parseHeader(bytes: Uint8Array): RecordHeader {
  if (bytes.length !== RECORD_HEADER_BYTES) throw malformed(`header of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_HEADER_BYTES);
  const version = view.getUint8(0);
  if (version !== RECORD_VERSION) throw malformed(`version ${version}`);
  const kind = KIND_OF.get(view.getUint8(1));
  if (kind === undefined) throw malformed(`kind ${view.getUint8(1)}`);
  const length = view.getUint32(4);
  if (length > RECORD_BYTES_MAX) throw malformed(`${length} bytes`);
  const high = view.getUint32(8);
  if (high >= 2 ** 21) throw malformed('sequence beyond 2^53');
  const sequence = high * 2 ** 32 + view.getUint32(12);
  return { kind, channel: view.getUint16(2), length, sequence };
}

const malformed = (detail: string): MigError => new MigError('RECORD_MALFORMED', detail);
