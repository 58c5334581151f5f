/**
 * Form `sealed`: records straight on TCP. The keys of the records, and of the proofs, come from the
 * attested session on the control channel: who does not hold them can neither read nor make a record,
 * and a connection that is not between the two hosts of that session joins nothing
 * (docs/decisions/sealed-form.md). Each end adds a nonce, so that no proof is good twice:
 *
 *     source → destination   nonce (32) ‖ claim (a JOIN frame over that nonce)
 *     destination → source   nonce (32)
 */
import type { Socket } from 'node:net';
import { JOIN_NONCE_BYTES, type Binding } from '../crypto/join-proof.ts';
import { TcpLink } from '../native/sockets.ts';
import type { Connection, Ends, Secure } from './connection.ts';
import { checkFrame, JOIN_BYTES, joinFrame } from './join.ts';
import { receiveExactly, sendAll, takeOver } from './raw-socket.ts';

const bindingOf = (...nonces: readonly Uint8Array[]): Binding => ({
  form: 'sealed',
  bytes: Buffer.concat(nonces),
});

export const sealedClient: Secure = async (socket, ends) => {
  const nonce = ends.random.bytes(JOIN_NONCE_BYTES);
  const claim = joinFrame(bindingOf(nonce), ends.join, 'claim');
  await sendAll(socket, Buffer.concat([nonce, claim]));
  const theirs = await receiveExactly(socket, JOIN_NONCE_BYTES, 'go on');
  return connectionOn(socket, ends, bindingOf(nonce, theirs));
};

export const sealedServer: Secure = async (socket, ends, known) => {
  const opening = await receiveExactly(socket, JOIN_NONCE_BYTES + JOIN_BYTES, 'go on');
  const theirs = opening.subarray(0, JOIN_NONCE_BYTES);
  checkFrame(opening.subarray(JOIN_NONCE_BYTES), bindingOf(theirs), ends.join, 'claim');
  known();
  const nonce = ends.random.bytes(JOIN_NONCE_BYTES);
  await sendAll(socket, nonce);
  return connectionOn(socket, ends, bindingOf(theirs, nonce));
};

const connectionOn = (socket: Socket, { engine }: Ends, binding: Binding): Connection => ({
  binding,
  send: (bytes) => sendAll(socket, bytes),
  receive: (count, then) => receiveExactly(socket, count, engine === 'native' ? then : 'go on'),
  carry: () =>
    engine === 'native' ? { engine, link: new TcpLink(takeOver(socket)) } : { engine, socket },
  destroy: () => socket.destroy(),
});
