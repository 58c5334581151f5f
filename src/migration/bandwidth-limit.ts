/** How fast one migration may send: the least of what is said about it, whoever says it. */

/** `request`: its operator's `--max-bandwidth`; `host`: its share of what its host may send. */
export type Limiting = 'request' | 'host';

/** Bytes per second for all channels together; undefined: as fast as it goes. */
export type Rate = number | undefined;

export class BandwidthLimit {
  readonly #said = new Map<Limiting, number>();
  readonly #obey: (bps: Rate) => void;

  /** `obey` is called whenever the least of them changes. */
  constructor(obey: (bps: Rate) => void) {
    this.#obey = obey;
  }

  get bps(): Rate {
    return this.#said.size === 0 ? undefined : Math.min(...this.#said.values());
  }

  /** What `who` allows from now on. */
  say(who: Limiting, bps: Rate): void {
    const before = this.bps;
    if (bps === undefined) this.#said.delete(who);
    else this.#said.set(who, bps);
    if (this.bps !== before) this.#obey(this.bps);
  }
}
