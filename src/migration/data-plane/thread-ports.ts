/** The real clock and randomness of a worker thread: it cannot be lent those of another one. */
import { randomBytes } from 'node:crypto';
import type { Clock, Random } from '../../base/ports.ts';

export const threadClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

export const threadRandom: Random = { bytes: (count) => randomBytes(count) };
