/** The drivers of this host as one: which of them makes a VM, and which finds it again. */
import type { EmbeddedSpec, Guest, PagedDriver, VmPlace } from './driver.ts';
import { memoryBytes } from './qemu/description.ts';
import type { QemuDriver, QemuSpec } from './qemu/driver.ts';

/** What a new VM is to be, of whichever driver. */
export type VmSpec =
  ({ readonly driver: 'ram' } & EmbeddedSpec) | ({ readonly driver: 'qemu' } & QemuSpec);

export const ramBytesOf = (spec: VmSpec): number =>
  spec.driver === 'qemu' ? memoryBytes(spec.description) : spec.memoryBytes;

export class Drivers {
  readonly ram: PagedDriver;
  readonly #qemu: QemuDriver;

  constructor(ram: PagedDriver, qemu: QemuDriver) {
    this.ram = ram;
    this.#qemu = qemu;
  }

  create(spec: VmSpec, place: VmPlace): Promise<Guest> {
    return spec.driver === 'qemu' ? this.#qemu.create(spec, place) : this.ram.create(spec, place);
  }

  /** As `GuestDriver.attach`. */
  attach(place: VmPlace): Promise<Guest | 'gone' | 'unreachable'> {
    return this.#qemu.owns(place) ? this.#qemu.attach(place) : this.ram.attach(place);
  }
}
