/**
 * `npm run demo`: one whole migration for the eye. A PKI in a scratch folder, two daemons, a guest
 * that writes its memory while it moves, and proof of what is claimed. Ctrl-C leaves nothing behind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/base/units.ts';
import { Cluster, filesBelow } from '../test/process/cluster.ts';

const MIGCTL = fileURLToPath(new URL('../bin/migctl.mjs', import.meta.url));

/** Ended by a signal to us, as by Ctrl-C at the terminal, which every process of ours gets. */
class Interruption {
  #child: ChildProcess | undefined;
  #happened = false;

  constructor() {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        this.#happened = true;
        this.#child?.kill(signal);
      });
    }
  }

  get happened(): boolean {
    return this.#happened;
  }

  check(): void {
    if (this.#happened) throw new Error('interrupted');
  }

  /** Resolves with the exit status. */
  async run(...args: string[]): Promise<number | null> {
    this.check();
    const child = spawn(process.execPath, [MIGCTL, ...args], { stdio: 'inherit' });
    this.#child = child;
    await once(child, 'exit');
    this.#child = undefined;
    this.check();
    return child.exitCode;
  }
}

const step = (text: string) => console.log(`\n── ${text}`);

function claim(holds: boolean, text: string): void {
  console.log(`${holds ? '✔' : '✘'} ${text}`);
  if (!holds) throw new Error(`not so: ${text}`);
}

async function demo(interruption: Interruption): Promise<void> {
  step('certificates and two daemons, host-a and host-b, in a scratch folder');
  await using cluster = await Cluster.start();
  interruption.check();
  const migctl = (host: string, ...args: string[]) =>
    interruption.run('--socket', `${cluster.get(host).stateDir}/migd.sock`, ...args);
  const { a, b } = cluster;

  step('a guest of 256 MiB that writes 50 MB a second, with a virtual TPM');
  await a.call('vm.create', {
    name: 'vm1',
    memoryBytes: 256 * MiB,
    vcpus: 1,
    workload: { kind: 'writer', rateBps: 50e6, workingSetBytes: 64 * MiB },
    fill: 0.5,
  });
  await migctl('host-a', 'vm', 'list');
  const before = await a.show('vm1');

  step('migctl migrate vm1 --to host-b --verify');
  const status = await migctl('host-a', 'migrate', 'vm1', '--to', 'host-b', '--verify');
  claim(status === 0, 'the migration completed, each page compared on both sides');

  step('what is where now');
  await migctl('host-a', 'vm', 'list');
  await migctl('host-b', 'vm', 'list');
  const check = await b.check('vm1');
  claim(
    check.badPages === 0 && check.versionSum === check.registerSum,
    `the guest finds each of its ${check.pages} pages whole and the newest`,
  );
  const after = await b.show('vm1');
  claim(pcr(before, 0) === pcr(after, 0), 'its vTPM goes on with the same PCRs');
  const { stateDir, memoryDir } = cluster.get('host-a');
  claim(filesBelow(`${stateDir}/vms`).length === 0, 'nothing of the vTPM is left at host-a');
  claim(filesBelow(memoryDir).length === 0, 'nothing of the memory is left at host-a');
}

const pcr = (vm: { guest: Readonly<Record<string, unknown>> | null }, index: number): unknown =>
  (vm.guest?.['pcrs'] as Record<string, string> | undefined)?.[index];

const interruption = new Interruption();
try {
  await demo(interruption);
  console.log('\nAll of it holds. Everything that was started is stopped and removed.');
} catch (thrown) {
  // Whatever failed then failed because of it: daemons get the terminal's Ctrl-C too.
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  const told = interruption.happened ? 'interrupted; what was started is stopped and removed' : why;
  console.error(`\ndemo: ${told}`);
  process.exitCode = 1;
}
