/** Times, kept in buckets a quarter of a power of two wide: as many as come, in memory that does not grow. */
const BUCKETS_A_DOUBLING = 4;
/** The first bucket's upper bound, in ms. */
const SHORTEST_MS = 0.001;
const BUCKETS = 40 * BUCKETS_A_DOUBLING;

export class Latencies {
  readonly #buckets = new Uint32Array(BUCKETS);
  #count = 0;
  #sumMs = 0;
  #maxMs = 0;

  add(ms: number): void {
    const doublings = Math.log2(Math.max(ms, SHORTEST_MS) / SHORTEST_MS);
    const bucket = Math.min(Math.ceil(doublings * BUCKETS_A_DOUBLING), BUCKETS - 1);
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
    this.#count += 1;
    this.#sumMs += ms;
    this.#maxMs = Math.max(this.#maxMs, ms);
  }

  /** `p99` is the upper bound of its bucket: at most a fifth too high. Zeros when there are none. */
  get summary(): { readonly mean: number; readonly p99: number; readonly max: number } {
    if (this.#count === 0) return { mean: 0, p99: 0, max: 0 };
    let left = this.#count * 0.01;
    let bucket = BUCKETS - 1;
    for (; bucket > 0; bucket -= 1) {
      left -= this.#buckets[bucket] ?? 0;
      if (left < 0) break;
    }
    const bound = SHORTEST_MS * 2 ** (bucket / BUCKETS_A_DOUBLING);
    return { mean: this.#sumMs / this.#count, p99: Math.min(bound, this.#maxMs), max: this.#maxMs };
  }
}
