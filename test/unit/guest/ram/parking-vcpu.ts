/** A vCPU that does nothing but count and stand still when told to: for the tests of pausing. */
import { workerData } from 'node:worker_threads';
import { Control, RUN } from '../../../../src/guest/ram/shared.ts';

const { control, counter } = workerData as {
  readonly control: SharedArrayBuffer;
  readonly counter: Int32Array;
};
const words = new Control(control);
while (words.command === RUN || words.park(0)) Atomics.add(counter, 0, 1);
