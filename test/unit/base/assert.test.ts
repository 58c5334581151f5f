import { test } from 'tap';
import { assert, AssertionFailed } from '../../../src/base/assert.ts';

void test('a false assertion throws, a true one does not', async (t) => {
  assert(true, 'fine');
  t.throws(() => assert(false, 'broken'), new AssertionFailed('broken'));
});
