/**
 * A man on the wire: forwards TCP connections and lets a test see, hold, change or cut what passes.
 * It never decrypts anything; it is where an attacker on the network would be.
 */
import { createServer, connect, type Server, type Socket } from 'node:net';

export type Towards = 'server' | 'client';

/** Which bytes they are. */
export interface Passing {
  /** The how-manieth connection, from 0. */
  readonly connection: number;
  readonly towards: Towards;
  /** Bytes of this connection and direction that came before. */
  readonly at: number;
}

export interface RelayRules {
  /** What becomes of bytes on their way (undefined: nothing passes); the default passes them on. */
  readonly pass?: (bytes: Buffer, passing: Passing) => Buffer | undefined;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** One direction of one connection. */
class Flow {
  readonly chunks: Buffer[] = [];
  readonly connection: number;
  readonly towards: Towards;
  bytes = 0;

  constructor(connection: number, towards: Towards) {
    this.connection = connection;
    this.towards = towards;
  }
}

/**
 * Breaks a connection with RST. A socket whose end is under way is only closed: libuv refuses to reset
 * it (uv_tcp_close_reset), and its handle would keep the process from ending.
 */
function reset(socket: Socket): void {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}

export class Relay {
  readonly #server: Server;
  readonly #to: Address;
  readonly #sockets = new Set<Socket>();
  readonly #flows: Flow[] = [];
  readonly #isRecording: boolean;
  /** May be changed at any time. */
  rules: RelayRules;
  connections = 0;
  #held = false;

  private constructor(server: Server, to: Address, record: boolean, rules: RelayRules) {
    this.#server = server;
    this.#to = to;
    this.#isRecording = record;
    this.rules = rules;
    server.on('connection', (client) => this.#join(client));
  }

  /** Listens on `from` and forwards to `to`. */
  static async start(
    from: Address,
    to: Address,
    options: { readonly record?: boolean; readonly rules?: RelayRules } = {},
  ): Promise<Relay> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const relay = new Relay(server, to, options.record ?? false, options.rules ?? {});
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(from.port, from.host, resolve);
    });
    return relay;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return address.port;
  }

  /** Everything that came so far, when recording: one buffer a connection and direction. */
  get recorded(): Buffer[] {
    return this.#flows.map(({ chunks }) => Buffer.concat(chunks));
  }

  /** Bytes that came so far, both ways. */
  get bytes(): number {
    return this.#flows.reduce((sum, flow) => sum + flow.bytes, 0);
  }

  /** From now on nothing passes, and nobody is told: a peer that went silent. */
  hold(): void {
    this.#held = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** What was held back passes. */
  release(): void {
    this.#held = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Breaks every connection; new ones are let through. */
  cut(): void {
    for (const socket of this.#sockets) reset(socket);
  }

  /** Ends every connection in order, both ways, as TCP; what still comes is lost. */
  finish(): void {
    for (const socket of this.#sockets) socket.removeAllListeners('data').end();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #join(client: Socket): void {
    const server = connect({ ...this.#to, allowHalfOpen: true, noDelay: true });
    this.#forward(client, server, new Flow(this.connections, 'server'));
    this.#forward(server, client, new Flow(this.connections, 'client'));
    this.connections += 1;
    if (!this.#held) return;
    client.pause();
    server.pause();
  }

  #forward(from: Socket, to: Socket, flow: Flow): void {
    this.#sockets.add(from);
    this.#flows.push(flow);
    from.on('data', (bytes: Buffer) => {
      const passed = this.#take(bytes, flow);
      // A rule may have cut the connection just now.
      if (passed === undefined || to.destroyed || to.write(passed)) return;
      from.pause();
      to.once('drain', () => {
        if (!this.#held) from.resume();
      });
    });
    from.on('end', () => to.end());
    from.on('error', () => reset(to));
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroySoon();
    });
  }

  #take(bytes: Buffer, flow: Flow): Buffer | undefined {
    const { connection, towards, bytes: at } = flow;
    flow.bytes += bytes.length;
    if (this.#isRecording) flow.chunks.push(bytes);
    const { pass } = this.rules;
    return pass === undefined ? bytes : pass(bytes, { connection, towards, at });
  }
}
