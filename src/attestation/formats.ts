/** The formats of evidence this host can make and appraise: one line each. */
import type { KeyObject } from 'node:crypto';
import type { EvidenceFormat } from './evidence.ts';
import { softwareEvidence } from './software.ts';

export const EVIDENCE_FORMATS = ['software'] as const;

/** The implementations, by name, for a host that holds `hostKey`. */
export const evidenceFormats = (hostKey: KeyObject): ReadonlyMap<string, EvidenceFormat> =>
  new Map([softwareEvidence(hostKey)].map((format) => [format.name, format]));
