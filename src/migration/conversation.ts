/**
 * The two daemons' conversation on a control channel: messages instead of frames, the hash of phases
 * A and B as sent (TH), what evidence is bound to, and the session's keys once both appraisals
 * passed.
 */
import { createHash, type Hash } from 'node:crypto';
import type { Clock } from '../base/ports.ts';
import { SessionSecret } from '../crypto/key-schedule.ts';
import type { Binding } from '../attestation/evidence.ts';
import type { Code } from '../protocol/codes.ts';
import { decodeMessage, encodeMessage } from '../protocol/codec.ts';
import { MigError } from '../protocol/error.ts';
import type { Message } from '../protocol/messages.ts';
import type { ControlChannel, Peer } from '../transport/control.ts';

const text = new TextEncoder();

export interface Listener {
  readonly message: (message: Message) => void;
  /** The peer sent something that is no message, or is gone. */
  readonly broken: (code: Code, detail: string) => void;
  readonly closed: (code: Code, detail: string) => void;
}

export class Conversation {
  readonly #channel: ControlChannel;
  readonly #role: 'source' | 'destination';
  #listener: Listener | undefined;
  #end: readonly [code: Code, detail: string] | undefined;
  /** Open until the keys are derived: what was said before them is bound into them. */
  #transcript: Hash | undefined = createHash('sha384');

  constructor(channel: ControlChannel, role: 'source' | 'destination') {
    this.#channel = channel;
    this.#role = role;
  }

  get peer(): Peer {
    return this.#channel.peer;
  }

  get remoteAddress(): string {
    return this.#channel.remoteAddress;
  }

  get localAddress(): string {
    return this.#channel.localAddress;
  }

  listen(listener: Listener, clock: Clock, silenceMs: number): void {
    this.#listener = listener;
    let broken = false;
    const frame = (bytes: Uint8Array) => {
      if (broken) return;
      try {
        const message = decodeMessage(bytes);
        this.#transcript?.update(bytes);
        this.#listener?.message(message);
      } catch (thrown) {
        broken = true;
        const { code, detail } = MigError.from(thrown);
        this.#listener?.broken(code, detail);
      }
    };
    const closed: Listener['closed'] = (code, detail) => {
      this.#end = [code, detail];
      this.#listener?.closed(code, detail);
    };
    this.#channel.listen({ frame, closed }, clock, silenceMs);
  }

  /** From now on another listens; who comes after the end hears of it at once. */
  passTo(listener: Listener): void {
    this.#listener = listener;
    if (this.#end !== undefined) listener.closed(...this.#end);
  }

  send(message: Message): void {
    const frame = encodeMessage(message);
    this.#transcript?.update(frame);
    this.#channel.send(frame);
  }

  /** What the evidence of `role` over the peer's `nonce` is bound to on this connection. */
  binding(
    role: 'source' | 'destination',
    input: { nonce: Uint8Array; migrationId: string; policyDigest: Uint8Array },
  ): Binding {
    const own = this.#channel.ownFingerprint256;
    const peer = this.peer.fingerprint256;
    const [sourceFingerprint, destinationFingerprint] =
      this.#role === 'source' ? [own, peer] : [peer, own];
    return {
      role,
      ...input,
      sourceFingerprint,
      destinationFingerprint,
      exporter: this.#channel.exporter('EXPORTER-Channel-Binding', new Uint8Array(0), 32),
    };
  }

  /** Ends the transcript and derives the session's secret from it; once only. */
  deriveSecret(migrationId: string, nonceS: Uint8Array, nonceD: Uint8Array): SessionSecret {
    const transcriptHash = this.#transcript?.digest();
    if (transcriptHash === undefined) throw new MigError('INTERNAL', 'keys derived twice');
    this.#transcript = undefined;
    const exporter = this.#channel.exporter('EXPORTER-migd-v1', text.encode(migrationId), 48);
    try {
      return SessionSecret.extract({ exporter, nonceS, nonceD, transcriptHash });
    } finally {
      exporter.fill(0);
    }
  }

  close(): void {
    this.#channel.close();
  }
}
