/** `npm run demo` shows what it promises, and leaves nothing behind however it ends. */
import { existsSync, mkdtempSync, readdirSync, rmSync, watch } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { processesNaming, Program } from './program.ts';

const DEMO = fileURLToPath(new URL('../../scripts/demo.ts', import.meta.url));

/** The demo with a folder for temporary files that is its own. */
class Demo extends Program {
  readonly temporary: string;
  /** Name of the scratch folder that it makes there, and of its memory's folder. */
  readonly scratch: Promise<string>;

  constructor() {
    // Short: the paths of Unix sockets are bounded.
    const temporary = mkdtempSync(path.join(tmpdir(), 'demo-'));
    const scratch = appears(temporary, 'migd-');
    super([process.execPath, DEMO], { env: { TMPDIR: temporary } });
    this.temporary = temporary;
    this.scratch = scratch;
  }

  /** What is left of it. */
  async remains(): Promise<object> {
    const scratch = await this.scratch;
    return {
      files: readdirSync(this.temporary),
      memory: existsSync(path.join('/dev/shm', scratch)),
      processes: processesNaming(scratch),
    };
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    rmSync(this.temporary, { recursive: true, force: true });
  }
}

const NOTHING = { files: [], memory: false, processes: [] };

/** Resolves with the first name in `directory` that begins so. */
async function appears(directory: string, begin: string): Promise<string> {
  const watcher = watch(directory);
  try {
    for (;;) {
      const found = readdirSync(directory).find((name) => name.startsWith(begin));
      if (found !== undefined) return found;
      await once(watcher, 'change');
    }
  } finally {
    watcher.close();
  }
}

void test('it shows a migration and proves what it claims', async (t) => {
  await using demo = new Demo();
  const { exit, out, err } = await demo.ended;
  t.equal(exit, 0);
  t.equal(err, '');
  for (const shown of [
    /^vm1 +host-a +running /m,
    /^phase attestation$/m,
    /^phase pre-copy$/m,
    /█+░* +\d+ %, .* remaining/,
    /^round 0: 65536 pages \(\d+ zero\), in .*, \d+ dirty after, predicted downtime/m,
    /^phase stop-and-copy$/m,
    /^phase handover$/m,
    /^completed: vm1 runs at host-b/m,
    /^ {2}downtime \d/m,
    /^ {2}every page verified on both sides$/m,
    /^✔ the guest finds each of its 65536 pages whole and the newest$/m,
    /^✔ nothing of the vTPM is left at host-a$/m,
    /^All of it holds\./m,
  ]) {
    t.match(out, shown);
  }
  t.notMatch(out, '✘');
  t.same(await demo.remains(), NOTHING);
});

const moments: Readonly<Record<string, (demo: Demo) => Promise<unknown>>> = {
  'before the daemons': (demo) => demo.said(/two daemons/),
  'while the daemons start': async (demo) =>
    appears(path.join(demo.temporary, await demo.scratch), 'host-a.yaml'),
  'while the guest is made': (demo) => demo.said(/a guest of/),
  'while it moves': (demo) => demo.said(/phase pre-copy/),
};

for (const [moment, comes] of Object.entries(moments)) {
  void test(`Ctrl-C ${moment} leaves nothing behind`, async (t) => {
    await using demo = new Demo();
    await comes(demo);
    demo.signalGroup('SIGINT');
    const { exit, err } = await demo.ended;
    t.equal(exit, 1);
    t.match(err, /^demo: interrupted; what was started is stopped and removed\n$/m);
    t.notMatch(err, /^ +at /m, 'no stack trace');
    t.same(await demo.remains(), NOTHING);
  });
}

void test('so does the end of the process alone', async (t) => {
  await using demo = new Demo();
  await demo.said(/phase pre-copy/);
  demo.signal('SIGTERM');
  const { exit, err } = await demo.ended;
  t.equal(exit, 1);
  t.match(err, /^demo: interrupted; /m);
  t.same(await demo.remains(), NOTHING);
});
