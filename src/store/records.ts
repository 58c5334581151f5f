/**
 * The durable records of a host: one for each VM it holds or held, one for each migration. What a
 * record says is what the host may do after a crash, so each write is on disk before it returns.
 */
import { z } from 'zod';
import { recordedVmSchema } from '../protocol/descriptor.ts';
import { deletionSchema, signedFinalSchema } from '../protocol/messages.ts';
import { migrationIdSchema, nameSchema } from '../protocol/options.ts';

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array);

export const epochSchema = z.number().int().min(1);

/**
 * - `active`: this host may run this epoch of the VM.
 * - `prepared`: everything is here, but only the source's token makes it ours.
 * - `surrendered`: this epoch never runs here again unless the destination proves it never will.
 * - `gone`: it runs elsewhere; nothing of it is left here.
 */
export const vmRecordSchema = z.strictObject({
  name: nameSchema,
  vmId: z.uuid(),
  epoch: epochSchema,
  state: z.enum(['active', 'prepared', 'surrendered', 'gone']),
  descriptor: recordedVmSchema,
  /** The migration that put it into this state; null for a VM made here. */
  migrationId: migrationIdSchema.nullable(),
  movedTo: nameSchema.nullable(),
});
export type VmRecord = z.infer<typeof vmRecordSchema>;

/** A migration, as evidence and for `history`. */
export const migrationRecordSchema = z.strictObject({
  migrationId: migrationIdSchema,
  direction: z.enum(['outgoing', 'incoming']),
  /** Empty until an incoming migration's offer named it. */
  vm: z.string(),
  from: z.string(),
  to: z.string(),
  startedAtMs: z.number(),
  state: z.enum(['started', 'aborted', 'prepared', 'surrendered', 'active', 'gone']),
  code: z.string().nullable(),
  detail: z.string(),
  /** What a handover is about, from `prepared` or `surrendered` on: each word can be said again. */
  handover: z
    .strictObject({
      vmId: z.uuid(),
      epoch: z.number().int().min(1),
      transcriptDigest: bytes,
      /** Pages come when the guest runs at the destination already. */
      leavesPages: z.literal(true).optional(),
      /** S, then: what the session had picked. */
      session: z
        .strictObject({ suite: z.string(), form: z.string(), channels: z.number().int() })
        .optional(),
      /** D: what the source signed of all that it sent. */
      final: signedFinalSchema.optional(),
    })
    .optional(),
  /** An operator's statement, by which it was settled, that the other host was fenced. */
  fencing: z.strictObject({ operator: z.string(), atMs: z.number() }).optional(),
  /** Signatures by which each side can hold the other to its word. */
  receipt: bytes.optional(),
  token: bytes.optional(),
  activation: bytes.optional(),
  /** S: what there was when its destruction began; until that is recorded as done. */
  destroying: deletionSchema.optional(),
  deletion: z
    .strictObject({ facts: deletionSchema, statement: bytes, signature: bytes })
    .optional(),
  /** The try that followed this one, which the destination had no place for. */
  next: migrationIdSchema.optional(),
  /** The result as told to the operator (shape: migration/report.ts). */
  result: z.unknown().optional(),
});
export type MigrationRecord = z.infer<typeof migrationRecordSchema>;

/** What one write changes: all of it or nothing. */
export interface Change {
  readonly vm?: VmRecord;
  readonly removeVm?: string;
  readonly migration?: MigrationRecord;
}

/** A durable store. Throws STORE_FAILED where records cannot be read or are damaged. */
export interface RecordStore {
  vm(name: string): VmRecord | undefined;
  vms(): VmRecord[];
  /**
   * The highest epoch of a VM that ever was active here, 0 when none was. It never goes back, and is
   * kept when the VM is deleted.
   */
  epochOf(vmId: string): number;
  migration(id: string): MigrationRecord | undefined;
  /** In the order in which they came to this host, whatever a clock said then. */
  migrations(): MigrationRecord[];
  /**
   * Writes all or nothing of what is given; resolves only when it survives a power cut. Throws
   * EPOCH_STALE for an active VM with an epoch below its highest; STORE_FAILED: nothing of it is on
   * disk or ever will be; STORE_UNCERTAIN: it may be, and is settled by the next write that succeeds.
   */
  write(change: Change): Promise<void>;
  /**
   * Makes sure that what is read is what a crash would find, which it is but after STORE_UNCERTAIN.
   * Throws that where it still is not so.
   */
  confirm(): Promise<void>;
  close(): Promise<void>;
}
