/** What a guest says on its first serial port, from when somebody listens. */
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { guestLines, type GuestLine } from '../../qemu/guest-image.ts';

/** Longer than a boot on a loaded machine. */
const WORD_MS_MAX = 60_000;

export class Console implements Disposable {
  readonly #socket: Socket;
  #text = '';

  constructor(memoryDir: string) {
    this.#socket = connect(path.join(memoryDir, 'console.sock'));
    this.#socket.on('error', () => undefined);
    this.#socket.on('data', (data) => (this.#text += String(data)));
  }

  get lines(): readonly GuestLine[] {
    return guestLines(this.#text);
  }

  /** Whether each line heard so far follows the one before. */
  get isUnbroken(): boolean {
    return this.lines.every(({ seq }, index, all) => seq === (all[0]?.seq ?? 0) + index);
  }

  /** The first line that `holds`, of those that are still to come. */
  line(holds: (line: GuestLine) => boolean = () => true): Promise<GuestLine> {
    const from = this.lines.length;
    return this.#until(() => this.lines.slice(from).find((line) => holds(line)));
  }

  /** Resolves when that stands in what was said so far. */
  async heard(words: RegExp): Promise<void> {
    await this.#until(() => words.exec(this.#text) ?? undefined);
  }

  async #until<T>(look: () => T | undefined): Promise<T> {
    const limit = AbortSignal.timeout(WORD_MS_MAX);
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      await more(this.#socket, limit).catch((cause: Error) => {
        throw new Error(`the guest does not say it: ${this.#text.slice(-2000)}`, { cause });
      });
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

const more = (socket: Socket, limit: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const done = (settle: () => void) => () => {
      socket.off('data', onData).off('close', onClose);
      limit.removeEventListener('abort', onLimit);
      settle();
    };
    const onData = done(resolve);
    const onClose = done(() => reject(new Error('its console is closed')));
    const onLimit = done(() => reject(new Error('past the limit')));
    socket.once('data', onData).once('close', onClose);
    limit.addEventListener('abort', onLimit);
    if (socket.destroyed) onClose();
    else if (limit.aborted) onLimit();
  });
