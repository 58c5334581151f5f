/**
 * All requests that VMs leave this host: begins each when the schedule says that it is its turn, and
 * lets it send what is its share. It decides nothing itself.
 */
import type { Code } from '../../protocol/codes.ts';
import type { MigrationEvent } from '../report.ts';
import { Deadline } from '../runner.ts';
import { Bandwidth } from './bandwidth.ts';
import { Departure, type DepartureParts, type Order } from './departure.ts';
import { Schedule, type ScheduleLimits } from './schedule.ts';

export interface DepartureLimits extends ScheduleLimits {
  /** What all of them together may send, in bytes per second. */
  readonly bandwidthBps?: number | undefined;
}

/** Shares of a bandwidth: of priority 9 four times those of 0. */
const weightOf = (priority: number): number => priority + 3;

export class Departures {
  readonly #parts: DepartureParts;
  readonly #schedule: Schedule;
  readonly #bandwidth: Bandwidth;
  readonly #tryAgain: Deadline;
  readonly #all = new Map<string, Departure>();

  constructor(parts: DepartureParts, limits: DepartureLimits) {
    const { clock } = parts.outgoing;
    this.#parts = parts;
    this.#schedule = new Schedule(limits);
    this.#bandwidth = new Bandwidth(clock, limits.bandwidthBps);
    this.#tryAgain = new Deadline(clock, () => this.#beginDue());
  }

  /** Takes a request, and begins it where it may. Throws QUEUE_FULL, VM_UNKNOWN, VM_STATE. */
  request(order: Order): Departure {
    const { tell } = this.#parts;
    const departure = new Departure(
      {
        ...this.#parts,
        tell: (event) => {
          this.#hear(departure, event);
          tell(event);
        },
      },
      order,
    );
    const { id, atMs, options } = departure;
    const { to, priority } = options;
    this.#schedule.add({ id, to, priority, atMs }, atMs);
    this.#all.set(id, departure);
    void departure.result.then(() => this.#forget(departure));
    this.#beginDue();
    const place = this.placeOf(departure);
    if (place !== null) {
      departure.wait();
      departure.queued(place);
    }
    return departure;
  }

  [Symbol.iterator](): IterableIterator<Departure> {
    return this.#all.values();
  }

  /** By the id of any of its tries; undefined when it is over. */
  find(migrationId: string): Departure | undefined {
    return [...this.#all.values()].find((departure) => departure.is(migrationId));
  }

  /** Among those that wait, from 1; null when it does not. */
  placeOf({ id }: Departure): number | null {
    return this.#schedule.placeOf(id) ?? null;
  }

  /** Asks all of them to end; resolves when they have. */
  async stop(code: Code): Promise<void> {
    const all = [...this.#all.values()];
    // Those that wait first: the end of another is no longer their turn.
    for (const departure of all) if (departure.isWaiting) departure.cancel(code);
    for (const departure of all) departure.cancel(code);
    await Promise.all(all.map(({ result }) => result));
  }

  #hear({ id }: Departure, event: MigrationEvent): void {
    this.#bandwidth.hear(id, event);
    if (event.event !== 'phase' || event.phase !== 'pre-copy') return;
    this.#schedule.admitted(id);
    this.#beginDue();
  }

  #beginDue(): void {
    const { clock } = this.#parts.outgoing;
    for (;;) {
      const next = this.#schedule.next(clock.now());
      if (next === undefined) break;
      const departure = this.#all.get(next.id);
      if (departure !== undefined) void this.#move(departure);
    }
    const nowMs = clock.now();
    const nextMs = this.#schedule.nextMs(nowMs);
    if (nextMs === undefined) this.#tryAgain.disarm();
    else this.#tryAgain.arm(nextMs - nowMs);
  }

  async #move(departure: Departure): Promise<void> {
    const { id, options } = departure;
    const { clock, random } = this.#parts.outgoing;
    this.#bandwidth.join(id, {
      weight: weightOf(options.priority),
      maxBps: options.maxBandwidthBps,
      grant: (bps) => departure.grant(bps),
    });
    const refusal = await departure.move();
    this.#bandwidth.leave(id);
    if (refusal === undefined) return;
    // A random half of a wait: two hosts must not meet.
    const share = ((random.bytes(1)[0] ?? 0) / 255 + 1) / 2;
    const mayWait = this.#schedule.refused(id, clock.now(), share);
    if (!mayWait || departure.isAskedToEnd) {
      departure.conclude(refusal);
      return;
    }
    await departure.waitAgain();
    if (!departure.isWaiting) return;
    this.#schedule.comeBack(id);
    departure.queued(this.placeOf(departure) ?? 1, refusal);
    this.#beginDue();
  }

  #forget({ id }: Departure): void {
    this.#all.delete(id);
    this.#schedule.ended(id);
    this.#beginDue();
  }
}
