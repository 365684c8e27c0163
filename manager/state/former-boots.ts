/**
 * The newest boot ids that a host or MUX had before its present one. Boot ids are random, so nothing in them tells which
 * process is the later one: a registration that a dead process left behind in a queue must not take its successor's place.
 */
export const FORMER_BOOTS_MAX = 8;

/** The former boot ids of what follows `before`; its own stays out when the same process registers again. */
export function formerBootsAfter(
  before: { readonly bootId: string; readonly formerBootIds: readonly string[] } | null,
  bootId: string,
): readonly string[] {
  if (before === null) return [];
  if (before.bootId === bootId) return before.formerBootIds;
  return [...new Set([before.bootId, ...before.formerBootIds])].slice(0, FORMER_BOOTS_MAX); // of a fenced host it is among them
}
