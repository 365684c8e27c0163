/**
 * The cluster as its replicas tell it, put together: each replica speaks for itself, the leader's word counts for what
 * only it knows (leases, how far others have come), and the freshest state for the rest.
 */
import type { ananta } from "../proto/gen/wire.js";
import type { Survey } from "./api-client.js";
import { formatDuration } from "./terminal/durations.js";
import type { ReplicaAnswer } from "./methods.js";

/** A MUX renews every 200 ms; half of the usual lease without is no hiccup. */
const RENEWAL_LATE_MS = 1_000;

export interface ReplicaRow {
  /** Null: it has not said, and no other replica knows the address. */
  readonly nodeId: number | null;
  readonly address: string;
  /** "leader", "follower", "candidate" …; "unreachable". */
  readonly state: string;
  /** "voter", "learner" or "leaving", as the freshest answer has it; "none" when it takes no part. */
  readonly membership: string;
  readonly answer: ReplicaAnswer | null;
  /** Why there is no answer, or why it does not vote; "" otherwise. */
  readonly note: string;
}

export interface MuxRow {
  /** Index and counters of whichever replica knows most. */
  readonly mux: ananta.v1.MuxStatus.$Properties;
  /** Node ids of the replicas that hold a stream of it. */
  readonly connectedTo: readonly number[];
}

export interface HostRow {
  readonly host: ananta.v1.HostStatus.$Properties;
  /** Node ids of the replicas that hold a stream of it. */
  readonly connectedTo: readonly number[];
}

export interface ClusterView {
  readonly replicas: readonly ReplicaRow[];
  /** Whose word counts for muxes and hosts; null: nobody answered. */
  readonly best: { readonly endpoint: string; readonly answer: ReplicaAnswer } | null;
  readonly leader: ReplicaRow | null;
  /** In order of names, as hosts. */
  readonly muxes: readonly MuxRow[];
  readonly hosts: readonly HostRow[];
  readonly health: "healthy" | "degraded" | "unhealthy";
  /** What is not as it should be, one sentence each. */
  readonly problems: readonly string[];
}

export function clusterView(surveys: readonly Survey[]): ClusterView {
  const replicas = replicaRows(surveys);
  const answered = surveys.flatMap(({ endpoint, answer }) => (answer === null ? [] : [{ endpoint, answer }]));
  const leader = replicas
    .filter(({ answer }) => answer?.role === "leader")
    .reduce<ReplicaRow | null>((best, row) => (best === null || termOf(row) > termOf(best) ? row : best), null);
  const best = answered.reduce<(typeof answered)[number] | null>(
    (chosen, one) => (chosen === null || isBetter(one.answer, chosen.answer) ? one : chosen),
    null,
  );
  const muxes = muxRows(best?.answer.muxes ?? [], replicas);
  const hosts = hostRows(best?.answer.hosts ?? [], replicas);
  return { replicas, best, leader, muxes, hosts, ...judge(replicas, leader, muxes) };
}

const termOf = (row: ReplicaRow): number => row.answer?.term ?? 0;

/** The leader of the newest term before others, then who has applied most. */
function isBetter(one: ReplicaAnswer, other: ReplicaAnswer): boolean {
  if (one.term !== other.term && (one.role === "leader" || other.role === "leader")) return one.term > other.term;
  if ((one.role === "leader") !== (other.role === "leader")) return one.role === "leader";
  return one.appliedIndex > other.appliedIndex;
}

function replicaRows(surveys: readonly Survey[]): readonly ReplicaRow[] {
  const idByAddress = new Map<string, number>();
  for (const { answer } of surveys)
    for (const { address, nodeId } of answer?.replicas ?? []) if (address && nodeId) idByAddress.set(address, nodeId);
  const roles = membershipRoles(surveys);
  const rows = new Map<string, ReplicaRow>();
  for (const { endpoint, answer, error } of surveys) {
    const nodeId = answer === null ? (idByAddress.get(endpoint) ?? null) : Number(answer.identity?.node ?? 0) || null;
    const key = nodeId === null ? endpoint : String(nodeId);
    if (rows.get(key)?.answer) continue; // the same replica under another address
    rows.set(key, {
      nodeId,
      address: endpoint,
      state: answer === null ? "unreachable" : answer.role,
      membership: (nodeId === null ? undefined : roles.get(nodeId)) ?? "none",
      answer,
      note: answer === null ? error.message : answer.notVoting === "" ? "" : `does not vote: ${answer.notVoting}`,
    });
  }
  // Endpoints that were only guessed at, such as the five defaults where three replicas run, are not missing replicas.
  const known = idByAddress.size > 0 ? [...rows.values()].filter(({ nodeId }) => nodeId !== null) : [...rows.values()];
  return known.sort((a, b) => (a.nodeId ?? Infinity) - (b.nodeId ?? Infinity) || (a.address < b.address ? -1 : 1));
}

/** By node id, as whoever has applied most knows it. */
function membershipRoles(surveys: readonly Survey[]): ReadonlyMap<number, string> {
  const answers = surveys.flatMap(({ answer }) => (answer === null ? [] : [answer]));
  const freshest = answers.reduce<ReplicaAnswer | null>(
    (best, one) => (best === null || one.appliedIndex > best.appliedIndex ? one : best),
    null,
  );
  return new Map((freshest?.replicas ?? []).map(({ nodeId, membership }) => [nodeId ?? 0, membership ?? "voter"]));
}

/** A MUX tells its counters and index to the replica it follows; the others know less of it. */
function muxRows(
  muxes: readonly ananta.v1.MuxStatus.$Properties[],
  replicas: readonly ReplicaRow[],
): readonly MuxRow[] {
  return sortedByName(muxes).map((mux) => {
    const same = replicas
      .flatMap(({ answer }) => answer?.muxes ?? [])
      .filter((seen) => seen.name === mux.name && seen.incarnation === mux.incarnation);
    const index = Math.max(mux.index ?? 0, ...same.map((seen) => seen.index ?? 0));
    const counters = [mux, ...same]
      .map((seen) => seen.counters)
      .reduce((best, one) => ((one?.packets ?? -1) > (best?.packets ?? -1) ? one : best), null);
    const connectedTo = nodesThat(replicas, ({ muxes: seen }) =>
      seen.some((one) => one.name === mux.name && one.connectedHere === true),
    );
    return { mux: { ...mux, index, ...(counters ? { counters } : {}) }, connectedTo };
  });
}

const nodesThat = (replicas: readonly ReplicaRow[], holds: (answer: ReplicaAnswer) => boolean): readonly number[] =>
  replicas.flatMap(({ nodeId, answer }) => (answer !== null && nodeId !== null && holds(answer) ? [nodeId] : []));

/** "host-2" before "host-10". */
const sortedByName = <One extends { readonly name?: string | null }>(all: readonly One[]): readonly One[] =>
  [...all].sort((a, b) => (a.name ?? "").localeCompare(b.name ?? "", "en", { numeric: true }));

function hostRows(
  hosts: readonly ananta.v1.HostStatus.$Properties[],
  replicas: readonly ReplicaRow[],
): readonly HostRow[] {
  return sortedByName(hosts).map((host) => ({
    host,
    connectedTo: nodesThat(replicas, ({ hosts: seen }) =>
      seen.some((one) => one.name === host.name && one.connectedHere === true),
    ),
  }));
}

function judge(replicas: readonly ReplicaRow[], leader: ReplicaRow | null, muxes: readonly MuxRow[]) {
  const severe: string[] = [];
  const mild: string[] = [];
  if (leader === null) severe.push("no replica leads: nothing can be changed");
  const voters = replicas.filter(({ membership }) => membership === "voter");
  const working = voters.filter(({ answer }) => answer !== null && answer.notVoting === "");
  if (working.length * 2 <= voters.length)
    severe.push(`${working.length} of ${voters.length} voting replicas work: a majority is needed for changes`);
  for (const { nodeId, address, answer, note, membership } of replicas) {
    const who = nodeId === null ? address : `replica ${nodeId} (${address})`;
    if (answer === null) mild.push(`${who} is unreachable: ${note}`);
    else if (note !== "" && membership === "voter") mild.push(`${who} ${note}`);
  }
  if (!muxes.some(({ mux }) => mux.state === "live"))
    severe.push("no MUX is live: no traffic is forwarded, and no SNAT ports are granted");
  else if (muxes.every(({ mux }) => mux.state !== "live" || mux.drain))
    severe.push("every live MUX is drained: no VIP is announced (ananta mux undrain)");
  const allAnswer = replicas.every(({ answer }) => answer !== null);
  mild.push(...muxes.flatMap((row) => muxProblem(row, allAnswer)));
  const withheld = (leader?.answer ?? replicas.find(({ answer }) => answer !== null)?.answer)?.grantsWithheld ?? "";
  if (withheld !== "") mild.push(`no SNAT ports are granted: ${withheld}`);
  severe.push(...divergence(replicas));
  const health: ClusterView["health"] = severe.length > 0 ? "unhealthy" : mild.length > 0 ? "degraded" : "healthy";
  return { health, problems: [...severe, ...mild] };
}

/** A MUX that died is live in the log until its lease has run out: what is known of it before is said as well. */
function muxProblem({ mux, connectedTo }: MuxRow, allAnswer: boolean): readonly string[] {
  const name = mux.name ?? "";
  if (mux.state === "lost") return [`MUX ${name} is lost`];
  if (mux.state !== "live") return [];
  // One that a silent replica has a stream of cannot be told from one that nobody has.
  if (allAnswer && connectedTo.length === 0)
    return [`MUX ${name} holds a lease but is connected to no replica: it will be lost when the lease runs out`];
  const lateMs = mux.renewedMsAgo ?? 0;
  return lateMs >= RENEWAL_LATE_MS ? [`MUX ${name} renewed its lease ${formatDuration(lateMs)} ago: it is late`] : [];
}

/** Same log, same bytes: two replicas at one index with two digests are a defect. */
function divergence(replicas: readonly ReplicaRow[]): readonly string[] {
  const seen = new Map<number, { readonly digest: string; readonly nodeId: number | null }>();
  return replicas.flatMap(({ nodeId, answer }) => {
    if (answer === null || answer.digest === "") return [];
    const first = seen.get(answer.appliedIndex);
    if (first === undefined) seen.set(answer.appliedIndex, { digest: answer.digest, nodeId });
    else if (first.digest !== answer.digest) {
      return [
        `replicas ${first.nodeId ?? "?"} and ${nodeId ?? "?"} differ in their state at index ${answer.appliedIndex}`,
      ];
    }
    return [];
  });
}
