/** `migctl` as a user of a scratch cluster runs it: in its folder, where `state/` and `certs/` are. */
import { fileURLToPath } from 'node:url';
import type { Cluster } from './cluster.ts';
import { Program, type Ended } from './program.ts';

export const MIGCTL = fileURLToPath(new URL('../../bin/migctl.mjs', import.meta.url));

type Environment = Readonly<Record<string, string>>;

/** `words`: the command line, split at spaces. */
export const startMigctl = (
  { dir }: Pick<Cluster, 'dir'>,
  words: string,
  env: Environment = {},
): Program =>
  new Program([process.execPath, MIGCTL, ...words.trim().split(/ +/)], { cwd: dir, env });

export const migctl = (
  cluster: Pick<Cluster, 'dir'>,
  words: string,
  env: Environment = {},
): Promise<Ended> => startMigctl(cluster, words, env).ended;

/** Objects of standard output, one a line. */
export const jsonLines = ({ out }: Ended): unknown[] =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);

/** How errors are told: the code, what happened, the case; then what to do. */
export const toldError = (code: string): RegExp =>
  new RegExp(`^migctl: ${code}: [A-Z].*\\. \\(.+\\)\\n.+\\.\\n$`, 's');
