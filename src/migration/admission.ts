/**
 * Whether this host takes a VM, decided before a page is sent: name, epoch, kind, room. What is
 * admitted is really reserved: the memory is allocated and the guest process waits for its state.
 */
import { randomUUID } from 'node:crypto';
import { destroyVtpm, type PagedGuest, type PagedDriver } from '../guest/driver.ts';
import type { VmDescriptor } from '../protocol/descriptor.ts';
import type { Code } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import type { MessageOf } from '../protocol/messages.ts';
import type { RecordStore } from '../store/records.ts';
import type { Inventory } from './inventory.ts';

/** The migration that asks, as far as the next one of the same VM must know it. */
export interface Asking {
  readonly from: string;
  /** Returns false when it may hold the only copy and therefore goes on. */
  cancel(code: Code): boolean;
  readonly finished: Promise<unknown>;
}

export interface AdmissionLimits {
  /** Incoming migrations at once. */
  readonly incomingMax: number;
  /** RAM of all guests of this host together, in bytes. */
  readonly memoryBytesMax: number;
}

/** A reservation: a guest that waits, in memory that is ours. */
export interface Admitted {
  readonly reservation: string;
  readonly guest: PagedGuest;
  /** As offered. */
  readonly descriptor: VmDescriptor;
  /** Destroys the guest and all that was received. */
  discard(): Promise<void>;
  /** The migration goes on in another session. */
  passTo(asking: Asking): void;
  /** The VM is on record: it counts there, and is no longer coming. */
  arrived(): void;
  /** Ends the claim on the name and the place among the incoming, once; the guest stays. */
  release(): void;
}

/** Asks the source of an earlier migration now what became of it; bounded. */
export type AskNow = (migrationId: string) => Promise<void>;

export class Admission {
  readonly #store: RecordStore;
  readonly #inventory: Inventory;
  readonly #driver: PagedDriver;
  readonly #askNow: AskNow;
  readonly #limits: AdmissionLimits;
  readonly #incoming = new Map<
    string,
    { readonly ramBytes: number; readonly vmId: string; readonly asking: Asking }
  >();

  constructor(
    store: RecordStore,
    inventory: Inventory,
    driver: PagedDriver,
    askNow: AskNow,
    limits: AdmissionLimits,
  ) {
    this.#store = store;
    this.#inventory = inventory;
    this.#driver = driver;
    this.#askNow = askNow;
    this.#limits = limits;
  }

  /** Throws NAME_TAKEN, EPOCH_STALE, DEST_BUSY, DEST_CAPACITY, DESCRIPTOR_UNSUPPORTED. */
  async admit({ descriptor, epoch }: MessageOf<'OFFER'>, asking: Asking): Promise<Admitted> {
    const { name, vmId, driver } = descriptor;
    if (driver !== this.#driver.name) throw new MigError('DESCRIPTOR_UNSUPPORTED', driver);
    // A source has one migration of a VM at a time: that it offers it again says that the one before
    // is over there, even where its end was not heard or its remains are still being cleared here.
    const earlier = this.#incoming.get(name);
    if (earlier?.vmId === vmId && earlier.asking.from === asking.from) {
      if (earlier.asking.cancel('PEER_CLOSED')) await earlier.asking.finished;
    }
    // The same of one that is prepared here: its source knows, and has not said, that it did not surrender.
    const prepared = this.#store.vm(name);
    const { migrationId } = prepared ?? {};
    if (prepared?.state === 'prepared' && prepared.vmId === vmId && migrationId) {
      const { from } = this.#store.migration(migrationId) ?? {};
      if (from === asking.from) await this.#askNow(migrationId);
    }
    const claim = this.#inventory.claim(name, 'NAME_TAKEN');
    const ramBytes = descriptor.regions.reduce((sum, region) => sum + region.bytes, 0);
    let isComing = true;
    let released = false;
    const arrived = () => {
      if (isComing) this.#incoming.delete(name);
      isComing = false;
    };
    const release = () => {
      if (released) return;
      released = true;
      arrived();
      claim[Symbol.dispose]();
    };
    try {
      if (this.#inventory.has(name)) throw new MigError('NAME_TAKEN', name);
      if (this.#inventory.hasOther(name, vmId)) {
        throw new MigError('NAME_TAKEN', `${vmId} is here under another name`);
      }
      const highest = this.#store.epochOf(vmId);
      if (epoch <= highest)
        throw new MigError('EPOCH_STALE', `epoch ${epoch}, was ${highest} here`);
      this.#checkRoom(ramBytes);
      const passTo = (next: Asking) =>
        void this.#incoming.set(name, { ramBytes, vmId, asking: next });
      passTo(asking);
      const place = this.#inventory.place(name);
      const guest = await this.#driver.prepare(descriptor, place);
      const discard = async () => {
        await guest.destroy();
        await destroyVtpm(place);
      };
      return { reservation: randomUUID(), guest, descriptor, discard, passTo, arrived, release };
    } catch (thrown) {
      release();
      throw thrown;
    }
  }

  #checkRoom(ramBytes: number): void {
    const { incomingMax } = this.#limits;
    if (this.#incoming.size >= incomingMax) {
      throw new MigError('DEST_BUSY', `${incomingMax} incoming migrations`);
    }
    this.checkMemory(ramBytes);
  }

  /** Whether a guest of that size, wherever it comes from, keeps the limit. Throws DEST_CAPACITY. */
  checkMemory(ramBytes: number): void {
    const { memoryBytesMax } = this.#limits;
    const held = this.#inventory
      .list()
      .filter(({ record }) => record.state !== 'gone')
      .flatMap(({ record }) => record.descriptor.regions.map((region) => region.bytes));
    const coming = [...this.#incoming.values()].map((incoming) => incoming.ramBytes);
    const used = [...held, ...coming].reduce((sum, bytes) => sum + bytes, 0);
    if (used + ramBytes > memoryBytesMax) {
      throw new MigError('DEST_CAPACITY', `${ramBytes} bytes asked, ${memoryBytesMax - used} free`);
    }
  }
}
