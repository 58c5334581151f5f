/**
 * What hosts sign. A statement is a label and a list of fields, each with its length before it, so
 * that two different statements never have the same bytes; the label separates the kinds, and every
 * statement names the migration, so a signature cannot be used for another one.
 *
 *     statement = "migd/1 " label NUL field*        field = length (u32, big-endian) bytes
 */
import type { Deletion } from './messages.ts';
import type { ResumePoint } from './resume-point.ts';

type Field = string | number | Uint8Array;

/** The VM and its life that a statement is about. */
export interface Subject {
  readonly migrationId: string;
  readonly vmId: string;
  /** The epoch that ran at the source; at the destination it becomes `epoch + 1`. */
  readonly epoch: number;
  readonly from: string;
  readonly to: string;
}

const text = new TextEncoder();

function encode(label: string, fields: readonly Field[]): Uint8Array {
  const parts: Uint8Array[] = [text.encode(`migd/1 ${label}\0`)];
  for (const field of fields) {
    const body = field instanceof Uint8Array ? field : text.encode(String(field));
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, body.length);
    parts.push(length, body);
  }
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const about = (s: Subject): Field[] => [s.migrationId, s.vmId, s.epoch, s.from, s.to];

/** S: "this is all I sent": digest of the data channels' transcripts, of the state, of the memory. */
export const finalStatement = (
  subject: Subject,
  transcriptDigest: Uint8Array,
  stateBytes: number,
  memoryDigest: Uint8Array,
): Uint8Array => encode('final', [...about(subject), transcriptDigest, stateBytes, memoryDigest]);

/** D: "I hold it all, durably, as epoch + 1": the receipt. */
export const receiptStatement = (subject: Subject, transcriptDigest: Uint8Array): Uint8Array =>
  encode('receipt', [...about(subject), subject.epoch + 1, transcriptDigest]);

/** S: "I shall never run this epoch again": the token that lets D run the next one. */
export const tokenStatement = (subject: Subject, transcriptDigest: Uint8Array): Uint8Array =>
  encode('token', [...about(subject), subject.epoch + 1, transcriptDigest]);

/** D: "it runs here, and part of its memory is still with you": nothing may be destroyed yet. */
export const runningStatement = (subject: Subject): Uint8Array =>
  encode('running', [...about(subject), subject.epoch + 1]);

/** D: "it runs here, and all of it is here". */
export const activatedStatement = (subject: Subject): Uint8Array =>
  encode('activated', [...about(subject), subject.epoch + 1]);

/** S: the deletion certificate: what was destroyed after the handover. */
export const deletionStatement = (subject: Subject, deletion: Deletion): Uint8Array =>
  encode('deleted', [
    ...about(subject),
    deletion.stateDigest,
    deletion.filesDestroyed,
    deletion.bytesOverwritten,
  ]);

/** Either side: "I gave this migration up"; from S also: "I did not surrender and shall not". */
export const abortStatement = (
  migrationId: string,
  side: 'source' | 'destination',
  code: string,
): Uint8Array => encode('abort', [migrationId, side, code]);

/**
 * What the transcripts of a session that goes on from a broken one begin with (hashed: SHA-384): all
 * the points that the migration went on from so far. So the tag of each round, and what FINAL signs,
 * holds only between two sides that agree on every one of them.
 */
export const lineageStatement = (
  migrationId: string,
  previous: Uint8Array,
  { round, accepted }: ResumePoint,
): Uint8Array => encode('lineage', [migrationId, previous, round, ...accepted]);

/** What a host's evidence signs (hashed: attestation/evidence.ts): all that binds it to here and now. */
export const evidenceStatement = (binding: {
  readonly role: string;
  readonly nonce: Uint8Array;
  readonly exporter: Uint8Array;
  readonly sourceFingerprint: Uint8Array;
  readonly destinationFingerprint: Uint8Array;
  readonly migrationId: string;
  readonly policyDigest: Uint8Array;
}): Uint8Array =>
  encode('evidence', [
    binding.role,
    binding.nonce,
    binding.exporter,
    binding.sourceFingerprint,
    binding.destinationFingerprint,
    binding.migrationId,
    binding.policyDigest,
  ]);
