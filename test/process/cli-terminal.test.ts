/** `migctl` at a terminal, in a pipe that is closed early, completed by a shell, on an old Node. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { Cluster, smallGuest } from './cluster.ts';
import { migctl, MIGCTL } from './migctl.ts';
import { Program } from './program.ts';

const quoted = (text: string) => `'${text}'`;
const COMMAND = [process.execPath, MIGCTL].map(quoted).join(' ');

/** A script of bash, in a folder. */
const bash = (cwd: string, script: string) =>
  new Program(['bash', '-c', script], { cwd, env: { MIGD_HOST: 'host-a' } }).ended;

void test('on a terminal a block is drawn again and again, then the summary stays', async (t) => {
  await using cluster = await Cluster.start();
  for (const [vm, size] of [
    ['vm1', 'stty rows 24 cols 60'],
    ['vm2', 'stty rows 0 cols 0'],
  ] as const) {
    await cluster.a.call('vm.create', smallGuest(vm));
    const command = `${size}; exec ${COMMAND} migrate ${vm} --to host-b --max-bandwidth 20MB`;
    const terminal = [
      'script',
      '--quiet',
      '--flush',
      '--return',
      '--command',
      command,
      '/dev/null',
    ];
    await using program = new Program(terminal, {
      cwd: cluster.dir,
      env: { MIGD_HOST: 'host-a', TERM: 'xterm' },
    });
    const { exit, out } = await program.ended;
    t.equal(exit, 0);
    const blocks = out.split('\u001B[3A\r\u001B[J');
    t.ok(blocks.length > 3, 'drawn over itself');
    const middle = blocks.find((block) => block.includes('pre-copy')) ?? '';
    t.match(middle, new RegExp(`^${vm}: host-a → host-b {2}pre-copy, round \\d+\r\n[█░]{30} `));
    t.match(middle, /\nbandwidth .*B\/s {2}dirty rate /);
    const widths = middle.split('\r\n').map((line) => line.length);
    t.ok(Math.max(...widths) <= (vm === 'vm1' ? 60 : 80), 'no line wraps');
    t.match(blocks.at(-1), new RegExp(`^completed: ${vm} runs at host-b`));
  }
});

void test('a reader that has seen enough is no error', async (t) => {
  await using cluster = await Cluster.start();
  await cluster.a.call('vm.create', smallGuest('vm1'));
  for (const words of ['--help', 'hosts', 'vm list --json', 'history', 'completion bash']) {
    const script = `${COMMAND} ${words} | head --bytes 0; echo \${PIPESTATUS[0]}`;
    t.match(await bash(cluster.dir, script), { out: '0\n', err: '' }, words);
  }
  const migrate = `${COMMAND} migrate vm1 --to host-b --json | head -1; echo \${PIPESTATUS[0]}`;
  t.match(await bash(cluster.dir, migrate), { out: /^\{"event":"started".*\}\n0\n$/, err: '' });
  t.match(await cluster.b.list(), [{ name: 'vm1', state: 'running' }], 'it went to its end');
  t.match(await bash(cluster.dir, `${COMMAND} hosts > /dev/full`), {
    exit: 1,
    err: /^migctl: standard output: ENOSPC.*\n$/,
  });
});

void test('bash completes commands, flags and choices', async (t) => {
  const dir = t.testdir({ bin: {} });
  symlinkSync(MIGCTL, path.join(dir, 'bin', 'migctl'));
  const script = await migctl({ dir }, 'completion bash');
  t.match(script, { exit: 0, err: '' });
  writeFileSync(path.join(dir, 'completion'), script.out);
  const complete = async (...words: string[]) => {
    const { out, err } = await bash(
      dir,
      `PATH=$PWD/bin:$PATH; source completion; COMP_WORDS=(migctl ${words.map(quoted).join(' ')});
       COMP_CWORD=${words.length}; _migctl; echo "\${COMPREPLY[*]}"`,
    );
    t.equal(err, '');
    return out.trim().split(' ');
  };
  t.same(await complete('mi'), ['migrate']);
  const commands = (await complete('')).toSorted().join(' ');
  t.equal(commands, 'cancel completion history hosts migrate pki resolve status vm watch');
  t.same(await complete('vm', 'cr'), ['create']);
  t.same(await complete('vm', 'create', 'x', '--wor'), ['--workload', '--working-set']);
  t.same(await complete('vm', 'create', 'x', '--workload', 'z'), ['zipf']);
  t.same(await complete('pki', 'issue', 'x', '--kind', ''), ['host', 'operator', 'owner']);
  for (const shell of ['zsh', 'fish']) {
    t.match(await migctl({ dir }, `completion ${shell}`), {
      exit: 0,
      out: /get-yargs-completions/,
    });
  }
});

/** The system's own Node, where it has one that is too old. */
function oldNode(): string | undefined {
  try {
    const version = execFileSync('/usr/bin/node', ['--version'], { encoding: 'utf8' });
    return Number.parseInt(version.slice(1), 10) < 24 ? '/usr/bin/node' : undefined;
  } catch {
    return undefined;
  }
}

const node = oldNode();

void test(
  'an older Node starts the one that came with the dependencies',
  {
    skip: node === undefined && 'the system has no older Node',
  },
  async (t) => {
    const dir = t.testdir({});
    mkdirSync(path.join(dir, 'state'));
    const started = (...words: string[]) =>
      new Program([node ?? '', MIGCTL, ...words], { cwd: dir });
    t.match(await started('--version').ended, { exit: 0, out: /^\d+\.\d+\.\d+\n$/, err: '' });
    t.match(await started('vm', 'list').ended, { exit: 6, err: /^migctl: NO_DAEMON: / });
    t.match(await started('frob').ended, { exit: 2, err: /^migctl: USAGE: / });
  },
);
