/**
 * The whole state as bytes: first byte the format version, then one JSON array per line, its first element the kind of
 * line. The order is canonical (ids ascending, addresses in order, queues oldest first) and every field is written by
 * name or place here, so that equal states give equal bytes: the state's digest is the hash of its snapshot.
 *
 * Not written: what follows from the rest (indexes, bitmaps, counts, excluded ranges, projections). Reading puts the
 * parts back through the same operations that built them, so that whatever they assert holds again.
 */
import { assert } from "../../core/assert.js";
import type { DipId, HostId, IpAddress, LogIndex, MuxId, NodeId, PoolId, Port, VipId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { storeObject } from "./configuration.js";
import { isEqual } from "./equal.js";
import type { AnyStoredObject, BackendPoolSpec, VipSpec } from "./objects.js";
import { byNumber, byText } from "./order.js";
import { FIRST_RANGE, type SnatProtocol } from "./port-ranges.js";
import type { CommandResult } from "./results.js";
import type { Host, Mux } from "./state-machine.js";
import { type Site, type State, createState } from "./state.js";
import { ChunkWriter, readLines } from "./text-chunks.js";
import { type PoolObject, type VipObject, isPool, isVip } from "./vip-map.js";

/** Raised when a line changes its meaning. */
export const SNAPSHOT_FORMAT_VERSION = 1;

/** Expired sessions per line. */
const EXPIRED_PER_LINE = 256;

// One tuple type per kind of line; writing and reading are checked against the same type.
type HeadLine = ["head", LogIndex, number, Site | null, number, number];
type ReplicaLine = ["replica", NodeId, number, string];
type DipLine = ["dip", string, IpAddress, HostId | 0, IpAddress | 0];
type HostLine = ["host", HostId, string, number, string, readonly DipId[], LogIndex];
type MuxLine = ["mux", MuxId, string, number, string, IpAddress, number, number, Mux["state"], LogIndex];
type Labels = readonly (readonly [string, string])[];
type PoolLine = ["pool", PoolId, string, string, Labels, Versions<PoolSpecTuple>, ObjectCounters];
type VipLine = ["vip", VipId, string, string, Labels, Versions<VipSpecTuple>, ObjectCounters];
/** `active`: 0 for none, 1 for the same as the spec. */
type Versions<Spec> = readonly [spec: Spec, active: Spec | 0 | 1];
type ObjectCounters = readonly [
  generation: number,
  created: LogIndex,
  updated: LogIndex,
  active: LogIndex,
  deleting: 0 | 1,
];
type PoolSpecTuple = readonly [maxMembers: number, members: readonly (readonly [IpAddress, Port, number])[]];
type VipSpecTuple = readonly [
  address: IpAddress,
  rules: readonly (readonly [name: string, protocol: "tcp" | "udp", port: Port, pool: string, backendPort: Port])[],
  outbound: readonly [pools: readonly string[], maxPorts: number] | 0,
];
type OwnedRuns = readonly (readonly [range: number, count: number, dip: DipId, granted: LogIndex])[];
type OwnedLine = ["owned", IpAddress, SnatProtocol, OwnedRuns];
type GrantRuns = readonly (readonly [count: number, granted: LogIndex])[];
type QuarantineLine = ["quarantine", IpAddress, SnatProtocol, number, DipId, number, LogIndex, GrantRuns];
type CursorLine = ["cursor", IpAddress, SnatProtocol, number];
type SessionLine = ["session", string, number, number, readonly (readonly [number, CommandResult])[]];
type ExpiredLine = ["expired", readonly (readonly [string, number])[]];
type EndLine = ["end", number];
type Line =
  | HeadLine
  | ReplicaLine
  | DipLine
  | HostLine
  | MuxLine
  | PoolLine
  | VipLine
  | OwnedLine
  | QuarantineLine
  | CursorLine
  | SessionLine
  | ExpiredLine
  | EndLine;

export function writeSnapshot(state: State): readonly Uint8Array[] {
  const writer = new ChunkWriter();
  writer.writeByte(SNAPSHOT_FORMAT_VERSION);
  let lines = 0;
  for (const line of snapshotLines(state)) {
    writer.writeLine(JSON.stringify(line));
    lines += 1;
  }
  const end: EndLine = ["end", lines];
  writer.writeLine(JSON.stringify(end));
  return writer.finish();
}

function* snapshotLines(state: State): Iterable<Line> {
  const { objects, site } = state;
  const namedSite =
    site === null ? null : { clusterId: site.clusterId, clusterEpoch: site.clusterEpoch, hashKey: site.hashKey };
  yield ["head", state.appliedIndex, state.time.nowMs, namedSite, objects.nextPoolId, objects.nextVipId];
  for (const replica of [...state.replicas.values()].sort((a, b) => a.nodeId - b.nodeId)) {
    yield ["replica", replica.nodeId, replica.incarnation, replica.bootId];
  }
  for (const dip of state.dips.all()) yield ["dip", dip.tenant, dip.address, dip.hostId ?? 0, dip.locator ?? 0];
  for (const host of state.hosts.all()) {
    yield [
      "host",
      host.hostId,
      host.name,
      host.incarnation,
      host.bootId,
      [...host.dips].sort(byNumber),
      host.registeredIndex,
    ];
  }
  for (const mux of state.muxes.all()) {
    const { rules, snatRanges } = mux.capacity;
    yield [
      "mux",
      mux.muxId,
      mux.name,
      mux.incarnation,
      mux.bootId,
      mux.address,
      rules,
      snatRanges,
      mux.state,
      mux.joinedIndex,
    ];
  }
  for (const pool of objects.allPools()) {
    yield [
      "pool",
      pool.poolId,
      pool.ref.tenant,
      pool.ref.name,
      labelsOf(pool),
      versions(pool, poolTuple),
      countersOf(pool),
    ];
  }
  for (const vip of objects.allVips()) {
    yield ["vip", vip.vipId, vip.ref.tenant, vip.ref.name, labelsOf(vip), versions(vip, vipTuple), countersOf(vip)];
  }
  yield* snatLines(state);
  for (const { id, lastUsedMs, newestSequence, answers } of state.sessions.records()) {
    yield [
      "session",
      id,
      lastUsedMs,
      newestSequence,
      answers.map(({ sequence, result }) => [sequence, result] as const),
    ];
  }
  const expired = [...state.sessions.expiredSessions()];
  for (let at = 0; at < expired.length; at += EXPIRED_PER_LINE)
    yield ["expired", expired.slice(at, at + EXPIRED_PER_LINE)];
}

function* snatLines({ snat }: State): Iterable<Line> {
  const spaces = snat.spaces();
  for (const space of spaces) {
    const runs: OwnedRuns[number][] = [];
    space.visitAllOwned((range, count, dip, granted) => runs.push([range, count, dip, granted]));
    if (runs.length > 0) yield ["owned", space.vip, space.protocol, runs];
  }
  for (const { space, range, count, dip, releasedAtMs, releaseIndex } of snat.quarantines) {
    const runs = space.grantRuns(range, count).map((run) => [run.count, run.grantedIndex] as const);
    yield ["quarantine", space.vip, space.protocol, range, dip, releasedAtMs, releaseIndex, runs];
  }
  // A space that is empty and was never used is not worth a line: it is made again when needed.
  for (const space of spaces)
    if (space.cursor !== FIRST_RANGE) yield ["cursor", space.vip, space.protocol, space.cursor];
}

/** Refuses another format version, and whatever does not end as a whole snapshot does. */
export function readSnapshot(chunks: Iterable<Uint8Array>): State {
  const state = createState();
  let version: number | undefined;
  let lines = 0;
  let complete = false;
  const watched = (function* (): Iterable<Uint8Array> {
    for (const chunk of chunks) {
      if (version === undefined && chunk.length > 0) {
        version = chunk[0];
        if (version !== SNAPSHOT_FORMAT_VERSION) {
          const message = `snapshot format ${version}; this program reads format ${SNAPSHOT_FORMAT_VERSION}`;
          throw new AnantaError("UNIMPLEMENTED", message, { formatVersion: version });
        }
      }
      yield chunk;
    }
  })();
  for (const text of readLines(watched, 1)) {
    assert(!complete, "nothing follows the end of a snapshot");
    // Written by this file, kept under checksums by the storage, and counted: trusted from here on.
    const line = JSON.parse(text) as Line;
    if (line[0] === "end") {
      assert(line[1] === lines, "a snapshot has as many lines as its end says");
      complete = true;
    } else {
      readLine(state, line);
      lines += 1;
    }
  }
  assert(complete, "a snapshot is complete");
  state.projection.rebuild(state.site?.hashKey ?? null);
  return state;
}

function readLine(state: State, line: Exclude<Line, EndLine>): void {
  switch (line[0]) {
    case "head":
      state.appliedIndex = line[1];
      state.time.advanceTo(line[2]);
      state.site = line[3];
      state.objects.nextPoolId = line[4];
      state.objects.nextVipId = line[5];
      return;
    case "replica":
      state.replicas.set(line[1], { nodeId: line[1], incarnation: line[2], bootId: line[3] });
      return;
    case "dip": {
      const [, tenant, address, hostId, locator] = line;
      const dip = state.dips.mention(tenant, address);
      if (hostId !== 0 && locator !== 0) state.dips.place(dip, { hostId, locator });
      return;
    }
    case "host": {
      const [, hostId, name, incarnation, bootId, dips, registeredIndex] = line;
      const host: Host = { hostId, name, incarnation, bootId, dips, registeredIndex };
      state.hosts.put(host);
      return;
    }
    case "mux": {
      const [, muxId, name, incarnation, bootId, address, rules, snatRanges, muxState, joinedIndex] = line;
      state.muxes.put({
        muxId,
        name,
        incarnation,
        bootId,
        address,
        capacity: { rules, snatRanges },
        state: muxState,
        joinedIndex,
      });
      return;
    }
    case "pool":
      storeObject(state, readPool(line));
      return;
    case "vip":
      storeObject(state, readVip(line));
      return;
    case "owned": {
      const space = state.snat.openSpace(line[1], line[2]);
      for (const [range, count, dip, granted] of line[3]) state.snat.take(space, range, count, dip, granted);
      return;
    }
    case "quarantine": {
      const [, vip, protocol, range, dip, nowMs, index, runs] = line;
      const space = state.snat.openSpace(vip, protocol);
      let at = range;
      for (const [count, granted] of runs) {
        state.snat.take(space, at, count, dip, granted);
        at += count;
      }
      state.snat.release(space, range, at - range, dip, { nowMs, index });
      return;
    }
    case "cursor":
      state.snat.openSpace(line[1], line[2]).cursor = line[3];
      return;
    case "session": {
      const [, id, lastUsedMs, newestSequence, answers] = line;
      state.sessions.restore({
        id,
        lastUsedMs,
        newestSequence,
        answers: answers.map(([sequence, result]) => ({ sequence, result })),
      });
      return;
    }
    case "expired":
      for (const [id, expiredAtMs] of line[1]) state.sessions.restoreExpired(id, expiredAtMs);
      return;
    default:
      throw new AnantaError("STORAGE_DAMAGED", `a snapshot line of unknown kind ${String(line[0])}`);
  }
}

const labelsOf = (object: AnyStoredObject): Labels => Object.entries(object.labels).sort(([a], [b]) => byText(a, b));

const countersOf = (object: AnyStoredObject): ObjectCounters => [
  object.generation,
  object.createdIndex,
  object.updatedIndex,
  object.activeIndex,
  object.deleting ? 1 : 0,
];

function versions<Spec, Tuple>(
  object: { readonly spec: Spec; readonly active: Spec | null },
  tuple: (spec: Spec) => Tuple,
): Versions<Tuple> {
  const { spec, active } = object;
  if (active === null) return [tuple(spec), 0];
  return [tuple(spec), isEqual(spec, active) ? 1 : tuple(active)];
}

const poolTuple = (spec: BackendPoolSpec): PoolSpecTuple => [
  spec.maxMembers,
  spec.members.map((member) => [member.dip, member.port, member.weight] as const),
];

const vipTuple = (spec: VipSpec): VipSpecTuple => [
  spec.address,
  spec.rules.map((rule) => [rule.name, rule.protocol, rule.port, rule.pool, rule.backendPort] as const),
  spec.outbound === null ? 0 : [spec.outbound.pools, spec.outbound.maxPorts],
];

const poolSpec = ([maxMembers, members]: PoolSpecTuple): BackendPoolSpec => ({
  members: members.map(([dip, port, weight]) => ({ dip, port, weight })),
  maxMembers,
});

const vipSpec = ([address, rules, outbound]: VipSpecTuple): VipSpec => ({
  address,
  rules: rules.map(([name, protocol, port, pool, backendPort]) => ({ name, protocol, port, pool, backendPort })),
  outbound: outbound === 0 ? null : { pools: outbound[0], maxPorts: outbound[1] },
});

function readPool([, poolId, tenant, name, labels, specs, counters]: PoolLine): PoolObject {
  const object: PoolObject = {
    ref: { kind: "BackendPool", tenant, name },
    poolId,
    labels: Object.fromEntries(labels),
    ...readVersions(specs, poolSpec),
    ...readCounters(counters),
  };
  assert(isPool(object), "a pool line holds a pool");
  return object;
}

function readVip([, vipId, tenant, name, labels, specs, counters]: VipLine): VipObject {
  const object: VipObject = {
    ref: { kind: "Vip", tenant, name },
    vipId,
    labels: Object.fromEntries(labels),
    ...readVersions(specs, vipSpec),
    ...readCounters(counters),
  };
  assert(isVip(object), "a VIP line holds a VIP");
  return object;
}

function readVersions<Spec, Tuple>(
  [first, second]: Versions<Tuple>,
  read: (tuple: Tuple) => Spec,
): { spec: Spec; active: Spec | null } {
  const spec = read(first);
  return { spec, active: second === 0 ? null : second === 1 ? spec : read(second) };
}

function readCounters([generation, createdIndex, updatedIndex, activeIndex, deleting]: ObjectCounters): Pick<
  AnyStoredObject,
  "generation" | "createdIndex" | "updatedIndex" | "activeIndex" | "deleting"
> {
  return { generation, createdIndex, updatedIndex, activeIndex, deleting: deleting === 1 };
}
