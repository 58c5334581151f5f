/** A handover at a host that is all pretence but the handover itself: links, time, and the work. */
import { generateKeyPairSync, sign } from 'node:crypto';
import type { Clock } from '../../../src/base/ports.ts';
import type { Conversation, Listener } from '../../../src/migration/conversation.ts';
import { Handover } from '../../../src/migration/handover/handover.ts';
import {
  beginDestinationHandover,
  stepDestinationHandover,
  type DestinationDone,
  type DestinationState,
  type DestinationWork,
} from '../../../src/protocol/handover/destination.ts';
import type { SharedEvent } from '../../../src/protocol/handover/matter.ts';
import {
  beginSourceHandover,
  stepSourceHandover,
  type SourceDone,
  type SourceState,
  type SourceWork,
} from '../../../src/protocol/handover/source.ts';
import type { Message } from '../../../src/protocol/messages.ts';
import type { Subject } from '../../../src/protocol/statement.ts';

/** The other host's, and ours: whose word it is, is tested elsewhere. */
const { publicKey, privateKey } = generateKeyPairSync('ed25519');
export const signed = (statement: Uint8Array) => sign(null, statement, privateKey);

export const subject: Subject = {
  migrationId: 'm',
  vmId: 'v',
  epoch: 1,
  from: 'host-a',
  to: 'host-b',
};
export const digest = new Uint8Array(48);

/** A link as the handover sees it, and what was done with it. */
export class PretendLink {
  readonly peer = { publicKey };
  readonly said: string[] = [];
  #listener: Listener | undefined;
  isClosed = false;

  listen(listener: Listener): void {
    this.#listener = listener;
  }

  passTo(listener: Listener): void {
    this.#listener = listener;
  }

  send({ type }: { readonly type: string }): void {
    this.said.push(type);
  }

  close(): void {
    this.isClosed = true;
  }

  /** The other host says something. */
  hears(message: Message): void {
    this.#listener?.message(message);
  }

  get link(): Conversation {
    return this as unknown as Conversation;
  }
}

/** Time that passes when told to. */
export class Hours implements Clock {
  #nowMs = 0;
  readonly #waiting = new Map<() => void, number>();

  now(): number {
    return this.#nowMs;
  }

  wall(): number {
    return this.#nowMs;
  }

  after(delayMs: number, timer: () => void): { cancel: () => void } {
    const own = () => timer();
    this.#waiting.set(own, this.#nowMs + delayMs);
    return { cancel: () => this.#waiting.delete(own) };
  }

  /** Fires what is due by then, in order. */
  pass(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const [next] = [...this.#waiting].toSorted(([, a], [, b]) => a - b);
      if (next === undefined || next[1] > endMs) break;
      const [timer, atMs] = next;
      this.#waiting.delete(timer);
      this.#nowMs = atMs;
      timer();
    }
    this.#nowMs = endMs;
  }
}

interface Pretence {
  readonly clock: Clock;
  readonly connect?: () => Promise<Conversation>;
  readonly link?: Conversation;
}

const ports = ({ clock, connect = () => Promise.reject(new Error('refused')) }: Pretence) => ({
  clock,
  random: { bytes: (count: number) => new Uint8Array(count) },
  hostKey: () => privateKey,
  silenceMs: 1,
  connect,
});

export const sourceHandover = (
  pretence: Pretence,
  work: (effect: SourceWork) => Promise<SourceDone>,
) =>
  new Handover<SourceState, SourceWork, SourceDone>(
    ports(pretence),
    {
      begin: (matter) =>
        beginSourceHandover(matter, pretence.link === undefined ? 'alone' : 'linked'),
      step: stepSourceHandover,
      work,
    },
    { subject, transcriptDigest: digest, leavesPages: false, link: pretence.link },
  );

export const destinationHandover = (
  pretence: Pretence,
  work: (effect: DestinationWork) => Promise<DestinationDone | SharedEvent>,
) =>
  new Handover<DestinationState, DestinationWork, DestinationDone>(
    ports(pretence),
    {
      begin: (matter) =>
        beginDestinationHandover(matter, pretence.link === undefined ? 'alone' : 'linked'),
      step: stepDestinationHandover,
      work,
    },
    { subject, transcriptDigest: digest, leavesPages: false, link: pretence.link },
  );
