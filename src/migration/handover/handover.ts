/**
 * One handover under way: carries out what its machine decides, on whatever link there is. It is the
 * same for both sides; what a side does to its guest and its records is `work`.
 */
import { sign, verify, type KeyObject } from 'node:crypto';
import { HANDOVER_WORD_MS_MAX, IN_DOUBT_ANSWER_MS_MAX } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/ports.ts';
import type { Code } from '../../protocol/codes.ts';
import { MigError } from '../../protocol/error.ts';
import type {
  Cause,
  Fencing,
  Matter,
  Settled,
  SharedEffect,
  SharedEvent,
} from '../../protocol/handover/matter.ts';
import type { Step } from '../../protocol/machine.ts';
import type { Message, MessageType } from '../../protocol/messages.ts';
import type { Conversation } from '../conversation.ts';
import { BackOff } from '../back-off.ts';
import { Deadline, Runner } from '../runner.ts';

/** What a handover needs of its host, whichever side it is. */
export interface HandoverPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly hostKey: () => KeyObject;
  readonly silenceMs: number;
  /** A new link to the other host, which is verified to be it. */
  readonly connect: (signal: AbortSignal) => Promise<Conversation>;
}

/** How it ended. */
export type Settlement = Pick<Settled, 'outcome' | 'code' | 'detail'>;

interface Kinded {
  readonly kind: string;
}
interface Unsettled extends Kinded {
  readonly matter: Matter;
  readonly cause?: Cause;
}

/** One side's machine, and what it does besides speaking: `Work`, of which `Done` comes. */
export interface Side<State extends Unsettled | Settled, Work extends Kinded, Done extends Kinded> {
  readonly begin: (matter: Matter) => Step<State, Work | SharedEffect>;
  readonly step: (state: State, event: Done | SharedEvent) => Step<State, Work | SharedEffect>;
  readonly work: (effect: Work) => Promise<Done | SharedEvent | undefined>;
}

export interface About extends Omit<Matter, 'signedByPeer'> {
  /** The session's own, to begin with. */
  readonly link?: Conversation | undefined;
  /** Called once for every state entered. */
  readonly observe?: ((state: string) => void) | undefined;
  /** Called whenever it does not go on for another reason than before. */
  readonly doubted?: ((cause: Cause) => void) | undefined;
}

/** For one that an operator is told of. */
export const textOf = (cause: Cause | undefined): string =>
  cause === undefined ? '' : `${cause.code} ${cause.detail}`.trim();

/** What others may see of a handover, and ask of it. */
export interface HandoverUnderWay {
  readonly state: string;
  /** Why it does not go on: the other host's word is missing, or our work fails; undefined when it does. */
  readonly cause: Cause | undefined;
  readonly settled: Promise<Settlement>;
  /** Whether it is known which host runs the VM. */
  readonly isDecided: boolean;
  /** Resolves when it is known which host runs the VM. */
  readonly decided: Promise<void>;
  /** Resolves when it does not go on for longer than an operator may wait. */
  readonly unanswered: Promise<void>;
  /** Goes on with a link that the other host opened. */
  accept(link: Conversation): void;
  /** A message on such a link. */
  hear(message: Message): void;
  /** Asks the other host now, whatever the back-off. */
  askNow(): void;
  /** Throws VM_STATE when the other host's word is not missing. */
  fence(fencing: Fencing): void;
  /** It is proved that nothing of the guest lives. */
  lost(): void;
  /** Stops asking: the daemon ends. What is on record stays. */
  stop(): void;
}

export class Handover<
  State extends Unsettled | Settled,
  Work extends Kinded,
  Done extends Kinded,
> implements HandoverUnderWay {
  readonly #ports: HandoverPorts;
  readonly #side: Side<State, Work, Done>;
  readonly #runner: Runner<State, Done | SharedEvent, Work | SharedEffect>;
  readonly #word: Deadline;
  readonly #backOff: BackOff;
  readonly #stopped = new AbortController();
  readonly #settled = Promise.withResolvers<Settlement>();
  readonly #decided = Promise.withResolvers<void>();
  readonly #unanswered = Promise.withResolvers<void>();
  readonly #answer: Deadline;
  readonly #migrationId: string;
  readonly #doubted: (cause: Cause) => void;
  #link: Conversation | undefined;
  #cause: Cause | undefined;
  /** Asked, and not answered yet; a link that opens and breaks again is no answer. */
  #isUnanswered = false;
  /** For longer than an operator may wait. */
  #isOverdue = false;

  constructor(ports: HandoverPorts, side: Side<State, Work, Done>, about: About) {
    const { subject, transcriptDigest, leavesPages, final, link, observe, doubted } = about;
    this.#ports = ports;
    this.#side = side;
    this.#migrationId = subject.migrationId;
    this.#doubted = doubted ?? (() => undefined);
    this.#word = new Deadline(ports.clock, () => this.#dispatch({ kind: 'deadlinePassed' }));
    this.#backOff = new BackOff(ports, () => this.#dispatch({ kind: 'due' }));
    this.#answer = new Deadline(ports.clock, () => {
      this.#isOverdue = true;
      this.#unanswered.resolve();
    });
    const matter: Matter = {
      subject,
      transcriptDigest,
      leavesPages,
      final,
      signedByPeer: (statement, signature) => {
        const key = this.#link?.peer.publicKey;
        return key !== undefined && verify(null, statement, key, signature);
      },
    };
    const begin = side.begin(matter);
    this.#runner = new Runner<State, Done | SharedEvent, Work | SharedEffect>({
      state: begin.state,
      step: side.step,
      perform: (effect) => this.#perform(effect),
      fail: (failure) => {
        this.#waitsFor(failure);
        return failure;
      },
      observe: (state) => {
        observe?.(state.kind);
        this.#entered(state);
      },
    });
    if (link !== undefined) this.accept(link);
    this.#entered(begin.state);
    this.#runner.begin(begin);
  }

  get state(): string {
    return this.#runner.state.kind;
  }

  get cause(): Cause | undefined {
    const { state } = this.#runner;
    if (!this.#isUnanswered) return undefined;
    return 'cause' in state ? state.cause : this.#cause;
  }

  get isDecided(): boolean {
    return DECIDED.has(this.state);
  }

  get settled(): Promise<Settlement> {
    return this.#settled.promise;
  }

  get decided(): Promise<void> {
    return this.#decided.promise;
  }

  get unanswered(): Promise<void> {
    return this.#unanswered.promise;
  }

  accept(link: Conversation): void {
    const before = this.#link;
    this.#link = link;
    before?.close();
    link.passTo({
      message: (message) => {
        if (this.#link === link) this.hear(message);
      },
      broken: (code, detail) => this.#parted(link, code, detail),
      closed: (code, detail) => this.#parted(link, code, detail),
    });
  }

  hear(message: Message): void {
    const word = wordOf(message);
    if (word === undefined) {
      this.#link?.close();
      this.#dispatch({ kind: 'parted', code: 'MESSAGE_UNEXPECTED', detail: message.type });
      return;
    }
    this.#dispatch(word);
  }

  askNow(): void {
    this.#backOff.reset();
    const link = this.#link;
    // A link on which nothing was said may be dead: a new one tells.
    if (link !== undefined) this.#parted(link, 'PEER_SILENT', 'asked anew');
    link?.close();
    this.#backOff.skip();
  }

  fence(fencing: Fencing): void {
    // One that only keeps talking does not keep the operator out.
    if (this.#isOverdue && this.#link !== undefined) {
      const link = this.#link;
      this.#parted(link, 'PEER_SILENT', 'fenced');
      link.close();
    }
    if (this.state !== 'InDoubt') throw new MigError('VM_STATE', `the handover is ${this.state}`);
    this.#dispatch({ kind: 'fenced', fencing });
  }

  lost(): void {
    // From the token on, whoever is at work on the guest finds it out himself.
    if (UNDECIDED.has(this.state)) this.#dispatch({ kind: 'lost' });
  }

  stop(): void {
    this.#stopped.abort();
    this.#word.disarm();
    this.#backOff.stop();
    this.#answer.disarm();
    this.#link?.close();
  }

  #dispatch(event: SharedEvent): void {
    if (!this.#stopped.signal.aborted) this.#runner.dispatch(event);
  }

  #parted(link: Conversation, code: Code, detail: string): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.#dispatch({ kind: 'parted', code, detail });
  }

  #entered(state: State): void {
    if (this.isDecided) this.#decided.resolve();
    if (!ASKING.has(state.kind)) {
      // It was an answer: what is asked next is another question.
      this.#backOff.reset();
      this.#answer.disarm();
      this.#isUnanswered = false;
      this.#isOverdue = false;
    } else if ('cause' in state && state.cause !== undefined) this.#waitsFor(state.cause);
  }

  /** Another host's word, or room on our own disk: it is asked for, or tried, again and again. */
  #waitsFor({ code, detail }: Cause): void {
    const before = this.#cause;
    this.#cause = { code, detail };
    if (code !== before?.code || detail !== before.detail) this.#doubted(this.#cause);
    if (this.#isUnanswered) return;
    this.#isUnanswered = true;
    this.#answer.arm(IN_DOUBT_ANSWER_MS_MAX);
  }

  #perform(effect: Work | SharedEffect): Promise<Done | SharedEvent | undefined> | undefined {
    if (!isShared(effect)) return this.#side.work(effect);
    switch (effect.kind) {
      case 'say': {
        const signature = sign(null, effect.statement, this.#ports.hostKey());
        this.#link?.send({ ...effect.message, signature });
        return undefined;
      }
      case 'arm':
        // Nobody heard it.
        if (this.#link === undefined) {
          return Promise.resolve({ kind: 'parted', code: 'PEER_CLOSED', detail: 'no connection' });
        }
        this.#word.arm(HANDOVER_WORD_MS_MAX);
        return undefined;
      case 'disarm':
        this.#word.disarm();
        this.#backOff.stop();
        return undefined;
      case 'part': {
        const link = this.#link;
        this.#link = undefined;
        link?.close();
        return undefined;
      }
      case 'retryLater':
        this.#backOff.wait();
        return undefined;
      case 'reach':
        return this.#reach();
      case 'settle':
        this.#settle();
        return undefined;
    }
  }

  async #reach(): Promise<SharedEvent | undefined> {
    try {
      const link = await this.#ports.connect(this.#stopped.signal);
      // The other host's link may have come first: what is said on that one is not lost to ours.
      if (this.#stopped.signal.aborted || !isAlone(this.state)) {
        link.close();
        return undefined;
      }
      link.listen(IDLE, this.#ports.clock, this.#ports.silenceMs);
      this.accept(link);
      link.send({ type: 'RESOLVE', migrationId: this.#migrationId });
      return { kind: 'reached' };
    } catch (thrown) {
      if (!isAlone(this.state)) return undefined;
      const { code, detail } = MigError.from(thrown);
      return { kind: 'parted', code, detail };
    }
  }

  #settle(): void {
    this.stop();
    const { state } = this.#runner;
    if (!('outcome' in state)) throw new Error(`settled in ${state.kind}`);
    const { outcome, code, detail } = state;
    this.#settled.resolve({ outcome, code, detail });
  }
}

/** States of a destination that is no more than prepared. */
const UNDECIDED: ReadonlySet<string> = new Set(['AwaitingSurrender', 'InDoubt']);

/** States that wait for the other host's word. */
const ASKING: ReadonlySet<string> = new Set([
  'AwaitingActivated',
  'AwaitingSurrender',
  'AwaitingDeletion',
  'InDoubt',
  'Uncertified',
  'ServingAlone',
]);

const DECIDED: ReadonlySet<string> = new Set([
  'Serving',
  'ServingAlone',
  'Pulling',
  'AwaitingDeletion',
  'Uncertified',
  'Deleting',
  'RecordingGone',
  'Filing',
  'Settled',
]);

/** Whether a handover in that state waits for the other host without a link to it. */
export const isAlone = (state: string): boolean => ALONE.has(state);

const ALONE: ReadonlySet<string> = new Set(['InDoubt', 'Uncertified', 'ServingAlone']);

const SHARED: ReadonlySet<string> = new Set<SharedEffect['kind']>([
  'say',
  'arm',
  'disarm',
  'part',
  'retryLater',
  'reach',
  'settle',
]);

const isShared = (effect: Kinded): effect is SharedEffect => SHARED.has(effect.kind);

const WORDS: ReadonlySet<string> = new Set<MessageType>([
  'SURRENDER',
  'DONE',
  'RUNNING',
  'ACTIVATED',
  'DELETED',
  'ABORT',
  'UNKNOWN',
]);

/** A message that is a word, as an event. */
const wordOf = (message: Message): SharedEvent | undefined =>
  WORDS.has(message.type) ? ({ kind: message.type, message } as SharedEvent) : undefined;

/** Until the link is passed on. */
const IDLE = { message: () => undefined, broken: () => undefined, closed: () => undefined };
