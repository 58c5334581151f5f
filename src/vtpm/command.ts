/**
 * What a guest may ask of its vTPM and what it is answered, as plain data that passes a mailbox;
 * and the check that makes a command out of anything. Knows nothing of how a command is carried out.
 */
import { z } from 'zod';
import {
  VTPM_DETAIL_CHARS_MAX,
  VTPM_EVENT_BYTES_MAX,
  VTPM_NONCE_BYTES_MAX,
  VTPM_NV_INDEX_BYTES_MAX,
  VTPM_PCR_COUNT,
} from '../base/limits.ts';
import type { Code } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import type { ClockInfo } from './attest.ts';
import { NV_INDEX_FIRST, NV_INDEX_LAST } from './nv-storage.ts';
import { PCR_BANKS, type PcrSelection, type PcrValue } from './pcr-banks.ts';

/** Indexes of PCRs are 0 … 23; those of NV are handles 0x01000000 … 0x01ffffff. */
export type VtpmCommand =
  | {
      readonly type: 'pcr-extend';
      readonly index: number;
      readonly sha256: Uint8Array;
      readonly sha384: Uint8Array;
    }
  /** Extends both banks with the hash of `event` (at most 1024 bytes). */
  | { readonly type: 'pcr-event'; readonly index: number; readonly event: Uint8Array }
  | { readonly type: 'pcr-read'; readonly selection: PcrSelection }
  | { readonly type: 'nv-define-counter'; readonly index: number }
  | { readonly type: 'nv-increment'; readonly index: number }
  | { readonly type: 'nv-read-counter'; readonly index: number }
  | { readonly type: 'nv-define'; readonly index: number; readonly sizeBytes: number }
  /** `data` has the defined size. */
  | { readonly type: 'nv-write'; readonly index: number; readonly data: Uint8Array }
  | { readonly type: 'nv-read'; readonly index: number }
  /** `nonce` of at most 64 bytes. */
  | { readonly type: 'quote'; readonly nonce: Uint8Array; readonly selection: PcrSelection }
  | { readonly type: 'public-keys' }
  | { readonly type: 'read-clock' };

/** A quote: TPMS_ATTEST bytes and the attestation key's ECDSA P-256/SHA-256 signature over them, DER. */
export interface Quote {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
}

/** SubjectPublicKeyInfo, DER. */
export interface VtpmPublicKeys {
  readonly endorsement: Uint8Array;
  readonly attestation: Uint8Array;
}

export type VtpmReply =
  | { readonly type: 'done' }
  | { readonly type: 'pcrs'; readonly values: readonly PcrValue[] }
  | { readonly type: 'counter'; readonly value: number }
  | { readonly type: 'nv'; readonly data: Uint8Array }
  | ({ readonly type: 'quote' } & Quote)
  | ({ readonly type: 'public-keys' } & VtpmPublicKeys)
  | ({ readonly type: 'clock' } & ClockInfo)
  | { readonly type: 'failed'; readonly code: Code; readonly detail: string };

const bytes = (min: number, max: number): z.ZodType<Uint8Array> =>
  z.custom<Uint8Array>(
    (value) => value instanceof Uint8Array && value.length >= min && value.length <= max,
    { error: min === max ? `expected ${max} bytes` : `expected ${min} to ${max} bytes` },
  );

const pcrIndex = z
  .int()
  .min(0)
  .max(VTPM_PCR_COUNT - 1);
const nvIndex = z.int().min(NV_INDEX_FIRST).max(NV_INDEX_LAST);

const bankSelection = z.strictObject({
  bank: z.enum(['sha256', 'sha384']),
  indexes: z
    .array(pcrIndex)
    .min(1)
    .max(VTPM_PCR_COUNT)
    .refine((indexes) => indexes.every((index, at) => at === 0 || index > (indexes[at - 1] ?? 0)), {
      error: 'expected ascending indexes',
    }),
});

const pcrSelection = z
  .array(bankSelection)
  .min(1)
  .max(Object.keys(PCR_BANKS).length)
  .refine((banks) => new Set(banks.map(({ bank }) => bank)).size === banks.length, {
    error: 'expected each bank once',
  });

const command: z.ZodType<VtpmCommand> = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('pcr-extend'),
    index: pcrIndex,
    sha256: bytes(PCR_BANKS.sha256.digestBytes, PCR_BANKS.sha256.digestBytes),
    sha384: bytes(PCR_BANKS.sha384.digestBytes, PCR_BANKS.sha384.digestBytes),
  }),
  z.strictObject({
    type: z.literal('pcr-event'),
    index: pcrIndex,
    event: bytes(0, VTPM_EVENT_BYTES_MAX),
  }),
  z.strictObject({ type: z.literal('pcr-read'), selection: pcrSelection }),
  z.strictObject({ type: z.literal('nv-define-counter'), index: nvIndex }),
  z.strictObject({ type: z.literal('nv-increment'), index: nvIndex }),
  z.strictObject({ type: z.literal('nv-read-counter'), index: nvIndex }),
  z.strictObject({
    type: z.literal('nv-define'),
    index: nvIndex,
    sizeBytes: z.int().min(1).max(VTPM_NV_INDEX_BYTES_MAX),
  }),
  z.strictObject({
    type: z.literal('nv-write'),
    index: nvIndex,
    data: bytes(1, VTPM_NV_INDEX_BYTES_MAX),
  }),
  z.strictObject({ type: z.literal('nv-read'), index: nvIndex }),
  z.strictObject({
    type: z.literal('quote'),
    nonce: bytes(0, VTPM_NONCE_BYTES_MAX),
    selection: pcrSelection,
  }),
  z.strictObject({ type: z.literal('public-keys') }),
  z.strictObject({ type: z.literal('read-clock') }),
]);

/** `value` as a command; throws VTPM_FAILED that names the field. */
export function parseCommand(value: unknown): VtpmCommand {
  const parsed = command.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join('.') ?? '';
  throw new MigError('VTPM_FAILED', `bad command: ${where} ${issue?.message ?? ''}`);
}

/** Any failure as the reply that the guest gets. */
export function failedReply(thrown: unknown): VtpmReply {
  const { code, detail } = MigError.from(thrown, 'VTPM_FAILED');
  return { type: 'failed', code, detail: detail.slice(0, VTPM_DETAIL_CHARS_MAX) };
}
