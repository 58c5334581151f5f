/**
 * Everything that happens by chance in a run is one stream of choices, drawn from a seed or played
 * from a script. 0 is always the usual thing (nothing breaks, nothing is slow), so a script holds
 * only what was unusual, by its position, and an empty one is a run without a fault.
 */
export type Script = ReadonlyMap<number, number>;

/** xoshiro128** (Blackman, Vigna 2018), seeded by splitmix32. */
class Generator {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = () => {
      state = (state + 0x9e3779b9) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next();
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result / 2 ** 32;
  }
}

export class Choices {
  readonly #generator: Generator | undefined;
  readonly #script: Script | undefined;
  readonly #taken: Map<number, number> | undefined;
  #at = 0;

  private constructor(
    generator: Generator | undefined,
    script: Script | undefined,
    taken: Map<number, number> | undefined,
  ) {
    this.#generator = generator;
    this.#script = script;
    this.#taken = taken;
  }

  static ofSeed(seed: number): Choices {
    return new Choices(new Generator(seed), undefined, undefined);
  }

  /** The same, and what is unusual is remembered: slower. */
  static recorded(seed: number): Choices {
    return new Choices(new Generator(seed), undefined, new Map());
  }

  static ofScript(script: Script): Choices {
    return new Choices(undefined, script, new Map());
  }

  /** What was unusual so far, as a script that plays it again. */
  get taken(): Script {
    return this.#taken ?? new Map();
  }

  /** One of 0 … `count` − 1, each as likely. */
  below(count: number): number {
    return this.#take(count, (generator) => Math.floor(generator.next() * count));
  }

  /** 0, or with a probability of `chance` one of 1 … `count` − 1. */
  rarely(chance: number, count = 2): number {
    return this.#take(count, (generator) => {
      const drawn = generator.next();
      return drawn >= chance ? 0 : 1 + Math.floor((drawn / chance) * (count - 1));
    });
  }

  #take(count: number, draw: (generator: Generator) => number): number {
    const at = this.#at;
    this.#at += 1;
    const value =
      this.#generator === undefined
        ? Math.min(this.#script?.get(at) ?? 0, count - 1)
        : draw(this.#generator);
    if (value !== 0) this.#taken?.set(at, value);
    return value;
  }
}
