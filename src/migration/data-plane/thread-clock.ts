/** The real clock of a worker thread: a thread cannot be lent one across its boundary. */
import type { Clock } from '../../base/ports.ts';

export const threadClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
