/**
 * A man on the wire: forwards TCP connections and lets a test see, hold, change or cut what passes.
 * It never decrypts anything; it is where an attacker on the network would be.
 */
import { createServer, connect, type Server, type Socket } from 'node:net';

export interface RelayRules {
  /** What becomes of bytes on their way; the default passes them on. */
  readonly pass?: (bytes: Buffer, towards: 'server' | 'client') => Buffer | undefined;
}

export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Everything that passed, both ways, when recording. */
  readonly recorded: Buffer[] = [];
  connections = 0;
  #held = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on `from` and forwards to `to`. */
  static async start(
    from: { host: string; port: number },
    to: { host: string; port: number },
    options: { record?: boolean; rules?: RelayRules } = {},
  ): Promise<Relay> {
    const server = createServer();
    const relay = new Relay(server);
    server.on('connection', (client) => relay.#join(client, connect(to), options));
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

  /** From now on nothing passes, and nobody is told: a peer that went silent. */
  hold(): void {
    this.#held = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #join(client: Socket, server: Socket, options: { record?: boolean; rules?: RelayRules }): void {
    this.connections += 1;
    const forward = (from: Socket, to: Socket, towards: 'server' | 'client') => {
      this.#sockets.add(from);
      from.on('data', (bytes: Buffer) => {
        if (options.record === true) this.recorded.push(bytes);
        const passed =
          options.rules?.pass === undefined ? bytes : options.rules.pass(bytes, towards);
        if (passed === undefined) return;
        if (!to.write(passed)) {
          from.pause();
          to.once('drain', () => {
            if (!this.#held) from.resume();
          });
        }
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    };
    forward(client, server, 'server');
    forward(server, client, 'client');
    if (this.#held) {
      client.pause();
      server.pause();
    }
  }
}
