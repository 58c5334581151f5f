/**
 * Evidence of what a host is (RATS, RFC 9334: the host attests, its peer appraises). A format is an
 * implementation of this interface in a file of its own and one line in the table of formats.ts.
 */
import { createHash, type KeyObject } from 'node:crypto';
import type { Code } from '../protocol/codes.ts';
import { evidenceStatement } from '../protocol/statement.ts';

/** Everything that a piece of evidence is bound to, so that it serves nowhere else. */
export interface Binding {
  /** Whose evidence it is. */
  readonly role: 'source' | 'destination';
  /** The challenge of the peer, 32 bytes. */
  readonly nonce: Uint8Array;
  /** Channel binding of the control connection (RFC 9266, tls-exporter). */
  readonly exporter: Uint8Array;
  /** SHA-256 fingerprints of both certificates. */
  readonly sourceFingerprint: Uint8Array;
  readonly destinationFingerprint: Uint8Array;
  readonly migrationId: string;
  /** Digest of the policy that the appraiser announced. */
  readonly policyDigest: Uint8Array;
}

/** What the evidence signs (a quote's qualifyingData): SHA-256 over the binding, 32 bytes. */
export function qualifyingData(binding: Binding): Uint8Array {
  return createHash('sha256').update(evidenceStatement(binding)).digest();
}

/** The appraiser's word: accepted, or the code of the check that failed. */
export type Appraisal =
  | { readonly accepted: true }
  | { readonly accepted: false; readonly code: Code; readonly detail: string };

/** The host whose evidence is appraised, as its certificate identifies it. */
export interface Attester {
  readonly name: string;
  readonly publicKey: KeyObject;
}

export interface EvidenceFormat {
  readonly name: string;
  /** Evidence of this host over `qualifying` (32 bytes). */
  make(qualifying: Uint8Array): Promise<Uint8Array>;
  /** Whether `body` is evidence of `attester` over `qualifying`. Never throws for bad evidence. */
  appraise(body: Uint8Array, qualifying: Uint8Array, attester: Attester): Promise<Appraisal>;
}
