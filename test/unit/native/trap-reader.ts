/** Reads a page of mapped memory for whoever asks: as a vCPU would, and as long as that takes. */
import { parentPort, workerData } from 'node:worker_threads';
import { PAGE_BYTES } from '../../../src/base/units.ts';
import { viewOf } from '../../../src/native/mapping.ts';

const { address, byteLength } = workerData as { address: bigint; byteLength: number };
const bytes = new Uint8Array(viewOf(address, byteLength));
parentPort?.on('message', (page: number) =>
  parentPort?.postMessage({ page, value: bytes[page * PAGE_BYTES] }, []),
);
parentPort?.postMessage('ready', []);
