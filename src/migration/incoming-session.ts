/**
 * One session of an incoming migration: its connection, what is attested on it, its keys and the data
 * channels made under them. It decides nothing.
 */
import type { KeyObject } from 'node:crypto';
import type { Clock, Random } from '../base/ports.ts';
import type { Identity } from '../crypto/pki/identity.ts';
import type { ChannelForm, EncodingName, SuiteName } from '../protocol/options.ts';
import type { RecordStore } from '../store/records.ts';
import type { Admission } from './admission.ts';
import type { Appraiser } from './appraiser.ts';
import type { Threads } from './data-plane/threads.ts';
import type { Handovers } from './handover/handovers.ts';
import type { Resumable } from './held-transfer.ts';
import type { Inventory } from './inventory.ts';
import type { SessionSecret } from '../crypto/key-schedule.ts';
import type { GuestMemory } from '../guest/driver.ts';
import type { Effect, Event } from '../protocol/destination/state.ts';
import type { Agreed } from '../protocol/session.ts';
import type { Engine } from '../transport/connection.ts';
import type { ControlChannel } from '../transport/control.ts';
import { Conversation } from './conversation.ts';
import { openFaultHandler } from './data-plane/fault-channel.ts';
import { openReceiver } from './data-plane/receiver.ts';
import { ReceivingChannels } from './receiving-channels.ts';
import { originAt, type Standing } from './standing.ts';

/** What a migration needs of its host. */
export interface IncomingPorts {
  readonly host: string;
  readonly identity: Identity;
  readonly hostKey: KeyObject;
  readonly suites: readonly SuiteName[];
  readonly forms: readonly ChannelForm[];
  readonly encodings: readonly EncodingName[];
  readonly engine: Engine;
  /** Whether a guest can run here while its memory comes. */
  readonly postCopies: boolean;
  readonly channelsMax: number;
  readonly dataPorts: { readonly from: number; readonly to: number } | undefined;
  readonly appraiser: Appraiser;
  readonly admission: Admission;
  readonly inventory: Inventory;
  readonly store: RecordStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly threads: Threads;
  readonly handovers: Handovers;
  readonly silenceMs: number;
  /** How long what came is held for a source that lost its connection; 0: not at all. */
  readonly reconnectMs: number;
  /** The session of this migration, from the same host, that the next one may take over from. */
  readonly resumable: (migrationId: string, from: string) => Resumable | undefined;
  /** Whether an incoming migration of this id, not on record yet, has begun. */
  readonly isUnderWay: (migrationId: string) => boolean;
}

export class IncomingSession {
  readonly conversation: Conversation;
  readonly #ports: IncomingPorts;
  #secret: SessionSecret | undefined;

  constructor(ports: IncomingPorts, channel: ControlChannel) {
    this.#ports = ports;
    this.conversation = new Conversation(channel, 'destination');
  }

  async makeEvidence(
    migrationId: string,
    { formats, nonce, policyDigest }: Extract<Effect, { kind: 'makeEvidence' }>,
  ): Promise<Event> {
    const binding = this.conversation.binding('destination', { nonce, migrationId, policyDigest });
    const evidence = await this.#ports.appraiser.make(formats, binding);
    return { kind: 'evidenceMade', evidence };
  }

  async appraise(
    migrationId: string,
    { evidence, nonce, policyDigest }: Extract<Effect, { kind: 'appraise' }>,
  ): Promise<Event> {
    const binding = this.conversation.binding('source', { nonce, migrationId, policyDigest });
    const { peer } = this.conversation;
    const { code, detail } = await this.#ports.appraiser.appraise(evidence, binding, peer);
    return { kind: 'appraised', code, detail };
  }

  /** Both appraisals passed. */
  deriveKeys(
    migrationId: string,
    { nonceS, nonceD }: Extract<Effect, { kind: 'deriveKeys' }>,
  ): void {
    this.#secret = this.conversation.deriveSecret(migrationId, nonceS, nonceD);
  }

  /** Listens for the data channels, that go on from `standing`. */
  async openChannels(
    migrationId: string,
    agreed: Agreed,
    memory: GuestMemory,
    standing: Standing | null,
    { isLate = false }: { readonly isLate?: boolean } = {},
  ): Promise<ReceivingChannels> {
    const { suite, form, encodings, channels, postCopy } = agreed;
    const { identity, dataPorts, clock, threads, silenceMs, engine } = this.#ports;
    const { localAddress, peer } = this.conversation;
    if (this.#secret === undefined) throw new Error('no keys yet');
    const options = {
      migrationId,
      address: localAddress,
      ports: dataPorts,
      peer,
      identity,
      suite,
      form,
      encodings,
      engine,
      channels,
      secret: this.#secret,
      memory,
      clock,
      threads,
      silenceMs,
      origin: originAt(standing),
      postCopy,
      isLate,
    };
    const [receiver, faults] = await Promise.allSettled([
      openReceiver(options),
      postCopy ? openFaultHandler(options, channels, isLate) : undefined,
    ]);
    if (receiver.status === 'fulfilled' && faults.status === 'fulfilled') {
      return new ReceivingChannels(receiver.value, faults.value);
    }
    if (receiver.status === 'fulfilled') await receiver.value.close();
    if (faults.status === 'fulfilled') await faults.value?.close();
    throw receiver.status === 'rejected'
      ? receiver.reason
      : (faults as PromiseRejectedResult).reason;
  }

  wipe(): void {
    this.#secret?.[Symbol.dispose]();
  }
}
