/**
 * Writes records to a channel by waiting in the call, a slice at a time; between slices, and every
 * few records, the thread looks at what else it has to do. It does not know what records are.
 */
import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../base/ports.ts';
import type { BlockingLink } from '../../native/sockets.ts';
import { MigError } from '../../protocol/error.ts';
import { RECORDS_PER_TURN, type RecordSending } from './record-writer.ts';

export class BlockingWriter implements RecordSending {
  readonly #link: BlockingLink;
  readonly #silenceMs: number;
  readonly #clock: Clock;
  #records = 0;

  constructor(link: BlockingLink, silenceMs: number, clock: Clock) {
    this.#link = link;
    this.#silenceMs = silenceMs;
    this.#clock = clock;
  }

  /** Sends the pieces of one record. Rejects with CHANNEL_LOST, PEER_SILENT. */
  async write(record: readonly Uint8Array[]): Promise<void> {
    for (const piece of record) await this.#writeAll(piece);
    this.#records += 1;
    if (this.#records % RECORDS_PER_TURN === 0) await setImmediate();
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    let movedAt: number | undefined;
    for (let done = 0; done < bytes.length;) {
      const sent = this.#link.write(bytes.subarray(done));
      done += sent;
      if (sent > 0) {
        movedAt = undefined;
        continue;
      }
      movedAt ??= this.#clock.now();
      if (this.#clock.now() - movedAt > this.#silenceMs) {
        throw new MigError('PEER_SILENT', 'takes no data');
      }
      await setImmediate();
    }
  }
}
