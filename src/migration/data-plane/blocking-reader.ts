/**
 * Reads the records of a channel by waiting for them, whole into one buffer that is made once, and
 * opens them in place. Between slices of waiting, and every few records, the thread looks at what else
 * it has to do. It does not know what records say.
 */
import { setImmediate } from 'node:timers/promises';
import { RECORD_BYTES_MAX } from '../../base/limits.ts';
import type { Clock } from '../../base/ports.ts';
import type { Opener } from '../../crypto/opener.ts';
import type { BlockingLink } from '../../native/sockets.ts';
import { MigError } from '../../protocol/error.ts';
import { RECORD_HEADER_BYTES } from '../../protocol/record.ts';
import type { RecordSink } from './record-reader.ts';
import { RECORDS_PER_TURN } from './record-writer.ts';

export interface BlockingReaderOptions {
  readonly link: BlockingLink;
  readonly opener: Opener;
  readonly sink: RecordSink & { readonly isOver: boolean };
  readonly silenceMs: number;
  readonly clock: Clock;
  /** Something has come. */
  readonly heard: () => void;
}

export class BlockingReader {
  readonly #options: BlockingReaderOptions;
  readonly #header = new Uint8Array(RECORD_HEADER_BYTES);
  /** Ciphertext and tag; the system gives it memory as far as records are long. */
  readonly #body: Uint8Array;

  constructor(options: BlockingReaderOptions) {
    this.#options = options;
    this.#body = new Uint8Array(options.opener.recordBytes(RECORD_BYTES_MAX));
  }

  /** Until nothing comes any more. Rejects as `next`. */
  async run(): Promise<void> {
    const { sink } = this.#options;
    for (let records = 1; !sink.isOver; records += 1) {
      await this.next();
      if (records % RECORDS_PER_TURN === 0) await setImmediate();
    }
  }

  /** One record. Rejects with CHANNEL_LOST, PEER_SILENT, and what the opener and the sink throw. */
  async next(): Promise<void> {
    const { opener, sink } = this.#options;
    await this.#fill(this.#header, 'between records');
    const header = opener.begin(this.#header);
    sink.begin(header);
    const end = opener.bodyBytes(header.length);
    const body = this.#body.subarray(0, end + opener.tagBytes);
    await this.#fill(body, 'within a record');
    if (end > 0) sink.plaintext(opener.update(body.subarray(0, end)));
    opener.finish(body.subarray(end));
    sink.accepted(header);
  }

  async #fill(bytes: Uint8Array, where: 'between records' | 'within a record'): Promise<void> {
    const { link, silenceMs, clock, heard } = this.#options;
    let quietSince: number | undefined;
    for (let filled = 0; filled < bytes.length;) {
      const got = link.read(bytes.subarray(filled));
      filled += got;
      if (got > 0) {
        heard();
        quietSince = undefined;
        continue;
      }
      quietSince ??= clock.now();
      const isWithin = filled > 0 || where === 'within a record';
      if (isWithin && clock.now() - quietSince > silenceMs) {
        throw new MigError('PEER_SILENT', 'in the middle of a record');
      }
      await setImmediate();
    }
  }
}
