/**
 * What a guest's agent may answer to each request. A guest is not trusted by its daemon: whatever it
 * answers has one of these forms, within these bounds, or it is not heard.
 */
import { z } from 'zod';
import {
  GUEST_DETAIL_CHARS_MAX,
  VTPM_DETAIL_CHARS_MAX,
  VTPM_NV_INDEX_BYTES_MAX,
  VTPM_PCR_COUNT,
} from '../../base/limits.ts';
import { CODES, type Code } from '../../protocol/codes.ts';
import { descriptorSchema } from '../../protocol/descriptor.ts';
import type { VtpmReply } from '../../vtpm/command.ts';
import type { EmbeddedStatus, SelfCheck } from '../driver.ts';
import { STATE_BYTES_MAX } from '../exchange.ts';
import type { AgentRequest } from './agent-protocol.ts';

const count = z.number().int().min(0);
const hexDigest = z.string().regex(/^[0-9a-f]{64}$/);
const bytesMax = (max: number) =>
  z.instanceof(Uint8Array).refine((bytes) => bytes.length <= max, `at most ${max} bytes`);
/** Keys, signatures, attestations: none is longer. */
const blob = bytesMax(VTPM_NV_INDEX_BYTES_MAX);

const status: z.ZodType<EmbeddedStatus> = z.strictObject({
  state: z.enum(['running', 'paused', 'held', 'incoming']),
  pid: count,
  dirtyTracking: z.enum(['uffd', 'log']),
  registers: z.strictObject({ writes: z.number(), versionSum: z.number(), runMs: z.number() }),
  kvAddress: z
    .string()
    .regex(/^127\.0\.0\.1:\d{1,5}$/)
    .nullable(),
  pcrs: z.record(z.string().regex(/^\d{1,2}$/), hexDigest),
  throttlePercent: z.number().int().min(0).max(99),
});

const check: z.ZodType<SelfCheck> = z.strictObject({
  pages: count,
  writtenPages: count,
  badPages: count,
  firstBadPage: count.nullable(),
  versionSum: z.number(),
  registerSum: z.number(),
  kvEntries: count,
  imageSha256: hexDigest.nullable(),
});

const pcrValue = z.strictObject({
  bank: z.enum(['sha256', 'sha384']),
  index: count.max(VTPM_PCR_COUNT - 1),
  digest: bytesMax(48),
});

const vtpm: z.ZodType<VtpmReply> = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('done') }),
  z.strictObject({ type: z.literal('pcrs'), values: z.array(pcrValue).max(2 * VTPM_PCR_COUNT) }),
  z.strictObject({ type: z.literal('counter'), value: count }),
  z.strictObject({ type: z.literal('nv'), data: blob }),
  z.strictObject({ type: z.literal('quote'), attest: blob, signature: blob }),
  z.strictObject({ type: z.literal('public-keys'), endorsement: blob, attestation: blob }),
  z.strictObject({
    type: z.literal('clock'),
    clockMs: count,
    resetCount: count,
    restartCount: count,
    clockSafe: z.boolean(),
  }),
  z.strictObject({
    type: z.literal('failed'),
    code: z.enum(Object.keys(CODES) as [Code, ...Code[]]),
    detail: z.string().max(VTPM_DETAIL_CHARS_MAX),
  }),
]);

const nothing = z.strictObject({});

/** The form of the result, one line a request. */
export const RESULTS = {
  describe: descriptorSchema,
  status,
  trackDirty: nothing,
  collectDirty: z.strictObject({ dirtyPages: count }),
  untrackDirty: nothing,
  pause: nothing,
  hold: nothing,
  halt: nothing,
  trapAbsent: nothing,
  untrap: nothing,
  resume: nothing,
  throttle: nothing,
  exportState: z.strictObject({ stateBytes: count.max(STATE_BYTES_MAX) }),
  importState: nothing,
  check,
  vtpm,
  quit: nothing,
} as const satisfies Readonly<Record<AgentRequest['op'], z.ZodType>>;

export type ResultOf<O extends AgentRequest['op']> = z.infer<(typeof RESULTS)[O]>;

/** An answer before its result is looked at: to which request, and whether it failed. */
export const replySchema = z.union([
  z.strictObject({
    id: z.number(),
    error: z.strictObject({
      code: z.string().max(64),
      detail: z.string().max(GUEST_DETAIL_CHARS_MAX),
    }),
  }),
  z.strictObject({ id: z.number(), result: z.unknown() }),
]);
