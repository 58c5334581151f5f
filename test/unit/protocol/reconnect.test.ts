/** Both machines when a connection breaks in the rounds: who goes on, from where, and who gives up. */
import { test } from 'tap';
import { SESSIONS_MAX } from '../../../src/base/limits.ts';
import type { Code } from '../../../src/protocol/codes.ts';
import { startDestination, stepDestination } from '../../../src/protocol/destination/machine.ts';
import type * as D from '../../../src/protocol/destination/state.ts';
import type { MessageOf } from '../../../src/protocol/messages.ts';
import { migrateOptionsSchema } from '../../../src/protocol/options.ts';
import { startSource, stepSource } from '../../../src/protocol/source/machine.ts';
import type * as S from '../../../src/protocol/source/state.ts';
import { descriptor, dirtyCollected, MIGRATION_ID } from './samples.ts';

const fill = (length: number, byte = 1): Uint8Array => new Uint8Array(length).fill(byte);
const evidence = { format: 'software', body: fill(1) };
const tag = fill(48);
const sent = { pages: 1000, zeroPages: 0, bytesSent: 4e6, tag };

const message = <T extends S.Event['kind'] & MessageOf<'ABORT' | 'ACCEPT'>['type']>(
  it: MessageOf<T>,
): S.Event => ({ kind: it.type, message: it }) as unknown as S.Event;

// The source.

const sourcePlan = (resumes: boolean): S.Plan => ({
  purpose: 'migrate',
  migrationId: MIGRATION_ID,
  from: 'host-a',
  options: migrateOptionsSchema.parse({ vm: 'vm1', to: 'host-b', roundsMax: 3 }),
  suites: ['aes-256-gcm+hmac-sha256'],
  forms: ['tls'],
  encodings: ['zero', 'raw'],
  formats: ['software'],
  resumes,
  nonce: fill(32),
  policyDigest: fill(48),
  epoch: 1,
  handoverMs: 5,
  signedByPeer: () => true,
});

type Resume = MessageOf<'ACCEPT'>['resume'];

/** A session from its HELLO to its data channels, one event a state. */
const opening = (resume: Resume = null, features: string[] = ['resume']): readonly S.Event[] => [
  { kind: 'connected' },
  {
    kind: 'HELLO_OK',
    message: {
      type: 'HELLO_OK',
      version: 1,
      suite: 'aes-256-gcm+hmac-sha256',
      form: 'tls',
      encodings: ['raw'],
      channels: 1,
      features,
    },
  },
  {
    kind: 'ATT_EVIDENCE',
    message: {
      type: 'ATT_EVIDENCE',
      evidence,
      nonce: fill(32),
      formats: ['software'],
      policyDigest: fill(48),
    },
  },
  { kind: 'appraised', code: null, detail: '' },
  { kind: 'evidenceMade', evidence },
  { kind: 'CLI_ATT_OK', message: { type: 'CLI_ATT_OK' } },
  { kind: 'described', descriptor: descriptor() },
  message({ type: 'ACCEPT', reservation: crypto.randomUUID(), ports: [7000], resume }),
  { kind: 'channelsJoined', owedPages: 1000, elapsedMs: 0 },
];

const roundOk = (round: number): S.Event => ({
  kind: 'ROUND_OK',
  message: { type: 'ROUND_OK', round },
});
const due: S.Event = { kind: 'reconnectDue', nonce: fill(32, 9) };
const lost: S.Event = { kind: 'failed', code: 'CHANNEL_LOST', detail: 'cut' };

interface Run {
  readonly state: S.State;
  /** Of the last step. */
  readonly effects: readonly S.Effect[];
}

const source = (events: readonly S.Event[], resumes = true): Run => {
  const first: Run = { state: startSource(sourcePlan(resumes)), effects: [] };
  const all: S.Event[] = [{ kind: 'started' }, ...events];
  return all.reduce<Run>(({ state }, event) => stepSource(state, event), first);
};

const rounds: Readonly<Record<string, readonly S.Event[]>> = {
  SendingRound: opening(),
  AwaitingRoundOk: [...opening(), { kind: 'roundSent', sent }],
  Collecting: [...opening(), { kind: 'roundSent', sent }, roundOk(0)],
};
const BREAKS: readonly S.Event[] = [
  lost,
  { kind: 'peerClosed', code: 'PEER_CLOSED', detail: '' },
  { kind: 'peerClosed', code: 'PEER_SILENT', detail: '' },
  { kind: 'deadlinePassed' },
];

void test('source: a connection that breaks in the rounds is made anew', async (t) => {
  for (const [kind, events] of Object.entries(rounds)) {
    t.equal(source(events).state.kind, kind);
    for (const event of BREAKS) {
      const { state, effects } = source([...events, event]);
      t.equal(state.kind, 'Reconnecting', `${kind} × ${event.kind}`);
      t.same(effects, [{ kind: 'disarm' }, { kind: 'reconnect' }]);
    }
  }
});

void test('source: what is no mere break, or has nothing to go on with, is an abort', async (t) => {
  const codes: readonly Code[] = ['RECORD_FORGED', 'RECORD_ORDER', 'GUEST_FAILED', 'CERT_REVOKED'];
  for (const [kind, events] of Object.entries(rounds)) {
    for (const code of codes) {
      const { state } = source([...events, { kind: 'failed', code, detail: '' }]);
      t.match(state, { kind: 'Aborting', code }, `${kind}: ${code}`);
    }
    const abort = { type: 'ABORT', code: 'TRANSCRIPT_MISMATCH', detail: '', signature: fill(64) };
    t.match(source([...events, message(abort as MessageOf<'ABORT'>)]).state, {
      kind: 'Aborting',
      code: 'TRANSCRIPT_MISMATCH',
    });
  }
  t.match(source([...opening(), lost], false).state, { kind: 'Aborting', code: 'CHANNEL_LOST' });
  t.match(source([...opening(null, []), lost]).state, { kind: 'Aborting', code: 'CHANNEL_LOST' });
  for (let at = 0; at < opening().length; at += 1) {
    const { state } = source([...opening().slice(0, at), lost]);
    t.match(state, { kind: 'Aborting', code: 'CHANNEL_LOST' }, 'nothing was sent yet');
  }
});

void test('source: the next session is a whole one, under a new nonce', async (t) => {
  const connecting = source([...opening(), lost, due]);
  t.same(connecting.effects, [{ kind: 'arm', deadline: 'connect' }, { kind: 'connect' }]);
  const asked = source([...opening(), lost, due, ...opening().slice(0, 2)]);
  t.match(asked.effects[0], { kind: 'send', message: { type: 'ATT_REQUEST' } });
  t.same(asked.state.plan.nonce, fill(32, 9));
  const resume = { round: 3, accepted: [70, 80] };
  const joining = source([...opening(), lost, due, ...opening(resume).slice(0, -1)]);
  t.match(joining.effects[1], { kind: 'joinChannels', resume });
  const sending = source([...opening(), lost, due, ...opening(resume)]);
  t.match(sending.state, { kind: 'SendingRound', round: 4, sessions: 2 });
  t.match(sending.effects[1], { kind: 'sendRound', round: 4 });
  const anew = source([...opening(), lost, due, ...opening()]);
  t.match(anew.state, { kind: 'SendingRound', round: 0 }, 'all of it, to who holds nothing');
  t.match(source(opening({ round: 0, accepted: [0] })).state, {
    kind: 'Aborting',
    code: 'TRANSCRIPT_MISMATCH',
  });
});

void test('source: a session that breaks before it sends leads to another, a refusal does not', async (t) => {
  const before = [...opening(), lost, due];
  for (let at = 0; at < opening().length; at += 1) {
    const events = [...before, ...opening().slice(0, at)];
    for (const event of BREAKS) {
      const { state } = source([...events, event]);
      t.match(state, { kind: 'Reconnecting', outage: { code: 'CHANNEL_LOST', detail: 'cut' } });
    }
    const refused: S.Event = { kind: 'failed', code: 'PEER_WRONG', detail: '' };
    t.match(source([...events, refused]).state, { kind: 'Aborting', code: 'PEER_WRONG' });
  }
});

void test('source: while it waits', async (t) => {
  const waiting = [...opening(), lost];
  const givenUp: S.Event = { kind: 'reconnectGivenUp', detail: 'too late' };
  const { state } = source([...waiting, givenUp]);
  t.match(state, { kind: 'Aborting', code: 'CHANNEL_LOST', detail: 'cut; too late' });
  const cancelled: S.Event = { kind: 'cancelRequested', code: 'CANCELLED' };
  t.match(source([...waiting, cancelled]).state, { kind: 'Aborting', outcome: 'cancelled' });
  const dead: S.Event = { kind: 'failed', code: 'GUEST_FAILED', detail: '' };
  t.match(source([...waiting, dead]).state, { kind: 'Aborting', code: 'GUEST_FAILED' });
  const late: S.Event[] = [
    { kind: 'roundSent', sent },
    lost,
    { kind: 'peerClosed', code: 'PEER_CLOSED', detail: '' },
  ];
  t.equal(source([...waiting, ...late]).state.kind, 'Reconnecting');
});

void test('source: so many sessions, and not one more', async (t) => {
  const again = [lost, due, ...opening({ round: 0, accepted: [1] })];
  const times = (count: number) => Array.from({ length: count }, () => again).flat();
  const last = source([...opening(), ...times(SESSIONS_MAX - 1)]);
  t.match(last.state, { kind: 'SendingRound', sessions: SESSIONS_MAX });
  t.match(source([...opening(), ...times(SESSIONS_MAX - 1), lost]).state, {
    kind: 'Aborting',
    code: 'CHANNEL_LOST',
  });
});

void test('source: a round that broke is none that the guest was too fast for', async (t) => {
  const dirty = dirtyCollected(100_000);
  const round = (n: number): S.Event[] => [{ kind: 'roundSent', sent }, roundOk(n), dirty];
  const twice = [...opening(), ...round(0), ...round(1)];
  t.equal(source(twice).state.kind, 'SendingRound');
  t.match(source([...twice, ...round(2)]).state, { kind: 'Aborting', code: 'NOT_CONVERGING' });
  const resumed = [...twice, lost, due, ...opening({ round: 2, accepted: [1] })];
  t.match(source([...resumed, ...round(3)]).state, { kind: 'Aborting', code: 'NOT_CONVERGING' });
  const once = [...opening(), ...round(0), lost, due, ...opening({ round: 1, accepted: [1] })];
  t.match(source([...once, ...round(2)]).state, { kind: 'SendingRound', round: 3 });
});

// The destination.

const destinationPlan = (resumes: boolean): D.Plan => ({
  purpose: 'migrate',
  postCopies: false,
  host: 'host-b',
  from: 'host-a',
  suites: ['aes-256-gcm+hmac-sha256'],
  forms: ['tls'],
  encodings: ['raw'],
  channelsMax: 1,
  formats: ['software'],
  resumes,
  nonce: fill(32),
  policyDigest: fill(48),
  signedByPeer: () => true,
});

const receiving = (resume: Resume = null, features: string[] = ['resume']): readonly D.Event[] => [
  {
    kind: 'HELLO',
    message: {
      type: 'HELLO',
      versionMin: 1,
      versionMax: 1,
      migrationId: MIGRATION_ID,
      to: 'host-b',
      suites: ['aes-256-gcm+hmac-sha256'],
      forms: ['tls'],
      encodings: ['raw'],
      channels: 1,
      features,
    },
  },
  {
    kind: 'ATT_REQUEST',
    message: {
      type: 'ATT_REQUEST',
      nonce: fill(32),
      formats: ['software'],
      pcrSelection: [],
      policyDigest: fill(48),
    },
  },
  { kind: 'evidenceMade', evidence },
  { kind: 'SVR_ATT_OK', message: { type: 'SVR_ATT_OK', evidence } },
  { kind: 'appraised', code: null, detail: '' },
  {
    kind: 'OFFER',
    message: {
      type: 'OFFER',
      descriptor: descriptor(),
      epoch: 1,
      policyDigest: fill(48),
      verify: false,
    },
  },
  { kind: 'admitted', reservation: crypto.randomUUID(), ports: [7000], resume },
];

interface Step {
  readonly state: D.State;
  readonly effects: readonly D.Effect[];
}

const destination = (events: readonly D.Event[], resumes = true): Step =>
  events.reduce<Step>(
    ({ state }, event) => stepDestination(state, event),
    startDestination(destinationPlan(resumes)),
  );

const roundEnd = (round: number): D.Event => ({
  kind: 'ROUND_END',
  message: { type: 'ROUND_END', round, pages: 5, zeroPages: 0, bytes: 9, tag },
});
const closed: D.Event = { kind: 'peerClosed', code: 'PEER_CLOSED', detail: '' };

const hold = (round: number) => [
  { kind: 'arm', deadline: 'hold' },
  { kind: 'hold', round },
];

void test('destination: what came is held when the connection breaks', async (t) => {
  t.same(destination([...receiving(), closed]).effects, hold(0));
  t.same(destination([...receiving(), roundEnd(0), closed]).effects, hold(0));
  const received: D.Event = { kind: 'roundReceived', round: 0, pages: 5, tag };
  t.same(destination([...receiving(), roundEnd(0), received, closed]).effects, hold(1));
  const resume = { round: 6, accepted: [5] };
  const next = destination(receiving(resume));
  t.match(next.state, { kind: 'Receiving', round: 7 });
  t.match(next.effects.at(-1), { kind: 'send', message: { type: 'ACCEPT', resume } });
  t.match(destination([...receiving(), closed], false).state, { kind: 'Aborting' });
  t.match(destination([...receiving(null, []), closed]).state, { kind: 'Aborting' });
  for (let at = 1; at < receiving().length; at += 1) {
    t.match(destination([...receiving().slice(0, at), closed]).state, { kind: 'Aborting' });
  }
  for (const code of ['RECORD_FORGED', 'RECORD_ORDER', 'GUEST_FAILED'] as const) {
    const { state } = destination([...receiving(), { kind: 'failed', code, detail: '' }]);
    t.match(state, { kind: 'Aborting', code });
  }
});

void test('destination: what is held is given up, or goes over to another session', async (t) => {
  const holding = [...receiving(), closed];
  const abort: D.Event = {
    kind: 'ABORT',
    message: { type: 'ABORT', code: 'CANCELLED', detail: '', signature: fill(64) },
  };
  const ends: Readonly<Record<string, readonly [D.Event, Code]>> = {
    'its time is over': [{ kind: 'deadlinePassed' }, 'PEER_CLOSED'],
    'nobody knows what came': [{ kind: 'notHeld' }, 'PEER_CLOSED'],
    'the source gives it up': [abort, 'CANCELLED'],
    'the daemon stops': [{ kind: 'cancelRequested', code: 'DAEMON_STOPPING' }, 'DAEMON_STOPPING'],
    'its guest dies': [{ kind: 'failed', code: 'GUEST_FAILED', detail: '' }, 'GUEST_FAILED'],
  };
  for (const [what, [event, code]] of Object.entries(ends)) {
    t.match(destination([...holding, event]).state, { kind: 'Aborting', code }, what);
  }
  const late: D.Event[] = [
    roundEnd(0),
    closed,
    { kind: 'failed', code: 'CHANNEL_LOST', detail: '' },
  ];
  t.equal(destination([...holding, ...late]).state.kind, 'Holding');
  const passed = destination([...holding, { kind: 'passedOn' }]);
  t.equal(passed.state.kind, 'PassedOn');
  t.same(passed.effects, [{ kind: 'disarm' }, { kind: 'letGo' }]);
  for (const event of [abort, closed, roundEnd(0), ...Object.values(ends).map(([end]) => end)]) {
    const { state, effects } = destination([...holding, { kind: 'passedOn' }, event]);
    t.match([state.kind, effects.length], ['PassedOn', 0], 'it is not ours any more');
  }
});
