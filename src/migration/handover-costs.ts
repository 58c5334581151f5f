/**
 * What handovers to each host have cost beyond the sending of pages: the part of a downtime that no
 * round can measure. Kept in memory only: a daemon that starts learns it again with one migration.
 */

/** The median of so many: one that was disturbed does not count. */
const REMEMBERED = 5;

/** Before the first handover to a host, in ms: what it takes between two hosts of one network. */
export const FIRST_HANDOVER_MS = 10;

export class HandoverCosts {
  readonly #costs = new Map<string, readonly number[]>();

  /** Expected cost of a handover to `host`, in ms. */
  expected(host: string): number {
    const sorted = (this.#costs.get(host) ?? []).toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? FIRST_HANDOVER_MS;
  }

  learn(host: string, ms: number): void {
    this.#costs.set(host, [...(this.#costs.get(host) ?? []), Math.max(ms, 0)].slice(-REMEMBERED));
  }
}
