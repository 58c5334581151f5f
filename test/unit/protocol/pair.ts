/**
 * Both machines of a session, wired to each other without sockets, clock or guest: effects are answered at once
 * by a small pretend host on each side, messages pass through two queues that a test may meddle with.
 */
import { createHash } from 'node:crypto';
import type { Code } from '../../../src/protocol/codes.ts';
import { startDestination, stepDestination } from '../../../src/protocol/destination/machine.ts';
import type * as D from '../../../src/protocol/destination/state.ts';
import type { Message } from '../../../src/protocol/messages.ts';
import { migrateOptionsSchema } from '../../../src/protocol/options.ts';
import { receiptStatement } from '../../../src/protocol/statement.ts';
import { startSource, stepSource } from '../../../src/protocol/source/machine.ts';
import type * as S from '../../../src/protocol/source/state.ts';
import { descriptor, dirtyCollected, MIGRATION_ID } from './samples.ts';

/** A pretend signature: names its signer, so that the other side's word cannot be forged by luck. */
const seal = (who: string, statement: Uint8Array): Uint8Array =>
  createHash('sha512').update(who).update(statement).digest();

const digest = new Uint8Array(48);
const policyDigest = new Uint8Array(48).fill(1);

/** What is on each side's disk, and what runs: the facts that the invariants speak of. */
export interface Facts {
  sourceMayRun: boolean;
  surrendered: boolean;
  prepared: boolean;
  destinationHolds: boolean;
}

export interface Meddling {
  /** Dirty pages after each round; the last repeats. */
  readonly dirty?: readonly number[];
  readonly appraisal?: { readonly source?: Code; readonly destination?: Code };
  readonly refusal?: Code;
  /** Changes, drops (undefined) or multiplies a message on its way. */
  readonly onWire?: (message: Message, towards: 'source' | 'destination') => Message[];
  /** Answers an effect instead of the pretend host; undefined leaves it to the host. */
  readonly source?: (effect: S.Effect) => S.Event[] | undefined;
  readonly destination?: (effect: D.Effect) => D.Event[] | undefined;
  /** Answers an effect that the pretend host has carried out: a write whose success is not told. */
  readonly afterSource?: (effect: S.Effect) => S.Event[] | undefined;
  readonly afterDestination?: (effect: D.Effect) => D.Event[] | undefined;
}

export class Pair {
  source: S.State;
  destination: D.State;
  readonly facts: Facts = {
    sourceMayRun: true,
    surrendered: false,
    prepared: false,
    destinationHolds: false,
  };
  readonly sent: string[] = [];
  readonly #meddling: Meddling;
  readonly #toSource: S.Event[] = [];
  readonly #toDestination: D.Event[] = [];
  #round = 0;

  constructor(meddling: Meddling = {}) {
    this.#meddling = meddling;
    this.source = startSource({
      migrationId: MIGRATION_ID,
      from: 'host-a',
      options: migrateOptionsSchema.parse({ vm: 'vm1', to: 'host-b', downtimeLimitMs: 50 }),
      suites: ['aes-256-gcm+hmac-sha256'],
      forms: ['tls'],
      encodings: ['zero', 'raw'],
      formats: ['software'],
      nonce: new Uint8Array(32).fill(2),
      policyDigest,
      epoch: 1,
      handoverMs: 5,
      purpose: 'migrate',
      resumes: false,
      signedByPeer: (statement, signature) =>
        Buffer.from(seal('host-b', statement)).equals(signature),
    });
    const start = startDestination({
      host: 'host-b',
      from: 'host-a',
      suites: ['aes-256-gcm+hmac-sha256', 'chacha20-poly1305+hmac-sha256'],
      forms: ['tls'],
      encodings: ['zero', 'raw'],
      channelsMax: 4,
      postCopies: true,
      purpose: 'migrate',
      resumes: false,
      formats: ['software'],
      nonce: new Uint8Array(32).fill(3),
      policyDigest,
      signedByPeer: (statement, signature) =>
        Buffer.from(seal('host-a', statement)).equals(signature),
    });
    this.destination = start.state;
  }

  /** Runs until nothing is left to do. `check` is called after every step. */
  run(check: (pair: Pair) => void = () => undefined): this {
    this.giveSource({ kind: 'started' });
    return this.settle(check);
  }

  giveSource(event: S.Event): void {
    this.#toSource.push(event);
  }

  giveDestination(event: D.Event): void {
    this.#toDestination.push(event);
  }

  settle(check: (pair: Pair) => void = () => undefined): this {
    for (let steps = 0; steps < 10_000; steps += 1) {
      const sourceMoved = this.step('source');
      check(this);
      const destinationMoved = this.step('destination');
      check(this);
      if (!sourceMoved && !destinationMoved) return this;
    }
    throw new Error('the machines never came to rest');
  }

  /** Lets one side take its next event; false when there is none. */
  step(side: 'source' | 'destination'): boolean {
    if (side === 'source') {
      const event = this.#toSource.shift();
      if (event !== undefined) this.#stepSource(event);
      return event !== undefined;
    }
    const event = this.#toDestination.shift();
    if (event !== undefined) this.#stepDestination(event);
    return event !== undefined;
  }

  #stepSource(event: S.Event): void {
    const { state, effects } = stepSource(this.source, event);
    this.source = state;
    for (const effect of effects) {
      const answers = this.#meddling.source?.(effect) ?? this.#sourceHost(effect);
      this.#toSource.push(...(this.#meddling.afterSource?.(effect) ?? answers));
    }
  }

  #stepDestination(event: D.Event): void {
    const { state, effects } = stepDestination(this.destination, event);
    this.destination = state;
    for (const effect of effects) {
      const answers = this.#meddling.destination?.(effect) ?? this.#destinationHost(effect);
      this.#toDestination.push(...(this.#meddling.afterDestination?.(effect) ?? answers));
    }
  }

  #wire(message: Message, towards: 'source' | 'destination'): void {
    this.sent.push(message.type);
    const arriving = this.#meddling.onWire?.(message, towards) ?? [message];
    for (const one of arriving) {
      if (towards === 'source') this.#toSource.push({ kind: one.type, message: one } as S.Event);
      else this.#toDestination.push({ kind: one.type, message: one } as D.Event);
    }
  }

  #sourceHost(effect: S.Effect): S.Event[] {
    const sent = { pages: 1024, zeroPages: 0, bytesSent: 4 << 20, tag: digest };
    switch (effect.kind) {
      case 'connect':
        return [{ kind: 'connected' }];
      case 'send':
        this.#wire(effect.message, 'destination');
        return [];
      case 'sendSigned':
        this.#wire(
          { ...effect.message, signature: seal('host-a', effect.statement) },
          'destination',
        );
        return [];
      case 'appraise': {
        const code = this.#meddling.appraisal?.destination ?? null;
        return [{ kind: 'appraised', code, detail: '' }];
      }
      case 'makeEvidence':
        return [
          { kind: 'evidenceMade', evidence: { format: 'software', body: new Uint8Array(1) } },
        ];
      case 'describe':
        return [{ kind: 'described', descriptor: descriptor() }];
      case 'joinChannels':
        return [{ kind: 'channelsJoined', owedPages: 1024, elapsedMs: 0 }];
      case 'sendRound':
        return [{ kind: 'roundSent', sent }];
      case 'collectDirty': {
        const { dirty = [0] } = this.#meddling;
        const dirtyPages = dirty[Math.min(this.#round, dirty.length - 1)] ?? 0;
        this.#round += 1;
        return [dirtyCollected(dirtyPages)];
      }
      case 'holdGuest':
        this.facts.sourceMayRun = false;
        return [];
      case 'pauseGuest':
        this.facts.sourceMayRun = false;
        return [{ kind: 'guestPaused', stateBytes: 100 }];
      case 'sendFinal':
        return [
          {
            kind: 'finalSent',
            transcriptDigest: digest,
            stateBytes: effect.stateBytes,
            memoryDigest: new Uint8Array(0),
          },
        ];
      case 'surrender':
        this.facts.surrendered = true;
        return [{ kind: 'surrendered' }];
      case 'abandon':
        this.facts.surrendered = false;
        this.facts.sourceMayRun = true;
        return [{ kind: 'abandoned' }];
      case 'arm':
      case 'disarm':
      case 'deriveKeys':
      case 'reconnect':
      case 'handOver':
      case 'tellRound':
      case 'tellDeadline':
      case 'pace':
      case 'throttle':
      case 'end':
        return [];
    }
  }

  #destinationHost(effect: D.Effect): D.Event[] {
    switch (effect.kind) {
      case 'send':
        this.#wire(effect.message, 'source');
        return [];
      case 'sendSigned':
        this.#wire({ ...effect.message, signature: seal('host-b', effect.statement) }, 'source');
        return [];
      case 'makeEvidence':
        return [
          { kind: 'evidenceMade', evidence: { format: 'software', body: new Uint8Array(1) } },
        ];
      case 'appraise': {
        const code = this.#meddling.appraisal?.source ?? null;
        return [{ kind: 'appraised', code, detail: '' }];
      }
      case 'admit': {
        const { refusal } = this.#meddling;
        if (refusal !== undefined) return [{ kind: 'notAdmitted', code: refusal, detail: '' }];
        this.facts.destinationHolds = true;
        return [
          { kind: 'admitted', reservation: crypto.randomUUID(), ports: [7000], resume: null },
        ];
      }
      case 'awaitRound':
        return [{ kind: 'roundReceived', round: effect.round, pages: 1024, tag: digest }];
      case 'awaitFinal':
        return [
          {
            kind: 'finalReceived',
            transcriptDigest: digest,
            stateBytes: 100,
            absentPages: 0,
            memoryDigest: new Uint8Array(0),
          },
        ];
      case 'prepare':
        this.facts.prepared = true;
        return [{ kind: 'prepared' }];
      case 'handOver': {
        // What the handover's machine says first.
        const { subject, transcriptDigest } = effect;
        const receipt = seal('host-b', receiptStatement(subject, transcriptDigest));
        this.#wire({ type: 'DONE', signature: receipt }, 'source');
        return [];
      }
      case 'abandon':
        this.facts.destinationHolds = false;
        this.facts.prepared = false;
        return [{ kind: 'abandoned' }];
      case 'arm':
      case 'disarm':
      case 'open':
      case 'hold':
      case 'letGo':
      case 'reopen':
      case 'deriveKeys':
      case 'end':
        return [];
    }
  }
}

/** The invariants, as far as two sessions can break them. */
export function invariants({ facts }: Pair): void {
  if (facts.surrendered && facts.sourceMayRun) throw new Error('it runs after the surrender');
  if (facts.surrendered && !facts.prepared) throw new Error('surrendered to nobody');
  if (facts.prepared && !facts.destinationHolds) throw new Error('no loss: nobody holds it');
}
