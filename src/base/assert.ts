/**
 * Assertions are for our own bugs only, never for input from outside; they stay on in production.
 */

/** Thrown when the program is wrong about itself. It is never caught to carry on. */
export class AssertionFailed extends Error {
  override readonly name = 'AssertionFailed';
}

/** States what must hold here. Throws {@link AssertionFailed} with `message` if it does not. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailed(message);
}

/** The branch that the type checker proves unreachable; reached all the same, it is a bug. */
export function unreachable(value: never): never {
  throw new AssertionFailed(`unreachable: ${JSON.stringify(value)}`);
}
