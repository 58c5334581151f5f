/**
 * What migd asks of a hypervisor. A driver is an implementation of this interface in its own folder;
 * nothing above this file knows which one runs a VM.
 */
import type { Random } from '../base/ports.ts';
import type { RecordedVm, VmDescriptor, Workload } from '../protocol/descriptor.ts';
import { MigError } from '../protocol/error.ts';
import type { Deletion } from '../protocol/messages.ts';
import { VtpmAtRest } from '../vtpm/at-rest.ts';
import type { VtpmCommand, VtpmReply } from '../vtpm/command.ts';
import { destroySwtpm } from '../vtpm/swtpm-at-rest.ts';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';

/** Where a VM's files are. Both folders are the VM's own, 0700, and made by the driver. */
export interface VmPlace {
  readonly name: string;
  /** On tmpfs: RAM, the exchange file, sockets. Gone with a reboot, as the guest is. */
  readonly memoryDir: string;
  /** On disk: the vTPM at rest, the guest's log. */
  readonly stateDir: string;
}

export const vtpmPath = (place: VmPlace): string => path.join(place.stateDir, 'vtpm');
export const swtpmPath = (place: VmPlace): string => path.join(place.stateDir, 'swtpm');

/** What a new embedded guest is to be. */
export interface EmbeddedSpec {
  readonly name: string;
  readonly memoryBytes: number;
  readonly vcpus: number;
  readonly workload: Workload;
  /** Share of the RAM's pages that hold content from the start, 0 to 1. */
  readonly fill: number;
  readonly imagePath?: string | undefined;
  readonly dirtyTracking: 'auto' | DirtyKind;
}

/** How written pages are found: by the MMU, or by the guest's own store path. */
export type DirtyKind = 'uffd' | 'log';

/** What a data worker maps: RAM, and the exchange file (exchange.ts). */
export interface GuestMemory {
  readonly ramPath: string;
  readonly ramBytes: number;
  readonly exchangePath: string;
  /** A Unix socket: who connects is sent the trap of {@link Guest.trapAbsent}. */
  readonly trapPath: string;
}

/**
 * Why a guest stands still: its operator paused it, a migration holds it for the stop-and-copy, or it
 * came here and never ran here. So a daemon that finds it again knows whether to let it run.
 */
export type Lifecycle = 'running' | 'paused' | 'held' | 'incoming';

export interface GuestStatus {
  readonly state: Lifecycle;
  readonly pid: number;
}

export interface EmbeddedStatus extends GuestStatus {
  readonly dirtyTracking: DirtyKind;
  /** Writes done, sum of all page versions, virtual run time: summed over the vCPUs. */
  readonly registers: {
    readonly writes: number;
    readonly versionSum: number;
    readonly runMs: number;
  };
  /** Where the `kv` workload serves, as "host:port". */
  readonly kvAddress: string | null;
  /** SHA-256 PCRs that are not zero, in hex. */
  readonly pcrs: Readonly<Record<string, string>>;
  readonly throttlePercent: number;
}

/** The guest's own check of its memory, against its own table and registers. */
export interface SelfCheck {
  readonly pages: number;
  readonly writtenPages: number;
  readonly badPages: number;
  readonly firstBadPage: number | null;
  readonly versionSum: number;
  readonly registerSum: number;
  readonly kvEntries: number;
  /** SHA-256 of the image's part of RAM, when the VM was made from one. */
  readonly imageSha256: string | null;
}

/** What every guest can do. It does what it is asked in the order in which it is asked. */
interface Living {
  readonly lifecycle: Lifecycle;
  /** Aborted when its process is gone, or speaks with us no more. */
  readonly gone: AbortSignal;
  describe(): Promise<RecordedVm>;
  status(): Promise<GuestStatus>;
  /** For its operator. Resolves when every vCPU has acknowledged: no store, no TPM command is under way. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the guest; its memory is given back to the system, which zeroes it, and its files go. */
  destroy(): Promise<void>;
}

/** A guest that writes and reads its whole state itself, as one stream. */
export interface StreamedGuest extends Living {
  readonly moves: 'stream';
}

/** A guest whose memory is open to migd, page by page. */
export interface PagedGuest extends Living {
  readonly moves: 'pages';
  readonly memory: GuestMemory;
  describe(): Promise<VmDescriptor>;
  status(): Promise<EmbeddedStatus>;
  /** From now on every write is seen. */
  trackDirty(): Promise<void>;
  /**
   * Takes the pages written since the last call, re-armed in the same step, into the exchange's
   * bitmap: instead of what it holds, or in addition to it. Returns the number of bits then set.
   */
  collectDirty(into: 'replace' | 'add'): Promise<{ readonly dirtyPages: number }>;
  untrackDirty(): Promise<void>;
  /** As `pause`, for a migration. */
  hold(): Promise<void>;
  /** As `hold`, whoever of it does not stand still yet: a vCPU that waits for a page stops behind it. */
  halt(): Promise<void>;
  /**
   * From now on whoever touches a page waits until it is said, by the trap, that its content is there.
   * The trap outlives the daemon. May be asked again. Throws NATIVE_FAILED where the kernel has none.
   */
  trapAbsent(): Promise<void>;
  /** Every page is there: opens the trap. Throws VM_STATE when one is absent by the exchange's bitmap. */
  untrap(): Promise<void>;
  /** Percentage of its time that the guest is kept from running, 0 to 99. */
  throttle(percent: number): Promise<void>;
  /** While it stands still: device state ‖ vTPM state into the exchange's state area. */
  exportState(): Promise<{ readonly stateBytes: number }>;
  /** Takes what is in the exchange's state area; the vTPM is then saved durably, the area zeroed. */
  importState(): Promise<void>;
  check(): Promise<SelfCheck>;
  vtpm(command: VtpmCommand): Promise<VtpmReply>;
}

export type Guest = PagedGuest | StreamedGuest;

/** Throws MIGRATION_UNSUPPORTED for a guest of another kind. */
export function paged(guest: Guest): PagedGuest {
  if (guest.moves !== 'pages') throw new MigError('MIGRATION_UNSUPPORTED', 'driver qemu');
  return guest;
}

/** `S`: what it makes a VM from. `G`: what it makes. */
export interface GuestDriver<S, G extends Guest> {
  /** A new VM, running. */
  create(spec: S, place: VmPlace): Promise<G>;
  /**
   * The living guest of a place, after a restart of the daemon; `gone` when it is proved that no
   * process of it lives, `unreachable` when one does that does not answer.
   */
  attach(place: VmPlace): Promise<G | 'gone' | 'unreachable'>;
}

/** Makes guests that migrations move by their pages. */
export interface PagedDriver extends GuestDriver<EmbeddedSpec, PagedGuest> {
  readonly name: VmDescriptor['driver'];
  /** Room for a VM that is to come: memory really reserved, process started, nothing runs. */
  prepare(descriptor: VmDescriptor, place: VmPlace): Promise<PagedGuest>;
  /** Ends what was started ahead; guests run on. */
  close(): Promise<void>;
}

const random: Random = { bytes: (count) => randomBytes(count) };

const atRestIn = (place: VmPlace) => new VtpmAtRest(vtpmPath(place), random);

/** What of a vTPM `destroyVtpm` would destroy: the facts for the certificate. */
export function inspectVtpm(place: VmPlace): Deletion {
  const { stateDigest, ...sizes } = atRestIn(place).inspect();
  return { stateDigest: stateDigest ?? new Uint8Array(0), ...sizes };
}

/** Destroys a vTPM's files and what else of the VM is on disk. */
export async function destroyVtpm(place: VmPlace): Promise<void> {
  await atRestIn(place).destroy();
  await destroySwtpm(swtpmPath(place), random);
  await rm(place.stateDir, { recursive: true, force: true });
}
