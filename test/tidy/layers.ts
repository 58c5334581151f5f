/** The layers of the source (docs/architecture.md) and who may import from whom. */
import { importsOf, type Import } from './imports.ts';

/** From the top down; folders of one row do not import each other. */
const LAYERS: readonly (readonly string[])[] = [
  ['bin'],
  ['src/cli'],
  ['src/daemon'],
  ['src/migration'],
  ['src/guest'],
  ['src/vtpm', 'src/attestation', 'src/policy', 'src/ledger', 'src/store', 'src/network'],
  ['src/transport'],
  ['src/native'],
  ['src/pages'],
  ['src/crypto'],
  ['src/protocol'],
  ['src/base'],
];

/** A launcher starts a program and knows nothing else. */
const BIN_TARGETS = new Set(['bin', 'src/cli', 'src/daemon']);

/** What these do is the daemon's business: `migctl` shows it and needs its types only. */
const CLI_TYPE_ONLY = new Set(['src/migration', 'src/guest']);

const folderOf = (file: string): string =>
  file.startsWith('src/') ? file.split('/', 2).join('/') : (file.split('/', 1)[0] ?? '');

const depthOf = (folder: string): number => LAYERS.findIndex((row) => row.includes(folder));

/** Each import of `file` that its layer does not allow. */
export function layerFaults(file: string, text: string): readonly string[] {
  const folder = folderOf(file);
  if (depthOf(folder) === -1) return [`${folder} is in no layer`];
  return importsOf(file, text)
    .filter(({ target }) => target.includes('/') && !isPackage(target))
    .filter((imported) => !allowed(folder, imported))
    .map(({ target }) => `${folder} imports ${target}`);
}

const isPackage = (target: string): boolean =>
  target.startsWith('node:') || !/^(?:src|bin|test|bench|scripts|certs|docs)\//.test(target);

function allowed(folder: string, { target, typeOnly }: Import): boolean {
  const other = folderOf(target);
  if (other === folder) return true;
  if (folder === 'bin') return BIN_TARGETS.has(other);
  if (folder === 'src/cli' && CLI_TYPE_ONLY.has(other)) return typeOnly;
  return depthOf(other) > depthOf(folder);
}
