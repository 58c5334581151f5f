/**
 * Two real daemons with a man on the wire between them: host-a reaches host-b only through relays,
 * on the control port and on every port that data channels may use. host-b is at 127.0.0.1, the
 * relays are at 127.0.0.2 with the same port numbers; neither daemon can tell.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Cluster, freePort, type HostOptions } from '../process/cluster.ts';
import { PLANE } from '../process/plane.ts';
import { Relay } from '../process/relay.ts';

export const HOST_B = '127.0.0.1';
export const BETWEEN = '127.0.0.2';

/** Below the range of ports that the system gives away by itself. */
const DATA_PORTS_FROM = 12_000;
const DATA_PORTS_TO = 30_000;

export class Wire {
  readonly cluster: Cluster;
  readonly control: Relay;
  readonly data: readonly Relay[];

  readonly #hostB: HostOptions;

  private constructor(
    cluster: Cluster,
    control: Relay,
    data: readonly Relay[],
    hostB: HostOptions,
  ) {
    this.#hostB = hostB;
    this.cluster = cluster;
    this.control = control;
    this.data = data;
  }

  /** `channels`: data ports. `config`: keys of both daemons' configuration to change. */
  static async start(
    options: {
      readonly channels?: number;
      readonly record?: boolean;
      readonly config?: HostOptions['config'];
    } = {},
  ): Promise<Wire> {
    const { channels = PLANE.channels, record = false, config = {} } = options;
    const cluster = Cluster.empty();
    const ports = await freeRange(channels);
    const port = await freePort();
    const through = { from: { host: BETWEEN, port }, to: { host: HOST_B, port } };
    const control = await Relay.start(through.from, through.to, { record });
    const data = await Promise.all(
      ports.map((each) =>
        Relay.start({ host: BETWEEN, port: each }, { host: HOST_B, port: each }, { record }),
      ),
    );
    cluster.peers['host-a'] = `127.0.0.1:${await freePort()}`;
    cluster.peers['host-b'] = `${HOST_B}:${port}`;
    for (const name of ['host-a', 'host-b']) cluster.pki.issue(name, 'host');
    const dataPorts = { from: ports[0], to: ports.at(-1) };
    const peers = { ...cluster.peers, 'host-b': `${BETWEEN}:${port}` };
    const hostB = { config: { ...config, dataPorts } };
    await Promise.all([
      cluster.startHost('host-b', hostB),
      cluster.startHost('host-a', { config: { ...config, peers } }),
    ]);
    return new Wire(cluster, control, data, hostB);
  }

  /** Starts host-b again, as it was. */
  async startHostB(): Promise<void> {
    await this.cluster.startHost('host-b', this.#hostB);
  }

  get relays(): readonly Relay[] {
    return [this.control, ...this.data];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.relays.map((relay) => relay.close()));
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** Ports in a row that are free at both addresses. */
export async function freeRange(count: number): Promise<number[]> {
  const places = Math.floor((DATA_PORTS_TO - DATA_PORTS_FROM) / count);
  for (let place = 0; place < places; place += 1) {
    // Tests at the same time begin at different places.
    const from = DATA_PORTS_FROM + ((process.pid + place) % places) * count;
    const ports = Array.from({ length: count }, (_, i) => from + i);
    const free = await Promise.all(
      ports.flatMap((port) => [isFree(HOST_B, port), isFree(BETWEEN, port)]),
    );
    if (free.every(Boolean)) return ports;
  }
  throw new Error('no free ports');
}

async function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
