/**
 * A key-value store that lives in guest RAM migrates while clients write to it without a pause. Every
 * write that was acknowledged, at whichever host, is found at the destination afterwards.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { SelfCheck } from '../../src/guest/driver.ts';
import { Cluster, type Api } from './cluster.ts';

const CLIENTS = 4;
/** Of each client: so every key is overwritten again and again. */
const KEYS = 200;
/** Writes at the destination that show that the store serves there too. */
const WRITES_AFTER = 200;

/** One TCP connection to the store: one command, one answer. */
class Connection {
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
async function whereItServes(vm: string, hosts: readonly Api[]): Promise<Connection> {
  for (;;) {
    for (const host of hosts) {
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
  }
}

/** Writes without a pause until told to stop, and remembers what was acknowledged. */
class Writer {
  /** The value of each key that was acknowledged last. */
  readonly acknowledged = new Map<string, string>();
  readonly #reconnect: () => Promise<Connection>;
  readonly #name: string;
  #isStopped = false;
  writes = 0;
  reconnections = 0;

  constructor(name: string, reconnect: () => Promise<Connection>) {
    this.#name = name;
    this.#reconnect = reconnect;
  }

  stop(): void {
    this.#isStopped = true;
  }

  async run(): Promise<void> {
    let connection = await this.#reconnect();
    while (!this.#isStopped) {
      const key = `${this.#name}-${this.writes % KEYS}`;
      const value = `${this.writes}-${'x'.repeat(this.writes % 100)}`;
      try {
        const answer = await connection.ask(`SET ${key} ${value}`);
        if (answer !== 'OK') throw new TypeError(`SET answered ${answer}`);
      } catch (thrown) {
        if (thrown instanceof TypeError) throw thrown;
        connection.close();
        connection = await this.#reconnect();
        this.reconnections += 1;
        // Not acknowledged: it is written again, until it is.
        continue;
      }
      this.acknowledged.set(key, value);
      this.writes += 1;
    }
    connection.close();
  }
}

void test('every acknowledged write is found at the destination', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', {
    name: 'kv',
    memoryBytes: 32 * MiB,
    fill: 0.3,
    workload: { kind: 'kv', port: 0 },
  });
  const find = () => whereItServes('kv', [a, b]);
  const writers = Array.from({ length: CLIENTS }, (_, i) => new Writer(`client${i}`, find));
  const running = Promise.all(writers.map((writer) => writer.run()));
  const all = () => writers.reduce((sum, { writes }) => sum + writes, 0);

  while (writers.some(({ writes }) => writes < KEYS)) await a.show('kv');
  const before = all();
  const result = await a.migrate('kv', 'host-b', { verify: true });
  t.match(result, { outcome: 'completed', verified: true });
  const written = all();
  t.ok(written > before, `${written - before} writes acknowledged during the migration`);
  while (all() < written + WRITES_AFTER) await b.show('kv');
  for (const writer of writers) writer.stop();
  await running;
  t.ok(writers.every(({ reconnections }) => reconnections >= 1));

  const connection = await find();
  let lost = 0;
  for (const { acknowledged } of writers) {
    for (const [key, value] of acknowledged) {
      if ((await connection.ask(`GET ${key}`)) !== `VALUE ${value}`) lost += 1;
    }
  }
  connection.close();
  t.equal(lost, 0, 'no acknowledged write is lost or old');
  const check: SelfCheck = await b.check('kv');
  t.match(check, { badPages: 0, kvEntries: CLIENTS * KEYS });
  t.equal(check.versionSum, check.registerSum);
  t.match(await a.list(), [{ name: 'kv', state: 'gone' }]);
});

void test('a store without clients keeps what it holds, migration after migration', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', {
    name: 'kv',
    memoryBytes: 8 * MiB,
    workload: { kind: 'kv', port: 0 },
  });
  const first = await whereItServes('kv', [a]);
  t.equal(await first.ask('SET here now'), 'OK');
  t.equal(await first.ask('SET gone soon'), 'OK');
  t.equal(await first.ask('DEL gone'), 'OK');
  first.close();
  t.match(await a.migrate('kv', 'host-b'), { outcome: 'completed' });
  const second = await whereItServes('kv', [b]);
  t.equal(await second.ask('GET here'), 'VALUE now');
  t.equal(await second.ask('SET there too'), 'OK');
  second.close();
  t.match(await b.migrate('kv', 'host-a'), { outcome: 'completed' });
  const third = await whereItServes('kv', [a]);
  t.equal(await third.ask('GET here'), 'VALUE now');
  t.equal(await third.ask('GET there'), 'VALUE too');
  t.equal(await third.ask('GET gone'), 'NONE');
  third.close();
});
