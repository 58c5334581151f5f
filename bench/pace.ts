/** How many runs, and how fast one after the other. */
import { setTimeout as sleep } from 'node:timers/promises';

/** `MIGD_BENCH_SHORT=1`: smaller guests and fewer runs, to see that a benchmark works. */
export const IS_SHORT = process.env['MIGD_BENCH_SHORT'] === '1';

const REST_MS = 1500;

/**
 * Migrations do not come one right after the other: after each, a host makes ready for the next (a
 * guest process, threads), which would be counted against whatever is measured meanwhile.
 */
export const rest = (): Promise<void> => sleep(REST_MS);
