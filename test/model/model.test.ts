/**
 * The model of the handover (handover.pml), explored exhaustively: no run breaks an invariant, every
 * run ends, and each end is settled. Each planted bug is found; a model that finds none says nothing.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';

const MODEL = fileURLToPath(new URL('handover.pml', import.meta.url));
const DEPTH_MAX = 100_000;
const MEMORY_MIB_MAX = 3000;

const BUGS = [
  'ACK_BEFORE_SYNC',
  'TOKEN_BEFORE_SYNC',
  'RESUME_ON_LOST_ACTIVATED',
  'DELETE_BEFORE_ACTIVATED',
  'EPOCH_REUSED',
  'ACTIVATION_ON_TIMEOUT',
  'ABORT_OF_PREPARED_ON_TIMEOUT',
  'RECLAIM_WITHOUT_PROOF',
  'RECOVERY_RESUMES_SURRENDERED',
  'WHOLE_TOO_EARLY',
] as const;

/** What must be installed beyond npm; undefined when it is. */
function missing(): string | false {
  for (const tool of ['spin', 'cc']) {
    try {
      execFileSync('which', [tool], { stdio: 'ignore' });
    } catch {
      if (process.env['MIGD_REQUIRE_ALL'] === '1') throw new Error(`${tool} is missing`);
      return `needs ${tool === 'cc' ? 'gcc' : tool}`;
    }
  }
  return false;
}

interface Search {
  readonly errors: number;
  readonly states: number;
  readonly seconds: number;
  readonly said: string;
}

/** Translates, compiles and runs one search. `safety`: assertions and ends; else cycles. */
function search(defines: readonly string[], what: 'safety' | 'cycles'): Search {
  const dir = mkdtempSync(path.join(tmpdir(), 'migd-model-'));
  const run = (file: string, args: readonly string[]): string =>
    execFileSync(file, args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    copyFileSync(MODEL, path.join(dir, 'handover.pml'));
    run('spin', ['-a', ...defines.map((define) => `-D${define}`), 'handover.pml']);
    const [kind, option] = what === 'safety' ? ['-DSAFETY', '-n'] : ['-DNP', '-l'];
    const limits = ['-DCOLLAPSE', `-DMEMLIM=${MEMORY_MIB_MAX}`];
    run('cc', ['-w', '-O2', kind, ...limits, '-o', 'pan', 'pan.c']);
    const began = performance.now();
    const said = run('./pan', [option, '-n', `-m${DEPTH_MAX}`]);
    const seconds = (performance.now() - began) / 1000;
    const number = (pattern: RegExp) => Number(pattern.exec(said)?.[1] ?? Number.NaN);
    return {
      errors: number(/errors: (\d+)/),
      states: number(/(\d+) states, stored/),
      seconds,
      said,
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const isComplete = ({ said }: Search): boolean =>
  !/search depth too small|out of memory|Search not completed|hash conflicts: .*bitstate/i.test(
    said,
  );

void test('the handover, every interleaving', { skip: missing() }, (t) => {
  const faults = ['CRASHES=3', 'LOSSES=2', 'FENCINGS=1', 'MIGRATIONS=2', 'POST_COPY'];
  const safety = search(faults, 'safety');
  t.equal(safety.errors, 0, 'no invariant breaks, and every end is settled');
  t.ok(isComplete(safety), 'the search was complete');
  t.ok(safety.states > 100_000, 'and there was something to search');
  t.comment(`${faults.join(' ')}: ${safety.states} states, ${safety.seconds.toFixed(1)} s`);
  const cycles = search(faults, 'cycles');
  t.equal(cycles.errors, 0, 'no run goes on for ever: so every run comes to such an end');
  t.ok(isComplete(cycles), 'the search was complete');
  t.comment(`cycles: ${cycles.states} states, ${cycles.seconds.toFixed(1)} s`);
  t.end();
});

void test('each planted bug is found', { skip: missing() }, (t) => {
  for (const bug of BUGS) {
    const found = search([`BUG_${bug}`, 'POST_COPY'], 'safety');
    t.equal(found.errors, 1, bug);
    const [, broken = ''] = /assertion violated (.*) \(at depth/.exec(found.said) ?? [];
    t.comment(`${bug}: ${found.states} states, breaks ${broken.slice(0, 100)}`);
  }
  t.end();
});
