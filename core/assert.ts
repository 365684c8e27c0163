/**
 * Assertions that stay on in production: a broken invariant stops the process before it can be written down or sent.
 * Expected failures (bad input, no leader, no ports) are `AnantaError`s, never assertions.
 */

/** Thrown when something that must always hold does not. Nothing catches it: the process ends. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** `message` says what should hold, in the positive: "commitIndex never goes back". */
export function assert(condition: unknown, message: string): asserts condition {
  if (condition !== true && !condition) throw new InvariantError(message);
}

/** Ends an exhaustive `switch`: a new member of the union becomes a type error here. */
export function assertNever(value: never): never {
  throw new InvariantError(`a value outside its union: ${JSON.stringify(value)}`);
}
