/**
 * What every refused or failed migration owes: one coded answer within a bound, a VM that runs on at
 * the source as if nothing had been asked, a destination with nothing of it, and a way that is free
 * for the next try. One proof for every case; it knows nothing of why a migration is refused.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import type { MigrationEvent, MigrationResult, Phase } from '../../src/migration/report.ts';
import { MiB } from '../../src/base/units.ts';
import type { Test } from 'tap';
import { filesBelow, smallGuest, type Api, type Cluster } from './cluster.ts';

/** An answer later than this is none; cases with a shorter bound of the product's say so. */
const ANSWER_MS = 8_000;
/** How long what must happen by itself (a write, an end of a process) is waited for. */
const SOON_MS = 10_000;

export interface Attempt {
  /** Asks for what is to be refused, of a VM that runs at `from`. */
  readonly attempt: (vm: string) => Promise<unknown>;
  readonly code: string;
  readonly from?: string;
  /** The host that must stay clean, and the one that the retry goes to. */
  readonly to?: string;
  readonly retryTo?: string;
  readonly vm?: object;
  readonly answerMs?: number;
  /** Takes the fault away before the retry. */
  readonly mend?: (vm: string) => Promise<void> | void;
}

let lastVm = 0;

/**
 * Makes a VM, lets `attempt` be refused with `code`, and proves that the VM survived it, the
 * destination is clean, and an immediate retry to `retryTo` (default: `to`) completes. Returns the
 * code's detail.
 */
export async function survives(t: Test, cluster: Cluster, asked: Attempt): Promise<string> {
  const { attempt, code, from = 'host-a', to = 'host-b', answerMs = ANSWER_MS } = asked;
  const { retryTo = to } = asked;
  const source = cluster.get(from).api;
  lastVm += 1;
  const vm = `vm${lastVm}`;
  await source.call('vm.create', smallGuest(vm, asked.vm));
  const askedAt = performance.now();
  const answer = await answerOf(attempt(vm));
  const tookMs = performance.now() - askedAt;
  t.equal(answer.code, code, answer.detail);
  t.ok(tookMs < answerMs, `answered within ${answerMs} ms (${Math.round(tookMs)})`);
  await asked.mend?.(vm);
  await runsOn(t, source, vm);
  if (cluster.daemons.has(to)) await isClean(t, cluster, to, vm);
  const retry = await answerOf(source.migrate(vm, retryTo));
  t.match(retry, { code: null }, `a retry works: ${retry.code} ${retry.detail}`);
  await cluster.get(retryTo).api.call('vm.delete', { name: vm });
  return answer.detail;
}

/** How a request ended: a migration's result and an error of the API look alike. */
export async function answerOf(
  request: Promise<unknown>,
): Promise<{ readonly code: string | null; readonly detail: string }> {
  try {
    return (await request) as MigrationResult;
  } catch (thrown) {
    return thrown as Error & { code: string; detail: string };
  }
}

/** The VM runs, is whole, and writes. */
export async function runsOn(t: Test, source: Api, vm: string): Promise<void> {
  t.match(
    (await source.list()).find(({ name }) => name === vm),
    { state: 'running' },
    `${vm} runs at the source`,
  );
  const before = await writesOf(source, vm);
  await eventually(`a write of ${vm}`, async () => (await writesOf(source, vm)) > before);
  t.equal((await source.check(vm)).badPages, 0, `${vm} is whole`);
}

/** Nothing of the VM at a host: no record, no file, no process. */
export async function isClean(t: Test, cluster: Cluster, host: string, vm: string): Promise<void> {
  const { api, stateDir, memoryDir } = cluster.get(host);
  // The peer's word ends the migration there; that it was heard is seen by its end.
  await eventually(`${host} is done`, async () => {
    const status = await api.call<{ vm: string }[]>('status');
    return status.every((migration) => migration.vm !== vm);
  });
  const rows = (await api.list()).filter(({ name, state }) => name === vm && state !== 'gone');
  t.same(rows, [], `${vm} is not at ${host}`);
  t.same(filesBelow(path.join(stateDir, 'vms', vm)), [], `no state of ${vm} at ${host}`);
  t.same(filesBelow(path.join(memoryDir, vm)), [], `no memory of ${vm} at ${host}`);
  for (const directory of [path.join(stateDir, 'vms', vm), path.join(memoryDir, vm)]) {
    t.same(guestProcesses(directory), [], `no guest process at ${host}`);
  }
}

/** Asks again and again, without a pause of its own, until it is so. Throws after a bound. */
export async function eventually(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + SOON_MS;
  while (!(await isSo())) {
    if (performance.now() > until) throw new Error(`not within ${SOON_MS} ms: ${what}`);
  }
}

export async function writesOf(api: Api, vm: string): Promise<number> {
  const { guest } = await api.show(vm);
  return (guest?.['registers'] as { writes: number } | undefined)?.writes ?? -1;
}

/** Processes that work in `directory` or name something below it in their command line. */
export function guestProcesses(directory: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      return `${cwd}\0${readFileSync(`/proc/${pid}/cmdline`, 'utf8')}`.includes(directory);
    } catch {
      return false;
    }
  });
}

/** Slow enough that whatever is done during it comes in time; never waited for. */
export const SLOW = { maxBandwidthBps: MiB };

/** Begins a slow migration; resolves when it said `until`, with its end as a promise. */
export async function slowly(
  api: Api,
  vm: string,
  to: string,
  until: Phase | 'started' = 'pre-copy',
  options: object = {},
): Promise<{ migrationId: string; result: Promise<MigrationResult> }> {
  const reached = Promise.withResolvers<string>();
  const result = api.migrate(vm, to, { ...SLOW, ...options }, (event: MigrationEvent) => {
    const said = event.event === 'phase' ? event.phase : event.event;
    if (said === until) reached.resolve(event.migrationId);
  });
  result.catch((error: unknown) => reached.reject(error));
  return { migrationId: await reached.promise, result };
}

export const cancel = (api: Api, migrationId: string) => api.call('cancel', { migrationId });
