/**
 * Handovers that are in doubt at a real host, because its other end, spoken by hand, does not answer;
 * and what can be asked of them.
 */
import type { Test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { finalStatement, receiptStatement, type Subject } from '../../src/protocol/statement.ts';
import { Cluster, freePort, smallGuest, type Api } from '../process/cluster.ts';
import { eventually, guestProcesses } from '../process/refusal.ts';
import { HostileDestination } from './hostile-destination.ts';
import { HostileHost, type HostileLink, type Links } from './hostile-link.ts';
import { HostileSource } from './hostile-source.ts';

export const VM = 'vm1';

/** One handover in doubt at a real host, and its other end. */
export interface InDoubt extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly subject: Subject;
  readonly digest: Uint8Array;
  readonly vm: string;
  readonly api: Api;
  readonly links: Links;
  /** From now on the other end does not answer any more. */
  readonly silence: () => Promise<void>;
}

/** Hosts a, b and a third with a valid certificate; only `running` is real. */
export async function cluster(running: string): Promise<Cluster> {
  const made = Cluster.empty();
  for (const name of ['host-a', 'host-b', 'host-c']) {
    made.pki.issue(name, 'host');
    made.peers[name] = `127.0.0.1:${await freePort()}`;
  }
  if (running === 'host-b') await made.startHost(running);
  return made;
}

/** host-a has surrendered to a destination that does not answer. */
export async function sourceInDoubt(): Promise<InDoubt> {
  const made = await cluster('host-a');
  const destination = await HostileDestination.start(made);
  await made.startHost('host-a');
  await made.a.call('vm.create', smallGuest(VM, { memoryBytes: 4 * MiB }));
  void made.a.migrate(VM, 'host-b').catch(() => undefined);
  const session = await destination.session();
  const { transcriptDigest: digest } = await session.finished();
  const { subject } = session;
  session.send({ type: 'DONE', signature: session.sign(receiptStatement(subject, digest)) });
  await session.expect('SURRENDER');
  await session[Symbol.asyncDispose]();
  return {
    cluster: made,
    subject,
    digest,
    vm: VM,
    api: made.a,
    links: destination.links,
    silence: () => destination[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => {
      await destination[Symbol.asyncDispose]();
      await made[Symbol.asyncDispose]();
    },
  };
}

/** host-b is prepared for a source that does not answer. */
export async function destinationInDoubt(): Promise<InDoubt> {
  const made = await cluster('host-b');
  const other = await HostileHost.start(made, 'host-a');
  const source = await HostileSource.connect(made, 'host-a');
  const { transcriptDigest: digest, stateBytes } = await source.everything();
  const { subject } = source;
  const none = new Uint8Array(0);
  source.send({
    type: 'FINAL',
    round: 1,
    transcriptDigest: digest,
    stateBytes,
    memoryDigest: none,
    signature: source.sign(finalStatement(subject, digest, stateBytes, none)),
  });
  await source.expect('DONE');
  await source[Symbol.asyncDispose]();
  return {
    cluster: made,
    subject,
    digest,
    vm: source.descriptor.name,
    api: made.b,
    links: other.links,
    silence: () => other[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => {
      await other[Symbol.asyncDispose]();
      await made[Symbol.asyncDispose]();
    },
  };
}

/** The real host asks, without the wait that grows while it is not answered. */
export function askNow({ api, links, subject }: InDoubt): Promise<HostileLink> {
  const { migrationId } = subject;
  void api.call('resolve', { migrationId }).catch(() => undefined);
  return links.asked(migrationId);
}

/** Kept, standing still, and said to be in doubt. */
export async function isKept(
  t: Test,
  { api, vm }: InDoubt,
  state: 'held' | 'incoming',
): Promise<void> {
  t.match(await api.show(vm), { state: 'in-doubt', guest: { state } });
}

const stateAtEnd = (it: InDoubt): Promise<{ state: string; code: string | null }[]> =>
  it.api.call('status', { migrationId: it.subject.migrationId });

export async function settles(t: Test, it: InDoubt, end: object): Promise<void> {
  await eventually('settled', async () => {
    const [row] = await stateAtEnd(it);
    return row !== undefined && 'state' in row && !/surrendered|prepared/.test(row.state);
  });
  t.match((await stateAtEnd(it))[0], end);
}

/** As soon as it is seen that the other end is not there. */
export async function fence(it: InDoubt): Promise<unknown> {
  const { migrationId } = it.subject;
  await it.silence();
  let row: unknown;
  await eventually('not there', async () => {
    row = await it.api.call('resolve', { migrationId, peerFenced: true }).catch(() => undefined);
    return row !== undefined;
  });
  return row;
}

/** Ends the guest that lives in a folder, as the kernel would. */
export function kill(memoryDir: string): void {
  for (const pid of guestProcesses(memoryDir)) process.kill(Number(pid), 'SIGKILL');
}
