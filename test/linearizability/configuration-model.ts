/**
 * [pure] Configuration objects: each (kind, tenant, name) is a register with a generation that counts its changes, from 1 on.
 * Writing what is there already changes nothing; a write that names another generation than the present one is refused.
 */
import type { Interval, Model } from "./checker.js";
import type { History, ObjectName, Operation } from "./history.js";

/** Generation 0: there is no such object. */
export interface ObjectState {
  readonly value: string;
  readonly generation: number;
}

const ABSENT: ObjectState = { value: "", generation: 0 };

export const objectModel: Model<ObjectState, Operation> = {
  initial: ABSENT,
  keyOf: ({ value, generation }) => `${generation} ${value}`,
  apply(state, { action, outcome }, pending) {
    const { value, generation } = state;
    switch (action.kind) {
      case "object-apply": {
        const agrees = action.generation === 0 || action.generation === generation;
        if (outcome.kind === "refused") return agrees ? null : state;
        if (!agrees) return null;
        const unchanged = generation > 0 && value === action.value;
        const after = unchanged ? state : { value: action.value, generation: generation + 1 };
        if (pending) return after;
        const change = unchanged ? "unchanged" : generation === 0 ? "created" : "configured";
        const told = outcome.kind === "changed" && outcome.change === change && outcome.generation === after.generation;
        return told ? after : null;
      }
      case "object-delete": {
        const agrees = generation > 0 && (action.generation === 0 || action.generation === generation);
        if (outcome.kind === "refused") {
          if (outcome.code === "NOT_FOUND") return generation === 0 ? state : null;
          return generation > 0 && !agrees ? state : null;
        }
        if (!agrees) return null;
        return pending || (outcome.kind === "changed" && outcome.change === "deleted") ? ABSENT : null;
      }
      case "object-get": {
        if (outcome.kind !== "read") return null;
        const found = outcome.found ?? ABSENT;
        return found.value === value && found.generation === generation ? state : null;
      }
      case "snat-allocate":
      case "snat-release":
      case "snat-list":
        return null;
    }
  },
};

/** Refusals that say something about the object; all others tell nothing but that nothing was done. */
const TELLING: ReadonlySet<string> = new Set(["GENERATION_CONFLICT", "NOT_FOUND"]);

export function objectPartitions({ operations }: History): ReadonlyMap<ObjectName, readonly Interval<Operation>[]> {
  const partitions = new Map<ObjectName, Interval<Operation>[]>();
  for (const operation of operations) {
    const { action, outcome, callMs, returnMs } = operation;
    if (!("object" in action)) continue;
    if (outcome.kind === "refused" && !TELLING.has(outcome.code)) continue;
    if (action.kind === "object-get" && outcome.kind === "unknown") continue; // a read without an answer
    const steps = partitions.get(action.object) ?? [];
    if (steps.length === 0) partitions.set(action.object, steps);
    steps.push({ callMs, returnMs: outcome.kind === "unknown" ? null : returnMs, step: operation });
  }
  return partitions;
}
