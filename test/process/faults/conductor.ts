/**
 * The test's side of the steps of its daemons (steps.ts): lets each go on at once, until one comes to
 * the step that is waited for. From then on all are held where they are, until told to go on.
 */
import type { Duplex } from 'node:stream';
import { createInterface } from 'node:readline';

export type Machine = 'source' | 'destination' | 'source-handover' | 'destination-handover';
export type When = 'before' | 'after';

export interface Step {
  readonly host: string;
  /**
   * `before` or `after`, and `machine.effect`; for what is said the type of the message is added:
   * `after source.send:OFFER`.
   */
  readonly at: string;
}

/** No step is this late, however loaded the machine is. */
const REACHED_MS_MAX = 60_000;

interface Awaited {
  readonly is: (step: Step) => boolean;
  readonly reached: (step: Step | undefined) => void;
}

export class Conductor {
  /** Daemons that stand at a step. */
  readonly #standing = new Map<Duplex, Step>();
  #isHolding = false;
  /** One that goes on while the others are held. */
  #goesOn: string | undefined;
  #awaited: Awaited | undefined;
  /** Told of every step, before it is decided whether it is the one. */
  hear: (step: Step) => void = () => undefined;

  /** Hears the daemon of `host`, from its first step on. */
  attach(host: string, link: Duplex): void {
    const lines = createInterface(link);
    lines.on('line', (at) => this.#arrived(link, { host, at }));
    const gone = () => this.#standing.delete(link);
    // A daemon that is killed has nobody at its end.
    for (const end of [link, lines]) end.on('error', gone).on('close', gone);
  }

  /**
   * Lets everyone go on until one stands at that step; then all stand. Undefined when they were told to
   * go on before. Throws after a bound.
   */
  async stopAt(
    what: string,
    is: Awaited['is'] = ({ at }) => at === what,
  ): Promise<Step | undefined> {
    const step = /^after (.*:.*)$/.exec(what)?.[1];
    if (step === undefined) return this.#reach(what, is);
    // Whoever hears it stands from before it was said: what he does of it is no matter of who is faster.
    const before = await this.#reach(`before ${step}`, ({ at }) => at === `before ${step}`);
    if (before === undefined) return undefined;
    const reached = this.#await(what, is);
    this.#goesOn = before.host;
    for (const [link, { host }] of this.#standing) if (host === before.host) this.#release(link);
    return reached;
  }

  #reach(what: string, is: Awaited['is']): Promise<Step | undefined> {
    this.go();
    return this.#await(what, is);
  }

  #await(what: string, is: Awaited['is']): Promise<Step | undefined> {
    const arrival = Promise.withResolvers<Step | undefined>();
    const late = setTimeout(
      () => arrival.reject(new Error(`not reached: ${what}`)),
      REACHED_MS_MAX,
    );
    this.#awaited = { is, reached: arrival.resolve };
    return arrival.promise.finally(() => clearTimeout(late));
  }

  /** Everyone goes on, and is stopped no more. */
  go(): void {
    this.#isHolding = false;
    this.#goesOn = undefined;
    this.#awaited?.reached(undefined);
    this.#awaited = undefined;
    for (const link of this.#standing.keys()) this.#release(link);
  }

  #release(link: Duplex): void {
    this.#standing.delete(link);
    letGo(link);
  }

  #arrived(link: Duplex, step: Step): void {
    this.hear(step);
    if (this.#awaited?.is(step) === true) {
      this.#isHolding = true;
      this.#goesOn = undefined;
      this.#awaited.reached(step);
      this.#awaited = undefined;
    }
    if (this.#isHolding && step.host !== this.#goesOn) this.#standing.set(link, step);
    else letGo(link);
  }
}

function letGo(link: Duplex): void {
  if (link.writable) link.write('.');
}
