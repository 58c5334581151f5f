/** What a module names as its imports, read from its text. Knows nothing of which are allowed. */
import path from 'node:path';

export interface Import {
  /** As written: `node:fs`, `zod`, or for a file of ours its path from the root of the tree. */
  readonly target: string;
  /** Erased before it runs. */
  readonly typeOnly: boolean;
}

const STATEMENT = /^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm;
/** Modules loaded while it runs: dynamic imports, and the files of worker threads. */
const EXPRESSION = /\b(?:import\(|new URL\(|launch\()\s*'([^']+)'/g;

export function importsOf(file: string, text: string): readonly Import[] {
  const found: Import[] = [];
  for (const [, type, target = ''] of text.matchAll(STATEMENT)) {
    found.push({ target: resolve(file, target), typeOnly: type !== undefined });
  }
  for (const [, target = ''] of text.matchAll(EXPRESSION)) {
    found.push({ target: resolve(file, target), typeOnly: false });
  }
  return found;
}

function resolve(file: string, target: string): string {
  return target.startsWith('.') ? path.posix.join(path.posix.dirname(file), target) : target;
}
