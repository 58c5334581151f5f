/**
 * One request that a VM leave this host, from its arrival to its end: it waits for its turn, moves, and
 * waits again where the destination has no place. Each try is a migration with an id of its own: what
 * a host signed of one that it refused must not be taken for its word on another.
 */
import { Broadcast } from '../../base/broadcast.ts';
import { EVENTS_REMEMBERED } from '../../base/limits.ts';
import type { PagedGuest } from '../../guest/driver.ts';
import type { Code } from '../../protocol/codes.ts';
import { MigError } from '../../protocol/error.ts';
import type { MigrateOptions } from '../../protocol/options.ts';
import type { MigrationRecord } from '../../store/records.ts';
import { OutgoingMigration, type OutgoingPorts } from '../outgoing.ts';
import type { MigrationEvent, MigrationResult } from '../report.ts';
import { Deadline } from '../runner.ts';
import { writeAtLast } from '../write-at-last.ts';
import { unbegun } from './unbegun.ts';

/** What an operator asks for. */
export interface Order {
  readonly options: MigrateOptions;
  /** "host:port" of the destination. */
  readonly address: string;
  /** The VM is this request's until nothing of it touches the VM any more. */
  readonly claim: Disposable;
}

export interface DepartureParts {
  readonly outgoing: OutgoingPorts;
  readonly newId: () => string;
  /** Hears all that is told of it, before anybody else. */
  readonly tell: (event: MigrationEvent) => void;
}

type Stage =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'moving'; readonly migration: OutgoingMigration }
  | { readonly kind: 'ended' };

interface Reason {
  readonly code: Code;
  readonly detail: string;
}

export class Departure {
  /** By it the schedule knows it: the id of its first try. */
  readonly id: string;
  readonly options: MigrateOptions;
  /** Monotonic and wall-clock time of the request. */
  readonly atMs: number;
  readonly requestedAtMs: number;
  readonly events = new Broadcast<MigrationEvent>(EVENTS_REMEMBERED);
  readonly #parts: DepartureParts;
  readonly #order: Order;
  readonly #guest: PagedGuest;
  readonly #timeout: Deadline;
  readonly #ids: string[] = [];
  readonly #result = Promise.withResolvers<MigrationResult>();
  readonly #guestGone = (): void => this.#end('GUEST_FAILED', 'its process is gone');
  #isAskedToEnd = false;
  #stage: Stage = { kind: 'waiting' };
  #shareBps: number | undefined;
  /** Of the try before, if there was one: nothing of it touches the VM any more. */
  #released = Promise.resolve();
  #isReleased = true;
  /** The record of its waiting is written, or cannot be. */
  #recorded = Promise.resolve();

  /** Throws VM_UNKNOWN, VM_STATE, MIGRATION_UNSUPPORTED. */
  constructor(parts: DepartureParts, order: Order) {
    const { clock, inventory } = parts.outgoing;
    this.#parts = parts;
    this.#order = order;
    this.options = order.options;
    this.#guest = inventory.movable(order.options.vm).guest;
    this.atMs = clock.now();
    this.requestedAtMs = clock.wall();
    this.#timeout = new Deadline(clock, () => this.#end('TIMEOUT', 'while it waited for its turn'));
    this.id = parts.newId();
    this.#ids.push(this.id);
  }

  /** Of its present try, or the one that it waits for. */
  get migrationId(): string {
    return this.#ids.at(-1) ?? this.id;
  }

  /** Whether one of its tries has that id. */
  is(migrationId: string): boolean {
    return this.#ids.includes(migrationId);
  }

  /** Resolves when it is over; never rejects. */
  get result(): Promise<MigrationResult> {
    return this.#result.promise;
  }

  get isWaiting(): boolean {
    return this.#stage.kind === 'waiting';
  }

  /** Its operator, or the end of the daemon, wants no further try. */
  get isAskedToEnd(): boolean {
    return this.#isAskedToEnd;
  }

  /** Its migration, while one is under way. */
  get migration(): OutgoingMigration | undefined {
    return this.#stage.kind === 'moving' ? this.#stage.migration : undefined;
  }

  /** It is not its turn: whoever is told its id finds it on record. */
  wait(): void {
    const { store } = this.#parts.outgoing;
    this.#recorded = store
      .write({ migration: this.#record() })
      .catch(() => this.#end('STORE_FAILED', 'at the start'));
    const { timeoutMs } = this.options;
    if (timeoutMs !== undefined) this.#timeout.arm(Math.max(timeoutMs - this.#queuedMs, 0));
    this.#guest.gone.addEventListener('abort', this.#guestGone, { once: true });
    if (this.#guest.gone.aborted) this.#guestGone();
  }

  /** `place`: among those that wait, from 1; `why`: what the destination said, if it was asked. */
  queued(place: number, why?: Pick<MigrationResult, 'code' | 'detail'>): void {
    const { vm, to, priority } = this.options;
    const { migrationId } = this;
    const { code, detail } = why ?? { code: null, detail: '' };
    const from = this.#parts.outgoing.host;
    this.#tell({ event: 'queued', migrationId, vm, from, to, priority, place, code, detail });
  }

  /**
   * Its turn has come. Resolves when its migration has ended: with nothing when that is the end of it
   * all, with the result when the destination had no place, which is for others to judge.
   */
  async move(): Promise<MigrationResult | undefined> {
    this.#leaveQueue();
    await this.#recorded;
    if (!this.isWaiting) return undefined;
    const released = Promise.withResolvers<void>();
    this.#released = released.promise;
    try {
      const migration = this.#begin();
      this.#isReleased = false;
      this.#stage = { kind: 'moving', migration };
      if (this.#shareBps !== undefined) migration.grant(this.#shareBps);
      const result = await migration.run(() => {
        this.#isReleased = true;
        released.resolve();
        this.#letGo();
      });
      return result.code === 'DEST_BUSY' ? result : this.conclude(result);
    } catch (thrown) {
      const { code, detail } = MigError.from(thrown);
      return this.#end(code, detail);
    }
  }

  /** Waits for another try, after one that the destination had no place for. Resolves when that is done with. */
  async waitAgain(): Promise<void> {
    const { migrationId: before } = this;
    this.#stage = { kind: 'waiting' };
    this.#ids.push(this.#parts.newId());
    this.wait();
    await this.#released;
    const { store } = this.#parts.outgoing;
    const migration = store.migration(before);
    if (migration === undefined) return;
    // What became of it is found by the first id as well.
    await store
      .write({ migration: { ...migration, next: this.migrationId } })
      .catch(() => undefined);
  }

  /** Its share of what its host may send, in bytes per second. */
  grant(bps: number): void {
    this.#shareBps = bps;
    this.migration?.grant(bps);
  }

  /** Asks for its end; what comes of it is told by the result. */
  cancel(code: Code): void {
    this.#isAskedToEnd = true;
    if (this.#stage.kind === 'moving') this.#stage.migration.cancel(code);
    else this.#end(code, '');
  }

  /** It is over. */
  conclude(result: MigrationResult): undefined {
    this.#stage = { kind: 'ended' };
    this.#letGo();
    this.#tell(result);
    this.#result.resolve(result);
    return undefined;
  }

  #begin(): OutgoingMigration {
    const { outgoing } = this.#parts;
    const { options, address } = this.#order;
    const { migrationId } = this;
    const queuedMs = this.#queuedMs;
    const { timeoutMs } = options;
    const leftMs = timeoutMs === undefined ? {} : { timeoutMs: Math.max(timeoutMs - queuedMs, 0) };
    return new OutgoingMigration(
      outgoing,
      { migrationId, options: { ...options, ...leftMs }, address, queuedMs },
      outgoing.inventory.movable(options.vm),
      (event) => {
        // The end of a try need not be the end of it all.
        if (event.event !== 'result') this.#tell(event);
      },
    );
  }

  #leaveQueue(): void {
    this.#timeout.disarm();
    this.#guest.gone.removeEventListener('abort', this.#guestGone);
  }

  get #queuedMs(): number {
    return this.#parts.outgoing.clock.now() - this.atMs;
  }

  /** Ends what waits. */
  #end(code: Code, detail: string): undefined {
    if (!this.isWaiting) return;
    this.#stage = { kind: 'ended' };
    this.#leaveQueue();
    void this.#tellUnbegun({ code, detail });
  }

  /** As of any migration, the result is on record, where that is possible, before anyone is told. */
  async #tellUnbegun({ code, detail }: Reason): Promise<void> {
    const { outgoing } = this.#parts;
    const { host: from, engine, store } = outgoing;
    const { migrationId } = this;
    const { ramBytes: memoryBytes } = this.#guest.memory;
    const facts = { migrationId, from, engine, memoryBytes, queuedMs: this.#queuedMs };
    const result = unbegun(this.options, facts, { code, detail });
    await this.#recorded;
    const migration = { ...this.#record(), state: 'aborted', code, detail, result } as const;
    await store.write({ migration }).catch(() => void writeAtLast(outgoing, () => ({ migration })));
    this.conclude(result);
  }

  #record(): MigrationRecord {
    return {
      migrationId: this.migrationId,
      direction: 'outgoing',
      vm: this.options.vm,
      from: this.#parts.outgoing.host,
      to: this.options.to,
      startedAtMs: this.requestedAtMs,
      state: 'started',
      code: null,
      detail: '',
    };
  }

  #tell(event: MigrationEvent): void {
    this.#parts.tell(event);
    this.events.tell(event);
  }

  #letGo(): void {
    if (this.#isReleased && this.#stage.kind === 'ended') this.#order.claim[Symbol.dispose]();
  }
}
