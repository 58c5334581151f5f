/**
 * JOIN: 52 bytes each way on a secured data connection, before any record. The connecting side (the
 * source) proves first; the other answers only a right proof.
 *
 *     version u8 │ role u8 │ channel u16 │ proof (48 bytes)        big-endian
 */
import { timingSafeEqual } from 'node:crypto';
import {
  JOIN_PROOF_BYTES,
  joinProof,
  type Binding,
  type Join,
  type JoinRole,
} from '../crypto/join-proof.ts';
import { MigError } from '../protocol/error.ts';
import type { Connection } from './connection.ts';

export const JOIN_BYTES = 4 + JOIN_PROOF_BYTES;
const JOIN_VERSION = 1;
const ROLE_BYTE: { readonly [R in JoinRole]: number } = { source: 1, destination: 2, claim: 3 };

/** The frame that `role` sends on a connection of that binding. */
export function joinFrame(binding: Binding, join: Join, role: JoinRole): Buffer {
  const { channel } = join;
  const head = Uint8Array.of(JOIN_VERSION, ROLE_BYTE[role], channel >>> 8, channel & 0xff);
  return Buffer.concat([head, joinProof(join, role, binding)]);
}

/** Throws CHANNEL_JOIN. */
export function checkFrame(frame: Uint8Array, binding: Binding, join: Join, role: JoinRole): void {
  if (!timingSafeEqual(frame, joinFrame(binding, join, role))) {
    throw new MigError('CHANNEL_JOIN', 'wrong proof');
  }
}

/** The source's part. Rejects with CHANNEL_JOIN, or what the peer found wrong with our certificate. */
export async function joinAsSource(connection: Connection, join: Join): Promise<void> {
  const { binding } = connection;
  await connection.send(joinFrame(binding, join, 'source'));
  const frame = await connection.receive(JOIN_BYTES, 'stop');
  checkFrame(frame, binding, join, 'destination');
}

/** The destination's part. Rejects with CHANNEL_JOIN; nothing is answered then. */
export async function joinAsDestination(connection: Connection, join: Join): Promise<void> {
  const { binding } = connection;
  const frame = await connection.receive(JOIN_BYTES, 'stop');
  checkFrame(frame, binding, join, 'source');
  await connection.send(joinFrame(binding, join, 'destination'));
}
