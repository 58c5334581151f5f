/** `/metrics` for Prometheus, `/healthz` and `/readyz`, on a loopback address of their own. */
import { createServer } from 'node:http';
import { isIP } from 'node:net';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MigrationEvent } from '../migration/report.ts';
import { MigError } from '../protocol/error.ts';

export interface Metrics {
  readonly registry: Registry;
  /** Subscribes to what migrations tell. */
  readonly hear: (event: MigrationEvent) => void;
}

/** What is counted when it is asked for. */
export interface Counts {
  /** By state. */
  readonly vms: () => Readonly<Record<string, number>>;
  /** Under way, by direction; those that wait for their turn are not. */
  readonly migrations: () => Readonly<Record<'outgoing' | 'incoming', number>>;
  readonly queued: () => number;
}

export function makeMetrics({ vms, migrations, queued }: Counts): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const total = new Counter({
    name: 'migd_migrations_total',
    help: 'Migrations away from this host, by how they ended.',
    labelNames: ['outcome', 'code'],
    registers,
  });
  const duration = new Histogram({
    name: 'migd_migration_duration_seconds',
    help: 'From the turn to the end.',
    buckets: [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000],
    registers,
  });
  const downtime = new Histogram({
    name: 'migd_migration_downtime_seconds',
    help: 'From the pause at the source to the word that it runs at the destination.',
    buckets: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
    registers,
  });
  const bytes = new Counter({
    name: 'migd_sent_bytes_total',
    help: 'Records sent on data channels, headers and tags included.',
    registers,
  });
  registry.registerMetric(
    new Gauge({
      name: 'migd_vms',
      help: 'VMs of this host by state.',
      labelNames: ['state'],
      registers: [],
      collect() {
        this.reset();
        for (const [state, count] of Object.entries(vms())) this.set({ state }, count);
      },
    }),
  );
  registry.registerMetric(
    new Gauge({
      name: 'migd_migrations_active',
      help: 'Migrations that are under way, by direction.',
      labelNames: ['direction'],
      registers: [],
      collect() {
        for (const [direction, count] of Object.entries(migrations())) {
          this.set({ direction }, count);
        }
      },
    }),
  );
  registry.registerMetric(
    new Gauge({
      name: 'migd_migrations_queued',
      help: 'Requests to leave this host that wait for their turn.',
      registers: [],
      collect() {
        this.set(queued());
      },
    }),
  );
  const hear = (event: MigrationEvent) => {
    if (event.event === 'round') bytes.inc(event.bytesSent);
    if (event.event !== 'result') return;
    total.inc({ outcome: event.outcome, code: event.code ?? '' });
    duration.observe(event.totalMs / 1000);
    if (event.outcome === 'completed') downtime.observe((event.downtimeMs ?? 0) / 1000);
  };
  return { registry, hear };
}

/** Serves on `address`; only loopback is allowed: there is no authentication. Throws LISTEN_FAILED. */
export async function serveMetrics(
  address: string,
  registry: Registry,
  ready: () => boolean,
): Promise<() => void> {
  const { hostname, port } = new URL(`http://${address}`);
  const isLoopback = hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));
  if (!isLoopback) throw new MigError('LISTEN_FAILED', `${address}: metrics only on loopback`);
  const server = createServer((request, response) => {
    const say = (status: number, type: string, body: string) =>
      response.writeHead(status, { 'content-type': type }).end(body);
    if (request.url === '/healthz') say(200, 'text/plain', 'ok\n');
    else if (request.url === '/readyz') say(ready() ? 200 : 503, 'text/plain', '\n');
    else if (request.url === '/metrics') {
      void registry.metrics().then((body) => say(200, registry.contentType, body));
    } else say(404, 'text/plain', '\n');
  });
  server.maxConnections = 16;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new MigError('LISTEN_FAILED', cause.message, { cause })),
    );
    server.listen(Number(port), hostname.replaceAll(/[[\]]/g, ''), resolve);
  });
  return () => server.close();
}
