/** Shares of a bandwidth that several migrations have together: weighted max-min fairness, pure. */

/** What one of them could take. */
export interface Claim {
  readonly id: string;
  /** Above 0. Of two that want more than they get, each gets in proportion to this. */
  readonly weight: number;
  /** It cannot or may not use more; Infinity: whatever it gets. */
  readonly maxBps: number;
}

/**
 * Divides `capBps`: nobody gets more than he can use, and what he leaves is the others'. So the
 * sum is `capBps` or all that is claimed, and nobody could get more but from one who has less for
 * his weight. In whole bytes per second, rounded down.
 */
export function fairShares(capBps: number, claims: readonly Claim[]): Map<string, number> {
  // Whoever needs the least for his weight is served first: then what is left is divided anew.
  const modestFirst = claims.toSorted((a, b) => a.maxBps / a.weight - b.maxBps / b.weight);
  let leftBps = capBps;
  let leftWeight = claims.reduce((sum, { weight }) => sum + weight, 0);
  const shares = new Map<string, number>();
  for (const { id, weight, maxBps } of modestFirst) {
    const shareBps = Math.floor(Math.min(maxBps, (leftBps * weight) / leftWeight));
    shares.set(id, shareBps);
    leftBps -= shareBps;
    leftWeight -= weight;
  }
  return shares;
}
