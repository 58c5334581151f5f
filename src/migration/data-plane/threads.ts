/**
 * Worker threads for data channels, started ahead: a thread takes longer to start than a small guest
 * takes to move. A thread serves one channel and ends with it; none is used twice.
 */
import { Worker } from 'node:worker_threads';
import { VersionRoom } from './version-room.ts';

/** After a channel's end: the handover and the cleaning up after it. */
const REFILL_DELAY_MS = 250;

export class Threads {
  /** What the channels of all migrations keep of what they sent. */
  readonly versions = new VersionRoom();
  readonly #spareCount: number;
  readonly #spares: Worker[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Keeps `spareCount` threads ready; 0 starts each when it is needed. */
  constructor(spareCount: number) {
    this.#spareCount = spareCount;
    this.#refill();
  }

  /** A thread that waits for its setup. */
  take(): Worker {
    const worker = this.#spares.shift() ?? start();
    worker.ref();
    // The next spare must not compete with what this one was taken for.
    worker.once('exit', () => this.#refillSoon());
    return worker;
  }

  /** Ends the spares; those that were taken belong to their takers. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#spares.splice(0).map((worker) => worker.terminate()));
  }

  /** The channel ends before the handover does. */
  #refillSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#refill(), REFILL_DELAY_MS);
    this.#timer.unref();
  }

  #refill(): void {
    while (!this.#isClosed && this.#spares.length < this.#spareCount) {
      const spare = start();
      // A spare keeps no process alive, and one that fails ends nothing: it exits, and is missed.
      spare.unref();
      spare.on('error', () => undefined);
      spare.once('exit', () => {
        const index = this.#spares.indexOf(spare);
        if (index >= 0) this.#spares.splice(index, 1);
      });
      this.#spares.push(spare);
    }
  }
}

/** The entry beside this file, with the ending that this one has (`.ts`, or `.js` when built). */
function start(): Worker {
  const here = import.meta.url;
  return new Worker(new URL(`./channel-worker${here.slice(here.lastIndexOf('.'))}`, here), {
    name: 'migd-data',
    // Young garbage holds most of what a channel allocates: small and often collected, or it counts as
    // pressure from outside the heap, and each 64 MiB of it brings a full collection.
    resourceLimits: { maxYoungGenerationSizeMb: 2 },
  });
}
