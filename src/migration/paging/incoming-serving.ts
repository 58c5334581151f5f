/**
 * One more session of a post-copy at the destination: a VM runs here, and pages of it are missing. It is
 * attested as any, and its channels are given to whoever takes the pages; nothing of it is on record.
 */
import { verify } from 'node:crypto';
import { GUEST_WORK_MS_MAX, REPLY_MS_MAX } from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';
import { startDestination, stepDestination } from '../../protocol/destination/machine.ts';
import type { Effect, Event, State } from '../../protocol/destination/state.ts';
import type { MigrationRecord } from '../../store/records.ts';
import type { ControlChannel } from '../../transport/control.ts';
import { IncomingSession, type IncomingPorts } from '../incoming-session.ts';
import type { ReceivingChannels } from '../receiving-channels.ts';
import { isPulling } from '../recovery.ts';
import { Deadline, Runner } from '../runner.ts';
import type { PagePull } from './page-pull.ts';

/** Serves one connection to its end; never throws. */
export class IncomingServing {
  readonly #ports: IncomingPorts;
  readonly #session: IncomingSession;
  readonly #runner: Runner<State, Event, Effect>;
  readonly #deadline: Deadline;
  readonly #ended = Promise.withResolvers<void>();
  #record: MigrationRecord | undefined;
  #channels: ReceivingChannels | undefined;

  constructor(ports: IncomingPorts, channel: ControlChannel) {
    this.#ports = ports;
    this.#session = new IncomingSession(ports, channel);
    const { conversation } = this.#session;
    const { host, suites, forms, channelsMax, appraiser, random, clock, postCopies } = ports;
    const start = startDestination({
      purpose: 'serve',
      host,
      from: conversation.peer.name,
      suites,
      forms,
      encodings: ports.encodings,
      channelsMax,
      formats: appraiser.allowed,
      postCopies,
      resumes: false,
      nonce: random.bytes(32),
      policyDigest: appraiser.policyDigest,
      signedByPeer: (statement, signature) =>
        verify(null, statement, conversation.peer.publicKey, signature),
    });
    this.#deadline = new Deadline(clock, () => this.#runner.dispatch({ kind: 'deadlinePassed' }));
    this.#runner = new Runner<State, Event, Effect>({
      state: start.state,
      step: stepDestination,
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: ({ kind }) => {
        if (kind === 'Joined') this.#end();
      },
    });
    this.#runner.begin(start);
    conversation.listen(
      {
        message: (message) => this.#runner.dispatch({ kind: message.type, message } as Event),
        broken: (code, detail) => this.#runner.dispatch({ kind: 'failed', code, detail }),
        closed: (code, detail) => this.#runner.dispatch({ kind: 'peerClosed', code, detail }),
      },
      clock,
      ports.silenceMs,
    );
  }

  /** Resolves when nothing of it is left but, where it joined, its channels. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  cancel(): void {
    this.#runner.dispatch({ kind: 'cancelRequested', code: 'DAEMON_STOPPING' });
  }

  #perform(effect: Effect): Promise<Event | undefined> | Event | undefined {
    switch (effect.kind) {
      case 'send':
        this.#session.conversation.send(effect.message);
        return undefined;
      case 'arm':
        this.#deadline.arm(effect.deadline === 'reply' ? REPLY_MS_MAX : GUEST_WORK_MS_MAX);
        return undefined;
      case 'disarm':
        this.#deadline.disarm();
        return undefined;
      case 'open':
        this.#open(effect.migrationId);
        return undefined;
      case 'makeEvidence':
        return this.#session.makeEvidence(this.#opened().migrationId, effect);
      case 'appraise':
        return this.#session.appraise(this.#opened().migrationId, effect);
      case 'deriveKeys':
        this.#session.deriveKeys(this.#opened().migrationId, effect);
        return undefined;
      case 'reopen':
        return this.#reopen(effect);
      case 'abandon':
        return this.#abandon();
      case 'end':
        this.#end();
        return undefined;
      case 'sendSigned':
      case 'admit':
      case 'awaitRound':
      case 'awaitFinal':
      case 'prepare':
      case 'handOver':
      case 'hold':
      case 'letGo':
        throw new Error(`${effect.kind} in a session to pull`);
    }
  }

  /** Only of a migration that came from this very host, and is missing pages. */
  #open(migrationId: string): void {
    const record = this.#ports.store.migration(migrationId);
    const { name } = this.#session.conversation.peer;
    if (record === undefined || record.from !== name || !isPulling(record)) {
      throw new MigError('MIGRATION_UNKNOWN', migrationId);
    }
    this.#record = record;
  }

  #opened(): MigrationRecord {
    if (this.#record === undefined) throw new Error('no migration opened yet');
    return this.#record;
  }

  #pull(): PagePull {
    const pull = this.#ports.handovers.pull(this.#opened().migrationId);
    if (pull === undefined) throw new MigError('MIGRATION_UNKNOWN', 'no page of it is missing');
    return pull;
  }

  async #reopen({ agreed }: Extract<Effect, { kind: 'reopen' }>): Promise<Event> {
    const { migrationId } = this.#opened();
    const pull = this.#pull();
    pull.expect(() =>
      this.#runner.dispatch({ kind: 'failed', code: 'CHANNEL_LOST', detail: 'another session' }),
    );
    const channels = await this.#session.openChannels(migrationId, agreed, pull.memory, null, {
      isLate: true,
    });
    this.#channels = channels;
    void channels.failed.then(({ code, detail }) =>
      this.#runner.dispatch({ kind: 'failed', code, detail }),
    );
    void this.#join(pull, channels);
    return { kind: 'reopened', ports: channels.ports };
  }

  async #join(pull: PagePull, channels: ReceivingChannels): Promise<void> {
    try {
      await channels.joined;
      const taken = channels.take();
      if (taken === undefined) throw new MigError('CHANNEL_JOIN', 'none to ask for pages on');
      await pull.join(taken);
      this.#runner.dispatch({ kind: 'joined' });
    } catch (thrown) {
      const { code, detail } = MigError.from(thrown);
      this.#runner.dispatch({ kind: 'failed', code, detail });
    }
  }

  async #abandon(): Promise<Event> {
    const underWay = this.#runner.underWay();
    this.#session.wipe();
    await this.#channels?.close();
    // What was being opened is open now.
    await underWay;
    await this.#channels?.close();
    return { kind: 'abandoned' };
  }

  #end(): void {
    this.#deadline.disarm();
    this.#session.wipe();
    this.#session.conversation.close();
    this.#ended.resolve();
  }
}
