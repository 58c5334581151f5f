/**
 * A daemon that is frozen (SIGSTOP) at a step of the protocol and thawed later: its kernel still
 * answers for it, nobody is told. Before the surrender that is an abort within the limit; after it
 * both keep everything, say that they are in doubt, and go on by themselves.
 */
import { test } from 'tap';
import { IN_DOUBT_ANSWER_MS_MAX } from '../../../src/base/limits.ts';
import { answerOf, eventually } from '../refusal.ts';
import { Field, otherOf, VM } from './field.ts';

const PEER_SILENCE_MS = 1_000;
/** For what a busy machine adds. */
const MARGIN_MS = 4_000;

interface Case {
  readonly who: 'source' | 'destination';
  readonly step: string;
  /** What the operator is told; nothing, while the daemon that he asked is frozen. */
  readonly told: { readonly outcome: string; readonly code: string } | 'later';
  /** What the other host says of the VM while its peer is frozen. */
  readonly meanwhile: object;
  readonly runsAt: 'source' | 'destination';
}

const ABORTED = { outcome: 'failed', code: 'PEER_SILENT' };
const IN_DOUBT = { outcome: 'in-doubt', code: 'IN_DOUBT' };
const RUNS = { state: 'running', guest: { state: 'running' } };
const HELD = { state: 'in-doubt', guest: { state: 'held' } };
const INCOMING = { state: 'in-doubt', guest: { state: 'incoming' } };

const CASES: Readonly<Record<string, Case>> = {
  'the destination, in the rounds': {
    who: 'destination',
    step: 'before destination.send:ROUND_OK',
    told: ABORTED,
    meanwhile: RUNS,
    runsAt: 'source',
  },
  'the destination, before it is prepared': {
    who: 'destination',
    step: 'before destination.prepare',
    told: ABORTED,
    meanwhile: RUNS,
    runsAt: 'source',
  },
  'the destination, before it heard the token': {
    who: 'destination',
    step: 'after destination-handover.say:DONE',
    told: IN_DOUBT,
    meanwhile: HELD,
    runsAt: 'destination',
  },
  'the destination, before it activated': {
    who: 'destination',
    step: 'before destination-handover.recordActive',
    told: IN_DOUBT,
    meanwhile: HELD,
    runsAt: 'destination',
  },
  'the destination, before it told': {
    who: 'destination',
    step: 'before destination-handover.say:ACTIVATED',
    told: IN_DOUBT,
    meanwhile: HELD,
    runsAt: 'destination',
  },
  'the source, before it surrendered': {
    who: 'source',
    step: 'before source.surrender',
    told: 'later',
    meanwhile: INCOMING,
    runsAt: 'destination',
  },
  'the source, before it deleted': {
    who: 'source',
    step: 'before source-handover.deleteGuest',
    told: 'later',
    meanwhile: RUNS,
    runsAt: 'destination',
  },
};

void test('a frozen peer', async (t) => {
  await using field = await Field.start({ config: { limits: { peerSilenceMs: PEER_SILENCE_MS } } });
  for (const [what, { who, step, told, meanwhile, runsAt }] of Object.entries(CASES)) {
    await t.test(what, async (t) => {
      const source = field.at;
      const frozen = who === 'source' ? source : otherOf(source);
      const awake = field.api(otherOf(frozen));
      const daemon = field.cluster.get(frozen).process;
      const stopped = field.conductor.stopAt(step);
      const asked = answerOf(field.api(source).migrate(VM, otherOf(source)));
      await stopped;
      daemon.kill('SIGSTOP');
      const frozenAt = performance.now();
      field.conductor.go();
      if (told !== 'later') {
        t.match(await asked, told);
        const limitMs = PEER_SILENCE_MS + (told === IN_DOUBT ? IN_DOUBT_ANSWER_MS_MAX : 0);
        const tookMs = performance.now() - frozenAt;
        t.ok(tookMs < limitMs + MARGIN_MS, `told within the limit (${Math.round(tookMs)} ms)`);
      }
      await eventually('the other host has noticed', async () => {
        const { state } = await awake.show(VM).catch(() => ({ state: 'unknown' }));
        return 'state' in meanwhile && state === meanwhile.state;
      });
      t.match(await awake.show(VM), meanwhile);
      daemon.kill('SIGCONT');
      const at = await field.settled();
      t.equal(at, runsAt === 'source' ? source : otherOf(source));
      await asked;
      t.same(await field.wrongs(at), []);
      t.same(await field.moves(), []);
    });
  }
  t.same(await field.leftOpen(), []);
});
