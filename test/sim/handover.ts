/**
 * One handover under way, as src/migration/handover/handover.ts carries it out, on pretend links: it
 * is the same for both sides; what a side does to its guest and its records is `work`.
 */
import { HANDOVER_WORD_MS_MAX, IN_DOUBT_ANSWER_MS_MAX } from '../../src/base/limits.ts';
import { BackOff } from '../../src/migration/back-off.ts';
import { Deadline, Runner } from '../../src/migration/runner.ts';
import type { Code } from '../../src/protocol/codes.ts';
import type {
  Matter,
  Say,
  Settled,
  SharedEffect,
  SharedEvent,
} from '../../src/protocol/handover/matter.ts';
import type { Step } from '../../src/protocol/machine.ts';
import type { Message } from '../../src/protocol/messages.ts';
import type { Daemon } from './daemon.ts';
import type { End } from './network.ts';
import { isSignedBy } from './signature.ts';

interface Kinded {
  readonly kind: string;
}
interface Unsettled extends Kinded {
  readonly matter: Matter;
}

/** One side's machine, and what it does besides speaking: `Work`, of which `Done` comes. */
export interface Side<State extends Unsettled | Settled, Work extends Kinded, Done extends Kinded> {
  readonly begin: (matter: Matter) => Step<State, Work | SharedEffect>;
  readonly step: (state: State, event: Done | SharedEvent) => Step<State, Work | SharedEffect>;
  readonly work: (effect: Work, done: (event: Done | SharedEvent) => void) => void;
}

/** What others may see of a handover, and ask of it. */
export interface HandoverUnderWay {
  readonly state: string;
  readonly outcome: string | undefined;
  onSettled(heard: () => void): void;
  onUnanswered(heard: () => void): void;
  accept(link: End): void;
  hear(message: Message): void;
  askNow(): void;
  fence(): void;
  lost(): void;
}

export class Handover<
  State extends Unsettled | Settled,
  Work extends Kinded,
  Done extends Kinded,
> implements HandoverUnderWay {
  readonly #daemon: Daemon;
  readonly #side: Side<State, Work, Done>;
  readonly #migrationId: string;
  readonly #runner: Runner<State, Done | SharedEvent, Work | SharedEffect>;
  readonly #word: Deadline;
  readonly #answer: Deadline;
  readonly #backOff: BackOff;
  readonly #settled: (() => void)[] = [];
  readonly #unanswered: (() => void)[] = [];
  #link: End | undefined;
  #isUnanswered = false;
  #isStopped = false;

  constructor(
    daemon: Daemon,
    side: Side<State, Work, Done>,
    about: Omit<Matter, 'signedByPeer'>,
    link: End | undefined,
  ) {
    this.#daemon = daemon;
    this.#side = side;
    this.#migrationId = about.subject.migrationId;
    const { clock, random } = daemon;
    this.#word = new Deadline(clock, () => this.#dispatch({ kind: 'deadlinePassed' }));
    this.#backOff = new BackOff({ clock, random }, () => this.#dispatch({ kind: 'due' }));
    this.#answer = new Deadline(clock, () => {
      for (const heard of this.#unanswered) heard();
    });
    const matter: Matter = {
      ...about,
      signedByPeer: (statement, signature) =>
        this.#link !== undefined && isSignedBy(this.#link.peer, statement, signature),
    };
    const begin = side.begin(matter);
    this.#runner = new Runner<State, Done | SharedEvent, Work | SharedEffect>({
      state: begin.state,
      step: side.step,
      perform: (effect) => this.#perform(effect),
      fail: (failure) => failure,
      observe: ({ kind }) => this.#entered(kind),
    });
    if (link !== undefined) this.accept(link);
    this.#entered(begin.state.kind);
    this.#runner.begin(begin);
  }

  get state(): string {
    return this.#runner.state.kind;
  }

  get outcome(): string | undefined {
    const { state } = this.#runner;
    return 'outcome' in state ? state.outcome : undefined;
  }

  onSettled(heard: () => void): void {
    this.#settled.push(heard);
  }

  onUnanswered(heard: () => void): void {
    this.#unanswered.push(heard);
  }

  accept(link: End): void {
    const before = this.#link;
    this.#link = link;
    before?.close();
    link.listen({
      message: (message) => {
        if (this.#link === link) this.hear(message);
      },
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
    if (link !== undefined) this.#parted(link, 'PEER_SILENT', 'asked anew');
    link?.close();
    this.#backOff.skip();
  }

  fence(): void {
    if (this.state !== 'InDoubt') return;
    const fencing = { operator: 'alice', atMs: this.#daemon.clock.wall() };
    this.#dispatch({ kind: 'fenced', fencing });
  }

  lost(): void {
    // While ACTIVE is written, who writes it finds out.
    if (this.state === 'AwaitingSurrender' || this.state === 'InDoubt') {
      this.#dispatch({ kind: 'lost' });
    }
  }

  #dispatch(event: SharedEvent): void {
    if (!this.#isStopped) this.#runner.dispatch(event);
  }

  #parted(link: End, code: Code, detail: string): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.#dispatch({ kind: 'parted', code, detail });
  }

  #entered(kind: string): void {
    if (!ASKING.has(kind)) {
      this.#backOff.reset();
      this.#answer.disarm();
      this.#isUnanswered = false;
    } else if (isAlone(kind) && !this.#isUnanswered) {
      this.#isUnanswered = true;
      this.#answer.arm(IN_DOUBT_ANSWER_MS_MAX);
    }
  }

  #perform(effect: Work | SharedEffect): SharedEvent | undefined {
    if (!this.#daemon.carriesOut(effect.kind)) return undefined;
    if (!isShared(effect)) {
      this.#side.work(effect, (event) => this.#runner.dispatch(event));
      return undefined;
    }
    switch (effect.kind) {
      case 'say':
        return this.#say(effect);
      case 'arm':
        if (this.#link === undefined) {
          return { kind: 'parted', code: 'PEER_CLOSED', detail: 'no connection' };
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
        this.#reach();
        return undefined;
      case 'settle':
        this.#settle();
        return undefined;
    }
  }

  #say({ message, statement }: Say): SharedEvent | undefined {
    if (this.#daemon.faults.happens('say') !== 0) {
      return { kind: 'failed', code: 'INTERNAL', detail: message.type };
    }
    if (this.#link !== undefined) {
      this.#daemon.say(this.#link, message, statement, this.#migrationId);
    }
    return undefined;
  }

  #reach(): void {
    this.#daemon.network.open(this.#daemon, 'handover', (link) => {
      // The other host's link may have come first.
      if (this.#isStopped || !isAlone(this.state)) {
        link?.close();
        return;
      }
      if (link === undefined) {
        this.#dispatch({ kind: 'parted', code: 'PEER_UNREACHABLE', detail: '' });
        return;
      }
      this.accept(link);
      link.send({ type: 'RESOLVE', migrationId: this.#migrationId });
      this.#dispatch({ kind: 'reached' });
    });
  }

  #settle(): void {
    this.#isStopped = true;
    this.#word.disarm();
    this.#backOff.stop();
    this.#answer.disarm();
    this.#link?.close();
    for (const heard of this.#settled) heard();
  }
}

/** States that wait for the other host's word. */
const ASKING: ReadonlySet<string> = new Set([
  'AwaitingActivated',
  'AwaitingSurrender',
  'AwaitingDeletion',
  'InDoubt',
  'Uncertified',
  'ServingAlone',
]);

const isAlone = (state: string): boolean =>
  ['InDoubt', 'Uncertified', 'ServingAlone'].includes(state);

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

const WORDS: ReadonlySet<string> = new Set<Message['type']>([
  'SURRENDER',
  'DONE',
  'RUNNING',
  'ACTIVATED',
  'DELETED',
  'ABORT',
  'UNKNOWN',
]);

const wordOf = (message: Message): SharedEvent | undefined =>
  WORDS.has(message.type) ? ({ kind: message.type, message } as SharedEvent) : undefined;
