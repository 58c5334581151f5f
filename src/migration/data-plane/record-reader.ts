/**
 * Cuts the byte stream of a channel into records and opens them, in whatever pieces the bytes come.
 * They are decrypted in large pieces as they arrive, before the tag has come: `plaintext` is called with
 * bytes that are not authenticated yet; `accepted` says that they are.
 */
import { BATCH_DATA_BYTES_MAX } from '../../base/limits.ts';
import { KiB } from '../../base/units.ts';
import { RECORD_HEADER_BYTES, type RecordHeader } from '../../protocol/record.ts';
import type { Opener } from '../../crypto/opener.ts';

export interface RecordSink {
  /** A record begins. Throws to refuse it. */
  begin(header: RecordHeader): void;
  /**
   * Its plaintext in pieces, `header.length` bytes in all, **not yet authenticated**: to be kept, and
   * used for nothing. Each piece is the sink's own.
   */
  plaintext(piece: Uint8Array): void;
  /** All of it was genuine. Throws to refuse what it says. */
  accepted(header: RecordHeader): void;
}

/**
 * Ciphertext is opened in pieces of this size: the socket gives 16 KiB at a time, and each call into
 * the cipher and the kernel has its price. A record of pages as we send it, its table included, is
 * one piece; a larger one takes several.
 */
const PIECE_BYTES = BATCH_DATA_BYTES_MAX + 4 * KiB;

type Stage =
  | { readonly kind: 'header' }
  | { readonly kind: 'body'; readonly header: RecordHeader; left: number }
  | { readonly kind: 'tag'; readonly header: RecordHeader };

export class RecordReader {
  readonly #opener: Opener;
  readonly #sink: RecordSink;
  /** A header or a tag that came in pieces. */
  readonly #small: Uint8Array;
  #fill = 0;
  readonly #body = new Uint8Array(PIECE_BYTES);
  #bodyFill = 0;
  #stage: Stage = { kind: 'header' };

  constructor(opener: Opener, sink: RecordSink) {
    this.#opener = opener;
    this.#sink = sink;
    this.#small = new Uint8Array(Math.max(RECORD_HEADER_BYTES, opener.tagBytes));
  }

  /** Whether a record has begun and not ended. */
  get isWithin(): boolean {
    return this.#stage.kind !== 'header' || this.#fill > 0;
  }

  /** The next bytes. Throws what the opener and the sink throw; after that it is of no more use. */
  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const stage = this.#stage;
      switch (stage.kind) {
        case 'header': {
          const taken = this.#gather(bytes, at, RECORD_HEADER_BYTES);
          at += taken;
          if (this.#fill === RECORD_HEADER_BYTES) this.#beginRecord();
          break;
        }
        case 'body': {
          const taken = Math.min(stage.left, bytes.length - at, PIECE_BYTES - this.#bodyFill);
          this.#body.set(bytes.subarray(at, at + taken), this.#bodyFill);
          this.#bodyFill += taken;
          stage.left -= taken;
          at += taken;
          if (this.#bodyFill === PIECE_BYTES || stage.left === 0) this.#openPiece();
          if (stage.left === 0) this.#awaitTag(stage.header);
          break;
        }
        case 'tag': {
          at += this.#gather(bytes, at, this.#opener.tagBytes);
          if (this.#fill === this.#opener.tagBytes) this.#endRecord(stage.header);
          break;
        }
      }
    }
  }

  #gather(bytes: Uint8Array, at: number, need: number): number {
    const taken = Math.min(need - this.#fill, bytes.length - at);
    this.#small.set(bytes.subarray(at, at + taken), this.#fill);
    this.#fill += taken;
    return taken;
  }

  #openPiece(): void {
    const piece = this.#body.subarray(0, this.#bodyFill);
    this.#bodyFill = 0;
    this.#sink.plaintext(this.#opener.update(piece));
  }

  #beginRecord(): void {
    this.#fill = 0;
    const header = this.#opener.begin(this.#small.subarray(0, RECORD_HEADER_BYTES));
    this.#sink.begin(header);
    const left = this.#opener.bodyBytes(header.length);
    if (left > 0) this.#stage = { kind: 'body', header, left };
    else this.#awaitTag(header);
  }

  /** Not every suite has one to wait for. */
  #awaitTag(header: RecordHeader): void {
    if (this.#opener.tagBytes > 0) this.#stage = { kind: 'tag', header };
    else this.#endRecord(header);
  }

  #endRecord(header: RecordHeader): void {
    this.#fill = 0;
    this.#opener.finish(this.#small.subarray(0, this.#opener.tagBytes));
    this.#stage = { kind: 'header' };
    this.#sink.accepted(header);
  }
}
