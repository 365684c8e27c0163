/** Replicas, MUXes and hosts as tables and as documents. */
import { API_VERSION } from "../manager/api/objects/schema.js";
import type { ClusterView, HostRow, MuxRow, ReplicaRow } from "./cluster-view.js";
import { formatDuration } from "./terminal/durations.js";
import type { Document } from "./terminal/output.js";
import { stateCell } from "./terminal/style.js";
import type { Cell } from "./terminal/table.js";

/** One kind of row: how it is named, shown and written out. */
export interface Listing {
  readonly name: string;
  readonly cells: readonly Cell[];
  readonly wideCells: readonly Cell[];
  readonly document: Document;
}

export interface Listings {
  readonly header: readonly string[];
  readonly wideHeader: readonly string[];
  readonly rows: readonly Listing[];
}

export function clusterListings(view: ClusterView, kind: "Replica" | "Mux" | "Host"): Listings {
  switch (kind) {
    case "Replica":
      return {
        header: ["REPLICA", "ADDRESS", "ROLE", "TERM", "COMMIT", "APPLIED", "PID", "IN-STEP", "NOTE"],
        wideHeader: ["LEADER", "VERSION", "INCARNATION", "DIGEST"],
        rows: view.replicas.map(replicaListing),
      };
    case "Mux":
      return {
        header: ["NAME", "STATE", "ADDRESS", "INDEX", "RENEWED", "FLOWS", "PACKETS", "DROPS"],
        wideHeader: ["ID", "INCARNATION", "IPV6-ADDRESS", "BYTES", "VIPS", "CONNECTED-TO"],
        rows: view.muxes.map(muxListing),
      };
    case "Host":
      return {
        header: ["NAME", "DIPS", "CONNECTED-TO"],
        wideHeader: ["ID", "INCARNATION"],
        rows: view.hosts.map(hostListing),
      };
  }
}

function replicaListing({ nodeId, address, state, answer, note }: ReplicaRow): Listing {
  const known = (value: string | number | undefined): Cell => (answer === null || value === undefined ? "-" : value);
  const leader = answer?.leader ?? 0;
  return {
    name: nodeId === null ? address : String(nodeId),
    cells: [
      nodeId ?? "?",
      address,
      stateCell(state),
      known(answer?.term),
      known(answer?.commitIndex),
      known(answer?.appliedIndex),
      known(answer?.pid),
      answer === null ? "-" : answer.role === "leader" && answer.ageMs === 0 ? "now" : formatAge(answer.ageMs),
      note,
    ],
    wideCells: [
      leader === 0 ? "-" : leader,
      known(answer?.version),
      known(answer?.identity?.incarnation ?? 0),
      known(answer?.digest),
    ],
    document: {
      apiVersion: API_VERSION,
      kind: "Replica",
      metadata: { name: nodeId === null ? address : String(nodeId) },
      status: {
        nodeId,
        address,
        reachable: answer !== null,
        role: state,
        ...(answer === null
          ? { error: note }
          : {
              leader: leader === 0 ? null : leader,
              term: answer.term,
              commitIndex: answer.commitIndex,
              appliedIndex: answer.appliedIndex,
              muxSafeIndex: answer.muxSafeIndex,
              ageMs: answer.ageMs,
              pid: answer.pid,
              version: answer.version,
              incarnation: answer.identity?.incarnation ?? 0,
              bootId: answer.identity?.bootId ?? "",
              digest: answer.digest,
              notVoting: answer.notVoting,
            }),
      },
    },
  };
}

const formatAge = (ageMs: number): string => (ageMs >= 2 ** 31 - 1 ? "never" : `${formatDuration(ageMs)} ago`);

/** As kubectl writes "Ready,SchedulingDisabled". */
const muxState = ({ state, drain }: MuxRow["mux"]): Cell => (drain ? `${state ?? ""},drained` : stateCell(state ?? ""));

function muxListing({ mux, connectedTo }: MuxRow): Listing {
  const counters = mux.counters ?? {};
  // No replica that answered has a stream of this MUX: nothing is known, which is not zero.
  const known = (count: number): Cell => (mux.counters ? count : "-");
  const drops = Object.values(counters.drops ?? {}).reduce((sum, count) => sum + count, 0);
  const renewed = mux.renewedMsAgo ?? null;
  return {
    name: mux.name ?? "",
    cells: [
      mux.name ?? "",
      muxState(mux),
      mux.address ?? "",
      mux.index ? mux.index : "-",
      renewed === null ? "-" : formatAge(renewed),
      known(counters.flows ?? 0),
      known(counters.packets ?? 0),
      known(drops),
    ],
    wideCells: [
      mux.muxId ?? 0,
      mux.incarnation ?? 0,
      mux.addressIpv6 ? mux.addressIpv6 : "-",
      known(counters.bytes ?? 0),
      known(counters.vipsAnnounced ?? 0),
      replicasText(connectedTo),
    ],
    document: {
      apiVersion: API_VERSION,
      kind: "Mux",
      metadata: { name: mux.name ?? "" },
      status: {
        muxId: mux.muxId ?? 0,
        incarnation: mux.incarnation ?? 0,
        state: mux.state ?? "",
        address: mux.address ?? "",
        ...(mux.drain ? { drain: { reason: mux.drain.reason ?? "", ageMs: mux.drain.ageMs ?? 0 } } : {}),
        ...(mux.addressIpv6 ? { addressIpv6: mux.addressIpv6 } : {}),
        index: mux.index ?? 0,
        renewedMsAgo: renewed,
        connectedToReplicas: connectedTo,
        // Null: nobody who answered has a stream of it.
        counters: mux.counters
          ? {
              packets: counters.packets ?? 0,
              bytes: counters.bytes ?? 0,
              flows: counters.flows ?? 0,
              vipsAnnounced: counters.vipsAnnounced ?? 0,
              drops: counters.drops ?? {},
            }
          : null,
      },
    },
  };
}

const replicasText = (ids: readonly number[]): string =>
  ids.length === 0 ? "-" : ids.map((id) => `replica ${id}`).join(",");

function hostListing({ host, connectedTo }: HostRow): Listing {
  const dips = host.dips ?? [];
  return {
    name: host.name ?? "",
    cells: [
      host.name ?? "",
      dips.join(","),
      (host.fenced ?? "") !== "" ? stateCell("fenced") : replicasText(connectedTo),
    ],
    wideCells: [host.hostId ?? 0, host.incarnation ?? 0],
    document: {
      apiVersion: API_VERSION,
      kind: "Host",
      metadata: { name: host.name ?? "" },
      status: {
        hostId: host.hostId ?? 0,
        incarnation: host.incarnation ?? 0,
        dips,
        connectedToReplicas: connectedTo,
        fenced: host.fenced ?? "",
      },
    },
  };
}
