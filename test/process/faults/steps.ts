/**
 * Loaded first by a daemon under test (`node --import`): every machine's runner becomes one that tells
 * the test before and after each effect. So a daemon can be stopped between any two of them, and
 * nothing in the product knows of it.
 */
import { registerHooks } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const REAL = new URL('../../../src/migration/runner.ts', import.meta.url).href;
const STEPPING = new URL('stepping-runner.ts', import.meta.url).href;

if (isMainThread) {
  registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      const isOurs = context.parentURL === STEPPING;
      return found.url === REAL && !isOurs ? { ...found, url: STEPPING } : found;
    },
  });
}
