/**
 * A host with a valid certificate that speaks the protocol by hand: honestly up to where a test wants
 * it, and then as it likes, down to single frames. It has a guest's memory and a vTPM of its own, so
 * that it can go all the way.
 */
import { createHash, randomUUID, sign } from 'node:crypto';
import { once } from 'node:events';
import { connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import { softwareEvidence } from '../../src/attestation/software.ts';
import { qualifyingData } from '../../src/attestation/evidence.ts';
import { MiB } from '../../src/base/units.ts';
import { readIdentity, type HostIdentity } from '../../src/daemon/identity.ts';
import { uuidV7 } from '../../src/daemon/uuid.ts';
import { encodeDeviceState } from '../../src/guest/ram/device-state.ts';
import { REGISTERS } from '../../src/guest/ram/shared.ts';
import { Conversation } from '../../src/migration/conversation.ts';
import {
  openSender,
  type DataSender,
  type FinalSent,
} from '../../src/migration/data-plane/sender.ts';
import { Threads } from '../../src/migration/data-plane/threads.ts';
import type { SessionSecret } from '../../src/crypto/key-schedule.ts';
import type { VmDescriptor } from '../../src/protocol/descriptor.ts';
import type { Evidence, Message, MessageOf, MessageType } from '../../src/protocol/messages.ts';
import type { Subject } from '../../src/protocol/statement.ts';
import { ControlChannel, hostPeer, MIGRATE_PATH } from '../../src/transport/control.ts';
import { clientOptions, CONTROL_ALPN } from '../../src/transport/tls.ts';
import { SoftwareTpm } from '../../src/vtpm/software-tpm.ts';
import { realPorts, type Cluster } from '../process/cluster.ts';
import { realClock } from '../unit/migration/data-plane/fixtures.ts';
import { TestMemory } from '../unit/migration/data-plane/memories.ts';
import { ENCODING_NAMES } from '../../src/protocol/options.ts';

const SILENCE_MS = 60_000;
export const RAM_BYTES = MiB;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

export class HostileSource {
  readonly host: HostIdentity;
  readonly socket: WebSocket;
  readonly conversation: Conversation;
  readonly migrationId: string;
  readonly nonce = realPorts.random.bytes(32);
  readonly policyDigest = realPorts.random.bytes(48);
  readonly memory = new TestMemory(RAM_BYTES);
  readonly descriptor: VmDescriptor;
  /** What HELLO offers besides. */
  features: readonly string[] = [];
  readonly #threads = new Threads(0);
  readonly #received: Message[] = [];
  readonly #state: Buffer;
  #waiting: PromiseWithResolvers<Message | undefined> | undefined;
  #isOver = false;
  secret: SessionSecret | undefined;
  sender: DataSender | undefined;

  private constructor(
    host: HostIdentity,
    socket: WebSocket,
    channel: ControlChannel,
    before?: HostileSource,
  ) {
    this.migrationId = before?.migrationId ?? uuidV7(Date.now(), realPorts.random.bytes(10));
    this.host = host;
    this.socket = socket;
    const tpm = SoftwareTpm.create(realClock);
    const { endorsement } = tpm.publicKeys();
    this.descriptor = before?.descriptor ?? {
      vmId: randomUUID(),
      name: `hostile-${this.migrationId.slice(-8)}`,
      driver: 'ram',
      pageBytes: 4096,
      regions: [{ id: 0, bytes: RAM_BYTES }],
      vcpus: 1,
      workload: { kind: 'idle' },
      imageBytes: 0,
      devices: ['cpu'],
      stateBytesMax: MiB,
      vtpm: {
        kind: 'software',
        ekFingerprint: text(createHash('sha256').update(endorsement).digest()),
      },
    };
    this.#state = stateOf(tpm);
    this.conversation = new Conversation(channel, 'source');
    const over = () => {
      this.#isOver = true;
      this.#waiting?.resolve(undefined);
    };
    this.conversation.listen(
      {
        message: (message) => {
          if (this.#waiting === undefined) this.#received.push(message);
          else this.#waiting.resolve(message);
        },
        broken: over,
        closed: over,
      },
      realClock,
      SILENCE_MS,
    );
  }

  /** Connects to host-b with the certificate of `name`: about a VM of its own, or that of `before`. */
  static async connect(
    cluster: Cluster,
    name: string,
    before?: HostileSource,
  ): Promise<HostileSource> {
    const host = readIdentity(cluster.certs, name);
    const { listen } = cluster.get('host-b');
    const tls = tlsConnect({ ...clientOptions(host.identity, CONTROL_ALPN), ...listen });
    const socket = new WebSocket(`wss://${listen.host}:${listen.port}${MIGRATE_PATH}`, {
      createConnection: () => tls,
      perMessageDeflate: false,
    });
    await once(socket, 'open');
    socket.on('error', () => undefined);
    const channel = new ControlChannel(socket, tls, hostPeer(tls));
    return new HostileSource(host, socket, channel, before);
  }

  get subject(): Subject {
    const { vmId } = this.descriptor;
    const from = this.host.identity.name;
    return { migrationId: this.migrationId, vmId, epoch: 1, from, to: 'host-b' };
  }

  sign(statement: Uint8Array): Uint8Array {
    return sign(null, statement, this.host.hostKey);
  }

  /** As if it were a message: nothing of it is checked. */
  send(message: object): void {
    this.conversation.send(message as Message);
  }

  /** The next message; undefined when the connection is over. */
  async next(): Promise<Message | undefined> {
    const received = this.#received.shift();
    if (received !== undefined || this.#isOver) return received;
    this.#waiting = Promise.withResolvers();
    try {
      return await this.#waiting.promise;
    } finally {
      this.#waiting = undefined;
    }
  }

  async expect<T extends MessageType>(type: T): Promise<MessageOf<T>> {
    const message = await this.next();
    if (message?.type === type) return message as MessageOf<T>;
    const said = message === undefined ? 'nothing' : JSON.stringify(message);
    throw new Error(`expected ${type}, got ${said}`);
  }

  /** Resolves when host-b has ended the connection. */
  async ended(): Promise<void> {
    while ((await this.next()) !== undefined);
  }

  hello(changes: object = {}): object {
    return {
      type: 'HELLO',
      versionMin: 1,
      versionMax: 1,
      migrationId: this.migrationId,
      to: 'host-b',
      suites: ['aes-256-gcm+hmac-sha256'],
      forms: ['tls'],
      encodings: ['zero', 'raw'],
      channels: 1,
      features: this.features,
      ...changes,
    };
  }

  attRequest(changes: object = {}): object {
    const { nonce, policyDigest } = this;
    return {
      type: 'ATT_REQUEST',
      nonce,
      formats: ['software'],
      pcrSelection: [],
      policyDigest,
      ...changes,
    };
  }

  offer(changes: object = {}, more: object = {}): object {
    return {
      type: 'OFFER',
      descriptor: { ...this.descriptor, ...changes },
      epoch: 1,
      policyDigest: this.policyDigest,
      verify: false,
      ...more,
    };
  }

  async greet(): Promise<void> {
    this.send(this.hello());
    await this.expect('HELLO_OK');
  }

  /** Up to the destination's evidence. */
  async challenge(): Promise<MessageOf<'ATT_EVIDENCE'>> {
    await this.greet();
    this.send(this.attRequest());
    return this.expect('ATT_EVIDENCE');
  }

  /** Honest evidence for what the destination asked on this connection. */
  async evidence({ nonce, policyDigest }: MessageOf<'ATT_EVIDENCE'>): Promise<Evidence> {
    const { migrationId } = this;
    const binding = this.conversation.binding('source', { nonce, migrationId, policyDigest });
    const body = await softwareEvidence(this.host.hostKey).make(qualifyingData(binding));
    return { format: 'software', body };
  }

  /** Both appraisals passed, keys derived. */
  async attest(): Promise<void> {
    const challenge = await this.challenge();
    this.send({ type: 'SVR_ATT_OK', evidence: await this.evidence(challenge) });
    await this.expect('CLI_ATT_OK');
    const { migrationId, nonce } = this;
    this.secret = this.conversation.deriveSecret(migrationId, nonce, challenge.nonce);
  }

  /** The VM is offered and accepted: the data ports. */
  async offered(more: object = {}): Promise<readonly number[]> {
    await this.attest();
    this.send(this.offer({}, more));
    return (await this.expect('ACCEPT')).ports;
  }

  /** The data channel has joined. */
  async joined(more: object = {}): Promise<DataSender> {
    const ports = await this.offered(more);
    return this.join(ports);
  }

  async join(ports: readonly number[]): Promise<DataSender> {
    if (this.secret === undefined) throw new Error('not attested yet');
    const { peer } = this.conversation;
    this.sender = await openSender({
      migrationId: this.migrationId,
      peer: { host: this.conversation.remoteAddress, ports, ...peer },
      identity: this.host.identity,
      suite: 'aes-256-gcm+hmac-sha256',
      form: 'tls',
      encodings: ENCODING_NAMES,
      engine: 'portable',
      secret: this.secret,
      memory: this.memory.place,
      clock: realClock,
      threads: this.#threads,
    });
    void this.sender.failed.catch(() => undefined);
    return this.sender;
  }

  /** Round 0 was sent, announced and confirmed. */
  async firstRound(more: object = {}): Promise<DataSender> {
    const sender = await this.joined(more);
    const { pages, zeroPages, bytesSent: bytes, tag } = await sender.sendRound(0, 'all');
    this.send({ type: 'ROUND_END', round: 0, pages, zeroPages, bytes, tag });
    await this.expect('ROUND_OK');
    return sender;
  }

  /** Everything has been sent; FINAL not yet. `state`: instead of an honest one. */
  async everything(
    more: object = {},
    state: Uint8Array = this.#state,
  ): Promise<FinalSent & { stateBytes: number }> {
    const sender = await this.firstRound(more);
    this.memory.state.set(state);
    const final = await sender.sendFinal(1, { stateBytes: state.length });
    return { ...final, stateBytes: state.length };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.terminate();
    await this.sender?.close();
    this.secret?.[Symbol.dispose]();
    this.memory[Symbol.dispose]();
    await this.#threads.close();
  }
}

/** Device state and vTPM state as a guest exports them (src/guest/ram/process/machine.ts). */
function stateOf(tpm: SoftwareTpm): Buffer {
  const device = encodeDeviceState([Array.from({ length: REGISTERS }, () => 0)]);
  const saved = tpm.exportState();
  const [deviceLength, savedLength] = [Buffer.alloc(4), Buffer.alloc(4)];
  deviceLength.writeUInt32LE(device.length);
  savedLength.writeUInt32LE(saved.length);
  return Buffer.concat([deviceLength, device, savedLength, saved]);
}
