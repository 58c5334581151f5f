/**
 * The proof that a data connection belongs to a session: who makes it holds the session's join key
 * and is an end of this very connection.
 *
 *     proof = HMAC-SHA-384(Key_join, "migd/1 join " form " " role NUL ‖ channel u16 ‖ migration id ‖ binding)
 *
 * `binding` is what this connection has and no other: of form `tls` keying material exported from it
 * (RFC 8446 §7.5), of form `sealed` a nonce of each end. Both ends prove it, each under its own role,
 * so that a proof cannot be sent back. A `claim`, over the source's nonce alone, comes before them: it
 * proves nothing of this connection, only that somebody once held the key.
 */
import { createHmac } from 'node:crypto';
import type { ChannelForm } from '../protocol/options.ts';
import type { JoinKey } from './key-schedule.ts';

export const JOIN_PROOF_BYTES = 48;
export const JOIN_EXPORTER_LABEL = 'EXPORTER-migd-join-v1';
export const JOIN_EXPORTER_BYTES = 48;
/** Of each end, in form `sealed`. */
export const JOIN_NONCE_BYTES = 32;

export type JoinRole = 'source' | 'destination' | 'claim';

export interface Join {
  readonly migrationId: string;
  readonly channel: number;
  readonly key: JoinKey;
}

export interface Binding {
  readonly form: ChannelForm;
  readonly bytes: Uint8Array;
}

export function joinProof(join: Join, role: JoinRole, { form, bytes }: Binding): Buffer {
  const { migrationId, channel, key } = join;
  return createHmac('sha384', key.expose())
    .update(`migd/1 join ${form} ${role}\0`)
    .update(Uint8Array.of(channel >>> 8, channel & 0xff))
    .update(migrationId)
    .update(bytes)
    .digest();
}
