/**
 * One more session of a post-copy at the source: connected and attested as any, then its channels. It is
 * given away joined; nothing of it is on record.
 */
import {
  CONNECT_MS_MAX,
  GUEST_WORK_MS_MAX,
  REPLY_MS_MAX,
  ROUND_CONFIRM_MS_MAX,
} from '../../base/limits.ts';
import { verify } from 'node:crypto';
import type { GuestMemory } from '../../guest/driver.ts';
import { MigError } from '../../protocol/error.ts';
import { migrateOptionsSchema } from '../../protocol/options.ts';
import { startSource, stepSource } from '../../protocol/source/machine.ts';
import type { Deadline as Named, Effect, Event, Plan, State } from '../../protocol/source/state.ts';
import type { MigrationRecord } from '../../store/records.ts';
import { SERVE_PATH } from '../../transport/control.ts';
import type { OutgoingPorts } from '../outgoing.ts';
import { OutgoingSession } from '../outgoing-session.ts';
import { closeChannels, openChannels } from '../sending-channels.ts';
import { Deadline, Runner } from '../runner.ts';
import type { ServingChannels } from './page-service.ts';

const DEADLINE_MS: { readonly [K in Named]: number } = {
  connect: CONNECT_MS_MAX,
  reply: REPLY_MS_MAX,
  admission: REPLY_MS_MAX,
  confirm: ROUND_CONFIRM_MS_MAX,
  work: GUEST_WORK_MS_MAX,
};

export interface ServingRequest {
  readonly record: MigrationRecord;
  readonly memory: GuestMemory;
  /** "host:port" of the destination. */
  readonly address: string;
  readonly signal: AbortSignal;
}

/** Rejects with what ends a session; nothing is left open then. */
export async function openServing(
  ports: OutgoingPorts,
  request: ServingRequest,
): Promise<ServingChannels> {
  const serving = new OutgoingServing(ports, request);
  try {
    return await serving.joined;
  } finally {
    serving.end();
  }
}

class OutgoingServing {
  readonly #request: ServingRequest;
  readonly #session: OutgoingSession;
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #joined = Promise.withResolvers<ServingChannels>();
  readonly #aborted = (): void =>
    this.#runner.dispatch({ kind: 'cancelRequested', code: 'CANCELLED' });
  #channels: ServingChannels | undefined;

  constructor(ports: OutgoingPorts, request: ServingRequest) {
    this.#request = request;
    const { record, address, signal } = request;
    const { migrationId, vm, to, handover } = record;
    // What the operator asked for, as far as it still matters.
    const options = migrateOptionsSchema.parse({
      vm,
      to,
      mode: 'post-copy',
      ...handover?.session,
    });
    const dispatch = (event: Event) => this.#runner.dispatch(event);
    const asked = { migrationId, options, address, queuedMs: 0, path: SERVE_PATH } as const;
    this.#session = new OutgoingSession(ports, asked, dispatch);
    this.#deadline = new Deadline(ports.clock, () => dispatch({ kind: 'deadlinePassed' }));
    const { appraiser } = this.#session.credentials;
    const { suite, form } = options;
    const plan: Plan = {
      purpose: 'serve',
      migrationId,
      from: ports.host,
      options,
      suites: suite === undefined ? ports.suites : [suite],
      forms: form === undefined ? ports.forms : [form],
      encodings: ports.encodings,
      formats: appraiser.allowed,
      nonce: ports.random.bytes(32),
      policyDigest: appraiser.policyDigest,
      epoch: handover?.epoch ?? 1,
      handoverMs: 0,
      resumes: false,
      signedByPeer: (statement, signature) =>
        verify(null, statement, this.#session.conversation.peer.publicKey, signature),
    };
    this.#runner = new Runner<State, Event, Effect>({
      state: startSource(plan),
      step: stepSource,
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: ({ kind }) => {
        if (kind === 'Joined' && this.#channels !== undefined) {
          this.#joined.resolve(this.#channels);
        }
      },
    });
    signal.addEventListener('abort', this.#aborted, { once: true });
    this.#runner.dispatch({ kind: 'started' });
    if (signal.aborted) this.#aborted();
  }

  get joined(): Promise<ServingChannels> {
    return this.#joined.promise;
  }

  /** Ends the session's conversation; channels that joined stay. */
  end(): void {
    this.#request.signal.removeEventListener('abort', this.#aborted);
    this.#deadline.disarm();
    this.#session.end();
  }

  #perform(effect: Effect): Promise<Event | undefined> | Event | undefined {
    const session = this.#session;
    switch (effect.kind) {
      case 'connect':
        return session.heed(session.connect());
      case 'send':
        session.send(effect.message);
        return undefined;
      case 'arm':
        this.#deadline.arm(DEADLINE_MS[effect.deadline]);
        return undefined;
      case 'disarm':
        this.#deadline.disarm();
        return undefined;
      case 'appraise':
        return session.heed(session.appraise(effect));
      case 'makeEvidence':
        return session.heed(session.makeEvidence(effect));
      case 'deriveKeys':
        session.deriveKeys(effect);
        return undefined;
      case 'joinChannels':
        return session.sending(this.#join(effect));
      case 'abandon':
        return this.#abandon(new MigError(effect.code, effect.detail));
      case 'end':
        return undefined;
      case 'sendSigned':
      case 'describe':
      case 'sendRound':
      case 'collectDirty':
      case 'tellRound':
      case 'tellDeadline':
      case 'pace':
      case 'throttle':
      case 'holdGuest':
      case 'pauseGuest':
      case 'sendFinal':
      case 'surrender':
      case 'handOver':
      case 'reconnect':
        throw new Error(`${effect.kind} in a session to serve`);
    }
  }

  async #join(effect: Extract<Effect, { kind: 'joinChannels' }>): Promise<Event> {
    const { signal: _, failed: __, ...options } = this.#session.channels(effect);
    const { memory, signal } = this.#request;
    const channels = await openChannels({ ...options, memory, hearsAbsent: true });
    const { sender, faults } = channels;
    try {
      if (faults === undefined) throw new MigError('CHANNEL_JOIN', 'none to ask for pages on');
      await faults.absentHeard();
      if (signal.aborted) throw new MigError('CANCELLED');
    } catch (thrown) {
      await closeChannels(channels);
      throw thrown;
    }
    this.#channels = { sender, faults };
    return { kind: 'channelsJoined', owedPages: 0, elapsedMs: 0 };
  }

  async #abandon(failure: MigError): Promise<Event> {
    const underWay = this.#runner.underWay();
    this.#session.leave();
    // What was being opened is open now.
    await underWay;
    if (this.#channels !== undefined) await closeChannels(this.#channels);
    this.#joined.reject(failure);
    return { kind: 'abandoned' };
  }
}
