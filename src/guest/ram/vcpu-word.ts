/** What a vCPU's thread tells the agent that started it. Pages, pauses and registers go through shared memory. */
import { parentPort } from 'node:worker_threads';

export type VcpuWord =
  /** The initial content is in memory. */
  | { readonly kind: 'booted' }
  /** The `kv` workload serves at "host:port". */
  | { readonly kind: 'serving'; readonly address: string }
  | { readonly kind: 'failed'; readonly detail: string };

/** Says it; outside a thread there is nobody to tell. */
export const tell = (word: VcpuWord): void => parentPort?.postMessage(word, []);
