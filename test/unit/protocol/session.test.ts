/** The two machines of a session against each other: the happy path and every refusal. */
import { test } from 'tap';
import type { Code } from '../../../src/protocol/codes.ts';
import { MESSAGE_TYPES } from '../../../src/protocol/messages.ts';
import { invariants, Pair, type Meddling } from './pair.ts';

const ended = (state: Pair['source'] | Pair['destination']) =>
  state.kind === 'Ended' ? [state.outcome, state.code] : [state.kind];

void test('a migration that goes well says everything once and in order', async (t) => {
  const pair = new Pair({ dirty: [5000, 700, 10] }).run(invariants);
  t.equal(pair.source.kind, 'HandedOver');
  t.equal(pair.destination.kind, 'HandedOver');
  t.same(pair.sent, [
    'HELLO',
    'HELLO_OK',
    'ATT_REQUEST',
    'ATT_EVIDENCE',
    'SVR_ATT_OK',
    'CLI_ATT_OK',
    'OFFER',
    'ACCEPT',
    'ROUND_END',
    'ROUND_OK',
    'ROUND_END',
    'ROUND_OK',
    'ROUND_END',
    'ROUND_OK',
    'FINAL',
    'DONE',
  ]);
  t.same(pair.facts, {
    sourceMayRun: false,
    surrendered: true,
    prepared: true,
    destinationHolds: true,
  });
});

const refusals: Readonly<Record<string, readonly [Meddling, Code, 'refused' | 'failed']>> = {
  'the source does not accept the evidence': [
    { appraisal: { destination: 'ATT_NONCE_MISMATCH' } },
    'ATT_NONCE_MISMATCH',
    'refused',
  ],
  'the destination does not accept the evidence': [
    { appraisal: { source: 'ATT_NONCE_MISMATCH' } },
    'ATT_NONCE_MISMATCH',
    'refused',
  ],
  'the destination does not admit the VM': [{ refusal: 'NAME_TAKEN' }, 'NAME_TAKEN', 'refused'],
  'the guest never calms down': [{ dirty: [100_000] }, 'NOT_CONVERGING', 'failed'],
};
for (const [name, [meddling, code, outcome]] of Object.entries(refusals)) {
  void test(`${name}: ${code}, the VM runs at the source`, async (t) => {
    const pair = new Pair(meddling).run(invariants);
    t.same(ended(pair.source), [outcome, code]);
    t.match(ended(pair.destination), [outcome]);
    t.ok(pair.facts.sourceMayRun);
    t.notOk(pair.facts.destinationHolds, 'the destination is clean');
    t.notOk(pair.facts.surrendered);
  });
}

void test('nothing about the guest is said before both appraisals passed', async (t) => {
  for (const appraisal of [
    { source: 'ATT_NONCE_MISMATCH' },
    { destination: 'ATT_NONCE_MISMATCH' },
  ] as const) {
    const { sent } = new Pair({ appraisal }).run();
    t.notOk(sent.includes('OFFER'));
  }
});

void test('a round whose transcript differs at the destination is refused', async (t) => {
  const pair = new Pair({
    destination: (effect) =>
      effect.kind === 'awaitRound'
        ? [{ kind: 'roundReceived', round: 0, pages: 1024, tag: new Uint8Array(48).fill(9) }]
        : undefined,
  }).run(invariants);
  t.same(ended(pair.source), ['failed', 'TRANSCRIPT_MISMATCH']);
  t.ok(pair.facts.sourceMayRun);
});

/** A migration in which the signature of every message of `type` is replaced. */
const forge = (type: string) =>
  new Pair({
    onWire: (message) =>
      message.type === type && 'signature' in message
        ? [{ ...message, signature: new Uint8Array(64) }]
        : [message],
  }).run(invariants);

void test('a forged signature on each signed message is never believed', async (t) => {
  t.same(ended(forge('FINAL').source), ['failed', 'SIGNATURE_INVALID']);
  t.same(ended(forge('DONE').source), ['failed', 'SIGNATURE_INVALID']);
});

void test('every message that comes out of order ends it with a coded refusal', async (t) => {
  for (const type of MESSAGE_TYPES) {
    for (const towards of ['source', 'destination'] as const) {
      let meddled = false;
      const pair = new Pair({
        onWire: (message, to) => {
          if (to !== towards || message.type !== type || meddled) return [message];
          meddled = true;
          return [message, message];
        },
      }).run(invariants);
      if (!meddled) continue;
      const doubled = towards === 'source' ? pair.source : pair.destination;
      if (pair.facts.surrendered) continue;
      t.ok(doubled.kind === 'Ended', `${type} twice towards the ${towards} ends`);
      t.match(doubled, { code: 'MESSAGE_UNEXPECTED' }, `${type} twice`);
      t.ok(pair.facts.sourceMayRun);
    }
  }
});

void test('a lost message is found by a deadline; before the surrender the VM runs on', async (t) => {
  for (const type of MESSAGE_TYPES) {
    let lost = false;
    const pair = new Pair({
      dirty: [700, 10],
      onWire: (message) => {
        if (message.type !== type || lost) return [message];
        lost = true;
        return [];
      },
    }).run(invariants);
    if (!lost) continue;
    pair.giveSource({ kind: 'deadlinePassed' });
    pair.giveDestination({ kind: 'deadlinePassed' });
    pair.settle(invariants);
    t.equal(pair.source.kind, 'Ended', `${type} lost`);
    t.ok(pair.facts.sourceMayRun, `${type}: the VM runs at the source`);
    // What is prepared is kept, whatever the session's end: the handover asks.
    const end = pair.facts.prepared ? 'HandedOver' : 'Ended';
    t.equal(pair.destination.kind, end);
    t.equal(pair.facts.destinationHolds, pair.facts.prepared);
  }
});

void test('cancel: before the surrender it runs here, after it is too late', async (t) => {
  const early = new Pair({
    source: (effect) =>
      effect.kind === 'sendRound' ? [{ kind: 'cancelRequested', code: 'CANCELLED' }] : undefined,
  }).run(invariants);
  t.same(ended(early.source), ['cancelled', 'CANCELLED']);
  t.ok(early.facts.sourceMayRun);
  t.notOk(early.facts.destinationHolds);

  const late = new Pair().run();
  late.giveSource({ kind: 'cancelRequested', code: 'CANCELLED' });
  t.equal(late.settle(invariants).source.kind, 'HandedOver');
});

void test('a surrender that cannot be written: the VM runs here, what is prepared is kept', async (t) => {
  const pair = new Pair({
    source: (effect) =>
      effect.kind === 'surrender'
        ? [{ kind: 'surrenderFailed', code: 'STORE_FAILED', detail: 'disk full' }]
        : undefined,
  }).run(invariants);
  t.same(ended(pair.source), ['failed', 'STORE_FAILED']);
  t.ok(pair.facts.sourceMayRun);
  t.equal(pair.destination.kind, 'HandedOver');
  t.ok(pair.facts.destinationHolds, 'until the source is asked');
});

void test('what breaks while the surrender is being written does not undo it', async (t) => {
  const pair = new Pair({ source: ({ kind }) => (kind === 'surrender' ? [] : undefined) }).run();
  t.equal(pair.source.kind, 'Surrendering');
  pair.giveSource({ kind: 'failed', code: 'CHANNEL_LOST', detail: '' });
  t.equal(pair.settle(invariants).source.kind, 'Surrendering', 'it may be on disk already');
});

/** All that is said where what was received cannot be prepared. */
const saidUnprepared = (code: Code): readonly string[] =>
  new Pair({
    destination: ({ kind }) =>
      kind === 'prepare' ? [{ kind: 'prepareFailed', code, detail: '' }] : undefined,
  }).run(invariants).sent;

void test('while PREPARED may be on disk, nobody signs that it never will be', async (t) => {
  t.ok(saidUnprepared('STORE_FAILED').includes('ABORT'));
  t.notOk(saidUnprepared('STORE_UNCERTAIN').includes('ABORT'));

  const preparing = new Pair({ destination: ({ kind }) => (kind === 'prepare' ? [] : undefined) });
  preparing.run();
  t.equal(preparing.destination.kind, 'Preparing');
  preparing.giveDestination({ kind: 'cancelRequested', code: 'DAEMON_STOPPING' });
  preparing.settle(invariants);
  t.equal(preparing.destination.kind, 'Ended');
  t.notOk(preparing.sent.includes('ABORT'), 'nor while it is being written');
});
