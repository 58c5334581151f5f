/**
 * Someone on the wire changes, cuts or holds back what two daemons say to each other, on the control
 * channel and on the data channel. Whatever is done: a coded answer within a bound, the VM runs on at
 * the source, the destination is clean, and a retry works. What is done inside TLS, by who has the
 * session's keys, is in test/unit/migration/data-plane/tamper.test.ts.
 */
import { test, type Test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { Code } from '../../src/protocol/codes.ts';
import type { MigrationEvent } from '../../src/migration/report.ts';
import { survives } from '../process/refusal.ts';
import type { Passing, Relay, RelayRules, Towards } from '../process/relay.ts';
import { Wire } from './wire.ts';

const SILENCE_MS = 1_500;
/** Generous: what bounds each case is said where it differs; this is for a loaded machine. */
const ANSWER_MS = 20_000;
const config = { limits: { peerSilenceMs: SILENCE_MS } };

/** Rounds without end: each takes an eighth of a second, in which all is written again. */
const WRITING = { workload: { kind: 'writer', rateBps: 50e6, workingSetBytes: 2 * MiB } };
const ENDLESS = { downtimeLimitMs: 1, roundsMax: 1000, maxBandwidthBps: 16 * MiB };

/** Does `act` to the byte `offset` of the next connection's stream, once; says whether it did. */
class Strike {
  readonly #relay: Relay;
  readonly #towards: Towards;
  readonly #offset: number;
  readonly #act: (before: Buffer, from: Buffer) => Buffer | undefined;
  readonly #connection: number;
  hit = false;

  constructor(
    relay: Relay,
    towards: Towards,
    offset: number,
    act: (before: Buffer, from: Buffer) => Buffer | undefined,
  ) {
    this.#relay = relay;
    this.#towards = towards;
    this.#offset = offset;
    this.#act = act;
    this.#connection = relay.connections;
    relay.rules = this.rules;
  }

  get rules(): RelayRules {
    return {
      pass: (bytes: Buffer, { connection, towards, at }: Passing) => {
        const within = this.#offset - at;
        const isHere = connection === this.#connection && towards === this.#towards;
        if (!isHere || this.hit || within >= bytes.length) return bytes;
        this.hit = true;
        return this.#act(bytes.subarray(0, within), bytes.subarray(within));
      },
    };
  }

  end(): void {
    this.#relay.rules = {};
    this.#relay.release();
  }
}

/** The places below are those of one channel inside TLS. */
const IN_TLS = { form: 'tls', channels: 1 };

const flip = (before: Buffer, from: Buffer): Buffer => {
  const changed = Buffer.concat([before, from]);
  changed.writeUInt8(from.readUInt8(0) ^ 0x10, before.length);
  return changed;
};

interface Place {
  readonly what: string;
  readonly channel: 'control' | 'data';
  readonly towards: Towards;
  readonly offset: number;
  readonly code: Code;
}

/**
 * Offsets in the TLS streams of a migration: TLS 1.3 with certificates both ways takes the first 2.5
 * to 3 kB of either direction.
 */
const PLACES: readonly Place[] = [
  { what: 'ClientHello', channel: 'control', towards: 'server', offset: 50, code: 'PEER_CLOSED' },
  {
    what: 'a certificate of the source',
    channel: 'control',
    towards: 'server',
    offset: 1900,
    code: 'PEER_CLOSED',
  },
  { what: 'HELLO', channel: 'control', towards: 'server', offset: 2750, code: 'PEER_CLOSED' },
  { what: 'OFFER', channel: 'control', towards: 'server', offset: 3400, code: 'PEER_CLOSED' },
  { what: 'ROUND_END', channel: 'control', towards: 'server', offset: 3830, code: 'PEER_CLOSED' },
  { what: 'evidence', channel: 'control', towards: 'client', offset: 3000, code: 'PEER_CLOSED' },
  { what: 'ACCEPT', channel: 'control', towards: 'client', offset: 3290, code: 'PEER_CLOSED' },
  {
    what: 'the data channel’s hello',
    channel: 'data',
    towards: 'server',
    offset: 60,
    code: 'PEER_CLOSED',
  },
  {
    what: 'the data channel’s join',
    channel: 'data',
    towards: 'server',
    // After 1428 bytes of hello and 776 of certificate and proof; the join itself takes 74.
    offset: 2240,
    code: 'CHANNEL_JOIN',
  },
  {
    what: 'the first record',
    channel: 'data',
    towards: 'server',
    offset: 3_000,
    code: 'CHANNEL_LOST',
  },
  { what: 'a record', channel: 'data', towards: 'server', offset: 3_000_000, code: 'CHANNEL_LOST' },
];

function relayOf(wire: Wire, channel: Place['channel']): Relay {
  const [data] = wire.data;
  if (data === undefined) throw new Error('no data relay');
  return channel === 'control' ? wire.control : data;
}

/** Straight on TCP, where a man on the wire sees every byte of ours. */
const SEALED = { form: 'sealed', channels: 1 };
const inSealed = (what: string, towards: Towards, offset: number, code: Code) => ({
  what,
  channel: 'data' as const,
  towards,
  offset,
  code,
});
/** From the source: nonce (32), claim (52), join (52), then records: header (16), ciphertext, tag. */
const SEALED_PLACES: readonly Place[] = [
  inSealed('the source’s nonce', 'server', 10, 'CHANNEL_JOIN'),
  inSealed('the claim', 'server', 50, 'CHANNEL_JOIN'),
  inSealed('the source’s join', 'server', 100, 'CHANNEL_JOIN'),
  inSealed('the destination’s nonce', 'client', 10, 'CHANNEL_JOIN'),
  // By then the destination takes it for joined, and hears of no more than its end.
  inSealed('the destination’s join', 'client', 60, 'CHANNEL_LOST'),
  inSealed('a version', 'server', 136, 'RECORD_MALFORMED'),
  inSealed('a channel', 'server', 139, 'RECORD_ORDER'),
  inSealed('a length', 'server', 140, 'RECORD_MALFORMED'),
  inSealed('a sequence', 'server', 151, 'RECORD_ORDER'),
  inSealed('the table of pages', 'server', 160, 'RECORD_FORGED'),
  inSealed('a page', 'server', 3_000_000, 'RECORD_FORGED'),
];

void test('one bit flipped, anywhere: TLS notices, nothing happens', async (t) => {
  await using wire = await Wire.start({ config });
  await flipEach(t, wire, PLACES, IN_TLS);
});

void test('one bit flipped, anywhere in form sealed: a code, nothing happens', async (t) => {
  await using wire = await Wire.start({ config: { limits: { ...config.limits, reconnectMs: 0 } } });
  await flipEach(t, wire, SEALED_PLACES, SEALED);
});

async function flipEach(
  t: Test,
  wire: Wire,
  places: readonly Place[],
  plane: object,
): Promise<void> {
  for (const { what, channel, towards, offset, code } of places) {
    await t.test(what, async (t) => {
      const relay = relayOf(wire, channel);
      const strike = new Strike(relay, towards, offset, flip);
      await survives(t, wire.cluster, {
        attempt: (vm) => wire.cluster.a.migrate(vm, 'host-b', plane),
        code,
        answerMs: ANSWER_MS,
        mend: () => strike.end(),
      });
      t.ok(strike.hit, 'the bit was flipped');
    });
  }
}

/** Cuts the stream where it says, in order (as TCP) or by a reset. */
const CUTS: readonly (Place & { readonly how: 'finish' | 'cut' })[] = [
  {
    what: 'control ends in order within the handshake',
    channel: 'control',
    towards: 'client',
    offset: 1000,
    how: 'finish',
    code: 'PEER_CLOSED',
  },
  {
    what: 'control ends in order before the evidence is whole',
    channel: 'control',
    towards: 'client',
    offset: 3000,
    how: 'finish',
    code: 'PEER_CLOSED',
  },
  {
    what: 'control is reset when the offer was made',
    channel: 'control',
    towards: 'server',
    offset: 3650,
    how: 'cut',
    code: 'PEER_CLOSED',
  },
  {
    what: 'data ends in order within a record',
    channel: 'data',
    towards: 'server',
    offset: 1_000_000,
    how: 'finish',
    code: 'CHANNEL_LOST',
  },
  {
    what: 'data is reset within a record',
    channel: 'data',
    towards: 'server',
    offset: 1_000_000,
    how: 'cut',
    code: 'CHANNEL_LOST',
  },
];

void test('truncated: an end that TLS did not announce is none', async (t) => {
  await using wire = await Wire.start({ config });
  for (const { what, channel, towards, offset, how, code } of CUTS) {
    await t.test(what, async (t) => {
      const relay = relayOf(wire, channel);
      const strike = new Strike(relay, towards, offset, (before) => {
        // What came before is written first.
        queueMicrotask(() => relay[how]());
        return before;
      });
      await survives(t, wire.cluster, {
        attempt: (vm) => wire.cluster.a.migrate(vm, 'host-b', IN_TLS),
        code,
        answerMs: ANSWER_MS,
        mend: () => strike.end(),
      });
      t.ok(strike.hit, 'it was cut');
    });
  }
});

/** Migrates, and acts once, when round `n` has arrived. */
function afterRound(wire: Wire, vm: string, n: number, act: () => void) {
  let isDone = false;
  return wire.cluster.a.migrate(vm, 'host-b', ENDLESS, (event: MigrationEvent) => {
    if (isDone || event.event !== 'round' || event.n < n) return;
    isDone = true;
    act();
  });
}

void test('between rounds, a connection is cut or goes silent', async (t) => {
  await using wire = await Wire.start({ config });
  const { cluster, control } = wire;
  const data = relayOf(wire, 'data');
  const cases: { what: string; act: () => void; code: Code }[] = [
    { what: 'control is cut', act: () => control.cut(), code: 'PEER_CLOSED' },
    { what: 'data is cut', act: () => data.cut(), code: 'CHANNEL_LOST' },
    { what: 'control goes silent', act: () => control.hold(), code: 'PEER_SILENT' },
    { what: 'data goes silent', act: () => data.hold(), code: 'PEER_SILENT' },
  ];
  for (const { what, act, code } of cases) {
    await t.test(what, async (t) => {
      let actedAt = Infinity;
      let answeredMs = Infinity;
      await survives(t, cluster, {
        vm: WRITING,
        attempt: async (vm) => {
          const result = await afterRound(wire, vm, 2, () => {
            actedAt = performance.now();
            act();
          });
          answeredMs = performance.now() - actedAt;
          return result;
        },
        code,
        answerMs: ANSWER_MS,
        mend: () => {
          for (const relay of wire.relays) relay.release();
        },
      });
      t.ok(answeredMs < 4 * SILENCE_MS, `said ${Math.round(answeredMs)} ms after it`);
    });
  }
});
