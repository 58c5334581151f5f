/** `migctl` and VMs of QEMU: from YAML to deletion, across a daemon that is killed. */
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test, type Test } from 'tap';
import type { VmDetail } from '../../../src/daemon/api/schema.ts';
import { EXIT } from '../../../src/protocol/codes.ts';
import { guestCommandLine, guestImage, guestToolsMissing } from '../../qemu/guest-image.ts';
import { Cluster } from '../cluster.ts';
import { jsonLines, migctl, toldError } from '../migctl.ts';
import { guestProcesses } from '../refusal.ts';
import { Console } from './console.ts';

/** Each line as it stands in the file; `changed` replaces some by name, an empty one leaves it out. */
function yaml(changed: Readonly<Record<string, string>> = {}): string {
  const { kernel, initrd } = guestImage();
  const commandLine = guestCommandLine({ incompressible: 16, rate: 1000, pcr: 1 });
  const lines: Record<string, string> = {
    accelerator: 'tcg',
    memory: '131064K',
    boot: JSON.stringify({ kernel, initrd, commandLine }),
    ...changed,
  };
  return Object.entries(lines)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

/** A cluster in which host-a is asked. */
class Asked implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly memoryDir: string;
  readonly vmStateDir: string;

  constructor(cluster: Cluster) {
    this.cluster = cluster;
    const { memoryDir, stateDir } = cluster.get('host-a');
    this.memoryDir = path.join(memoryDir, 'vm1');
    this.vmStateDir = path.join(stateDir, 'vms', 'vm1');
  }

  ask(words: string) {
    return migctl(this.cluster, `--state-dir state/host-a ${words}`);
  }

  async create(text: string) {
    writeFileSync(path.join(this.cluster.dir, 'vm.yaml'), text);
    return this.ask('vm create vm1 --driver qemu --file vm.yaml');
  }

  async shown(): Promise<VmDetail> {
    const [detail] = jsonLines(await this.ask('--json vm show vm1'));
    return detail as VmDetail;
  }

  /** Nothing of it runs or lies here. */
  isClean(t: Test, name: string): void {
    t.same(guestProcesses(this.memoryDir), [], name);
    t.equal(existsSync(this.memoryDir), false, name);
    t.equal(existsSync(this.vmStateDir), false, name);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cluster[Symbol.asyncDispose]();
  }
}

void test('a VM of QEMU', { skip: guestToolsMissing() }, async (t) => {
  await using host = new Asked(await Cluster.start());

  await t.test('a description that will not do', async (t) => {
    const cases: Record<string, readonly [string, string, number, RegExp]> = {
      'no YAML': ['boot: {', 'USAGE', EXIT.usage, /vm\.yaml/],
      'an unknown key': [yaml({ colour: 'red' }), 'USAGE', EXIT.usage, /colour/],
      'a size that QEMU damages': [yaml({ memory: '128M' }), 'VM_UNSAFE', EXIT.refused, /131064K/],
      'more memory than the host has': [
        yaml({ memory: '1073741820K' }),
        'DEST_CAPACITY',
        EXIT.refused,
        /asked/,
      ],
    };
    for (const [name, [text, code, exit, detail]] of Object.entries(cases)) {
      const told = await host.create(text);
      t.match(told.err, toldError(code), name);
      t.match(told.err, detail, name);
      t.equal(told.exit, exit, name);
      host.isClean(t, name);
    }
    const alone = await host.ask('vm create vm1 --driver qemu');
    t.match(alone.err, toldError('USAGE'), 'it needs a file');
  });

  t.equal((await host.create(yaml())).exit, EXIT.completed);
  const made = await host.shown();
  using first = new Console(host.memoryDir);
  t.match(await first.line(({ writes }) => writes > 0), { bad: 0 });
  t.match(made, { driver: 'qemu', state: 'running', vtpm: 'swtpm', memoryBytes: 131_064 * 1024 });
  t.match((await host.ask('vm list')).out, /^vm1 .*running.*qemu +swtpm/m);

  await t.test('what only an embedded guest can', async (t) => {
    const refused = await host.ask('migrate vm1 --to host-b');
    t.match(refused.err, toldError('MIGRATION_UNSUPPORTED'));
    t.equal(refused.exit, EXIT.refused);
    t.match((await host.ask('vm check vm1')).err, toldError('REQUEST_INVALID'));
    t.match(await first.line(), { bad: 0 }, 'it runs on');
    t.same(await host.cluster.b.list(), []);
    t.equal((await host.shown()).state, 'running');
  });

  await t.test('outlives its daemon', async (t) => {
    const { pcr, seq } = await first.line();
    await host.cluster.stopHost('host-a', 'SIGKILL');
    t.ok((await first.line()).seq > seq, 'it runs without one');
    await host.cluster.startHost('host-a');
    t.same(await host.shown(), made);
    t.match(await first.line(), { bad: 0, pcr });
  });

  await t.test('paused, it stays so with the next daemon', async (t) => {
    t.match(await host.ask('vm pause vm1'), { exit: 0, out: 'vm1 is paused\n' });
    const { seq = 0, pcr = null } = first.lines.at(-1) ?? {};
    await host.cluster.stopHost('host-a');
    await host.cluster.startHost('host-a');
    t.equal((await host.shown()).state, 'paused');
    t.match(await host.ask('vm resume vm1'), { exit: 0, out: 'vm1 is running\n' });
    t.match(await first.line((line) => line.seq > seq), { bad: 0, pcr });
    t.equal(first.isUnbroken, true);
  });

  await t.test('deleted, nothing of it is left', async (t) => {
    t.equal((await host.ask('vm delete vm1')).exit, EXIT.completed);
    host.isClean(t, 'deleted');
    t.same(await host.cluster.a.list(), []);
  });
});
