/**
 * The control messages, each with its schema. A message is one msgpack map with a `type`; whatever
 * arrives is validated here, strictly, before anything looks at it. Sizes are bounded by the codec
 * (codec.ts); the order in which messages may come is the machines' business.
 */
import { z } from 'zod';
import { descriptorSchema } from './descriptor.ts';
import { CHANNELS_MAX, migrationIdSchema, nameSchema } from './options.ts';

const binary = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');

/** A binary field of exactly `length` bytes, or of 1 to `max`. */
const exactly = (length: number) =>
  binary.refine((value) => value.length === length, `expected ${length} bytes`);
const upTo = (max: number) =>
  binary.refine((value) => value.length >= 1 && value.length <= max, `expected 1 to ${max} bytes`);

/** A code or other short word of the peer's: shown only after the table knew it. */
const word = z.string().max(64);
const detail = z.string().max(512);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const words = z.array(word).min(1).max(16);
/** Formats of evidence that a side accepts; a policy may allow none. */
const formats = z.array(word).max(16);

const nonce = exactly(32);
/** SHA-384. */
const digest = exactly(48);
/** Ed25519 (RFC 8032). */
const signature = exactly(64);
const epoch = z
  .number()
  .int()
  .min(1)
  .max(2 ** 48);
const round = z.number().int().min(0).max(100_000);

export const evidenceSchema = z.strictObject({ format: word, body: upTo(64 * 1024) });
export type Evidence = z.infer<typeof evidenceSchema>;

/** What a deletion certificate states: what was destroyed at the source. */
export const deletionSchema = z.strictObject({
  /** SHA-384 of the encrypted vTPM state as it was; empty when the VM had no vTPM. */
  stateDigest: binary.refine((value) => [0, 48].includes(value.length)),
  filesDestroyed: count,
  bytesOverwritten: count,
});
export type Deletion = z.infer<typeof deletionSchema>;

/** What the source signed of all that it sent (statement.ts). */
const signedFinal = {
  transcriptDigest: digest,
  stateBytes: count,
  /** SHA-256 of every page in order, when the offer asked for it; else empty. */
  memoryDigest: binary.refine((value) => [0, 32].includes(value.length)),
  signature,
};
export const signedFinalSchema = z.strictObject(signedFinal);
export type SignedFinal = z.infer<typeof signedFinalSchema>;

const milliseconds = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
/** Faults of a guest that ran while its memory came. */
export const faultCountsSchema = z.strictObject({
  /** Pages that had to be asked for. */
  network: count,
  /** Pages that had come, and were not mapped yet. */
  minor: count,
  /** From a network fault until its page was there. */
  latencyMs: z.strictObject({ mean: milliseconds, p99: milliseconds, max: milliseconds }),
});
export type FaultCounts = z.infer<typeof faultCountsSchema>;

const define = <T extends string, S extends z.core.$ZodShape>(type: T, shape: S) =>
  z.strictObject({ type: z.literal(type), ...shape });

const refusal = { code: word, detail };
const dataPorts = z
  .array(z.number().int().min(1).max(65_535))
  .min(1)
  .max(CHANNELS_MAX + 1);

export const MESSAGES = {
  // Phase A: session
  HELLO: define('HELLO', {
    versionMin: z.number().int().min(1).max(255),
    versionMax: z.number().int().min(1).max(255),
    migrationId: migrationIdSchema,
    /** The host that the source was told to migrate to. */
    to: nameSchema,
    suites: words,
    /** What may be around the records of a data channel. */
    forms: words,
    encodings: words,
    channels: z.number().int().min(1).max(CHANNELS_MAX),
    features: z.array(word).max(16),
  }),
  HELLO_OK: define('HELLO_OK', {
    version: z.number().int().min(1).max(255),
    suite: word,
    form: word,
    encodings: words,
    channels: z.number().int().min(1).max(CHANNELS_MAX),
    features: z.array(word).max(16),
  }),

  // Phase B: mutual attestation
  ATT_REQUEST: define('ATT_REQUEST', {
    nonce,
    formats,
    /** PCRs that the evidence must cover; empty for formats without PCRs. */
    pcrSelection: z.array(z.number().int().min(0).max(23)).max(24),
    /** Digest of the policy that the answer will be appraised under; the answer signs it. */
    policyDigest: digest,
  }),
  ATT_EVIDENCE: define('ATT_EVIDENCE', {
    evidence: evidenceSchema,
    nonce,
    formats,
    policyDigest: digest,
  }),
  SVR_ATT_OK: define('SVR_ATT_OK', { evidence: evidenceSchema }),
  SVR_ATT_FAILED: define('SVR_ATT_FAILED', refusal),
  CLI_ATT_OK: define('CLI_ATT_OK', {}),
  CLI_ATT_FAILED: define('CLI_ATT_FAILED', refusal),

  // Phase C: transfer
  OFFER: define('OFFER', {
    descriptor: descriptorSchema,
    epoch,
    policyDigest: digest,
    /** Both sides compute a digest of every page before the handover. */
    verify: z.boolean(),
  }),
  ACCEPT: define('ACCEPT', {
    reservation: z.uuid(),
    /** One data port a channel, on the address of the control connection; where pages may be left, one more to ask for them. */
    ports: dataPorts,
    /** What it holds of a session of this migration that broke; null: nothing. */
    resume: z.strictObject({ round, accepted: z.array(count).min(1).max(CHANNELS_MAX) }).nullable(),
  }),
  REFUSED: define('REFUSED', refusal),
  ROUND_END: define('ROUND_END', {
    round,
    pages: count,
    zeroPages: count,
    bytes: count,
    tag: digest,
  }),
  ROUND_OK: define('ROUND_OK', { round }),
  FINAL: define('FINAL', { round, ...signedFinal }),
  DONE: define('DONE', { signature }),

  // A later session of a post-copy: the guest runs at the destination, which asks for what it lacks
  PULL: define('PULL', { ports: dataPorts }),

  // Phase D: handover and deletion
  SURRENDER: define('SURRENDER', { signature }),
  /** It runs, and the pages that were left at the source may come: it is kept there until ACTIVATED. */
  RUNNING: define('RUNNING', { signature }),
  /** With what the source signed: one that did not surrender learns that it is its own doing. */
  ACTIVATED: define('ACTIVATED', {
    final: signedFinalSchema.nullable(),
    /** How its faults went while memory was still to come, for the operator. */
    faults: faultCountsSchema.optional(),
    signature,
  }),
  DELETED: define('DELETED', { deletion: deletionSchema, signature }),
  // The first message of a link that a handover goes on with: which one. Words follow.
  RESOLVE: define('RESOLVE', { migrationId: migrationIdSchema }),
  /** There is no record of that migration here: it proves nothing. */
  UNKNOWN: define('UNKNOWN', {}),

  // Any time before the source surrendered; the source's is its signed word that it did not.
  ABORT: define('ABORT', { ...refusal, signature }),
} as const;

export type MessageType = keyof typeof MESSAGES;
export const MESSAGE_TYPES = Object.keys(MESSAGES) as MessageType[];
export type MessageOf<T extends MessageType> = z.infer<(typeof MESSAGES)[T]>;
export type Message = { [T in MessageType]: MessageOf<T> }[MessageType];

/** The version of this protocol: a range is offered, so that later versions can be added. */
export const PROTOCOL_VERSION = 1;
