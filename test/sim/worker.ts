/** A thread of `npm run sim -- --jobs N`: sweeps what it is given, part by part. */
import { parentPort } from 'node:worker_threads';
import { BUILD } from './build.ts';
import { MUTANTS } from './mutants.ts';
import { sweep } from './sweep.ts';

export interface Part {
  readonly from: number;
  readonly count: number;
  readonly failuresMax: number;
  readonly bug: string | undefined;
}

parentPort?.on('message', ({ bug, ...part }: Part) => {
  const build = (bug === undefined ? undefined : MUTANTS[bug]) ?? BUILD;
  parentPort?.postMessage(sweep(part, build, { stepped: () => undefined }), []);
});
