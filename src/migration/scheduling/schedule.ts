/**
 * Whose turn it is to leave this host: pure, it is told the time and what happens. A request waits
 * for a place among those that leave and for one among those to its destination; whoever waits for a
 * full destination holds up nobody who goes elsewhere.
 */
import { BUSY_WAIT_MS_MAX, BUSY_WAIT_MS_MIN, PRIORITY_STEP_MS } from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';

/** Times are monotonic. */
export interface Request {
  readonly id: string;
  /** The destination. */
  readonly to: string;
  /** 0 to 9. A step is worth `PRIORITY_STEP_MS` of waiting, so that nobody waits for ever. */
  readonly priority: number;
  readonly atMs: number;
}

export interface ScheduleLimits {
  /** Migrations that leave at once. */
  readonly outgoingMax: number;
  /** Of them, to one destination. */
  readonly perPeerMax: number;
  /** Requests that wait; those that a full destination sent back are not counted. */
  readonly queueMax: number;
  /** How long a request goes on asking a destination that takes no further migration; 0: never. */
  readonly busyMs: number;
}

interface Entry {
  readonly request: Request;
  /** The how-manieth to come. */
  readonly n: number;
  /** Of one that leaves: the destination has a place for it. */
  isAdmitted: boolean;
}

/** A destination that took no further migration when it was last asked. */
interface Busy {
  readonly sinceMs: number;
  readonly tries: number;
  /** Nothing is begun before. */
  readonly tryAtMs: number;
}

/** The lower, the sooner: as if whoever has a higher priority had been waiting for longer. */
const turnOf = ({ atMs, priority }: Request): number => atMs - priority * PRIORITY_STEP_MS;

const isBefore = (one: Entry, other: Entry): boolean => {
  const lead = turnOf(other.request) - turnOf(one.request);
  return lead === 0 ? one.n < other.n : lead > 0;
};

export class Schedule {
  readonly #limits: ScheduleLimits;
  /** In the order of their turns. */
  readonly #waiting: Entry[] = [];
  readonly #leaving = new Map<string, Entry>();
  readonly #busy = new Map<string, Busy>();
  #count = 0;

  constructor(limits: ScheduleLimits) {
    this.#limits = limits;
  }

  /** Takes a request, which `next` may name at once. Throws QUEUE_FULL. */
  add(request: Request, nowMs: number): void {
    const { queueMax } = this.#limits;
    if (!this.#isDue(request, nowMs) && this.#waiting.length >= queueMax) {
      throw new MigError('QUEUE_FULL', `${this.#waiting.length} wait, ${queueMax} may`);
    }
    this.#count += 1;
    this.#queue({ request, n: this.#count, isAdmitted: false });
  }

  /** The request that is to begin now, if one is; it counts as leaving from here on. */
  next(nowMs: number): Request | undefined {
    const at = this.#waiting.findIndex(({ request }) => this.#isDue(request, nowMs));
    const [entry] = at < 0 ? [] : this.#waiting.splice(at, 1);
    if (entry !== undefined) this.#leaving.set(entry.request.id, entry);
    return entry?.request;
  }

  /** Its destination has a place for it, and may have more. */
  admitted(id: string): void {
    const leaving = this.#leaving.get(id);
    if (leaving === undefined) return;
    leaving.isAdmitted = true;
    this.#busy.delete(leaving.request.to);
  }

  /**
   * Its destination takes no further migration: none is tried there for a while, which doubles, of
   * which `share` (0 to 1) is taken. Returns whether this one may wait for it; then it keeps its
   * place until `comeBack`.
   */
  refused(id: string, nowMs: number, share: number): boolean {
    const leaving = this.#leaving.get(id);
    if (leaving === undefined) return false;
    const { to, atMs } = leaving.request;
    const { sinceMs, tries } = this.#busy.get(to) ?? { sinceMs: nowMs, tries: 0 };
    const waits = nowMs - Math.max(sinceMs, atMs) < this.#limits.busyMs;
    const delayMs = Math.min(BUSY_WAIT_MS_MIN * 2 ** tries, BUSY_WAIT_MS_MAX) * share;
    this.#busy.set(to, { sinceMs, tries: tries + 1, tryAtMs: waits ? nowMs + delayMs : nowMs });
    return waits;
  }

  /** A request that was refused waits again, where it would stand had it waited all the time. */
  comeBack(id: string): void {
    const leaving = this.#leaving.get(id);
    if (leaving === undefined) return;
    this.#leaving.delete(id);
    this.#queue(leaving);
  }

  /** It has left, or does not want to any more. */
  ended(id: string): void {
    const at = this.#indexOf(id);
    const [entry = this.#leaving.get(id)] = at < 0 ? [] : this.#waiting.splice(at, 1);
    this.#leaving.delete(id);
    if (entry === undefined) return;
    const { to } = entry.request;
    const busy = this.#busy.get(to);
    const others = [...this.#waiting, ...this.#leaving.values()];
    if (!others.some(({ request }) => request.to === to)) this.#busy.delete(to);
    // It had a place there, and gives it back.
    else if (busy !== undefined && entry.isAdmitted) this.#busy.set(to, { ...busy, tryAtMs: 0 });
  }

  /** Its place among those that wait, from 1; undefined when it does not. */
  placeOf(id: string): number | undefined {
    const at = this.#indexOf(id);
    return at < 0 ? undefined : at + 1;
  }

  /** When time alone brings somebody's turn, if it does: the end of a wait for a busy destination. */
  nextMs(nowMs: number): number | undefined {
    const times = this.#waiting
      .flatMap(({ request }) => this.#busy.get(request.to)?.tryAtMs ?? [])
      .filter((tryAtMs) => tryAtMs > nowMs);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  #queue(entry: Entry): void {
    const behind = this.#waiting.findIndex((other) => isBefore(entry, other));
    this.#waiting.splice(behind < 0 ? this.#waiting.length : behind, 0, entry);
  }

  #indexOf(id: string): number {
    return this.#waiting.findIndex(({ request }) => request.id === id);
  }

  #isDue({ to }: Request, nowMs: number): boolean {
    const { outgoingMax, perPeerMax } = this.#limits;
    const there = [...this.#leaving.values()].filter(({ request }) => request.to === to);
    if (this.#leaving.size >= outgoingMax || there.length >= perPeerMax) return false;
    const busy = this.#busy.get(to);
    // One alone finds out whether there is a place now.
    return busy === undefined || (nowMs >= busy.tryAtMs && there.every((each) => each.isAdmitted));
  }
}
