/**
 * Runs one of the pure machines: takes events in order, carries out the effects of each step, turns
 * what they yield into events. It knows nothing of what the states mean.
 */
import type { Clock, Timer } from '../base/ports.ts';
import { MigError } from '../protocol/error.ts';
import type { Code } from '../protocol/codes.ts';
import type { Step } from '../protocol/machine.ts';

export interface Failure {
  readonly kind: 'failed';
  readonly code: Code;
  readonly detail: string;
}

interface Kinded {
  readonly kind: string;
}

/** Carries out one effect; an event it yields (now or later) is the next input. */
export type Perform<E, F> = (effect: F) => Promise<E | undefined> | E | undefined;

export class Runner<S extends Kinded, E extends Kinded, F extends Kinded> {
  readonly #step: (state: S, event: E) => Step<S, F>;
  readonly #perform: Perform<E, F>;
  readonly #fail: (failure: Failure) => E;
  readonly #observe: (state: S) => void;
  readonly #queue: E[] = [];
  readonly #underWay = new Set<Promise<E | undefined>>();
  #state: S;
  #busy = false;

  constructor(input: {
    readonly state: S;
    readonly step: (state: S, event: E) => Step<S, F>;
    readonly perform: Perform<E, F>;
    readonly fail: (failure: Failure) => E;
    /** Called once for every state entered. */
    readonly observe: (state: S) => void;
  }) {
    this.#state = input.state;
    this.#step = input.step;
    this.#perform = input.perform;
    this.#fail = input.fail;
    this.#observe = input.observe;
  }

  get state(): S {
    return this.#state;
  }

  /** Takes an event; those that its effects yield at once are taken before this returns. */
  dispatch(event: E): void {
    this.#queue.push(event);
    this.#drain();
  }

  /** Enters a first step whose effects are to be carried out as well. */
  begin(step: Step<S, F>): void {
    this.#apply(step);
    this.#drain();
  }

  /** The effects under way at this moment; an effect that asks does not see itself. */
  underWay(): Promise<unknown> {
    return Promise.allSettled(this.#underWay);
  }

  #drain(): void {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        this.#apply(this.#step(this.#state, next));
      }
    } finally {
      this.#busy = false;
    }
  }

  #apply({ state, effects }: Step<S, F>): void {
    const entered = state.kind !== this.#state.kind;
    this.#state = state;
    if (entered) this.#observe(state);
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: F): void {
    try {
      const yielded = this.#perform(effect);
      if (yielded instanceof Promise) this.#follow(yielded);
      else if (yielded !== undefined) this.#queue.push(yielded);
    } catch (thrown) {
      this.#queue.push(this.#failed(thrown));
    }
  }

  #follow(pending: Promise<E | undefined>): void {
    this.#underWay.add(pending);
    void this.#take(pending);
  }

  async #take(pending: Promise<E | undefined>): Promise<void> {
    const event = await pending.catch((thrown: unknown) => this.#failed(thrown));
    this.#underWay.delete(pending);
    if (event !== undefined) this.dispatch(event);
  }

  #failed(thrown: unknown): E {
    const { code, detail } = MigError.from(thrown);
    return this.#fail({ kind: 'failed', code, detail });
  }
}

/** One deadline at a time: arming it again forgets the one before. */
export class Deadline {
  readonly #clock: Clock;
  readonly #passed: () => void;
  #timer: Timer | undefined;

  constructor(clock: Clock, passed: () => void) {
    this.#clock = clock;
    this.#passed = passed;
  }

  arm(delayMs: number): void {
    this.disarm();
    this.#timer = this.#clock.after(delayMs, this.#passed);
  }

  disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
