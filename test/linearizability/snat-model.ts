/**
 * [pure] Ownership of SNAT port ranges: each (VIP, protocol, range) is an object of its own.
 *
 *     free ── granted to D ──> owned by D ── released ──> resting (last owner D) ── quarantine over ──> free
 *
 * A history is linearizable only if every part of it is that touches one range (locality, Herlihy and Wing 1990), so each range
 * is judged by itself: an operation on several ranges becomes one step in each of them. That never accuses a correct system;
 * what it cannot see is whether several ranges changed at the same moment.
 */
import type { Interval, Model } from "./checker.js";
import { vipOf, type History, type Operation, type RangeName, type RangeOwner } from "./history.js";

export interface RangeState {
  readonly owner: string | null;
  /** Who had it last; null: nobody ever. */
  readonly last: string | null;
  /** The rest has not begun before: when the release was called. */
  readonly restsFromMs: number;
}

export type RangeStep = { readonly operation: Operation } & (
  | { readonly kind: "grant"; readonly dip: string; readonly returnMs: number | null }
  | { readonly kind: "release"; readonly dip: string; readonly callMs: number }
  | { readonly kind: "read"; readonly owner: RangeOwner | null; readonly returnMs: number }
);

export function rangeModel(quarantineMs: number): Model<RangeState, RangeStep> {
  /** Even if the release took effect when it was called and the grant when it was answered. */
  const restIsOver = (state: RangeState, atMs: number | null): boolean =>
    state.last === null || atMs === null || atMs - state.restsFromMs >= quarantineMs;
  return {
    initial: { owner: null, last: null, restsFromMs: 0 },
    keyOf: ({ owner, last, restsFromMs }) => `${owner ?? ""} ${last ?? ""} ${restsFromMs}`,
    apply(state, step) {
      switch (step.kind) {
        case "grant":
          if (state.owner !== null) return null;
          if (state.last !== step.dip && !restIsOver(state, step.returnMs)) return null;
          return { owner: step.dip, last: null, restsFromMs: 0 };
        case "release":
          return state.owner === step.dip ? { owner: null, last: step.dip, restsFromMs: step.callMs } : null;
        case "read": {
          const { owner } = step;
          if (owner?.state === "owned") return state.owner === owner.dip ? state : null;
          if (state.owner !== null) return null;
          if (owner === null) return restIsOver(state, step.returnMs) ? state : null;
          return state.last === owner.dip ? state : null;
        }
      }
    },
  };
}

/**
 * The steps on each range that a client was granted, gave back, or may have been granted. An allocation of unknown outcome whose
 * ranges are not known may have been granted any range on which its DIP is seen: it becomes a pending grant there.
 */
export function rangePartitions({ operations }: History): ReadonlyMap<RangeName, readonly Interval<RangeStep>[]> {
  const partitions = new Map<RangeName, Interval<RangeStep>[]>();
  const seenWith = new Map<RangeName, Set<string>>();
  const add = (range: RangeName, dip: string, step: RangeStep): void => {
    const steps = partitions.get(range) ?? [];
    if (steps.length === 0) partitions.set(range, steps);
    steps.push(intervalOf(step));
    see(seenWith, range, dip);
  };
  const wild: Operation[] = [];
  for (const operation of operations) {
    const { action, outcome, callMs, returnMs } = operation;
    if (outcome.kind === "refused") continue;
    if (action.kind === "snat-allocate") {
      const { dip } = action;
      if (outcome.kind === "granted" || (outcome.kind === "unknown" && outcome.ranges !== undefined)) {
        for (const range of outcome.ranges ?? []) add(range, dip, { kind: "grant", dip, returnMs, operation });
      } else if (outcome.kind === "unknown") wild.push(operation);
    }
    if (action.kind === "snat-release") {
      const { dip } = action;
      for (const range of action.ranges) add(range, dip, { kind: "release", dip, callMs, operation });
    }
  }
  addReads(operations, partitions, seenWith);
  for (const operation of wild) {
    const { dip } = operation.action as { dip: string }; // only allocations are put there
    for (const [range, dips] of seenWith) {
      if (!dips.has(dip)) continue;
      const step: RangeStep = { kind: "grant", dip, returnMs: null, operation };
      const steps = partitions.get(range) ?? [];
      if (steps.length === 0) partitions.set(range, steps);
      steps.push(intervalOf(step));
    }
  }
  for (const steps of partitions.values()) steps.sort((a, b) => a.callMs - b.callMs);
  return partitions;
}

/** Listings, as one read of each range that they cover: those of the partitions, and those on which they show a client's DIP. */
function addReads(
  operations: readonly Operation[],
  partitions: Map<RangeName, Interval<RangeStep>[]>,
  seenWith: Map<RangeName, Set<string>>,
): void {
  const clients = new Set(
    operations.flatMap(({ action }) =>
      action.kind === "snat-allocate" || action.kind === "snat-release" ? [action.dip] : [],
    ),
  );
  for (const { outcome } of operations) {
    if (outcome.kind !== "listed") continue;
    for (const [range, { dip }] of outcome.owners) {
      if (!clients.has(dip)) continue;
      if (!partitions.has(range)) partitions.set(range, []);
      see(seenWith, range, dip);
    }
  }
  for (const operation of operations) {
    const { action, outcome, returnMs } = operation;
    if (action.kind !== "snat-list" || outcome.kind !== "listed" || returnMs === null) continue;
    const vips = new Set(action.vips);
    for (const [range, steps] of partitions) {
      if (!vips.has(vipOf(range))) continue;
      steps.push(intervalOf({ kind: "read", owner: outcome.owners.get(range) ?? null, returnMs, operation }));
    }
  }
}

function see(seenWith: Map<RangeName, Set<string>>, range: RangeName, dip: string): void {
  const dips = seenWith.get(range) ?? new Set();
  if (dips.size === 0) seenWith.set(range, dips);
  dips.add(dip);
}

function intervalOf(step: RangeStep): Interval<RangeStep> {
  const { callMs, returnMs, outcome } = step.operation;
  return { callMs, returnMs: outcome.kind === "unknown" ? null : returnMs, step };
}
