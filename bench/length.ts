/** `MIGD_BENCH_SHORT=1`: smaller guests and fewer runs, to see that a benchmark works. */
export const IS_SHORT = process.env['MIGD_BENCH_SHORT'] === '1';
