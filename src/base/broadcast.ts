/**
 * One stream of events to any number of listeners. A stream may remember: then a late listener first
 * hears what was said before.
 */

export class Broadcast<E> {
  readonly #listeners = new Set<(event: E) => void>();
  readonly #past: E[] = [];
  readonly #remembered: number;

  /** `remembered`: how many events a late listener gets; the first and the latest are kept. */
  constructor(remembered: number) {
    this.#remembered = remembered;
  }

  tell(event: E): void {
    if (this.#remembered > 0) this.#past.push(event);
    if (this.#past.length > this.#remembered) this.#past.splice(1, 1);
    for (const listener of this.#listeners) listener(event);
  }

  /** Hears everything remembered, then everything new, until the returned function is called. */
  listen(listener: (event: E) => void): () => void {
    for (const event of this.#past) listener(event);
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
