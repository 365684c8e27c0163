/**
 * The faults of a world, as data: when, of which kind, for how long, and a seed for the details (whom it strikes is decided
 * when it strikes, among those that can be struck then). Leaving one out changes no other.
 */
import type { Random } from "../../core/random.js";

export const FAULT_KINDS = [
  // the wires
  "loss",
  "duplication",
  "reordering",
  "delay",
  "clogged link",
  "partition, symmetric",
  "partition, one-way",
  "partition, bridge",
  "partition, grey",
  // processes
  "crash",
  "silent crash",
  "power loss of all",
  "crash before a write",
  "crash inside a write",
  "crash after a write",
  "leader kills in a burst",
  "restart of all, one by one",
  "pause",
  "clock jump",
  "clock drift",
  "MUX crash",
  "MUX pause",
  "agent crash",
  "agent crash inside a write",
  // disks
  "unsynced writes lost",
  "torn batch",
  "bit flip in the log",
  "bit flip in the hard state",
  "bit flip in a snapshot",
  "read error",
  "fsync error",
  "full disk",
  "disk stall",
  // the cluster
  "wipe",
  "re-addition",
  "membership change",
  "transfer storm",
  "overload",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly atMs: number;
  readonly kind: FaultKind;
  readonly seed: number;
  /** How long it lasts, for a kind that lasts. */
  readonly forMs: number;
  /** 0..1: the share of whatever the kind can do at most. */
  readonly strength: number;
}

/** What damages durable state: rare, because the budget allows it to a minority only. */
const DAMAGE: ReadonlySet<FaultKind> = new Set<FaultKind>([
  "wipe",
  "bit flip in the log",
  "bit flip in the hard state",
  "bit flip in a snapshot",
]);
/** Told apart for the report; every world's clocks are drawn with its plan. */
const DRAWN_ELSEWHERE: ReadonlySet<FaultKind> = new Set<FaultKind>(["clock drift"]);

/**
 * Swarm testing (Groce et al., ISSTA 2012): each world leaves out about half of the kinds, and gives the others weights of
 * its own, so that worlds differ more than their dice alone would make them.
 */
export function drawScript(
  random: Random,
  { faultMs, budget }: { readonly faultMs: number; readonly budget: "within" | "beyond" },
): readonly Fault[] {
  const weights = FAULT_KINDS.filter((kind) => !DRAWN_ELSEWHERE.has(kind)).map((kind) => {
    const weight = random.below(2) === 0 ? 0 : 0.2 + random.nextFloat();
    const rare = DAMAGE.has(kind) && budget === "within" ? 0.4 : 1;
    return { kind, weight: weight * rare };
  });
  const total = weights.reduce((sum, { weight }) => sum + weight, 0);
  const meanMs = 150 + 550 * random.nextFloat();
  const faults: Fault[] = [];
  for (let atMs = meanMs * random.nextFloat(); atMs < faultMs; atMs += meanMs * (0.2 + 1.6 * random.nextFloat())) {
    let left = random.nextFloat() * total;
    const drawn = weights.find(({ weight }) => weight > 0 && (left -= weight) < 0)?.kind;
    const long = random.below(5) === 0;
    const fault = {
      seed: random.nextUint32(),
      forMs: Math.round(random.nextFloat() * (long ? 4_000 : 800)),
      strength: random.nextFloat(),
    };
    if (drawn !== undefined) faults.push({ atMs: Math.round(atMs), kind: drawn, ...fault });
  }
  return faults;
}
