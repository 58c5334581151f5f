/**
 * What goes wrong in a run, how often and from when on. Each run has its own weather: a kind of fault
 * is absent, rare or frequent in it, so that some runs are full of one kind and free of the others.
 */
import type { Choices } from './choices.ts';

/** How likely each kind is, each time that it could happen: in fair weather, and worse. */
const CHANCES = {
  /** A daemon dies: before an effect, or between a write and its sync, or after it. */
  crash: [0, 0.005, 0.02, 0.08],
  /** A write fails. */
  write: [0, 0.02, 0.1, 0.4],
  /** A link is cut while a message is on its way, or cannot be opened. */
  cut: [0, 0.01, 0.05, 0.2],
  /** A message or a piece of work takes long. */
  slow: [0, 0.05, 0.2, 0.5],
  /** A guest process dies by itself. */
  guest: [0, 0.001, 0.005, 0.02],
  /** A guest process does not answer for a while. */
  silent: [0, 0.02, 0.1, 0.3],
  /** An operator cancels, or asks for a handover to be settled. */
  operator: [0, 0.005, 0.02, 0.06],
  /** Something cannot be said: a key that cannot be read. */
  say: [0, 0.005, 0.02, 0.05],
  /** What arrived is not what was sent. */
  corrupt: [0, 0, 0.05, 0.2],
  /** A daemon starts without its state directory. */
  blank: [0, 0, 0.1, 0.4],
} as const;

export type Fault = keyof typeof CHANCES;
export const FAULTS = Object.keys(CHANCES) as readonly Fault[];

/** At most so many of a kind in one run. */
const BUDGET: Readonly<Record<Fault, number>> = {
  crash: 5,
  write: 5,
  cut: 6,
  slow: 200,
  guest: 1,
  silent: 5,
  operator: 4,
  say: 3,
  corrupt: 1,
  blank: 1,
};

/** From when on something may go wrong: half of the runs keep it for the handover. */
const STAGES = ['begin', 'begin', 'final', 'surrender'] as const;
export type Stage = (typeof STAGES)[number];

/** How long slow things take, in ms: past one deadline after the other. */
const SLOW_MS = [1, 7, 80, 900, 12_000, 70_000] as const;

export class Faults {
  readonly #choices: Choices;
  readonly #chances: Readonly<Record<Fault, number>>;
  readonly #left = { ...BUDGET };
  readonly #from: Stage;
  #isArmed = false;
  /** Until the end of everything that goes wrong. */
  isStormy = true;

  constructor(choices: Choices) {
    this.#choices = choices;
    this.#from = STAGES[choices.below(STAGES.length)] ?? 'begin';
    const chanceOf = (fault: Fault) => CHANCES[fault][choices.below(4)] ?? 0;
    this.#chances = {
      crash: chanceOf('crash'),
      write: chanceOf('write'),
      cut: chanceOf('cut'),
      slow: chanceOf('slow'),
      guest: chanceOf('guest'),
      silent: chanceOf('silent'),
      operator: chanceOf('operator'),
      say: chanceOf('say'),
      corrupt: chanceOf('corrupt'),
      blank: chanceOf('blank'),
    };
    this.reached('begin');
  }

  /** A migration has come so far. */
  reached(stage: Stage): void {
    this.#isArmed ||= stage === this.#from;
  }

  /** Nothing goes wrong any more. */
  end(): void {
    this.isStormy = false;
  }

  /** 0 when nothing of the kind happens now, else which of `count` − 1 forms of it. */
  happens(fault: Fault, count = 2): number {
    if (!this.#isArmed || !this.isStormy || this.#left[fault] === 0) return 0;
    const form = this.#choices.rarely(this.#chances[fault], count);
    if (form !== 0) this.#left[fault] -= 1;
    return form;
  }

  /** How long a message or a piece of work takes, in ms. */
  delayMs(): number {
    return SLOW_MS[this.happens('slow', SLOW_MS.length)] ?? 1;
  }
}
