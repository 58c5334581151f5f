/** The README's three terminals, as written: default ports, default folders, no further flags. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import type { Config } from '../../src/daemon/config.ts';
import type { VmDetail } from '../../src/daemon/api/schema.ts';
import { filesBelow } from './cluster.ts';
import { missingForNamespaces, NetworkNamespace } from './namespace.ts';
import { processesNaming, type Ended, type Program } from './program.ts';

const launcher = (name: string) => fileURLToPath(new URL(`../../bin/${name}.mjs`, import.meta.url));

/** A new folder, in a network where the default ports are free. */
class Sandbox {
  readonly dir = mkdtempSync(path.join(tmpdir(), 'terminals-'));
  readonly #namespace: NetworkNamespace;
  readonly #daemons: Program[] = [];
  readonly #memory: string[] = [];

  private constructor(namespace: NetworkNamespace) {
    this.#namespace = namespace;
  }

  static async make(): Promise<Sandbox> {
    return new Sandbox(await NetworkNamespace.make());
  }

  #run(name: string, words: string): Program {
    const command = [process.execPath, launcher(name), ...words.split(' ')];
    return this.#namespace.run(command, { cwd: this.dir });
  }

  migctl(words: string): Promise<Ended> {
    return this.#run('migctl', words).ended;
  }

  /** Resolves when it says that it is ready. */
  async migd(words: string): Promise<Program> {
    const { out } = await this.#run('migd', `${words} --check`).ended;
    this.#memory.push((JSON.parse(out) as Config).memoryDir);
    const daemon = this.#run('migd', words);
    this.#daemons.push(daemon);
    await daemon.said(/"msg":"ready"/);
    return daemon;
  }

  /** Guests that run, and files of their memory. */
  get memory(): readonly string[] {
    return this.#memory.flatMap((dir) => [...filesBelow(dir), ...processesNaming(dir).map(String)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.#daemons) await daemon[Symbol.asyncDispose]();
    for (const dir of this.#memory) {
      for (const pid of processesNaming(dir)) process.kill(pid, 'SIGKILL');
      rmSync(dir, { recursive: true, force: true });
    }
    await this.#namespace[Symbol.asyncDispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const lines = (out: string): unknown[] =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);

const pcrs = (shown: Ended) =>
  (JSON.parse(shown.out) as VmDetail).guest?.['pcrs'] as Readonly<Record<string, string>>;

void test('three terminals', { skip: missingForNamespaces() }, async (t) => {
  await using box = await Sandbox.make();

  const made = await box.migctl('pki init');
  t.match(made, { exit: 0, err: '' });
  for (const name of ['host-a', 'host-b', 'operator']) t.match(made.out, `\n${name} `);
  t.equal((await box.migctl('vm list')).exit, 6, 'no daemon yet');

  const dest = await box.migd('--role dest');
  const source = await box.migd('--role source');
  const before = await box.migctl('vm show vm1');
  t.match(JSON.parse(before.out), { name: 'vm1', host: 'host-a', state: 'running', epoch: 1 });

  const moved = await box.migctl('migrate vm1 --to host-b --json');
  t.match(moved, { exit: 0, err: '' });
  const events = lines(moved.out);
  t.match(events[0], { event: 'started', vm: 'vm1', from: 'host-a', to: 'host-b' });
  t.match(events.at(-1), {
    event: 'result',
    outcome: 'completed',
    code: null,
    verified: true,
    vtpm: { moved: true, deletedAtSource: true, deletionCertificate: { signer: 'host-a' } },
  });

  // Two daemons answer here: the source is asked unless another is named.
  t.match(lines((await box.migctl('vm list --json')).out), [
    [{ name: 'vm1', host: 'host-a', state: 'gone', movedTo: 'host-b' }],
  ]);
  const after = await box.migctl('vm show vm1 --host host-b');
  t.match(JSON.parse(after.out), { name: 'vm1', host: 'host-b', state: 'running', epoch: 2 });
  t.equal(pcrs(after)[0], pcrs(before)[0], 'what was measured at the boot stays');
  t.ok(pcrs(after)[16]);
  t.match(await box.migctl('vm check vm1 --host host-b'), { exit: 0, out: /all 65536 pages/ });
  const left = filesBelow(path.join(box.dir, 'state', 'host-a')).toSorted();
  t.same(left, ['lock', 'migd.sock', 'records.lmdb', 'records.lmdb-lock'], 'nothing of the vTPM');
  t.match(await box.migctl('history'), { exit: 0, out: /vm1 +host-a +host-b .* completed/ });

  await t.test('what the flags say counts', async (t) => {
    for (const verify of [true, false]) {
      const name = verify ? 'sure' : 'fast';
      const create = `vm create ${name} --memory 16M --workload writer --rate 4MB`;
      t.equal((await box.migctl(create)).exit, 0);
      const flag = verify ? '--verify' : '--no-verify';
      const { exit, out } = await box.migctl(`migrate ${name} --to host-b ${flag} --json`);
      t.equal(exit, 0);
      t.match(lines(out).at(-1), { outcome: 'completed', verified: verify });
    }
  });

  await t.test('what cannot be is said', async (t) => {
    for (const [words, exit, code] of [
      ['migrate vm1 --to host-b', 1, 'VM_UNKNOWN'],
      ['migrate vm1 --to host-a', 2, 'HOST_SELF'],
      ['migrate vm1 --to host-a --host host-b', 3, 'ROLE_REFUSED'],
      ['vm list --host host-z', 1, 'HOST_UNKNOWN'],
    ] as const) {
      const ended = await box.migctl(words);
      t.match(ended, { exit, out: '', err: new RegExp(`^migctl: ${code}: `) }, words);
    }
  });

  for (const name of ['vm1', 'sure', 'fast']) {
    t.equal((await box.migctl(`vm delete ${name} --host host-b`)).exit, 0);
  }
  for (const daemon of [source, dest]) {
    daemon.signalGroup('SIGINT');
    t.match(await daemon.ended, { exit: 0, err: '' });
  }
  t.same(box.memory, []);
});
