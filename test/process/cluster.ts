/**
 * Real daemons for tests and benchmarks: a scratch folder, certificates, one `migd` process a host,
 * clients of their control API. Disposing of it ends every guest and daemon and removes every file.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { PkiDirectory } from '../../src/crypto/pki/directory.ts';
import { MiB } from '../../src/base/units.ts';
import type { Method, VmDetail, VmView } from '../../src/daemon/api/schema.ts';
import type { MigrationEvent, MigrationResult } from '../../src/migration/report.ts';
import type { SelfCheck } from '../../src/guest/driver.ts';
import { PLANE } from './plane.ts';

const DAEMON = fileURLToPath(new URL('../../src/daemon/main.ts', import.meta.url));

/** Types stripped once, not by every daemon anew: half of what a daemon's start takes. */
export const CODE_CACHE = fileURLToPath(
  new URL('../../node_modules/.cache/migd-code', import.meta.url),
);

/** Long enough for a loaded machine; nothing waits this long when all is well. */
const READY_MS = 60_000;
const GUEST_END_MS = 10_000;

export interface ApiError extends Error {
  readonly code: string;
  readonly detail: string;
}

/** A client of a daemon's control API on its Unix socket. */
export class Api {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<
    number,
    {
      resolve: (value: unknown) => void;
      reject: (error: Error) => void;
      hear: (event: MigrationEvent) => void;
    }
  >();
  #lastId = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer) => {
      const reply = JSON.parse(data.toString()) as {
        id: number;
        event?: MigrationEvent;
        result?: unknown;
        error?: { code: string; detail: string };
      };
      const waiter = this.#waiting.get(reply.id);
      if (reply.event !== undefined) {
        waiter?.hear(reply.event);
        return;
      }
      this.#waiting.delete(reply.id);
      if (reply.error === undefined) waiter?.resolve(reply.result);
      else
        waiter?.reject(
          Object.assign(new Error(`${reply.error.code} ${reply.error.detail}`), reply.error),
        );
    });
    const gone = () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the daemon is gone'));
      this.#waiting.clear();
    };
    socket.on('close', gone);
    socket.on('error', gone);
  }

  static async connect(socketPath: string): Promise<Api> {
    return Api.over(new WebSocket(`ws+unix:${socketPath}:/api`));
  }

  /** On a connection that is being opened, whoever opens it. */
  static async over(socket: WebSocket): Promise<Api> {
    await once(socket, 'open');
    return new Api(socket);
  }

  call<T = unknown>(
    method: Method,
    params: object = {},
    hear: (event: MigrationEvent) => void = () => undefined,
  ): Promise<T> {
    this.#lastId += 1;
    const id = this.#lastId;
    if (this.#socket.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Error('the daemon is gone'));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject, hear });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  migrate(
    vm: string,
    to: string,
    options: object = {},
    hear?: (event: MigrationEvent) => void,
  ): Promise<MigrationResult> {
    return this.call('migrate', { vm, to, ...PLANE, ...options }, hear);
  }

  show(name: string): Promise<VmDetail> {
    return this.call('vm.show', { name });
  }

  list(): Promise<VmView[]> {
    return this.call('vm.list');
  }

  check(name: string): Promise<SelfCheck> {
    return this.call('vm.check', { name });
  }

  close(): void {
    this.#socket.terminate();
  }
}

export interface Daemon {
  readonly name: string;
  readonly process: ChildProcess;
  readonly stateDir: string;
  readonly memoryDir: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly api: Api;
  /** Lines of its log so far. */
  readonly log: string[];
}

export interface HostOptions {
  /** Keys of the configuration file to change. */
  readonly config?: { readonly limits?: object; readonly [key: string]: unknown };
  readonly certs?: string;
  readonly preload?: Preload;
  /** Besides what every daemon of a test gets. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Modules that a daemon loads first. */
export interface Preload {
  readonly files: readonly string[];
  /** Given, before the daemon begins, the other end of its descriptor 3. */
  readonly attach: (link: Duplex) => void;
}

export async function freePort(host = '127.0.0.1'): Promise<number> {
  const server = createServer();
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export const realPorts = {
  clock: { wall: () => Date.now() },
  random: { bytes: (count: number) => randomBytes(count) },
};

export class Cluster {
  readonly dir: string;
  readonly certs: string;
  readonly pki: PkiDirectory;
  readonly daemons = new Map<string, Daemon>();
  /** Where each host is to be found; a test may put a relay in between. */
  readonly peers: Record<string, string> = {};

  private constructor(dir: string) {
    this.dir = dir;
    this.certs = path.join(dir, 'certs');
    this.pki = PkiDirectory.init(this.certs, realPorts);
  }

  /** host-a, host-b and whatever host has options; they know each other and `elsewhere`. */
  static async start(
    options: Readonly<Record<string, HostOptions>> = {},
    elsewhere: Readonly<Record<string, string>> = {},
  ): Promise<Cluster> {
    const cluster = Cluster.empty();
    Object.assign(cluster.peers, elsewhere);
    const names = [...new Set(['host-a', 'host-b', ...Object.keys(options)])];
    try {
      for (const name of names) {
        cluster.pki.issue(name, 'host');
        cluster.peers[name] ??= `127.0.0.1:${await freePort()}`;
      }
      // Each has started or ended before anything is removed.
      const starts = names.map((name) => cluster.startHost(name, options[name]));
      await Promise.allSettled(starts);
      await Promise.all(starts);
    } catch (thrown) {
      await cluster[Symbol.asyncDispose]();
      throw thrown;
    }
    return cluster;
  }

  /** Certificates and a folder, no daemon yet. */
  static empty(): Cluster {
    // Short: the paths of Unix sockets are bounded.
    return new Cluster(mkdtempSync(path.join(tmpdir(), 'migd-')));
  }

  /** Starts `migd` for a host, at the address its peers have for it unless `config` says otherwise. */
  async startHost(name: string, options: HostOptions = {}): Promise<Daemon> {
    const stateDir = path.join(this.dir, 'state', name);
    const memoryDir = path.join('/dev/shm', path.basename(this.dir), name);
    const file = path.join(this.dir, `${name}.yaml`);
    const { limits, ...more } = options.config ?? {};
    const config = {
      role: 'both',
      name,
      listen: this.peers[name],
      peers: this.peers,
      certs: options.certs ?? this.certs,
      stateDir,
      memoryDir,
      attestation: { allow: ['software'] },
      // Tests of broken connections and full destinations want their end at once; others say so.
      limits: { reconnectMs: 0, busyMs: 0, ...limits },
      ...more,
    };
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(config));
    const { files = [], attach } = options.preload ?? {};
    const imports = files.flatMap((each) => ['--import', each]);
    const child = spawn(process.execPath, [...imports, DAEMON, '--config', file], {
      stdio: ['ignore', 'pipe', 'pipe', ...(attach === undefined ? [] : (['pipe'] as const))],
      env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: CODE_CACHE, ...options.env },
    });
    attach?.(child.stdio[3] as Duplex);
    const log: string[] = [];
    const api = await ready(child, log)
      .then(() => Api.connect(path.join(stateDir, 'migd.sock')))
      .catch(async (thrown: unknown) => {
        await ended(child, 'SIGKILL');
        throw thrown;
      });
    const at = config.listen?.split(':') ?? [];
    const daemon: Daemon = {
      name,
      process: child,
      stateDir,
      memoryDir,
      listen: { host: at[0] ?? '', port: Number(at[1]) },
      api,
      log,
    };
    this.daemons.set(name, daemon);
    return daemon;
  }

  get(name: string): Daemon {
    const daemon = this.daemons.get(name);
    if (daemon === undefined) throw new Error(`no daemon ${name}`);
    return daemon;
  }

  get a(): Api {
    return this.get('host-a').api;
  }

  get b(): Api {
    return this.get('host-b').api;
  }

  /** Ends a daemon and waits for it; its guests run on. */
  async stopHost(name: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { process: child, api } = this.get(name);
    this.daemons.delete(name);
    api.close();
    await ended(child, signal);
    return child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const memory = path.join('/dev/shm', path.basename(this.dir));
    for (const name of this.daemons.keys()) await this.stopHost(name, 'SIGKILL');
    await Promise.all(guestPids(memory).map((pid) => endGuest(memory, pid)));
    rmSync(memory, { recursive: true, force: true });
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A small guest that writes: moves in no time and still has something to move. */
export const smallGuest = (name: string, more: object = {}): object => ({
  name,
  memoryBytes: 16 * MiB,
  fill: 0.5,
  workload: { kind: 'writer', rateBps: 4e6, workingSetBytes: 2 * MiB },
  ...more,
});

/** Files below `directory`, as relative paths. */
export const filesBelow = (directory: string): string[] =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
    : [];

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}

async function ready(child: ChildProcess, log: string[]): Promise<void> {
  const said = Promise.withResolvers<void>();
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error('no pipes');
  createInterface(stdout).on('line', (line) => {
    log.push(line);
    if (line.includes('"msg":"ready"')) said.resolve();
  });
  createInterface(stderr).on('line', (line) => log.push(line));
  child.once('exit', (code) =>
    said.reject(new Error(`migd ended with ${code}: ${log.join('\n')}`)),
  );
  const timer = setTimeout(() => said.reject(new Error(`not ready: ${log.join('\n')}`)), READY_MS);
  await said.promise.finally(() => clearTimeout(timer));
}

/** Guests' working folders are in `memory`, from before they are ready; their pid files come later. */
const guestPids = (memory: string): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isBelow(memory, pid));

function isBelow(memory: string, pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`).startsWith(`${memory}/`);
  } catch {
    // It has ended, or is the kernel's.
    return false;
  }
}

/** A guest is no child of ours, so nobody tells of its end: the kernel takes a while for much memory. */
async function endGuest(memory: string, pid: number): Promise<void> {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
  const giveUpAt = performance.now() + GUEST_END_MS;
  while (isBelow(memory, pid) && performance.now() < giveUpAt) await sleep(2);
}
