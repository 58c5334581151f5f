/**
 * Clients of a guest's key-value store that follow the VM from host to host, and remember what was
 * acknowledged to them.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Api } from './cluster.ts';

/** A host that was asked in vain is not asked again at once: it may be busy starting. */
const ASK_AGAIN_MS = 10;

/** One TCP connection to the store: one command, one answer. */
export class Connection {
  readonly #socket: Socket;
  readonly #lines: Interface;
  #answered: PromiseWithResolvers<string> | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface(socket).on('line', (line) => this.#answered?.resolve(line));
    const lost = () => this.#answered?.reject(new Error('lost'));
    socket.on('error', lost).on('close', lost);
    this.#lines.on('error', lost);
  }

  static async open(address: string): Promise<Connection> {
    const [host = '', port = ''] = address.split(':');
    const socket = connect({ host, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return new Connection(socket);
  }

  ask(command: string): Promise<string> {
    this.#answered = Promise.withResolvers();
    // With a connection that is gone already no event would come any more.
    if (this.#socket.destroyed) this.#answered.reject(new Error('lost'));
    else this.#socket.write(`${command}\n`);
    return this.#answered.promise;
  }

  close(): void {
    this.#lines.close();
    this.#socket.destroy();
  }
}

/** Where the VM serves now: at the host that says it runs there. */
export async function whereItServes(vm: string, hosts: () => readonly Api[]): Promise<Connection> {
  for (;;) {
    for (const host of hosts()) {
      const guest = await host.show(vm).then(
        (detail) => (detail.state === 'gone' ? null : detail.guest),
        () => null,
      );
      const address = guest?.['kvAddress'];
      if (typeof address !== 'string') continue;
      try {
        const connection = await Connection.open(address);
        if ((await connection.ask('PING')) === 'PONG') return connection;
      } catch {
        // It moved between the two questions: ask again.
      }
    }
    await sleep(ASK_AGAIN_MS);
  }
}

export interface WriterOptions {
  readonly name: string;
  /** So every key is overwritten again and again. */
  readonly keys: number;
  /** Between two writes; without it there is none. */
  readonly pauseMs?: number;
  readonly reconnect: () => Promise<Connection>;
}

/** Writes until told to stop, and remembers what was acknowledged. */
export class Writer {
  /** The number of the write of each key that was acknowledged last. */
  readonly #acknowledged = new Map<string, number>();
  readonly #options: WriterOptions;
  #isStopped = false;
  writes = 0;
  reconnections = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  stop(): void {
    this.#isStopped = true;
  }

  async run(): Promise<void> {
    const { name, keys, pauseMs, reconnect } = this.#options;
    let connection = await reconnect();
    while (!this.#isStopped) {
      if (pauseMs !== undefined) await sleep(pauseMs);
      const key = `${name}-${this.writes % keys}`;
      try {
        const answer = await connection.ask(`SET ${key} ${valueOf(this.writes)}`);
        if (answer !== 'OK') throw new TypeError(`SET answered ${answer}`);
      } catch (thrown) {
        if (thrown instanceof TypeError) throw thrown;
        connection.close();
        connection = await reconnect();
        this.reconnections += 1;
        // Not acknowledged: it is written again, until it is.
        continue;
      }
      this.#acknowledged.set(key, this.writes);
      this.writes += 1;
    }
    connection.close();
  }

  /** Keys whose acknowledged value, or a later one, is not in the store; it may go on writing. */
  async lost(connection: Connection): Promise<readonly string[]> {
    const lost: string[] = [];
    for (const [key, write] of this.#acknowledged) {
      const answer = await connection.ask(`GET ${key}`);
      const found = Number(/^VALUE (\d+)-/.exec(answer)?.[1]);
      const isWhole = answer === `VALUE ${valueOf(found)}`;
      if (!isWhole || found < write) lost.push(`${key}: ${answer}, acknowledged ${write}`);
    }
    return lost;
  }
}

const valueOf = (write: number): string => `${write}-${'x'.repeat(write % 100)}`;
