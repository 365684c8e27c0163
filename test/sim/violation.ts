/** What a world ends with when something that must hold does not. */
export class Violation extends Error {
  override readonly name = "Violation";
  /** Short and stable: what the report counts by. */
  readonly invariant: string;

  constructor(invariant: string, message: string) {
    super(`${invariant}: ${message}`);
    this.invariant = invariant;
  }
}

/** `message` is made only when it is needed: most checks run after every event. */
export function mustHold(condition: boolean, invariant: string, message: () => string): void {
  if (!condition) throw new Violation(invariant, message());
}
