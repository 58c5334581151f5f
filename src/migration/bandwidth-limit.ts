/**
 * The one place where a migration's bandwidth is limited: several may ask, the least of what they ask
 * holds, and it holds in every session that follows.
 */

/** Who asks: the operator's request, the migration's own deadline, the host for its share of what it may send. */
export type Asker = 'operator' | 'deadline' | 'host';

/** What keeps to it. `bytesPerSecond`: for all channels together; undefined lifts it. */
export interface Limited {
  setBandwidthLimit(bytesPerSecond: number | undefined): void;
}

export class BandwidthLimit {
  readonly #asked = new Map<Asker, number>();
  #limited: Limited | undefined;
  #inForceBps: number | undefined;

  /** From now on `limited` keeps to it. */
  applyTo(limited: Limited): void {
    this.#limited = limited;
    this.#inForceBps = undefined;
    this.#apply();
  }

  /** Asks for a limit in bytes a second; null: for none any more. */
  ask(who: Asker, bps: number | null): void {
    if (bps === null) this.#asked.delete(who);
    else this.#asked.set(who, bps);
    this.#apply();
  }

  #apply(): void {
    const leastBps = this.#asked.size === 0 ? undefined : Math.min(...this.#asked.values());
    if (leastBps === this.#inForceBps || this.#limited === undefined) return;
    this.#inForceBps = leastBps;
    this.#limited.setBandwidthLimit(leastBps);
  }
}
