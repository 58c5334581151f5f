/**
 * The control API: what `migctl` asks of `migd`. WebSocket text frames of JSON over the daemon's
 * Unix socket, or over mutual TLS with an operator's certificate on the daemon's own port (path
 * `/api`). A request `{id, method, params}` is answered by any number of `{id, event}` and then one
 * `{id, result}` or `{id, error: {code, detail}}`. Every request is validated here before anything
 * looks at it.
 */
import { z } from 'zod';
import { GiB, KiB } from '../../base/units.ts';
import { descriptionSchema } from '../../guest/qemu/description.ts';
import { changedBytesSchema } from '../../protocol/descriptor.ts';
import { migrateOptionsSchema, migrationIdSchema, nameSchema } from '../../protocol/options.ts';

const rateBps = z
  .number()
  .int()
  .min(0)
  .max(100 * GiB);

const workloadSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('idle') }),
  z.strictObject({
    kind: z.literal('writer'),
    rateBps,
    workingSetBytes: z
      .number()
      .int()
      .min(64 * KiB),
    changedBytes: changedBytesSchema.optional(),
  }),
  z.strictObject({
    kind: z.literal('zipf'),
    rateBps,
    workingSetBytes: z
      .number()
      .int()
      .min(64 * KiB),
    skew: z.number().min(0).max(4),
  }),
  z.strictObject({ kind: z.literal('kv'), port: z.number().int().min(0).max(65_535) }),
]);

const embeddedSchema = z.strictObject({
  driver: z.literal('ram'),
  name: nameSchema,
  memoryBytes: z
    .number()
    .int()
    .min(256 * KiB)
    .max(1024 * GiB),
  vcpus: z.number().int().min(1).max(64).default(1),
  workload: workloadSchema.default({ kind: 'idle' }),
  /** Share of the RAM's pages written once at creation with incompressible content. */
  fill: z.number().min(0).max(1).default(0),
  /** A file on the daemon's host whose bytes RAM starts from. */
  imagePath: z.string().max(4096).optional(),
  /** How written pages are found; `auto` takes the MMU where the kernel can. */
  dirtyTracking: z.enum(['auto', 'uffd', 'log']).default('auto'),
});

/** Only from this host: it names files and interfaces of it. */
const qemuSchema = z.strictObject({
  driver: z.literal('qemu'),
  name: nameSchema,
  description: descriptionSchema,
});

/** Who names no driver means the embedded guest. */
const vmCreateSchema = z.preprocess(
  (asked) => (typeof asked === 'object' && asked !== null ? { driver: 'ram', ...asked } : asked),
  z.discriminatedUnion('driver', [embeddedSchema, qemuSchema]),
);

const named = z.strictObject({ name: nameSchema });
const none = z.strictObject({});

/** Every method with the schema of its parameters. */
export const METHODS = {
  hello: none,
  'vm.create': vmCreateSchema,
  'vm.list': none,
  'vm.show': named,
  'vm.check': named,
  'vm.pause': named,
  'vm.resume': named,
  'vm.delete': named,
  /** Answers with the stream of migration/report.ts; the result is the MigrationResult. */
  migrate: migrateOptionsSchema.extend({
    /** Without it the daemon does as it is configured. */
    verify: z.boolean().optional(),
    autoConverge: z.boolean().optional(),
    detach: z.boolean().default(false),
  }),
  /** Without an id: every migration under way. */
  status: z.strictObject({ migrationId: migrationIdSchema.optional() }),
  /** Follows one migration (or the only one under way) as `migrate` does. */
  watch: z.strictObject({ migrationId: migrationIdSchema.optional() }),
  history: z.strictObject({ vm: nameSchema.optional() }),
  /** Answers when it has ended: a row of `history`, or CANCEL_TOO_LATE, or IN_DOUBT. */
  cancel: z.strictObject({ migrationId: migrationIdSchema }),
  /** Asks the other host now; `peerFenced` is the operator's statement, and settles it here. */
  resolve: z.strictObject({
    migrationId: migrationIdSchema,
    peerFenced: z.boolean().default(false),
  }),
  hosts: none,
} as const;
export type Method = keyof typeof METHODS;

export const requestSchema = z.strictObject({
  id: z.number().int().min(1),
  method: z.string().max(64),
  params: z.unknown(),
});

/** What `hello` answers. */
export interface DaemonView {
  readonly host: string;
  readonly role: 'source' | 'dest' | 'both';
  readonly version: string;
  readonly pid: number;
  readonly listen: string;
  readonly stateDir: string;
}

/** A row of `vm list`. `state` is what the durable record says, or the guest's own word. */
export interface VmView {
  readonly name: string;
  readonly vmId: string;
  readonly host: string;
  readonly state:
    'running' | 'paused' | 'queued' | 'migrating' | 'incoming' | 'in-doubt' | 'gone' | 'lost';
  readonly epoch: number;
  readonly driver: string;
  readonly memoryBytes: number;
  readonly vcpus: number;
  readonly workload: string;
  readonly vtpm: string;
  /** Where the VM went, when it is gone. */
  readonly movedTo: string | null;
}

/** `vm show`: the row, and what the guest says of itself (shape: guest/driver.ts GuestStatus). */
export interface VmDetail extends VmView {
  readonly guest: Readonly<Record<string, unknown>> | null;
}

/** A row of `hosts`. */
export interface HostView {
  readonly name: string;
  readonly address: string;
  readonly self: boolean;
  /** Migrations from here to it, requests that wait to go there, and migrations from it; of this one: all. */
  readonly leaving: number;
  readonly queued: number;
  readonly coming: number;
}

/** A row of `status`. */
export interface MigrationView {
  readonly migrationId: string;
  readonly vm: string;
  readonly from: string;
  readonly to: string;
  readonly direction: 'outgoing' | 'incoming';
  /** `queued`: it waits for its turn. */
  readonly phase: string;
  /** Among those that wait here, from 1. */
  readonly place: number | null;
  readonly round: number;
  readonly startedAtMs: number;
  readonly outcome: string | null;
  readonly code: string | null;
}
