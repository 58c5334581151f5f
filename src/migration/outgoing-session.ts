/**
 * One session of an outgoing migration: its connection, what was attested on it, its keys. It ends as a
 * whole, and what it still yields after that nobody hears. A migration whose connection breaks has
 * another one.
 */
import { sign, type KeyObject } from 'node:crypto';
import { PEERS_WORD_MS_MAX } from '../base/limits.ts';
import type { SessionSecret } from '../crypto/key-schedule.ts';
import type { Identity } from '../crypto/pki/identity.ts';
import { MigError } from '../protocol/error.ts';
import type { Message } from '../protocol/messages.ts';
import type { Effect, Event } from '../protocol/source/state.ts';
import { connectControl, MIGRATE_PATH } from '../transport/control.ts';
import type { Appraiser } from './appraiser.ts';
import { Conversation } from './conversation.ts';
import type { OutgoingPorts, OutgoingRequest } from './outgoing.ts';
import type { ChannelOptions } from './outgoing-transfer.ts';
import type { AttestationReport } from './report.ts';

const NOBODY = { message: ignore, broken: ignore, closed: ignore };

/** What a session picked, by name. */
interface AgreedNames {
  readonly suite: string;
  readonly form: string;
  readonly channels: number;
}

/** Who this host is, and whom it trusts. */
export interface Credentials {
  readonly identity: Identity;
  readonly hostKey: KeyObject;
  readonly appraiser: Appraiser;
}

export class OutgoingSession {
  readonly credentials: Credentials;
  readonly #ports: OutgoingPorts;
  readonly #request: OutgoingRequest;
  readonly #dispatch: (event: Event) => void;
  readonly #end = new AbortController();
  #conversation: Conversation | undefined;
  #secret: SessionSecret | undefined;
  /** What HELLO_OK picked and what was attested, here or in the session before. */
  agreed: AgreedNames | undefined;
  attestation: { readonly source: AttestationReport; readonly destination: AttestationReport } = {
    source: { format: '', verdict: 'none' },
    destination: { format: '', verdict: 'none' },
  };

  constructor(
    ports: OutgoingPorts,
    request: OutgoingRequest,
    dispatch: (event: Event) => void,
    before?: OutgoingSession,
  ) {
    if (before !== undefined) ({ agreed: this.agreed, attestation: this.attestation } = before);
    this.credentials = ports.credentials();
    this.#ports = ports;
    this.#request = request;
    this.#dispatch = dispatch;
  }

  get conversation(): Conversation {
    if (this.#conversation === undefined) throw new Error('no conversation yet');
    return this.#conversation;
  }

  /** Does nothing before it is connected. */
  send(message: Message): void {
    this.#conversation?.send(message);
  }

  sign(statement: Uint8Array): Uint8Array {
    return sign(null, statement, this.credentials.hostKey);
  }

  async connect(): Promise<Event> {
    const { clock, silenceMs } = this.#ports;
    const channel = await connectControl({
      address: this.#request.address,
      path: this.#request.path ?? MIGRATE_PATH,
      expected: this.#request.options.to,
      identity: this.credentials.identity,
      signal: this.#end.signal,
    });
    const conversation = new Conversation(channel, 'source');
    this.#conversation = conversation;
    conversation.listen(
      {
        message: (message) => {
          if (message.type === 'HELLO_OK') this.agreed = message;
          this.#dispatch({ kind: message.type, message } as Event);
        },
        broken: (code, detail) => this.#dispatch({ kind: 'failed', code, detail }),
        closed: (code, detail) => this.#dispatch({ kind: 'peerClosed', code, detail }),
      },
      clock,
      silenceMs,
    );
    if (this.#end.signal.aborted) this.#hangUp();
    return { kind: 'connected' };
  }

  async appraise(effect: Extract<Effect, { kind: 'appraise' }>): Promise<Event> {
    const { evidence } = effect;
    const binding = this.#binding('destination', effect);
    const { peer } = this.conversation;
    const { code, detail } = await this.credentials.appraiser.appraise(evidence, binding, peer);
    const verdict = code === null ? 'accepted' : 'refused';
    this.attestation = { ...this.attestation, destination: { format: evidence.format, verdict } };
    return { kind: 'appraised', code, detail };
  }

  async makeEvidence(effect: Extract<Effect, { kind: 'makeEvidence' }>): Promise<Event> {
    const binding = this.#binding('source', effect);
    const evidence = await this.credentials.appraiser.make(effect.formats, binding);
    const source = { format: evidence.format, verdict: 'none' } as const;
    this.attestation = { ...this.attestation, source };
    return { kind: 'evidenceMade', evidence };
  }

  /** Both appraisals passed. */
  deriveKeys({ nonceS, nonceD }: Extract<Effect, { kind: 'deriveKeys' }>): void {
    const { source } = this.attestation;
    this.attestation = { ...this.attestation, source: { ...source, verdict: 'accepted' } };
    this.#secret = this.conversation.deriveSecret(this.#request.migrationId, nonceS, nonceD);
  }

  /** What its data channels are made of. */
  channels({ agreed, ports }: Extract<Effect, { kind: 'joinChannels' }>): ChannelOptions {
    const { clock, threads, silenceMs, engine } = this.#ports;
    const { remoteAddress: host, peer } = this.conversation;
    if (this.#secret === undefined) throw new Error('no keys yet');
    return {
      migrationId: this.#request.migrationId,
      peer: { host, ports, name: peer.name, fingerprint256: peer.fingerprint256 },
      identity: this.credentials.identity,
      suite: agreed.suite,
      form: agreed.form,
      encodings: agreed.encodings,
      postCopy: agreed.postCopy,
      engine,
      secret: this.#secret,
      clock,
      threads,
      silenceMs,
      signal: this.#end.signal,
      failed: (failure) => {
        void this.sending(Promise.reject(failure)).then((event) => event && this.#dispatch(event));
      },
    };
  }

  /** What comes of `work`; nothing when the session has ended by then. */
  async heed(work: Promise<Event>): Promise<Event | undefined> {
    try {
      const event = await work;
      return this.#end.signal.aborted ? undefined : event;
    } catch (thrown) {
      if (this.#end.signal.aborted) return undefined;
      throw thrown;
    }
  }

  /** The same of the data plane; that a channel broke is the reason only if the peer gives no other. */
  sending(work: Promise<Event>): Promise<Event | undefined> {
    return this.heed(
      work.catch(async (thrown: unknown) => {
        const { code, detail } = MigError.from(thrown);
        if (code === 'CHANNEL_LOST' || code === 'CHANNEL_JOIN') await this.#peersWord();
        return { kind: 'failed', code, detail };
      }),
    );
  }

  /** Gives up what is under way and wipes the keys; what was said is still delivered. */
  leave(): void {
    this.#end.abort();
    this.#secret?.[Symbol.dispose]();
  }

  /** Ends it at once, with its connection. */
  end(): void {
    this.leave();
    this.#hangUp();
  }

  #hangUp(): void {
    this.#conversation?.passTo(NOBODY);
    this.#conversation?.close();
  }

  #binding(
    role: 'source' | 'destination',
    { nonce, policyDigest }: { readonly nonce: Uint8Array; readonly policyDigest: Uint8Array },
  ) {
    const { migrationId } = this.#request;
    return this.conversation.binding(role, { nonce, migrationId, policyDigest });
  }

  /**
   * A data channel breaks as well because the peer refused what came, was stopped or died; the control
   * channel says which, a little sooner or later. Resolves when it did (the session has ended then),
   * or had its time.
   */
  #peersWord(): Promise<void> {
    const { signal } = this.#end;
    return new Promise((resolve) => {
      const timer = this.#ports.clock.after(PEERS_WORD_MS_MAX, resolve);
      const heard = () => {
        timer.cancel();
        resolve();
      };
      if (signal.aborted) heard();
      else signal.addEventListener('abort', heard, { once: true });
    });
  }
}

function ignore(): void {
  // Nobody listens any more.
}
