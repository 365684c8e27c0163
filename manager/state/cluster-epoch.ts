/**
 * What a restore from a snapshot file leaves open. The restored state is older than the site: agents hold
 * ranges that were granted after the snapshot, and have given back others. Until that is cleared up nothing is granted.
 *
 * Settled is: (1) every host known when the epoch began has declared the ranges it holds, or was fenced by an operator;
 * (2) 120 s of cluster time have passed, so that hosts which registered after the snapshot, and are therefore unknown, had
 * time to come back, and so that ranges given back after the snapshot, which look as if they had long been free, have rested
 * (RFC 6888 REQ-8). Until then the first hello of a host is believed over a restored owner that has not spoken yet.
 */
import type { HostId, LogIndex } from "../../core/brands.js";
import { byNumber } from "./order.js";
import { QUARANTINE_MS } from "./snat/quarantine.js";

/** Same length as the rest of a range between two owners, for the same reason. */
export const EPOCH_SETTLES_MS = QUARANTINE_MS;

/** Why nothing is granted at present. */
export interface UnsettledEpoch {
  readonly clusterEpoch: number;
  /** Hosts that have neither declared their ranges nor been fenced, in order of id. */
  readonly missing: readonly HostId[];
  /** Cluster time from which on, at the soonest, ports are granted. */
  readonly notBeforeMs: number;
}

export class ClusterEpoch {
  private began: { readonly atMs: number; readonly index: LogIndex } | null = null;
  private readonly missing = new Set<HostId>();

  begin(atMs: number, index: LogIndex, hosts: readonly HostId[]): void {
    this.began = { atMs, index };
    this.missing.clear();
    for (const host of hosts) this.missing.add(host);
  }

  /** True while the first hello of `host` may still change who owns what. */
  hears(host: HostId | null): boolean {
    return this.began !== null && (host === null || this.missing.has(host));
  }

  mustStillDeclare(host: HostId): boolean {
    return this.missing.has(host);
  }

  /** The host has declared what it holds, or is fenced. */
  settle(host: HostId): void {
    this.missing.delete(host);
  }

  /** Once per entry: the epoch may have become settled. */
  advance(nowMs: number): void {
    if (this.began !== null && this.missing.size === 0 && nowMs >= this.began.atMs + EPOCH_SETTLES_MS)
      this.began = null;
  }

  get isSettled(): boolean {
    return this.began === null;
  }

  unsettled(clusterEpoch: number): UnsettledEpoch | null {
    if (this.began === null) return null;
    return {
      clusterEpoch,
      missing: [...this.missing].sort(byNumber),
      notBeforeMs: this.began.atMs + EPOCH_SETTLES_MS,
    };
  }

  /** For snapshots. */
  record(): { readonly atMs: number; readonly index: LogIndex; readonly missing: readonly HostId[] } | null {
    return this.began === null ? null : { ...this.began, missing: [...this.missing].sort(byNumber) };
  }
}
