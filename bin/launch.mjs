/**
 * Starts a main module of `src` on Node 24, which the system may not have: then on the one that comes
 * with the dependencies. Must parse on Node 18; it knows nothing of what it starts.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR_MIN = 24;
/** Within the program: whoever may write here may change that as well. Halves the time to start. */
const COMPILED = fileURLToPath(new URL('../node_modules/.cache/migd-code', import.meta.url));

/**
 * Runs `main` (relative to this folder) with this process's arguments.
 * @param {string} main
 */
export async function launch(main) {
  if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR_MIN) {
    module.enableCompileCache?.(COMPILED);
    await import(new URL(main, import.meta.url).href);
    return;
  }
  const node = pinnedNode();
  if (node === undefined) {
    console.error(
      `Node ${NODE_MAJOR_MIN} is needed and this is ${process.version}.\n` +
        `Run \`npm ci\` (it brings Node ${NODE_MAJOR_MIN} for Linux on x64 and arm64), or install Node ${NODE_MAJOR_MIN}.`,
    );
    process.exitCode = 1;
    return;
  }
  runWith(node);
}

function pinnedNode() {
  const name = `node-${process.platform}-${process.arch}`;
  try {
    const manifest = module.createRequire(import.meta.url).resolve(`${name}/package.json`);
    const node = path.join(path.dirname(manifest), 'bin', 'node');
    return existsSync(node) ? node : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} node */
function runWith(node) {
  const child = spawn(node, process.argv.slice(1), { stdio: 'inherit' });
  // Ctrl-C at a terminal reaches every process of the group by itself; passed on it would count twice.
  const atTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  process.on('SIGINT', () => atTerminal || child.kill('SIGINT'));
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  process.on('SIGHUP', () => child.kill('SIGHUP'));
  child.on('error', (error) => {
    console.error(`${node} cannot be started: ${error.message}`);
    process.exitCode = 1;
  });
  child.on('exit', (status, signal) => {
    process.exit(status ?? 128 + (signal === null ? 0 : constants.signals[signal]));
  });
}
