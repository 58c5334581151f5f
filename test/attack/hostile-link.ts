/**
 * One end of a handover's link, spoken by hand with the certificate of a host: opened to a real
 * daemon, or taken from one that asks.
 */
import { sign } from 'node:crypto';
import { once } from 'node:events';
import { connect as tlsConnect } from 'node:tls';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { readIdentity, type HostIdentity } from '../../src/daemon/identity.ts';
import { listenTls, type Listener } from '../../src/daemon/listener.ts';
import { Conversation } from '../../src/migration/conversation.ts';
import { sayAborted, type Matter, type Say } from '../../src/protocol/handover/matter.ts';
import type { Message, MessageOf, MessageType } from '../../src/protocol/messages.ts';
import { ControlChannel, HANDOVER_PATH, hostPeer } from '../../src/transport/control.ts';
import { clientOptions, CONTROL_ALPN } from '../../src/transport/tls.ts';
import type { Cluster } from '../process/cluster.ts';
import { realClock } from '../unit/migration/data-plane/fixtures.ts';

const SILENCE_MS = 60_000;

export class HostileLink {
  readonly #host: HostIdentity;
  readonly #conversation: Conversation;
  readonly #received: Message[] = [];
  #waiting: PromiseWithResolvers<Message | undefined> | undefined;
  #isOver = false;

  constructor(host: HostIdentity, channel: ControlChannel) {
    this.#host = host;
    this.#conversation = new Conversation(channel, 'source');
    const over = () => {
      this.#isOver = true;
      this.#waiting?.resolve(undefined);
    };
    const message = (received: Message) => {
      if (this.#waiting === undefined) this.#received.push(received);
      else this.#waiting.resolve(received);
    };
    this.#conversation.listen({ message, broken: over, closed: over }, realClock, SILENCE_MS);
  }

  /** Opens a link to a real daemon with the certificate of `name`. */
  static async connect(cluster: Cluster, name: string, to: string): Promise<HostileLink> {
    const host = readIdentity(cluster.certs, name);
    const { listen } = cluster.get(to);
    const tls = tlsConnect({ ...clientOptions(host.identity, CONTROL_ALPN), ...listen });
    const socket = new WebSocket(`wss://${listen.host}:${listen.port}${HANDOVER_PATH}`, {
      createConnection: () => tls,
      perMessageDeflate: false,
    });
    await once(socket, 'open');
    socket.on('error', () => undefined);
    return new HostileLink(host, new ControlChannel(socket, tls, hostPeer(tls)));
  }

  /** As if it were a message: nothing of it is checked. */
  send(message: object): void {
    this.#conversation.send(message as Message);
  }

  /** Says a word with the signature that belongs to it. */
  say({ message, statement }: Say): void {
    this.send({ ...message, signature: sign(null, statement, this.#host.hostKey) });
  }

  async expect<T extends MessageType>(type: T): Promise<MessageOf<T>> {
    const message = await this.next();
    if (message?.type === type) return message as MessageOf<T>;
    throw new Error(`expected ${type}, got ${JSON.stringify(message)}`);
  }

  /** The next message; undefined when the link is over. */
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

  close(): void {
    this.#conversation.close();
  }
}

/** Links that a real daemon opens, one after the other. */
export class Links {
  readonly #host: HostIdentity;
  readonly #come: HostileLink[] = [];
  #waiting: PromiseWithResolvers<HostileLink> | undefined;

  constructor(host: HostIdentity) {
    this.#host = host;
  }

  take(channel: ControlChannel): void {
    const link = new HostileLink(this.#host, channel);
    if (this.#waiting === undefined) this.#come.push(link);
    else this.#waiting.resolve(link);
    this.#waiting = undefined;
  }

  /** The next link; its question has come, and is about this migration. */
  async asked(migrationId: string): Promise<HostileLink> {
    const link = this.#come.shift() ?? (await this.#next());
    const { migrationId: about } = await link.expect('RESOLVE');
    if (about !== migrationId) throw new Error(`asked about ${about}`);
    return link;
  }

  #next(): Promise<HostileLink> {
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }
}

/** A host of which only the handover answers. */
export class HostileHost implements AsyncDisposable {
  readonly #listener: Listener;
  readonly links: Links;

  private constructor(listener: Listener, links: Links) {
    this.#listener = listener;
    this.links = links;
  }

  /** Listens with the certificate of `name` where its peers look for it. */
  static async start(cluster: Cluster, name: string): Promise<HostileHost> {
    const host = readIdentity(cluster.certs, name);
    const [address = '', port] = cluster.peers[name]?.split(':') ?? [];
    const links = new Links(host);
    const listener = await listenTls({
      host: address,
      port: Number(port),
      identity: host.identity,
      log: pino({ level: 'silent' }),
      doors: {
        refusal: () => undefined,
        serving: (channel) => channel.close(),
        operator: (socket) => socket.close(),
        host: (channel) => channel.close(),
        handover: (channel) => links.take(channel),
      },
    });
    return new HostileHost(listener, links);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener.close();
  }
}

/** What both sides know of a handover, to say words about. */
export const matterOf = (subject: Matter['subject'], transcriptDigest: Uint8Array): Matter => ({
  subject,
  transcriptDigest,
  leavesPages: false,
  signedByPeer: () => true,
});

export const sourceAborted = (migrationId: string): Say =>
  sayAborted(migrationId, 'source', 'CANCELLED');
export const destinationAborted = (migrationId: string): Say =>
  sayAborted(migrationId, 'destination', 'STATE_LOST');
