/**
 * Writes records to a channel by pull: `write` resolves when there is room for the next one, so that
 * no more is sealed than the socket takes. It does not know what records are.
 */
import type { Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { MigError } from '../../protocol/error.ts';
import { Garbage } from './garbage.ts';

/** Records between two looks at what else this thread has to do. */
export const RECORDS_PER_TURN = 8;

/** Takes records, each when there is room for it. */
export interface RecordSending {
  /** Sends the pieces of one record, which are the caller's again when it resolves. Rejects with CHANNEL_LOST, PEER_SILENT. */
  write(record: readonly Uint8Array[]): Promise<void>;
}

export class RecordWriter implements RecordSending {
  readonly #socket: Socket;
  readonly #failed: (error: MigError) => void;
  #failure: MigError | undefined;
  #waiting: PromiseWithResolvers<void> | undefined;
  #records = 0;
  readonly #garbage = new Garbage();

  /**
   * `failed` is told once, also while nothing is being written. `hear` takes what comes the other way,
   * where anything may.
   */
  constructor(
    socket: Socket,
    silenceMs: number,
    failed: (error: MigError) => void,
    hear: (bytes: Buffer) => void = () =>
      this.fail(new MigError('RECORD_MALFORMED', 'data the wrong way')),
  ) {
    this.#socket = socket;
    this.#failed = failed;
    socket.setTimeout(silenceMs, () => {
      if (this.#waiting !== undefined) this.fail(new MigError('PEER_SILENT', 'takes no data'));
    });
    socket.on('drain', () => this.#waiting?.resolve());
    socket.on('error', (cause) =>
      this.fail(new MigError('CHANNEL_LOST', cause.message, { cause })),
    );
    socket.on('close', () => this.fail(new MigError('CHANNEL_LOST', 'closed')));
    socket.on('end', () => this.fail(new MigError('CHANNEL_LOST', 'closed by the peer')));
    socket.on('data', hear);
    socket.resume();
  }

  async write(record: readonly Uint8Array[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#socket.cork();
    let room = true;
    for (const piece of record) {
      room = this.#socket.write(piece);
      this.#garbage.add(piece.length);
    }
    this.#socket.uncork();
    this.#records += 1;
    if (!room) {
      this.#waiting = Promise.withResolvers();
      await this.#waiting.promise;
      this.#waiting = undefined;
    } else if (this.#records % RECORDS_PER_TURN === 0) {
      await setImmediate();
    }
  }

  fail(error: MigError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#waiting?.reject(error);
    this.#socket.destroy();
    this.#failed(error);
  }
}
