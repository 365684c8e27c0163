/**
 * The whole state as bytes: first byte the format version, then lines (see `snapshot-lines`). The order is canonical (ids
 * ascending, addresses in order, queues oldest first) and every field is written by its place, so that equal states give
 * equal bytes: the state's digest is the hash of its snapshot.
 *
 * Not written: what follows from the rest (indexes, bitmaps, counts, excluded ranges, projections).
 */
import { isEqual } from "./equal.js";
import { type AnyStoredObject, objectKey } from "./objects.js";
import { byNumber, byText } from "./order.js";
import { FIRST_RANGE } from "./port-ranges.js";
import {
  type EndLine,
  type Labels,
  type Line,
  type ObjectCounters,
  type OwnedRuns,
  SNAPSHOT_FORMAT_VERSION,
  type Versions,
} from "./snapshot-lines.js";
import { readGroup, readPool, readTenant, readVip } from "./spec-readers.js";
import type { State } from "./state.js";
import { ChunkWriter } from "./text-chunks.js";

/** Expired sessions per line. */
const EXPIRED_PER_LINE = 256;

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
  yield ["head", state.appliedIndex, state.time.nowMs, site, objects.nextPoolId, objects.nextVipId];
  const epoch = state.epoch.record();
  if (epoch !== null) yield ["epoch", epoch.atMs, epoch.index, epoch.missing];
  for (const [hostId, { index, reason }] of [...state.fences].sort(([a], [b]) => a - b))
    yield ["fence", hostId, index, reason];
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
      host.formerBootIds,
      host.isExpired ? 1 : 0,
    ];
  }
  for (const mux of state.muxes.all()) {
    const { rules, snatRanges, ipv6 } = mux.capacity;
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
      mux.formerBootIds,
      ipv6 === true ? 1 : 0,
    ];
  }
  for (const tenant of sorted(objects.allTenants()))
    yield ["tenant", tenant.ref.name, labelsOf(tenant), versions(tenant, readTenant), countersOf(tenant)];
  for (const group of sorted(objects.allGroups())) {
    const { tenant, name } = group.ref;
    yield ["group", tenant, name, labelsOf(group), versions(group, readGroup), countersOf(group)];
  }
  for (const pool of objects.allPools()) {
    yield [
      "pool",
      pool.poolId,
      pool.ref.tenant,
      pool.ref.name,
      labelsOf(pool),
      versions(pool, readPool),
      countersOf(pool),
    ];
  }
  for (const vip of objects.allVips()) {
    const natPorts = vip.natPorts.map(({ rule, dip, port }) => [rule, dip, port] as const);
    yield [
      "vip",
      vip.vipId,
      vip.ref.tenant,
      vip.ref.name,
      labelsOf(vip),
      versions(vip, readVip),
      countersOf(vip),
      natPorts,
    ];
  }
  for (const { poolId, dipId, reason, sinceMs, index } of state.health.all())
    yield ["down", poolId, dipId, reason, sinceMs, index];
  for (const { vipId, reason, sinceMs, untilMs } of state.withdrawals.all())
    yield ["withdrawn", vipId, reason, sinceMs, untilMs];
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

const labelsOf = (object: AnyStoredObject): Labels => Object.entries(object.labels).sort(([a], [b]) => byText(a, b));

const countersOf = (object: AnyStoredObject): ObjectCounters => [
  object.generation,
  object.createdIndex,
  object.updatedIndex,
  object.activeIndex,
  object.deleting ? 1 : 0,
];

const sorted = <Stored extends AnyStoredObject>(objects: Iterable<Stored>): readonly Stored[] =>
  [...objects].sort((a, b) => byText(objectKey(a.ref), objectKey(b.ref)));

/** Specs go through their reader: fields in its order, whoever built them. */
function versions<Spec>(
  object: { readonly spec: Spec; readonly active: Spec | null },
  canonical: (spec: Spec, name: string) => Spec,
): Versions<Spec> {
  const { spec, active } = object;
  if (active === null) return [canonical(spec, "spec"), 0];
  return [canonical(spec, "spec"), isEqual(spec, active) ? 1 : canonical(active, "active")];
}
