/** docs/states is what the rules say. */
import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { STATE_PAGES, statesPage } from '../../../scripts/generate-states.ts';

void test('the pages of states are not stale (npm run docs)', async (t) => {
  for (const name of STATE_PAGES) {
    t.equal(readFileSync(`docs/states/${name}.md`, 'utf8'), statesPage(name));
  }
});
