/** Generated documents are what their sources say, and the table of codes holds none that is dead. */
import { globSync, readFileSync } from 'node:fs';
import { test } from 'tap';
import { codeGroups, codesPage } from '../scripts/generate-codes.ts';
import { STATE_PAGES, statesPage } from '../scripts/generate-states.ts';
import { CODES } from '../src/protocol/codes.ts';

const TABLE = 'src/protocol/codes.ts';

void test('the pages of states are not stale (npm run docs)', async (t) => {
  for (const name of STATE_PAGES) {
    t.equal(readFileSync(`docs/states/${name}.md`, 'utf8'), statesPage(name));
  }
});

void test('the page of codes is not stale (npm run docs)', async (t) => {
  t.equal(readFileSync('docs/codes.md', 'utf8'), codesPage());
});

void test('each code stands in one group of the page', async (t) => {
  const listed = codeGroups(readFileSync(TABLE, 'utf8')).flatMap((group) => group.codes);
  t.same(listed, Object.keys(CODES));
});

void test('each code is used by a source file', async (t) => {
  const files = globSync('src/**/*.ts').filter((file) => file !== TABLE);
  const sources = files.map((file) => readFileSync(file, 'utf8')).join('\n');
  t.same(
    Object.keys(CODES).filter((code) => !sources.includes(`'${code}'`)),
    [],
  );
});
