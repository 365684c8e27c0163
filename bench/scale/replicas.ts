/** What the replicas say of themselves on their metrics pages, and what the kernel says of their memory. */
import { readFileSync } from "node:fs";
import { assert } from "../../core/assert.js";

export interface ReplicaFigures {
  readonly appliedIndex: number;
  readonly commitIndex: number;
  readonly snapshotIndex: number;
  readonly snapshotSeconds: number;
  readonly restoreSeconds: number;
  readonly ownedRanges: number;
  readonly agents: number;
  readonly isLeader: boolean;
}

/** Null: it does not answer (it is down or starting). */
export async function replicaFigures(opsAddress: string): Promise<ReplicaFigures | null> {
  let text: string;
  try {
    const response = await fetch(`http://${opsAddress}/metrics`, { signal: AbortSignal.timeout(5_000) });
    if (!response.ok) return null;
    text = await response.text();
  } catch {
    return null;
  }
  const value = (sample: string): number => {
    const line = text.split("\n").find((one) => one.startsWith(`${sample} `));
    assert(line !== undefined, `${sample} is on the page`);
    return Number(line.slice(sample.length + 1));
  };
  return {
    appliedIndex: value("ananta_raft_applied_index"),
    commitIndex: value("ananta_raft_commit_index"),
    snapshotIndex: value("ananta_raft_snapshot_index"),
    snapshotSeconds: value("ananta_raft_snapshot_duration_seconds"),
    restoreSeconds: value("ananta_raft_restore_duration_seconds"),
    ownedRanges: value('ananta_snat_ranges{protocol="tcp",state="owned"}'),
    agents: value('ananta_streams{role="agent"}'),
    isLeader: value("ananta_raft_is_leader") === 1,
  };
}

/** Its page for probes says that it serves. */
export async function isReady(opsAddress: string): Promise<boolean> {
  try {
    return (await fetch(`http://${opsAddress}/readyz`, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
}

/** Resident memory of a process, MB (2^20 bytes): now, and at most so far. */
export function residentMb(pid: number): { readonly nowMb: number; readonly peakMb: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kb = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? Number.NaN);
  return { nowMb: kb("VmRSS") / 1_024, peakMb: kb("VmHWM") / 1_024 };
}
