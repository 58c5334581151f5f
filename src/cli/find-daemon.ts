/**
 * Which daemon a command is for: on this machine by its socket or state directory, else among those
 * of `state/`, else by the name or address of a remote host. It knows nothing of the command.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { loadIdentity } from '../crypto/pki/identity.ts';
import type { DaemonView } from '../daemon/api/schema.ts';
import { MigError } from '../protocol/error.ts';
import { connectLocal, connectRemote, type ApiClient } from './api-client.ts';

export interface Whereabouts {
  readonly socket?: string | undefined;
  readonly stateDir?: string | undefined;
  /** NAME or ADDRESS or ADDRESS:PORT. */
  readonly host?: string | undefined;
  readonly certs: string;
  /** Name of the certificate that is shown to a remote daemon. */
  readonly operator: string;
}

export const SOCKET_FILE = 'migd.sock';
/** Of an address that comes without. */
const PORT_DEFAULT = 7443;
const PORT_MAX = 65_535;
/** Where daemons keep their state directories when not told otherwise. */
const STATES = 'state';

interface Local {
  readonly client: ApiClient;
  readonly hello: DaemonView;
}

/** Throws NO_DAEMON, USAGE (several would do), HOST_UNKNOWN, PKI_MISSING, PEER_WRONG, CERT_…. */
export async function findDaemon(where: Whereabouts): Promise<ApiClient> {
  const { host } = where;
  // Names have neither dots nor colons.
  if (host !== undefined && /[.:]/.test(host)) return remote(where, addressOf(host), undefined);
  const explicit = where.socket ?? (where.stateDir && path.join(where.stateDir, SOCKET_FILE));
  if (explicit !== undefined && host === undefined) return connectLocal(path.resolve(explicit));
  const locals = await answering(explicit === undefined ? socketsHere() : [path.resolve(explicit)]);
  let chosen: ApiClient | undefined;
  try {
    chosen = await choose(locals, where);
    return chosen;
  } finally {
    // An open connection would keep the process alive.
    for (const { client } of locals) if (client !== chosen) client.close();
  }
}

function addressOf(text: string): string {
  const [, address, port = PORT_DEFAULT] =
    /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (address === undefined || Number(port) > PORT_MAX) {
    throw new MigError('USAGE', `--host ${text}: expected NAME or ADDRESS or ADDRESS:PORT`);
  }
  return `${address}:${port}`;
}

function choose(locals: readonly Local[], where: Whereabouts): Promise<ApiClient> {
  return where.host === undefined
    ? Promise.resolve(onlyOne(locals))
    : named(locals, where, where.host);
}

function onlyOne(locals: readonly Local[]): ApiClient {
  const sources = locals.filter(({ hello }) => hello.role === 'source');
  const [one, ...others] = sources.length > 0 ? sources : locals;
  if (one === undefined) throw new MigError('NO_DAEMON', `no socket in ${STATES}/ answers`);
  if (others.length > 0) {
    const names = locals.map(({ hello }) => `${hello.host} (${hello.role})`).join(', ');
    throw new MigError('USAGE', `several daemons answer, choose with --host: ${names}`);
  }
  return one.client;
}

async function named(
  locals: readonly Local[],
  where: Whereabouts,
  name: string,
): Promise<ApiClient> {
  const local = locals.find(({ hello }) => hello.host === name);
  if (local !== undefined) return local.client;
  if (locals.length === 0) {
    throw new MigError('NO_DAEMON', `none here knows where ${name} is: use --host ADDRESS:PORT`);
  }
  for (const { client } of locals) {
    const known = (await client.ask('hosts', {})).find((host) => host.name === name);
    if (known !== undefined) return remote(where, known.address, name);
  }
  throw new MigError('HOST_UNKNOWN', name);
}

const remote = (
  { certs, operator }: Whereabouts,
  address: string,
  expected: string | undefined,
): Promise<ApiClient> =>
  connectRemote({ address, expected, identity: loadIdentity(certs, operator) });

function socketsHere(): string[] {
  try {
    return readdirSync(STATES).map((name) => path.resolve(STATES, name, SOCKET_FILE));
  } catch {
    // No daemon was ever started here.
    return [];
  }
}

/** Those that answer; the others are remains of daemons that ended. */
async function answering(sockets: readonly string[]): Promise<Local[]> {
  const tried = await Promise.allSettled(
    sockets.map(async (socket): Promise<Local> => {
      const client = await connectLocal(socket);
      return { client, hello: await client.ask('hello', {}) };
    }),
  );
  return tried.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}
