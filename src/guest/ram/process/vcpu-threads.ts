/** The threads of a guest's vCPUs; one is started ahead, since a thread takes long to start. */
import { Worker } from 'node:worker_threads';

export class VcpuThreads {
  #spare: Worker | undefined = start();

  /** A thread that waits for its input, a `VcpuInput`. */
  take(): Worker {
    const thread = this.#spare ?? start();
    this.#spare = undefined;
    return thread;
  }
}

/** The entry beside this folder, with the ending that this file has (`.ts`, or `.js` when built). */
function start(): Worker {
  const here = import.meta.url;
  return new Worker(new URL(`../vcpu${here.slice(here.lastIndexOf('.'))}`, here));
}
