/** What a source believes of where the destination says it stands, and what it does not. */
import { test } from 'tap';
import { arrivedOf, type ResumePoint, type Sent } from '../../../src/protocol/resume-point.ts';
import { lineageStatement } from '../../../src/protocol/statement.ts';
import { MIGRATION_ID } from './samples.ts';

const sent: Sent = { round: 3, pages: [10, 20], isWhole: false };
const origin: ResumePoint = { round: 2, accepted: [5, 6] };

void test('a prefix of what was sent, a whole round whose word was lost, or nothing new', async (t) => {
  t.equal(arrivedOf({ round: 3, accepted: [0, 0] }, sent, origin), 'part');
  t.equal(arrivedOf({ round: 3, accepted: [10, 20] }, sent, origin), 'part', 'at the bound');
  t.equal(arrivedOf({ round: 3, accepted: [1, 2] }, sent, null), 'part', 'of a first session');
  const whole = { ...sent, isWhole: true };
  t.equal(arrivedOf({ round: 4, accepted: [0, 0] }, whole, origin), 'whole');
  t.equal(arrivedOf(origin, sent, origin), 'nothing', 'of this session nothing arrived');
  const three = { round: 2, accepted: [1, 2, 3] };
  t.equal(arrivedOf(three, sent, three), 'nothing', 'whatever channels the one before had');
});

void test('a word that cannot be true: TRANSCRIPT_MISMATCH', async (t) => {
  const whole = { ...sent, isWhole: true };
  const lies: Readonly<Record<string, readonly [ResumePoint, Sent]>> = {
    'one page more than was sent': [{ round: 3, accepted: [10, 21] }, sent],
    'other channels': [{ round: 3, accepted: [10] }, sent],
    'channels that were not there': [{ round: 3, accepted: [10, 20, 0] }, sent],
    'a round that was not complete': [{ round: 4, accepted: [0, 0] }, sent],
    'pages of a round that has not begun': [{ round: 4, accepted: [1, 0] }, whole],
    'a later round': [{ round: 5, accepted: [0, 0] }, whole],
    'an earlier round': [{ round: 1, accepted: [0, 0] }, sent],
    'its origin, but with more in it': [{ round: 2, accepted: [5, 7] }, sent],
    'its origin, after a round of this session': [origin, { ...sent, round: 4 }],
  };
  for (const [what, [point, said]] of Object.entries(lies)) {
    t.throws(() => arrivedOf(point, said, origin), { code: 'TRANSCRIPT_MISMATCH' }, what);
  }
});

void test('every point of a lineage counts, and so does their order', async (t) => {
  const nothing = new Uint8Array(0);
  const other = { round: 2, accepted: [6, 5] };
  const statements = [
    lineageStatement(MIGRATION_ID, nothing, origin),
    lineageStatement(MIGRATION_ID, nothing, other),
    lineageStatement(MIGRATION_ID, nothing, { ...origin, round: 3 }),
    lineageStatement(MIGRATION_ID, nothing, { round: 25, accepted: [6] }),
    lineageStatement(MIGRATION_ID, new Uint8Array(48), origin),
    lineageStatement(MIGRATION_ID.replace('0', '1'), nothing, origin),
  ].map((bytes) => Buffer.from(bytes).toString('hex'));
  t.equal(new Set(statements).size, statements.length);
});
