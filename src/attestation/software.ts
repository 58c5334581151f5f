/**
 * The `software` format: the host's own key signs the qualifying data. It proves that the peer holds
 * the key of its certificate, on this connection, now; it proves nothing of the platform's state. A
 * policy must allow it by name, and whoever shows a verdict shows the format.
 */
import { sign, verify, type KeyObject } from 'node:crypto';
import type { EvidenceFormat } from './evidence.ts';

export function softwareEvidence(hostKey: KeyObject): EvidenceFormat {
  return {
    name: 'software',
    make: (qualifying) => Promise.resolve(sign(null, qualifying, hostKey)),
    appraise: (body, qualifying, attester) =>
      Promise.resolve(
        verify(null, qualifying, attester.publicKey, body)
          ? { accepted: true }
          : {
              accepted: false,
              // An honest signature over other data is a replay; the two cannot be told apart here.
              code: 'ATT_NONCE_MISMATCH',
              detail: `evidence of ${attester.name}`,
            },
      ),
  };
}
