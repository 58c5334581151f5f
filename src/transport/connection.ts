/** A data connection as its form has secured it, before its JOIN and whoever carries records on it. */
import type { Socket } from 'node:net';
import type { Clock, Random } from '../base/ports.ts';
import type { Binding, Join } from '../crypto/join-proof.ts';
import type { BlockingLink } from '../native/sockets.ts';
import type { ChannelForm } from '../protocol/options.ts';
import type { TlsIdentity } from './tls.ts';

/** How a connection is read and written: by Node's streams, or by a thread that waits. */
export type Engine = 'portable' | 'native';

/** The host that the control session is with. */
export interface ExpectedPeer {
  readonly name: string;
  /** SHA-256 of its certificate, as the control session saw it. */
  readonly fingerprint256: Uint8Array;
}

/** What an end of a data connection knows. */
export interface Ends {
  readonly form: ChannelForm;
  readonly engine: Engine;
  readonly identity: TlsIdentity;
  readonly expected: ExpectedPeer;
  readonly join: Join;
  readonly clock: Clock;
  readonly random: Random;
}

/** What carries records from now on: nothing was read beyond the JOIN. */
export type Carrier =
  | { readonly engine: 'portable'; readonly socket: Socket }
  | { readonly engine: 'native'; readonly link: BlockingLink };

export interface Connection {
  /** What a proof for this connection is over. */
  readonly binding: Binding;
  /** Resolves when it has left. */
  send(bytes: Uint8Array): Promise<void>;
  /**
   * Exactly `count` bytes; with `stop` nothing more is read from the network. Rejects with
   * CHANNEL_JOIN when the connection ends or when more comes: nothing may before it is asked for.
   */
  receive(count: number, then: 'go on' | 'stop'): Promise<Buffer>;
  /** Gives the connection away; to be called once, after which only the carrier is used. */
  carry(): Carrier;
  destroy(): void;
}

/** Secures one side of a connected socket. `known` is called when the peer has shown who it is. */
export type Secure = (socket: Socket, ends: Ends, known: () => void) => Promise<Connection>;
