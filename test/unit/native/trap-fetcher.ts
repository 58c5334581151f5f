/** Fetches a descriptor by waiting for it, in a thread of its own. */
import { parentPort, workerData } from 'node:worker_threads';
import { fetchDescriptor } from '../../../src/native/descriptor-passing.ts';

const { socketPath } = workerData as { socketPath: string };
parentPort?.postMessage(fetchDescriptor(socketPath), []);
