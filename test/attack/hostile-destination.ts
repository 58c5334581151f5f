/**
 * A server with a valid certificate of host-b that speaks the protocol by hand to a real source:
 * honestly up to where a test wants it, and then as it likes. It takes a guest's memory like a real
 * destination, and runs nothing.
 */
import { randomUUID, sign } from 'node:crypto';
import { pino } from 'pino';
import { qualifyingData } from '../../src/attestation/evidence.ts';
import { softwareEvidence } from '../../src/attestation/software.ts';
import { readIdentity, type HostIdentity } from '../../src/daemon/identity.ts';
import { listenTls, type Listener } from '../../src/daemon/listener.ts';
import { Conversation } from '../../src/migration/conversation.ts';
import { openReceiver, type DataReceiver } from '../../src/migration/data-plane/receiver.ts';
import { Threads } from '../../src/migration/data-plane/threads.ts';
import type { Evidence, Message, MessageOf, MessageType } from '../../src/protocol/messages.ts';
import { ENCODING_NAMES, type ChannelForm, type SuiteName } from '../../src/protocol/options.ts';
import type { Subject } from '../../src/protocol/statement.ts';
import type { ControlChannel } from '../../src/transport/control.ts';
import { freePort, realPorts, type Cluster } from '../process/cluster.ts';
import { realClock } from '../unit/migration/data-plane/fixtures.ts';
import { Links } from './hostile-link.ts';
import { TestMemory } from '../unit/migration/data-plane/memories.ts';

const SILENCE_MS = 60_000;

/** One connection of the source. */
export class HostileSession {
  readonly channel: ControlChannel;
  readonly conversation: Conversation;
  readonly host: HostIdentity;
  readonly nonce = realPorts.random.bytes(32);
  readonly policyDigest = realPorts.random.bytes(48);
  readonly #threads: Threads;
  readonly #received: Message[] = [];
  #waiting: PromiseWithResolvers<Message | undefined> | undefined;
  #isOver = false;
  #memory: TestMemory | undefined;
  receiver: DataReceiver | undefined;
  /** What HELLO_OK picks besides. */
  features: readonly string[] = [];
  hello: MessageOf<'HELLO'> | undefined;
  offer: MessageOf<'OFFER'> | undefined;

  constructor(host: HostIdentity, channel: ControlChannel, threads: Threads) {
    this.host = host;
    this.channel = channel;
    this.#threads = threads;
    this.conversation = new Conversation(channel, 'destination');
    const over = () => {
      this.#isOver = true;
      this.#waiting?.resolve(undefined);
    };
    this.conversation.listen(
      {
        message: (message) => {
          if (this.#waiting === undefined) this.#received.push(message);
          else this.#waiting.resolve(message);
        },
        broken: over,
        closed: over,
      },
      realClock,
      SILENCE_MS,
    );
  }

  send(message: object): void {
    this.conversation.send(message as Message);
  }

  sign(statement: Uint8Array): Uint8Array {
    return sign(null, statement, this.host.hostKey);
  }

  async next(): Promise<Message | undefined> {
    const received = this.#received.shift();
    if (received !== undefined || this.#isOver) return received;
    this.#waiting = Promise.withResolvers();
    try {
      return await this.#waiting.promise;
    } finally {
      this.#waiting = undefined;
    }
  }

  async expect<T extends MessageType>(type: T): Promise<MessageOf<T>> {
    const message = await this.next();
    if (message?.type === type) return message as MessageOf<T>;
    throw new Error(`expected ${type}, got ${JSON.stringify(message)}`);
  }

  async greeted(): Promise<MessageOf<'HELLO'>> {
    this.hello = await this.expect('HELLO');
    return this.hello;
  }

  helloOk(changes: object = {}): object {
    const { suites = [], forms = [], encodings = [], channels = 1 } = this.hello ?? {};
    return {
      type: 'HELLO_OK',
      version: 1,
      suite: suites[0],
      form: forms[0],
      encodings,
      channels,
      features: this.features,
      ...changes,
    };
  }

  /** Up to the source's challenge. */
  async challenged(): Promise<MessageOf<'ATT_REQUEST'>> {
    await this.greeted();
    this.send(this.helloOk());
    return this.expect('ATT_REQUEST');
  }

  async evidence({ nonce, policyDigest }: MessageOf<'ATT_REQUEST'>): Promise<Evidence> {
    const migrationId = this.hello?.migrationId ?? '';
    const binding = this.conversation.binding('destination', { nonce, migrationId, policyDigest });
    const body = await softwareEvidence(this.host.hostKey).make(qualifyingData(binding));
    return { format: 'software', body };
  }

  attEvidence(evidence: Evidence): object {
    const { nonce, policyDigest } = this;
    return { type: 'ATT_EVIDENCE', evidence, nonce, formats: ['software'], policyDigest };
  }

  /** Up to the source's verdict and evidence. */
  async appraised(): Promise<Uint8Array> {
    const request = await this.challenged();
    this.send(this.attEvidence(await this.evidence(request)));
    await this.expect('SVR_ATT_OK');
    return request.nonce;
  }

  /** Up to the offer; the data channel listens. */
  async offered(): Promise<readonly number[]> {
    const nonceS = await this.appraised();
    this.send({ type: 'CLI_ATT_OK' });
    const migrationId = this.hello?.migrationId ?? '';
    using secret = this.conversation.deriveSecret(migrationId, nonceS, this.nonce);
    this.offer = await this.expect('OFFER');
    this.#memory = new TestMemory(this.offer.descriptor.regions[0]?.bytes ?? 0);
    this.receiver = await openReceiver({
      migrationId,
      address: this.conversation.localAddress,
      ports: undefined,
      peer: this.conversation.peer,
      identity: this.host.identity,
      suite: (this.hello?.suites[0] ?? '') as SuiteName,
      form: (this.hello?.forms[0] ?? '') as ChannelForm,
      encodings: ENCODING_NAMES,
      engine: 'portable',
      channels: 1,
      secret,
      memory: this.#memory.place,
      clock: realClock,
      threads: this.#threads,
    });
    return this.receiver.ports;
  }

  async accepted(resume: MessageOf<'ACCEPT'>['resume'] = null): Promise<void> {
    const ports = await this.offered();
    this.send({ type: 'ACCEPT', reservation: randomUUID(), ports, resume });
  }

  /** Confirms every round until FINAL comes. */
  async finished(): Promise<MessageOf<'FINAL'>> {
    await this.accepted();
    for (;;) {
      const message = await this.next();
      if (message?.type === 'FINAL') return message;
      if (message?.type !== 'ROUND_END') throw new Error(`got ${JSON.stringify(message)}`);
      this.send({ type: 'ROUND_OK', round: message.round });
    }
  }

  get subject(): Subject {
    const { migrationId = '' } = this.hello ?? {};
    const { epoch = 0, descriptor } = this.offer ?? {};
    const vmId = descriptor?.vmId ?? '';
    return { migrationId, vmId, epoch, from: this.conversation.peer.name, to: 'host-b' };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.conversation.close();
    await this.receiver?.close();
    this.#memory?.[Symbol.dispose]();
  }
}

export class HostileDestination {
  /** By which the source asks, when it is in doubt. */
  readonly links: Links;
  readonly #listener: Listener;
  readonly #threads = new Threads(0);
  readonly #host: HostIdentity;
  #session: PromiseWithResolvers<HostileSession> = Promise.withResolvers();

  private constructor(host: HostIdentity, listener: Listener, channels: ChannelSink, links: Links) {
    this.links = links;
    this.#host = host;
    this.#listener = listener;
    channels.take = (channel) =>
      this.#session.resolve(new HostileSession(this.#host, channel, this.#threads));
  }

  /** Listens where host-a looks for host-b. */
  static async start(cluster: Cluster): Promise<HostileDestination> {
    const host = readIdentity(cluster.certs, 'host-b');
    const port = await freePort();
    cluster.peers['host-b'] = `127.0.0.1:${port}`;
    const channels: ChannelSink = { take: () => undefined };
    const links = new Links(host);
    const listener = await listenTls({
      host: '127.0.0.1',
      port,
      identity: host.identity,
      log: pino({ level: 'silent' }),
      doors: {
        refusal: () => undefined,
        serving: (channel) => channel.close(),
        handover: (channel) => links.take(channel),
        operator: (socket) => socket.close(),
        host: (channel) => channels.take(channel),
      },
    });
    return new HostileDestination(host, listener, channels, links);
  }

  /** The next connection of the source. */
  async session(): Promise<HostileSession> {
    const session = await this.#session.promise;
    this.#session = Promise.withResolvers();
    return session;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener.close();
    await this.#threads.close();
  }
}

interface ChannelSink {
  take: (channel: ControlChannel) => void;
}
