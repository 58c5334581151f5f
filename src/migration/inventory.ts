/**
 * The VMs of this host: what the durable records say, and the living guests. It keeps each VM in one
 * migration at a time and each name in one hand; it does not know how a migration goes.
 */
import { rm } from 'node:fs/promises';
import {
  destroyVtpm,
  inspectVtpm,
  paged,
  type Guest,
  type PagedGuest,
  type VmPlace,
} from '../guest/driver.ts';
import type { Drivers, VmSpec } from '../guest/drivers.ts';
import { MigError } from '../protocol/error.ts';
import type { Deletion } from '../protocol/messages.ts';
import type { RecordStore, VmRecord } from '../store/records.ts';
import { dutiesOf, type MigrationDuty } from './recovery.ts';

/** A VM of ours with its guest, if that is alive. */
export interface Held {
  readonly record: VmRecord;
  readonly guest: Guest | undefined;
}

/** The guest of a VM: living, proved to be gone, or a process that does not answer. */
type Found = Guest | 'gone' | 'unreachable';

export class Inventory {
  readonly #store: RecordStore;
  readonly #drivers: Drivers;
  readonly #place: (name: string) => VmPlace;
  readonly #guests = new Map<string, Guest>();
  /** What is being looked for: one attempt at a time. */
  readonly #finding = new Map<string, Promise<Found>>();
  /** Names that a request is working on: a VM that migrates, is made, or is deleted. */
  readonly #claimed = new Set<string>();

  constructor(store: RecordStore, drivers: Drivers, place: (name: string) => VmPlace) {
    this.#store = store;
    this.#drivers = drivers;
    this.#place = place;
  }

  /**
   * Finds the guests again that outlived the last daemon, ends what it had begun and nobody waits
   * for, and clears away what is in the folders of `names` and no record knows. Returns what it
   * owes to migrations.
   */
  async recover(names: readonly string[]): Promise<MigrationDuty[]> {
    const known = this.#store.vms().filter(({ state }) => state !== 'gone');
    await Promise.all(known.map(({ name }) => this.find(name)));
    const owed: MigrationDuty[] = [];
    const stands = ({ name }: VmRecord) => isHeld(this.#guests.get(name));
    for (const duty of dutiesOf(known, this.#store.migrations(), stands)) {
      if (duty.kind === 'resume') await this.letRun(duty.vm.name);
      else owed.push(duty);
    }
    for (const vm of known) void this.#seek(vm).catch(() => undefined);
    for (const name of names) {
      // What lives and does not answer is let be; the next daemon sees to it.
      if (!this.has(name) && (await this.find(name)) !== 'unreachable') await this.destroy(name);
    }
    return owed;
  }

  find(name: string): Promise<Found> {
    const known = this.#guests.get(name);
    if (known !== undefined) return Promise.resolve(known);
    const finding = this.#finding.get(name) ?? this.#attach(name);
    this.#finding.set(name, finding);
    return finding;
  }

  /** As `find`, of a guest that answered just now: the end of one may be news that is still on its way. */
  async ask(name: string): Promise<Found> {
    const found = await this.find(name);
    if (typeof found === 'string') return found;
    const isAnswered = await found.status().then(
      () => true,
      () => false,
    );
    if (isAnswered) return found;
    return found.gone.aborted ? this.find(name) : 'unreachable';
  }

  async #attach(name: string): Promise<Found> {
    try {
      const found = await this.#drivers.attach(this.#place(name));
      if (typeof found !== 'string') this.adopt(name, found);
      return found;
    } finally {
      this.#finding.delete(name);
    }
  }

  /** Asks a guest of ours that does not answer for as long as it lives: thawed, it is ours again. */
  async #seek({ name, vmId }: VmRecord): Promise<void> {
    const isOurs = () => {
      const record = this.#store.vm(name);
      return record?.state === 'active' && record.vmId === vmId;
    };
    while (isOurs() && !this.#guests.has(name)) {
      // Each try takes as long as an answer may.
      if ((await this.find(name)) === 'gone') return;
      if (isOurs() && isHeld(this.#guests.get(name))) await this.letRun(name);
    }
  }

  /** Lets a guest that a migration stopped run again; one that is gone stays gone. */
  async letRun(name: string): Promise<void> {
    const guest = await this.find(name);
    if (guest === 'unreachable') throw new MigError('GUEST_SILENT', name);
    if (guest === 'gone') return;
    if (guest.moves === 'pages') await guest.untrackDirty();
    if (isHeld(guest)) await guest.resume();
  }

  /**
   * Ends and removes whatever of a VM is here, whoever left it and in whatever state: guest, memory,
   * vTPM. Idempotent. Throws GUEST_SILENT while a process lives that does not answer.
   */
  async destroy(name: string): Promise<void> {
    const place = this.#place(name);
    const guest = await this.find(name);
    if (guest === 'unreachable') throw new MigError('GUEST_SILENT', name);
    if (guest !== 'gone') await guest.destroy();
    this.#guests.delete(name);
    await rm(place.memoryDir, { recursive: true, force: true });
    await destroyVtpm(place);
  }

  /** What there is of its vTPM to destroy. */
  inspectVtpm(name: string): Deletion {
    return inspectVtpm(this.#place(name));
  }

  list(): Held[] {
    return this.#store.vms().map((record) => ({ record, guest: this.#guests.get(record.name) }));
  }

  /** Throws VM_UNKNOWN. */
  get(name: string): Held {
    const record = this.#store.vm(name);
    if (record === undefined) throw new MigError('VM_UNKNOWN', name);
    return { record, guest: this.#guests.get(name) };
  }

  /** The living guest of a VM that may run here. Throws VM_UNKNOWN, VM_STATE. */
  running(name: string): { record: VmRecord; guest: Guest } {
    const { record, guest } = this.get(name);
    if (record.state === 'gone') throw new MigError('VM_UNKNOWN', movedText(record));
    if (record.state !== 'active') throw new MigError('VM_STATE', record.state);
    if (guest === undefined) throw new MigError('VM_STATE', 'its guest process is gone');
    return { record, guest };
  }

  /** As `running`, of one that a migration can move. Throws MIGRATION_UNSUPPORTED too. */
  movable(name: string): { record: VmRecord; guest: PagedGuest } {
    const { record, guest } = this.running(name);
    return { record, guest: paged(guest) };
  }

  isClaimed(name: string): boolean {
    return this.#claimed.has(name);
  }

  /** Takes a name for one request; `[Symbol.dispose]` gives it back. Throws `taken`. */
  claim(name: string, taken: 'VM_MIGRATING' | 'NAME_TAKEN'): Disposable {
    if (this.#claimed.has(name)) throw new MigError(taken, name);
    this.#claimed.add(name);
    // Once: a later holder's claim is not ours to end.
    let isOurs = true;
    return {
      [Symbol.dispose]: () => {
        if (isOurs) this.#claimed.delete(name);
        isOurs = false;
      },
    };
  }

  /** Whether a VM of that name is here, in whatever state but gone. */
  has(name: string): boolean {
    const record = this.#store.vm(name);
    return record !== undefined && record.state !== 'gone';
  }

  /** Whether a VM of that identity is here under another name: two of one vmId would share its epochs. */
  hasOther(name: string, vmId: string): boolean {
    return this.#store
      .vms()
      .some((vm) => vm.vmId === vmId && vm.name !== name && vm.state !== 'gone');
  }

  place(name: string): VmPlace {
    return this.#place(name);
  }

  /** Makes a new VM and runs it. Throws VM_EXISTS and what the driver throws. */
  async create(spec: VmSpec): Promise<VmRecord> {
    using _claim = this.claim(spec.name, 'VM_MIGRATING');
    if (this.has(spec.name)) throw new MigError('VM_EXISTS', spec.name);
    const guest = await this.#drivers.create(spec, this.#place(spec.name));
    const descriptor = await guest.describe();
    const record: VmRecord = {
      name: spec.name,
      vmId: descriptor.vmId,
      epoch: 1,
      state: 'active',
      descriptor,
      migrationId: null,
      movedTo: null,
    };
    try {
      await this.#store.write({ vm: record });
    } catch (thrown) {
      await guest.destroy();
      await destroyVtpm(this.#place(spec.name));
      throw thrown;
    }
    this.adopt(spec.name, guest);
    return record;
  }

  /** Ends a VM for good: guest, memory, vTPM, record. */
  async remove(name: string): Promise<void> {
    using _claim = this.claim(name, 'VM_MIGRATING');
    const { record } = this.get(name);
    if (record.state === 'prepared' || record.state === 'surrendered') {
      throw new MigError('VM_STATE', `${record.state}: its fate is not settled`);
    }
    await this.destroy(name);
    await this.#store.write({ removeVm: name });
  }

  /** The VM of that name is this guest, for as long as it lives. */
  adopt(name: string, guest: Guest): void {
    this.#guests.set(name, guest);
    const lost = () => {
      if (this.#guests.get(name) === guest) this.#guests.delete(name);
    };
    guest.gone.addEventListener('abort', lost, { once: true });
    if (guest.gone.aborted) lost();
  }
}

/** Whether it stands still because of a migration, not because its operator paused it. */
const isHeld = (guest: Guest | undefined): boolean =>
  guest?.lifecycle === 'held' || guest?.lifecycle === 'incoming';

const movedText = ({ name, movedTo }: VmRecord): string =>
  movedTo === null ? name : `${name} moved to ${movedTo}`;
