/**
 * What both machines are made of: a table of rules, one for each state and event that go together.
 * A machine takes (state, event) and returns the next state and effects; effects are plain data for
 * the engine to carry out. Every pair without a rule is answered by the machine's one default, so
 * that the whole matrix is defined (docs/states is generated from it).
 */
import { assert } from '../base/assert.ts';

interface Kinded {
  readonly kind: string;
}

type OfKind<T extends Kinded, K extends T['kind']> = Extract<T, { readonly kind: K }>;

export interface Step<S extends Kinded, F extends Kinded> {
  readonly state: S;
  readonly effects: readonly F[];
}

export interface Rule<S extends Kinded, F extends Kinded, From, On> {
  /** The states this rule may lead to; asserted at run time, drawn in the docs. */
  readonly to: readonly S['kind'][];
  readonly run: (state: From, event: On) => Step<S, F>;
}

/** Rules for one state, or for what several have in common. */
export type Row<S extends Kinded, E extends Kinded, F extends Kinded, From> = {
  readonly [On in E['kind']]?: Rule<S, F, From, OfKind<E, On>>;
};

/** Rules for the states `K` of a machine. */
export type Rules<S extends Kinded, E extends Kinded, F extends Kinded, K extends S['kind']> = {
  readonly [State in K]: Row<S, E, F, OfKind<S, State>>;
};

/** What an event means to every state that has no rule of its own for it. */
export type Answers<S extends Kinded, E extends Kinded, F extends Kinded> = {
  readonly [On in E['kind']]?: (state: S, event: OfKind<E, On>) => Step<S, F>;
};

/** The answer of the table, if it has one for this kind of event. */
export function answer<S extends Kinded, E extends Kinded, F extends Kinded>(
  answers: Answers<S, E, F>,
  state: S,
  event: E,
): Step<S, F> | undefined {
  const given = answers as Readonly<
    Record<string, ((state: S, event: E) => Step<S, F>) | undefined>
  >;
  return given[event.kind]?.(state, event);
}

/** A machine's transition function over a whole table. */
export function machine<S extends Kinded, E extends Kinded, F extends Kinded>(
  rules: Rules<S, E, F, S['kind']>,
  otherwise: (state: S, event: E, expected: readonly string[]) => Step<S, F>,
): (state: S, event: E) => Step<S, F> {
  return (state, event) => {
    const row = rules[state.kind as S['kind']] as Record<string, Rule<S, F, S, E> | undefined>;
    const rule = row[event.kind];
    if (rule === undefined) return otherwise(state, event, Object.keys(row));
    const step = rule.run(state, event);
    assert(
      rule.to.includes(step.state.kind),
      `${state.kind} × ${event.kind} led to ${step.state.kind}`,
    );
    return step;
  };
}
