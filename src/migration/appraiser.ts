/** How this host shows evidence and judges its peers': the formats that policy allows by name. */
import { createHash, type KeyObject } from 'node:crypto';
import type { Attester, Binding, EvidenceFormat } from '../attestation/evidence.ts';
import { qualifyingData } from '../attestation/evidence.ts';
import { evidenceFormats } from '../attestation/formats.ts';
import type { Code } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import type { Evidence } from '../protocol/messages.ts';

export class Appraiser {
  /** Formats that we accept of others, best first. */
  readonly allowed: readonly string[];
  /** SHA-384 of the policy under which we appraise; announced to the peer, signed by its answer. */
  readonly policyDigest: Uint8Array;
  readonly #formats: ReadonlyMap<string, EvidenceFormat>;

  constructor(hostKey: KeyObject, allowed: readonly string[]) {
    this.#formats = evidenceFormats(hostKey);
    this.allowed = allowed.filter((name) => this.#formats.has(name));
    this.policyDigest = createHash('sha384').update(JSON.stringify({ allowed })).digest();
  }

  /** Evidence of this host in the first of the peer's formats that we can make. */
  async make(formats: readonly string[], binding: Binding): Promise<Evidence> {
    for (const name of formats) {
      const format = this.#formats.get(name);
      if (format !== undefined) {
        return { format: name, body: await format.make(qualifyingData(binding)) };
      }
    }
    throw new MigError('ATT_FORMAT', `asked for ${formats.join(', ')}`);
  }

  /** The verdict over the peer's evidence: null, or the code of the check that failed. */
  async appraise(
    evidence: Evidence,
    binding: Binding,
    attester: Attester,
  ): Promise<{ code: Code | null; detail: string }> {
    const format = this.#formats.get(evidence.format);
    if (format === undefined || !this.allowed.includes(evidence.format)) {
      return { code: 'ATT_NOT_ALLOWED', detail: evidence.format };
    }
    const verdict = await format.appraise(evidence.body, qualifyingData(binding), attester);
    return verdict.accepted ? { code: null, detail: '' } : verdict;
  }
}
