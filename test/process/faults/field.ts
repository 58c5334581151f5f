/**
 * Two real daemons that stop at any step of the protocol, with relays between them both ways, one VM
 * whose key-value store is written to without end, and what must hold wherever and whenever a fault
 * struck: one running VM, with all that was acknowledged, at one host, and nothing of it at the other.
 */
import path from 'node:path';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MiB } from '../../../src/base/units.ts';
import type { VmView } from '../../../src/daemon/api/schema.ts';
import type { MigrateOptions } from '../../../src/protocol/options.ts';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { freeRange, BETWEEN, HOST_B as LOOPBACK } from '../../attack/wire.ts';
import { Cluster, filesBelow, freePort, type Api, type HostOptions } from '../cluster.ts';
import { Writer, whereItServes } from '../kv-client.ts';
import { answerOf, guestProcesses } from '../refusal.ts';
import { CHANNELS_USED_MAX, PLANE, type Plane } from '../plane.ts';
import { Relay } from '../relay.ts';
import { Conductor } from './conductor.ts';

export const VM = 'vm1';
export const HOSTS = ['host-a', 'host-b'] as const;
export type HostName = (typeof HOSTS)[number];
export const otherOf = (host: string): HostName => (host === 'host-a' ? 'host-b' : 'host-a');

const STEPS = fileURLToPath(new URL('steps.ts', import.meta.url));
/** Of one host: those of a session, with one to ask for pages on, while another one ends. */
const PORTS = 2 * (CHANNELS_USED_MAX + 1);
const KEYS = 40;
const WRITER_PAUSE_MS = 1;
/** Everything settles within this once nothing fails any more; most does in a tenth of a second. */
const SETTLED_MS_MAX = 30_000;
const LOOK_AGAIN_MS = 10;
const LOG_LINES = 15;

export interface FieldOptions {
  readonly config?: NonNullable<HostOptions['config']>;
  /** Modules that both daemons load besides the steps. */
  readonly preload?: readonly string[];
  readonly env?: (host: HostName) => NonNullable<HostOptions['env']>;
}

interface Seen {
  readonly pcr0: string;
  readonly runMs: number;
  readonly epoch: number;
}

export class Field {
  readonly cluster: Cluster;
  readonly conductor = new Conductor();
  readonly #options = new Map<string, HostOptions>();
  readonly #relays: Relay[] = [];
  readonly #writer: Writer;
  #writing: Promise<void> | undefined;
  #seen: Seen | undefined;
  /** Over which data plane it is sent, and when its pages go. */
  plane: Plane = PLANE;
  mode: MigrateOptions['mode'] = 'pre-copy';
  /** Where the VM was when it was last looked at. */
  at: HostName = 'host-a';

  private constructor() {
    this.cluster = Cluster.empty();
    const reconnect = () => whereItServes(VM, () => this.#apis());
    const options = { name: 'client', keys: KEYS, pauseMs: WRITER_PAUSE_MS, reconnect };
    this.#writer = new Writer(options);
  }

  static async start(options: FieldOptions = {}): Promise<Field> {
    const field = new Field();
    try {
      await field.#begin(options);
      return field;
    } catch (thrown) {
      await field[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  api(host: string): Api {
    return this.cluster.get(host).api;
  }

  /** Sends the VM from where it is to the other host. */
  migrate(source: HostName, options: object = {}): Promise<unknown> {
    return this.api(source).migrate(VM, otherOf(source), {
      ...this.plane,
      mode: this.mode,
      ...options,
    });
  }

  async startHost(host: string): Promise<void> {
    await this.cluster.startHost(host, this.#options.get(host));
  }

  /** The kernel ends a daemon, wherever it stands; its guests run on. */
  async kill(host: string): Promise<void> {
    await this.cluster.stopHost(host, 'SIGKILL');
  }

  /** Its guest there ends, as when the kernel is out of memory. */
  killGuest(host: string): Promise<void> {
    const { memoryDir } = this.cluster.get(host);
    for (const pid of guestProcesses(path.join(memoryDir, VM)))
      process.kill(Number(pid), 'SIGKILL');
    return Promise.resolve();
  }

  /** Every connection between the two breaks, after what was said on it has arrived. */
  async cut(): Promise<void> {
    // What a daemon has written is in the relay's socket by now: one turn reads it, one passes it on.
    for (let turn = 0; turn < 4; turn += 1) await setImmediate();
    for (const relay of this.#relays) relay.cut();
  }

  /** Resolves when so many more bytes have come from either host. */
  async passed(bytes: number): Promise<void> {
    const all = () => this.#relays.reduce((sum, relay) => sum + relay.bytes, 0);
    const enough = all() + bytes;
    while (all() < enough) await sleep(LOOK_AGAIN_MS);
  }

  /** Waits until nothing is under way or in doubt any more; returns where the VM runs. */
  async settled(): Promise<HostName> {
    const giveUpAt = performance.now() + SETTLED_MS_MAX;
    for (;;) {
      const found = await this.#whereItRuns();
      if (typeof found === 'string') {
        this.at = found;
        return found;
      }
      if (performance.now() > giveUpAt) {
        throw new Error(`not settled: ${JSON.stringify(found)}\n${this.logs()}`);
      }
      await sleep(LOOK_AGAIN_MS);
    }
  }

  /** What does not hold that must, when all is settled and whatever happened; `at`: where it runs. */
  async wrongs(at: HostName): Promise<string[]> {
    const { badPages, versionSum, registerSum } = await this.api(at).check(VM);
    const seen = await this.#see(at);
    const before = this.#seen ?? seen;
    this.#seen = seen;
    const { stateDir } = this.cluster.get(at);
    const hasVtpm = filesBelow(path.join(stateDir, 'vms', VM)).some((file) =>
      file.startsWith('vtpm'),
    );
    return [
      ...found(`${badPages} pages are bad`, badPages > 0),
      ...found('a page is old', versionSum !== registerSum),
      ...found('its device state is old', seen.runMs < before.runMs),
      ...found('its vTPM is another', seen.pcr0 !== before.pcr0),
      ...found('its epoch goes back', seen.epoch < before.epoch),
      ...found('it has no vTPM at rest', !hasVtpm),
      ...this.#leftovers(otherOf(at)),
      ...(await this.#lostWrites()),
    ];
  }

  get epoch(): number {
    return this.#seen?.epoch ?? 0;
  }

  /** A migration without faults to the other host, at once; returns what is wrong with it. */
  async moves(): Promise<string[]> {
    const to = otherOf(this.at);
    const { code, detail } = await answerOf(this.migrate(this.at));
    const at = await this.settled();
    this.#seen = await this.#see(at);
    return found(`a migration right after: ${code} ${detail}`, code !== null || at !== to);
  }

  /** Ends both daemons in order; returns what is not at its end on their records. */
  async leftOpen(): Promise<string[]> {
    this.#writer.stop();
    await this.#writing;
    const open: string[] = [];
    for (const host of HOSTS) {
      const { stateDir } = this.cluster.get(host);
      const exit = await this.cluster.stopHost(host);
      if (exit !== 0) open.push(`${host} ended with ${exit}`);
      const store = openStore(stateDir);
      for (const { migrationId, direction, state, deletion } of store.migrations()) {
        const isCertified =
          direction === 'incoming' && state === 'active' && deletion !== undefined;
        // There always was one to destroy.
        if (deletion?.facts.filesDestroyed === 0) open.push(`${host}: ${migrationId} had no vTPM`);
        const isOver = state === 'aborted' || (direction === 'outgoing' && state === 'gone');
        if (!isCertified && !isOver) open.push(`${host}: ${migrationId} ${direction} ${state}`);
      }
      await store.close();
    }
    return open;
  }

  /** The end of each daemon's log, to tell what happened where a test failed. */
  logs(): string {
    return HOSTS.flatMap((host) => {
      const log = this.cluster.daemons.get(host)?.log ?? ['(no daemon)'];
      return log.slice(-LOG_LINES).map((line) => `${host}: ${line}`);
    }).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#writer.stop();
    this.conductor.go();
    await this.cluster[Symbol.asyncDispose]();
    await Promise.all(this.#relays.map((relay) => relay.close()));
  }

  async #begin({ config = {}, preload = [], env = () => ({}) }: FieldOptions): Promise<void> {
    const { cluster, conductor } = this;
    const peers: Record<string, string> = {};
    const dataPorts = await freeRange(HOSTS.length * PORTS);
    for (const [i, host] of HOSTS.entries()) {
      const port = await freePort();
      const own = dataPorts.slice(i * PORTS, (i + 1) * PORTS);
      cluster.pki.issue(host, 'host');
      peers[host] = `${BETWEEN}:${port}`;
      for (const each of [port, ...own]) {
        const from = { host: BETWEEN, port: each };
        this.#relays.push(await Relay.start(from, { host: LOOPBACK, port: each }));
      }
      this.#options.set(host, {
        config: {
          ...config,
          listen: `${LOOPBACK}:${port}`,
          dataPorts: { from: own[0], to: own.at(-1) },
          peers,
        },
        env: env(host),
        preload: { files: [STEPS, ...preload], attach: (link) => conductor.attach(host, link) },
      });
    }
    await Promise.all(HOSTS.map((host) => this.startHost(host)));
    await this.api(this.at).call('vm.create', {
      name: VM,
      memoryBytes: 16 * MiB,
      fill: 0.5,
      workload: { kind: 'kv', port: 0 },
    });
    this.#writing = this.#writer.run();
    await this.#whileItWrites(KEYS);
    this.#seen = await this.#see(this.at);
  }

  #apis(): Api[] {
    return [...this.cluster.daemons.values()].map(({ api }) => api);
  }

  /** The host, or what is not settled yet. */
  async #whereItRuns(): Promise<HostName | object> {
    const rows: { host: HostName; status: unknown[]; vms: VmView['state'][] }[] = [];
    for (const host of HOSTS) {
      const [status, vms] = await Promise.all([
        this.api(host).call<unknown[]>('status'),
        this.api(host).list(),
      ]);
      rows.push({ host, status, vms: vms.map(({ state }) => state) });
    }
    const [here, ...more] = rows.filter(({ vms }) => vms.includes('running'));
    const isSettled = rows.every(
      ({ status, vms }) =>
        status.length === 0 && vms.every((is) => is === 'running' || is === 'gone'),
    );
    return isSettled && here !== undefined && more.length === 0 ? here.host : rows;
  }

  async #see(host: string): Promise<Seen> {
    const { guest, epoch } = await this.api(host).show(VM);
    const { pcrs, registers } = guest as {
      pcrs: Record<string, string>;
      registers: { runMs: number };
    };
    return { pcr0: pcrs['0'] ?? 'none', runMs: registers.runMs, epoch };
  }

  /** Files, memory and processes of the VM at a host where it is not. */
  #leftovers(host: string): string[] {
    const { stateDir, memoryDir } = this.cluster.get(host);
    const places = [path.join(stateDir, 'vms', VM), path.join(memoryDir, VM)];
    const files = places.flatMap((place) =>
      filesBelow(place).map((file) => path.join(place, file)),
    );
    const processes = places.flatMap((place) => guestProcesses(place));
    return [...files, ...processes].map((what) => `left at ${host}: ${what}`);
  }

  /** And more is acknowledged. */
  async #lostWrites(): Promise<readonly string[]> {
    const connection = await whereItServes(VM, () => this.#apis());
    const lost = await this.#writer.lost(connection);
    connection.close();
    await this.#whileItWrites(this.#writer.writes + 1);
    return lost.map((key) => `a write is lost: ${key}`);
  }

  async #whileItWrites(writes: number): Promise<void> {
    const giveUpAt = performance.now() + SETTLED_MS_MAX;
    while (this.#writer.writes < writes) {
      if (performance.now() > giveUpAt) throw new Error('the client cannot write');
      await sleep(LOOK_AGAIN_MS);
    }
  }
}

const found = (what: string, isSo: boolean): string[] => (isSo ? [what] : []);
