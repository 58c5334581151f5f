/**
 * The proof that a data connection belongs to a session: who makes it holds the session's join key
 * and is an end of this very TLS connection.
 *
 *     proof = HMAC-SHA-384(Key_join, "migd/1 join " role NUL ‖ channel u16 ‖ migration id ‖ exporter)
 *
 * Both ends prove it, each under its own role, so that a proof cannot be sent back.
 */
import { createHmac } from 'node:crypto';
import { assert } from '../base/assert.ts';
import type { JoinKey } from './key-schedule.ts';

export const JOIN_PROOF_BYTES = 48;
export const JOIN_EXPORTER_LABEL = 'EXPORTER-migd-join-v1';
export const JOIN_EXPORTER_BYTES = 48;

export type JoinRole = 'source' | 'destination';

export interface Join {
  readonly migrationId: string;
  readonly channel: number;
  readonly key: JoinKey;
}

/** `exporter`: 48 bytes of keying material of the data connection (RFC 8446 §7.5). */
export function joinProof(join: Join, role: JoinRole, exporter: Uint8Array): Buffer {
  const { migrationId, channel, key } = join;
  assert(exporter.length === JOIN_EXPORTER_BYTES, 'an exporter of another length');
  return createHmac('sha384', key.expose())
    .update(`migd/1 join ${role}\0`)
    .update(Uint8Array.of(channel >>> 8, channel & 0xff))
    .update(migrationId)
    .update(exporter)
    .digest();
}
