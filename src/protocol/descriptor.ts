/**
 * What a VM is, as its hosts tell each other in the OFFER: everything the destination needs to make
 * room for it and nothing of its content. It comes from outside, so it is strict and bounded.
 */
import { z } from 'zod';
import { PAGE_BYTES } from '../base/units.ts';
import { nameSchema } from './options.ts';

const TiB = 2 ** 40;

const ramBytes = z
  .number()
  .int()
  .min(PAGE_BYTES)
  .max(TiB)
  .refine((value) => value % PAGE_BYTES === 0, 'expected whole pages');
const rateBps = z
  .number()
  .int()
  .min(0)
  .max(2 ** 40);
/** Whole words, and no more than a page holds beside what tells that it is right. */
export const changedBytesSchema = z
  .number()
  .int()
  .min(4)
  .max(PAGE_BYTES - 16)
  .multipleOf(4);
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));

/** What the embedded guest runs. */
export const workloadSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('idle') }),
  z.strictObject({
    kind: z.literal('writer'),
    rateBps,
    workingSetBytes: ramBytes,
    /** Of a page that is written so many change; all of it when it is not said. */
    changedBytes: changedBytesSchema.optional(),
  }),
  z.strictObject({
    kind: z.literal('zipf'),
    rateBps,
    workingSetBytes: ramBytes,
    skew: z.number().min(0).max(4),
  }),
  z.strictObject({ kind: z.literal('kv'), port: z.number().int().min(0).max(65_535) }),
]);
export type Workload = z.infer<typeof workloadSchema>;

export const descriptorSchema = z.strictObject({
  vmId: z.uuid(),
  name: nameSchema,
  driver: z.enum(['ram']),
  pageBytes: z.literal(PAGE_BYTES),
  /** Guest memory; page numbers count from 0 within a region. */
  regions: z
    .array(z.strictObject({ id: z.number().int().min(0).max(15), bytes: ramBytes }))
    .min(1)
    .max(16),
  vcpus: z.number().int().min(1).max(64),
  workload: workloadSchema,
  /** The part of RAM that a file's bytes were put into when the VM was made. */
  imageBytes: z.number().int().min(0).max(TiB),
  devices: z.array(z.string().max(64)).max(64),
  /** Upper bound of device state and vTPM state together. */
  stateBytesMax: z
    .number()
    .int()
    .min(0)
    .max(64 * 2 ** 20),
  vtpm: z.strictObject({ kind: z.enum(['software']), ekFingerprint: hex(32) }).nullable(),
});
export type VmDescriptor = z.infer<typeof descriptorSchema>;

/** A VM that QEMU runs: what its host keeps on record of it. No offer names one. */
const qemuVmSchema = descriptorSchema
  .pick({ vmId: true, name: true, regions: true, vcpus: true })
  .extend({
    driver: z.literal('qemu'),
    vtpm: z.strictObject({ kind: z.literal('swtpm') }).nullable(),
  });

/** Of whichever driver. */
export const recordedVmSchema = z.discriminatedUnion('driver', [descriptorSchema, qemuVmSchema]);
export type RecordedVm = z.infer<typeof recordedVmSchema>;
export type QemuVm = z.infer<typeof qemuVmSchema>;
