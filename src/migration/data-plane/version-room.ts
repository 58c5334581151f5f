/**
 * How much each migration's channels may keep of pages as they sent them: all together no more than a
 * daemon has for it, so each takes half of what is left.
 */
import { SENT_VERSIONS_BYTES_MAX } from '../../base/limits.ts';

/** Given back when it is disposed of. */
export interface Room extends Disposable {
  readonly bytes: number;
}

export class VersionRoom {
  #left: number;

  constructor(bytesMax = SENT_VERSIONS_BYTES_MAX) {
    this.#left = bytesMax;
  }

  take(): Room {
    const bytes = Math.floor(this.#left / 2);
    this.#left -= bytes;
    let isHeld = true;
    return {
      bytes,
      [Symbol.dispose]: () => {
        if (isHeld) this.#left += bytes;
        isHeld = false;
      },
    };
  }
}
