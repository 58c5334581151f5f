/**
 * A VM as its operator describes it in YAML (docs/qemu.md), and which descriptions a QEMU must not be
 * given. Sizes are written as QEMU writes them: `262136K`, `2G`.
 */
import { z } from 'zod';
import { GiB, KiB, MiB, PAGE_BYTES } from '../../base/units.ts';
import { MigError } from '../../protocol/error.ts';
import type { QemuVersion } from './qmp-messages.ts';

const UNITS = { K: KiB, M: MiB, G: GiB } as const;
const MEMORY_BYTES_MIN = MiB;
const MEMORY_BYTES_MAX = 1024 * GiB;

/** Of a text that the schema let through. */
function bytesOf(text: string): number {
  const unit = text.slice(-1) as keyof typeof UNITS;
  return Number(text.slice(0, -1)) * UNITS[unit];
}

const memory = z
  .string()
  .regex(/^[1-9]\d{0,11}[KMG]$/, 'expected a size such as 262136K or 2G')
  .refine((text) => bytesOf(text) % PAGE_BYTES === 0, 'expected whole pages of 4K')
  .refine(
    (text) => bytesOf(text) >= MEMORY_BYTES_MIN && bytesOf(text) <= MEMORY_BYTES_MAX,
    'expected 1M to 1024G',
  );

const file = z
  .string()
  .max(1024)
  .regex(/^\/[^\n\0]+$/, 'expected an absolute path');

const mac = z.string().regex(/^(?:[\da-f]{2}:){5}[\da-f]{2}$/i, 'expected a MAC address');

const nic = z.discriminatedUnion('kind', [
  /** An interface of the host that is there already. */
  z.strictObject({
    kind: z.literal('tap'),
    interface: z.string().regex(/^[\w.-]{1,15}$/),
    mac: mac.optional(),
  }),
  /** QEMU's own network, with no way in. */
  z.strictObject({ kind: z.literal('user'), mac: mac.optional() }),
]);

/** What the driver settles itself: memory, monitor, what survives what. */
const OWNED = new Set(
  `accel chroot cpu daemonize display incoming M m machine mem-path mem-prealloc monitor mon name
   no-shutdown action nodefaults pidfile qmp qmp-pretty readconfig runas run-with S sandbox serial smp uuid`.split(
    /\s+/,
  ),
);
const optionOf = (argument: string): string => argument.replace(/^--?/, '');

export const descriptionSchema = z.strictObject({
  machine: z
    .string()
    .regex(/^[a-z\d][a-z\d.-]{0,63}$/, 'expected a type of machine, such as q35')
    .default('q35'),
  accelerator: z.enum(['kvm', 'tcg']).default('kvm'),
  /** By default the host's own, under TCG all that it can. */
  cpu: z
    .string()
    .regex(/^[A-Za-z\d][\w.,=+-]{0,255}$/)
    .optional(),
  memory,
  vcpus: z.number().int().min(1).max(64).default(1),
  /** The interface of the virtual TPM. */
  tpm: z.enum(['tis', 'crb', 'none']).default('tis'),
  boot: z
    .strictObject({
      kernel: file,
      initrd: file.optional(),
      commandLine: z.string().max(2048).default(''),
    })
    .optional(),
  disks: z
    .array(
      z.strictObject({
        file,
        format: z.enum(['raw', 'qcow2']).default('raw'),
        readOnly: z.boolean().default(false),
      }),
    )
    .max(16)
    .default([]),
  nics: z.array(nic).max(8).default([]),
  /** As they are, after everything else. */
  arguments: z
    .array(
      z
        .string()
        .max(4096)
        .refine(
          (argument) => !argument.startsWith('-') || !OWNED.has(optionOf(argument)),
          'migd sets this itself',
        ),
    )
    .max(64)
    .default([]),
});
export type Description = z.infer<typeof descriptionSchema>;

export const memoryBytes = (description: Description): number => bytesOf(description.memory);

/** Below it RAM of such a size loses writes, in QEMU's own pre-copy. */
const TCG_MENDED_MAJOR = 9;
const TCG_UNSAFE_BYTES = 256 * KiB;

/**
 * Under TCG, QEMU before 9.0 loses track of written pages when RAM is a multiple of 256 KiB: with 256M
 * each of 14 busy guests died after a migration that QEMU had called completed, with 262136K none of 10.
 * Such a VM could never be moved, so it is not made. Throws VM_UNSAFE.
 */
export function refuseUnsafe(description: Description, version: QemuVersion): void {
  const bytes = memoryBytes(description);
  if (description.accelerator !== 'tcg' || version.major >= TCG_MENDED_MAJOR) return;
  if (bytes % TCG_UNSAFE_BYTES !== 0) return;
  const better = `${(bytes - 2 * PAGE_BYTES) / KiB}K`;
  throw new MigError(
    'VM_UNSAFE',
    `memory: ${description.memory} under TCG, QEMU ${version.major}.${version.minor}: take ${better}`,
  );
}
