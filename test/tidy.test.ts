/**
 * The habits of the project, checked over the whole tree. Each rule is first shown a sample that
 * breaks it and one that keeps it, so that none can pass in vain.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { layerFaults } from './tidy/layers.ts';
import {
  headerFaults,
  lengthFaults,
  machineFaults,
  nameFaults,
  purityFaults,
  unusedLimits,
  wordFaults,
} from './tidy/rules.ts';

interface Sample {
  readonly file: string;
  readonly text: string;
}

interface Rule {
  readonly says: string;
  readonly applies: (file: string) => boolean;
  readonly faults: (file: string, text: string) => readonly string[];
  readonly bad: readonly Sample[];
  readonly good: readonly Sample[];
}

const LIMITS = 'src/base/limits.ts';
/** Not part of the tree, as .gitignore says. */
const LEFT_OUT = new Set(['.git', '.tap', 'node_modules', 'certs', 'state']);

const isCode = (file: string): boolean => /\.(?:ts|mjs)$/.test(file);
const isSource = (file: string): boolean => file.startsWith('src/');
const importing = (file: string, target: string): Sample => ({
  file,
  text: `import { x } from '${target}';\n`,
});

const RULES: readonly Rule[] = [
  {
    says: 'a file imports only from its own folder and from layers below',
    applies: (file) => isCode(file) && /^(?:src|bin)\//.test(file),
    faults: layerFaults,
    bad: [
      importing('src/protocol/codec.ts', '../crypto/sealer.ts'),
      importing('src/vtpm/state.ts', '../store/records.ts'),
      importing('src/cli/x.ts', '../migration/runner.ts'),
      importing('src/cli/x.ts', '../../test/pair.ts'),
      importing('bin/migd.mjs', '../src/migration/runner.ts'),
      importing('src/unheard-of/x.ts', './y.ts'),
      { file: 'src/base/x.ts', text: "const x = await import('../pages/bitmap.ts');\n" },
      { file: 'src/pages/x.ts', text: "new Worker(new URL('../native/x.ts', import.meta.url));\n" },
      { file: 'src/base/x.ts', text: "export {\n  a,\n  b,\n} from '../crypto/suites.ts';\n" },
      { file: 'src/base/x.ts', text: "import '../crypto/suites.ts';\n" },
    ],
    good: [
      importing('src/migration/x.ts', '../vtpm/state.ts'),
      importing('src/crypto/pki/x.ts', '../sealer.ts'),
      importing('src/base/x.ts', 'zod'),
      { file: 'src/cli/x.ts', text: "import type { X } from '../migration/report.ts';\n" },
    ],
  },
  {
    says: 'the protocol and the base are pure',
    applies: (file) => /^src\/(?:protocol|base)\//.test(file),
    faults: purityFaults,
    bad: [
      importing('src/base/x.ts', 'node:crypto'),
      { file: 'src/base/x.ts', text: 'const now = Date.now();' },
      { file: 'src/base/x.ts', text: 'const chance = Math.random();' },
      { file: 'src/base/x.ts', text: 'setTimeout(() => {}, 1);' },
      { file: 'src/base/x.ts', text: 'const home = process.env;' },
    ],
    good: [
      { file: 'src/base/x.ts', text: "import type { KeyObject } from 'node:crypto';\n" },
      {
        file: 'src/base/x.ts',
        text: '/** Not Date.now(): the caller knows. */\n// nor process.env\n',
      },
    ],
  },
  {
    says: 'a file of code has 500 lines at most',
    applies: isCode,
    faults: (_, text) => lengthFaults(text),
    bad: [{ file: 'src/x.ts', text: 'x;\n'.repeat(501) }],
    good: [{ file: 'src/x.ts', text: 'x;\n'.repeat(500) }],
  },
  {
    says: 'a file is named after what it is',
    applies: () => true,
    faults: (file) => nameFaults(file),
    bad: ['src/utils.ts', 'src/guest/vm-manager.ts', 'test/helpers/x.ts', 'src/common/x.ts'].map(
      (file) => ({ file, text: '' }),
    ),
    good: [{ file: 'src/protocol/command.ts', text: '' }],
  },
  {
    says: 'nothing is put off and no check is silenced',
    applies: isCode,
    faults: (_, text) => wordFaults(text),
    bad: [
      ['TO', 'DO'],
      ['FIX', 'ME'],
      ['oxlint', '-disable-next-line'],
      ['eslint', '-disable'],
      ['@ts-', 'ignore'],
      ['@ts-', 'expect-error'],
      ['x as ', 'any'],
    ].map((parts) => ({ file: 'src/x.ts', text: `${parts.join('')}\n` })),
    good: [{ file: 'src/x.ts', text: '/* the same as any other */' }],
  },
  {
    says: 'no path of a machine is in the tree',
    applies: () => true,
    faults: (_, text) => machineFaults(text),
    bad: [
      ['/wo', 'rk/main'],
      ['.lib', 'rary'],
      ['shared/', 'design'],
      ['/ho', 'me/me'],
    ].map((parts) => ({ file: 'README.md', text: parts.join('') })),
    good: [{ file: 'README.md', text: 'see docs/architecture.md; the library works' }],
  },
  {
    says: 'a source file opens with what it is',
    applies: (file) => isSource(file) && isCode(file),
    faults: (_, text) => headerFaults(text),
    bad: [{ file: 'src/x.ts', text: "import { x } from './y.ts';\n" }],
    good: [{ file: 'src/x.ts', text: '/** The x. */\n' }],
  },
];

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !LEFT_OUT.has(name) && !name.endsWith('.log'))
    .flatMap((entry) => {
      const file = path.posix.join(folder, entry.name);
      return entry.isDirectory() ? filesBelow(file) : [file];
    });
}

const TREE: readonly Sample[] = filesBelow('.').map((file) => ({
  file,
  text: readFileSync(file, 'utf8'),
}));

for (const rule of RULES) {
  void test(rule.says, async (t) => {
    for (const { file, text } of rule.bad) {
      t.ok(rule.applies(file), `it looks at ${file}`);
      t.not(rule.faults(file, text).length, 0, `it refuses ${text.slice(0, 60)} in ${file}`);
    }
    for (const { file, text } of rule.good)
      t.same(rule.faults(file, text), [], `it allows ${file}`);

    const seen = TREE.filter(({ file }) => rule.applies(file));
    t.not(seen.length, 0, 'it has files to look at');
    t.same(
      seen.flatMap(({ file, text }) => rule.faults(file, text).map((fault) => `${file}: ${fault}`)),
      [],
    );
  });
}

void test('every limit is used', async (t) => {
  t.same(unusedLimits('export const A_MAX = 1;\nexport const B_MAX = 2;', ['x > A_MAX']), [
    'B_MAX',
  ]);

  const limits = readFileSync(LIMITS, 'utf8');
  const sources = TREE.filter(({ file }) => isSource(file) && file !== LIMITS);
  t.same(
    unusedLimits(
      limits,
      sources.map(({ text }) => text),
    ),
    [],
  );
});
