/**
 * What an operator may ask of one migration, and the names it is asked by. The schema is shared by
 * the command line, the control API and the engine, so that an option exists in one place only.
 */
import { z } from 'zod';
import { GiB, MiB } from '../base/units.ts';

/** Names of VMs, hosts, operators: a DNS label, so that they are safe in paths, URIs and logs. */
export const nameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected a name: a-z 0-9 -');

/** Migration ids are UUIDv7 (RFC 9562 §5.7): unique, and sorted by time of request. */
export const migrationIdSchema = z
  .string()
  .regex(
    /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    'expected the id of a migration',
  );

export const SUITE_NAMES = [
  'aes-256-gcm+hmac-sha256',
  'chacha20-poly1305+hmac-sha256',
  'aes-256-ctr+hmac-sha256',
] as const;
/** To be compared with; refused unless the configuration names them. */
export const LEGACY_SUITE_NAMES = ['3des-cbc+hmac-sha1', 'none'] as const;
export const ALL_SUITE_NAMES = [...SUITE_NAMES, ...LEGACY_SUITE_NAMES] as const;
export const suiteSchema = z.enum(ALL_SUITE_NAMES);
export type SuiteName = z.infer<typeof suiteSchema>;

/**
 * What is around the sealed records of a data channel: a mutual TLS connection of its own, or nothing
 * but TCP. Best first.
 */
export const CHANNEL_FORMS = ['tls', 'sealed'] as const;
export const channelFormSchema = z.enum(CHANNEL_FORMS);
export type ChannelForm = z.infer<typeof channelFormSchema>;

/**
 * How pages may be encoded (pages/batch.ts). All but `raw` tell by the length of a record something of
 * what is in it: who must not let that be seen allows `raw` alone.
 */
export const ENCODING_NAMES = ['zero', 'raw', 'zstd', 'delta', 'duplicate'] as const;
export const encodingSchema = z.enum(ENCODING_NAMES);
export type EncodingName = z.infer<typeof encodingSchema>;

export const CHANNELS_MAX = 16;
export const PRIORITY_MAX = 9;

/**
 * When pages go: all before the guest runs at the destination; all after; or as long as it helps before,
 * and what is then left after.
 */
export const MODES = ['pre-copy', 'post-copy', 'hybrid'] as const;
export const modeSchema = z.enum(MODES);

/**
 * What happens when the time is over: the guest runs on at the source; or it is stopped and the rest
 * sent, whatever the downtime; or it runs on at the destination, and the rest follows.
 */
export const ON_TIMEOUT = ['cancel', 'pause', 'post-copy'] as const;
const onTimeoutSchema = z.enum(ON_TIMEOUT);
export type OnTimeout = z.infer<typeof onTimeoutSchema>;

const durationMs = z.number().int().min(100).max(86_400_000);

export const migrateOptionsSchema = z.strictObject({
  vm: nameSchema,
  to: nameSchema,
  mode: modeSchema.default('pre-copy'),
  /** Stop-and-copy begins when the remaining pages are predicted to fit into this, in ms. */
  downtimeLimitMs: z.number().int().min(1).max(60_000).default(50),
  /** Compare a digest of every page on both sides before the handover; adds to the downtime. */
  verify: z.boolean().default(false),
  maxBandwidthBps: z
    .number()
    .int()
    .min(MiB)
    .max(1024 * GiB)
    .optional(),
  /** The whole migration up to the handover ends within this; or else what `onTimeout` says. */
  timeoutMs: durationMs.optional(),
  onTimeout: onTimeoutSchema.default('cancel'),
  /** Throttles the guest, in steps, while it writes faster than can be sent. */
  autoConverge: z.boolean().default(false),
  /** The VM is to run at the destination after this time: neither later nor much sooner. */
  deadlineMs: durationMs.optional(),
  /** Of those that wait at the source the higher goes first; its weight in shares of a bandwidth. */
  priority: z.number().int().min(0).max(PRIORITY_MAX).default(5),
  channels: z.number().int().min(1).max(CHANNELS_MAX).default(1),
  suite: suiteSchema.optional(),
  form: channelFormSchema.optional(),
  /** After so many rounds pre-copy gives up (code NOT_CONVERGING) or, where it may pause, stops the guest. */
  roundsMax: z.number().int().min(1).max(1000).default(30),
});
export type MigrateOptions = z.infer<typeof migrateOptionsSchema>;

/** Whether pages may be left for the time after the guest has begun to run at the destination. */
export const mayLeavePages = ({
  mode,
  onTimeout,
}: Pick<MigrateOptions, 'mode' | 'onTimeout'>): boolean =>
  mode !== 'pre-copy' || onTimeout === 'post-copy';

/** What of the options contradicts itself, if anything does. */
export function contradictionIn(options: MigrateOptions): string | undefined {
  const { mode, timeoutMs, onTimeout, deadlineMs, verify } = options;
  if (verify && mayLeavePages(options)) return 'verify with post-copy: it runs before all is there';
  if (mode !== 'pre-copy' && deadlineMs !== undefined) return `a deadline with mode ${mode}`;
  if (mode === 'post-copy' && onTimeout !== 'cancel') return 'on-timeout with mode post-copy';
  if (onTimeout !== 'cancel' && timeoutMs === undefined) return `on-timeout without a timeout`;
  if (timeoutMs !== undefined && deadlineMs !== undefined && timeoutMs < deadlineMs) {
    return `a timeout of ${timeoutMs} ms before the deadline of ${deadlineMs} ms`;
  }
  return undefined;
}
