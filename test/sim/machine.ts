/** What outlives a daemon on its host: the disk, the guest process, the vTPM at rest. */
import type { Disk } from './disk.ts';
import type { HostName } from './signature.ts';

/** A guest process. It knows nothing of records: it runs when it is told to. */
export interface Guest {
  /** `held`: a migration stopped it; `incoming`: it came, or is still to come, and never ran here. */
  lifecycle: 'running' | 'held' | 'incoming';
  /** Stands for all of its memory: whoever runs has a new one, 0 is none yet. */
  content: number;
  epoch: number;
  /** The content at the other host without which this one is not whole; 0: it is. */
  lacks: number;
  isAlive: boolean;
}

export class Machine {
  readonly name: HostName;
  readonly disk: Disk;
  guest: Guest | undefined;
  hasVtpm = false;
  /** The host is off, for good as it seems. */
  isOff = false;

  constructor(name: HostName, disk: Disk) {
    this.name = name;
    this.disk = disk;
  }

  /** Whether the VM could go on from what is here. */
  holds(content: number): boolean {
    return this.guest?.content === content && this.hasVtpm;
  }

  /** What the daemon's user may clear away; idempotent. */
  clear(): void {
    if (this.guest !== undefined) this.guest.isAlive = false;
    this.guest = undefined;
    this.hasVtpm = false;
  }
}
