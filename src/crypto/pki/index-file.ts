/**
 * `index.json`: everything a CA ever issued and what of it is revoked. The revocation list is made
 * from it, so a certificate must be in it before the certificate exists.
 */
import path from 'node:path';
import { z } from 'zod';
import { MigError } from '../../protocol/error.ts';
import { nameSchema } from '../../protocol/options.ts';
import { readText, writeWhole } from './files.ts';
import { KINDS, TRUST_DOMAIN } from './spiffe.ts';

export const INDEX_FILE = 'index.json';

const entrySchema = z.strictObject({
  name: nameSchema,
  kind: z.enum(KINDS),
  /** 16 bytes in hex. */
  serial: z.string().regex(/^[0-9a-f]{32}$/),
  notBefore: z.iso.datetime(),
  notAfter: z.iso.datetime(),
  /** SHA-256 of the certificate's DER, as Node writes it. */
  fingerprint256: z.string(),
  revokedAt: z.iso.datetime().nullable(),
});

const indexSchema = z.strictObject({
  trustDomain: z.string().regex(TRUST_DOMAIN),
  /** How many revocation lists were made; the number of the last one (RFC 5280 §5.2.3). */
  revocationLists: z.number().int().min(1),
  issued: z.array(entrySchema),
});

export type Issued = z.infer<typeof entrySchema>;
export type Index = z.infer<typeof indexSchema>;

/** Throws PKI_MISSING. */
export function readIndex(directory: string): Index {
  const file = path.join(directory, INDEX_FILE);
  const parsed = indexSchema.safeParse(json(readText(file)));
  if (!parsed.success) throw new MigError('PKI_MISSING', `${file} is damaged`);
  return parsed.data;
}

export function writeIndex(directory: string, index: Index): void {
  writeWhole(path.join(directory, INDEX_FILE), `${JSON.stringify(index, null, 2)}\n`, 0o600);
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
