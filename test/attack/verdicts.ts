/** What host-b made of each connection, from its own log, and whether it is as clean as before. */
import type { Test } from 'tap';
import { eventually, guestProcesses } from '../process/refusal.ts';
import { filesBelow, type Cluster } from '../process/cluster.ts';

export interface Verdict {
  readonly outcome: string;
  readonly code: string | null;
  readonly detail: string;
}

/** An answer later than this is none. */
const ANSWER_MS = 10_000;

export class Verdicts {
  readonly #cluster: Cluster;
  #seen = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  #all(): Verdict[] {
    const { log } = this.#cluster.get('host-b');
    return log
      .filter((line) => line.includes('incoming migration ended'))
      .map((line) => JSON.parse(line) as Verdict);
  }

  /** How many connections have ended. */
  get count(): number {
    return this.#all().length;
  }

  /** Whether a connection was ended with `code`. */
  has(code: string): boolean {
    return this.#all().some((verdict) => verdict.code === code);
  }

  /** What became of the next connection that host-b has not told of yet. */
  async next(): Promise<Verdict> {
    await eventually('host-b says how it ended', async () => {
      await this.#cluster.b.list();
      return this.#all().length > this.#seen;
    });
    const verdict = this.#all()[this.#seen];
    this.#seen += 1;
    if (verdict === undefined) throw new Error('no verdict');
    return verdict;
  }

  /** Runs an attack; host-b ends it with `code` within a bound and nothing of it stays. */
  async refuses(t: Test, code: string, attack: () => Promise<void>): Promise<void> {
    const startedAt = performance.now();
    await attack();
    const verdict = await this.next();
    const tookMs = performance.now() - startedAt;
    t.equal(verdict.code, code, verdict.detail);
    t.ok(tookMs < ANSWER_MS, `within a bound (${Math.round(tookMs)} ms)`);
    await this.isClean(t);
  }

  async isClean(t: Test): Promise<void> {
    const { api, stateDir, memoryDir } = this.#cluster.get('host-b');
    t.same(await api.call('status'), [], 'nothing under way');
    t.same(await api.list(), [], 'no VM');
    t.same(filesBelow(`${stateDir}/vms`), [], 'no state');
    t.same(filesBelow(memoryDir), [], 'no memory');
    t.same(guestProcesses(`${stateDir}/vms`), [], 'no guest process');
  }
}
