/**
 * The whole state as bytes, in steps: it is the state of the moment at which the capture was made, whatever is applied
 * while it is written (see `before-images`). First byte the format version, then lines (see `snapshot-lines`). The order is
 * canonical (ids ascending, addresses in order, queues oldest first) and every field is written by its place, so that equal
 * states give equal bytes: the state's digest is the hash of its snapshot.
 *
 * Not written: what follows from the rest (indexes, bitmaps, counts, excluded ranges, projections).
 */
import type { LogIndex } from "../../../core/brands.js";
import type { Reading } from "./before-images.js";
import type { DipRecord } from "../dip-table.js";
import type { Drain } from "../drain-table.js";
import { isEqual } from "../equal.js";
import type { DownMember } from "../health-table.js";
import { type AnyStoredObject, objectKey } from "../objects.js";
import { byNumber, byText } from "../order.js";
import type { OverloadBackoff } from "../overload-backoff.js";
import { FIRST_RANGE } from "../snat/port-ranges.js";
import type { PortSpace } from "../snat/port-space.js";
import type { Quarantine } from "../snat/quarantine.js";
import type { Recall } from "../snat/recalls.js";
import type { SnatAllocator } from "../snat/allocator.js";
import { claimsInOrder } from "../snat/claims.js";
import type { SessionRecord } from "../sessions.js";
import {
  type EndLine,
  type Labels,
  type Line,
  type ObjectCounters,
  type OwnedRuns,
  SNAPSHOT_FORMAT_VERSION,
  type TableTuple,
  type Versions,
} from "./snapshot-lines.js";
import { readGroup, readPool, readTenant, readVip } from "../spec-readers.js";
import type { Host, Mux } from "../state-machine.js";
import type { State } from "../state.js";
import type { PoolTables } from "../table-history.js";
import { ChunkWriter } from "./text-chunks.js";
import type { GroupObject, PoolObject, TenantObject, VipObject } from "../vip-map.js";
import type { Withdrawal } from "../withdrawals.js";

/** Expired sessions per line. */
const EXPIRED_PER_LINE = 256;

/** Bytes written in one step: well below a millisecond. */
const STEP_BYTES = 32 * 1024;

/** A state being written down. To be ended, also when nobody wants the rest. */
export class StateCapture {
  readonly appliedIndex: LogIndex;
  private readonly reading: Reading;
  private readonly lines: Iterable<Line>;

  constructor(state: State) {
    this.appliedIndex = state.appliedIndex;
    this.reading = state.images.begin();
    this.lines = linesOf(state, this.reading);
  }

  /** Each step a short piece of work; it gives the chunks that have become full, of at most 1 MiB. Ends the capture. */
  *steps(): Generator<readonly Uint8Array[], void> {
    try {
      const writer = new ChunkWriter();
      writer.writeByte(SNAPSHOT_FORMAT_VERSION);
      let count = 0;
      let bytes = 0;
      for (const line of this.lines) {
        bytes += writer.writeLine(JSON.stringify(line));
        count += 1;
        if (bytes < STEP_BYTES) continue;
        yield writer.takeFull();
        bytes = 0;
      }
      const end: EndLine = ["end", count];
      writer.writeLine(JSON.stringify(end));
      yield writer.finish();
    } finally {
      this.end();
    }
  }

  /** Nothing is kept for it any more. Safe to call twice. */
  end(): void {
    this.reading.end();
  }
}

/** All in one go. */
export function* writeSnapshot(capture: StateCapture): Generator<Uint8Array, void> {
  for (const chunks of capture.steps()) yield* chunks;
}

/** What there is is settled here, at once; what follows reads it, each part as it was when the reading began. */
function linesOf(state: State, reading: Reading): Iterable<Line> {
  const { objects, sessions, snat } = state;
  return parts([
    [...headLines(state)],
    dipLines([...state.dips.all()], reading),
    hostLines([...state.hosts.all()]),
    muxLines([...state.muxes.all()]),
    tenantLines([...objects.allTenants()]),
    groupLines([...objects.allGroups()]),
    poolLines([...objects.allPools()]),
    vipLines([...objects.allVips()]),
    healthLines(state.health.all()),
    withdrawalLines(state.withdrawals.all()),
    backoffLines(state.backoffs.all()),
    drainLines(state.drains.all()),
    tableLines(state.tables.all()),
    snatLines([...snat.quarantines], snat.spaces(), reading),
    recallLines(snat.recalls.all()),
    [...claimLines(snat)],
    sessionLines(sessions.records(reading), [...sessions.expiredSessions()]),
  ]);
}

function* parts(lines: readonly Iterable<Line>[]): Iterable<Line> {
  for (const part of lines) yield* part;
}

function* headLines(state: State): Iterable<Line> {
  const { objects, site } = state;
  yield ["head", state.appliedIndex, state.time.nowMs, site, objects.nextPoolId, objects.nextVipId];
  const epoch = state.epoch.record();
  if (epoch !== null) yield ["epoch", epoch.atMs, epoch.index, epoch.missing];
  for (const [hostId, { index, reason }] of [...state.fences].sort(([a], [b]) => a - b))
    yield ["fence", hostId, index, reason];
  for (const replica of [...state.replicas.values()].sort((a, b) => a.nodeId - b.nodeId)) {
    yield ["replica", replica.nodeId, replica.incarnation, replica.bootId];
  }
}

function* dipLines(dips: readonly DipRecord[], reading: Reading): Iterable<Line> {
  for (const dip of dips) {
    const { tenant, address, hostId, locator } = reading.of(dip);
    yield ["dip", tenant, address, hostId ?? 0, locator ?? 0];
  }
}

function* hostLines(hosts: readonly Host[]): Iterable<Line> {
  for (const host of hosts) {
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
}

function* muxLines(muxes: readonly Mux[]): Iterable<Line> {
  for (const mux of muxes) {
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
      mux.addressIpv6 ?? 0,
      mux.drain === undefined ? 0 : [mux.drain.reason, mux.drain.sinceMs],
    ];
  }
}

function* tenantLines(tenants: readonly TenantObject[]): Iterable<Line> {
  for (const tenant of sorted(tenants))
    yield ["tenant", tenant.ref.name, labelsOf(tenant), versions(tenant, readTenant), countersOf(tenant)];
}

function* groupLines(groups: readonly GroupObject[]): Iterable<Line> {
  for (const group of sorted(groups)) {
    const { tenant, name } = group.ref;
    yield ["group", tenant, name, labelsOf(group), versions(group, readGroup), countersOf(group)];
  }
}

function* poolLines(pools: readonly PoolObject[]): Iterable<Line> {
  for (const pool of pools) {
    const { tenant, name } = pool.ref;
    yield ["pool", pool.poolId, tenant, name, labelsOf(pool), versions(pool, readPool), countersOf(pool)];
  }
}

function* vipLines(vips: readonly VipObject[]): Iterable<Line> {
  for (const vip of vips) {
    const { tenant, name } = vip.ref;
    const natPorts = vip.natPorts.map(({ rule, dip, port }) => [rule, dip, port] as const);
    yield ["vip", vip.vipId, tenant, name, labelsOf(vip), versions(vip, readVip), countersOf(vip), natPorts];
  }
}

function* healthLines(down: readonly DownMember[]): Iterable<Line> {
  for (const { poolId, dipId, reason, sinceMs, index } of down) yield ["down", poolId, dipId, reason, sinceMs, index];
}

function* withdrawalLines(withdrawals: readonly Withdrawal[]): Iterable<Line> {
  for (const { vipId, reason, sinceMs, untilMs } of withdrawals) yield ["withdrawn", vipId, reason, sinceMs, untilMs];
}

function* backoffLines(backoffs: readonly OverloadBackoff[]): Iterable<Line> {
  for (const { vipId, times, forSeconds, calmSinceMs } of backoffs)
    yield ["backoff", vipId, times, forSeconds, calmSinceMs];
}

function* drainLines(drains: readonly Drain[]): Iterable<Line> {
  for (const { poolId, dipId, sinceMs, endsMs, isOver, leftPort } of drains)
    yield ["drain", poolId, dipId, sinceMs, endsMs, isOver ? 1 : 0, leftPort ?? -1];
}

function* tableLines(pools: readonly PoolTables[]): Iterable<Line> {
  for (const { poolId, nextRevision, tables } of pools) {
    const tuples = tables.map(({ revision, members }): TableTuple => [
      revision,
      members.map(({ dipId, weight }) => [dipId, weight]),
    ]);
    yield ["tables", poolId, nextRevision, tuples];
  }
}

function* snatLines(
  quarantines: readonly Quarantine[],
  spaces: readonly PortSpace[],
  reading: Reading,
): Iterable<Line> {
  for (const space of spaces) {
    const runs: OwnedRuns[number][] = [];
    reading.of(space).visitAllOwned((range, count, dip, granted) => runs.push([range, count, dip, granted]));
    if (runs.length > 0) yield ["owned", space.vip, space.protocol, runs];
  }
  for (const { space, range, count, dip, releasedAtMs, releaseIndex } of quarantines) {
    const runs = reading
      .of(space)
      .grantRuns(range, count)
      .map((run) => [run.count, run.grantedIndex] as const);
    yield ["quarantine", space.vip, space.protocol, range, dip, releasedAtMs, releaseIndex, runs];
  }
  // A space that is empty and was never used is not worth a line: it is made again when needed.
  for (const space of spaces) {
    const { cursor } = reading.of(space);
    if (cursor !== FIRST_RANGE) yield ["cursor", space.vip, space.protocol, cursor];
  }
}

function* recallLines(recalls: readonly Recall[]): Iterable<Line> {
  for (const { vip, protocol, range, dip, sinceMs } of recalls) yield ["recall", vip, protocol, range, dip, sinceMs];
}

function* claimLines(snat: SnatAllocator): Iterable<Line> {
  for (const { vip, protocol, dip, ranges, sinceMs } of snat.recalls.allSurplus())
    yield ["surplus", vip, protocol, dip, ranges, sinceMs];
  for (const space of snat.contested())
    for (const { dip, wanted, ranges, sinceMs, untilMs } of claimsInOrder(space))
      yield ["claim", space.vip, space.protocol, dip, wanted, ranges, sinceMs, untilMs];
}

function* sessionLines(
  records: Iterable<SessionRecord>,
  expired: readonly (readonly [string, number])[],
): Iterable<Line> {
  for (const { id, lastUsedMs, newestSequence, answers } of records) {
    yield [
      "session",
      id,
      lastUsedMs,
      newestSequence,
      answers.map(({ sequence, result }) => [sequence, result] as const),
    ];
  }
  for (let at = 0; at < expired.length; at += EXPIRED_PER_LINE)
    yield ["expired", expired.slice(at, at + EXPIRED_PER_LINE)];
}

const labelsOf = (object: AnyStoredObject): Labels => Object.entries(object.labels).sort(([a], [b]) => byText(a, b));

const countersOf = (object: AnyStoredObject): ObjectCounters => [
  object.generation,
  object.createdIndex,
  object.updatedIndex,
  object.activeIndex,
  object.deleting ? 1 : 0,
];

const sorted = <Stored extends AnyStoredObject>(objects: readonly Stored[]): readonly Stored[] =>
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
