/**
 * A state from the bytes of a snapshot. Every part goes back through the same operations that built it, so that whatever
 * they assert holds again; what a snapshot leaves out (indexes, counts, projections) follows.
 */
import { assert } from "../../../core/assert.js";
import type { Port } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import { storeObject } from "../configuration.js";
import type { AnyStoredObject, BackendPoolSpec } from "../objects.js";
import {
  type EndLine,
  type Line,
  type ObjectCounters,
  type PoolLine,
  SNAPSHOT_FORMAT_VERSION,
  type StoredPoolSpec,
  type Versions,
  type VipLine,
} from "./snapshot-lines.js";
import { FIRST_RANGE } from "../snat/port-ranges.js";
import { type State, createState } from "../state.js";
import { readLines } from "./text-chunks.js";
import type { PoolObject, VipObject } from "../vip-map.js";

/** Characters read in one step: about a millisecond. */
const STEP_CHARACTERS = 32 * 1024;

/**
 * In steps, each a short piece of work; the state is what the generator returns. Refuses another format version, and
 * whatever does not end as a whole snapshot does.
 */
export function* readSnapshot(chunks: Iterable<Uint8Array>): Generator<void, State> {
  const state = createState();
  let lines = 0;
  let characters = 0;
  let complete = false;
  for (const text of readLines(chunks, checkVersion)) {
    assert(!complete, "nothing follows the end of a snapshot");
    // Written by `snapshot-writer`, kept under checksums by the storage, and counted: trusted from here on.
    const line = JSON.parse(text) as Line;
    if (line[0] === "end") {
      assert(line[1] === lines, "a snapshot has as many lines as its end says");
      complete = true;
    } else {
      readLine(state, line);
      lines += 1;
    }
    characters += text.length;
    if (characters < STEP_CHARACTERS) continue;
    yield;
    characters = 0;
  }
  assert(complete, "a snapshot is complete");
  for (const vip of new Set(Array.from(state.snat.spaces(), (space) => space.vip))) {
    state.snat.rulesChanged(vip, state.time.nowMs);
    yield;
  }
  yield* state.projection.rebuild(state.site);
  return state;
}

function checkVersion(formatVersion: number): void {
  if (formatVersion === SNAPSHOT_FORMAT_VERSION) return;
  const message = `snapshot format ${formatVersion}; this program reads format ${SNAPSHOT_FORMAT_VERSION}`;
  throw new AnantaError("UNIMPLEMENTED", message, { formatVersion });
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
    case "epoch":
      state.epoch.begin(line[1], line[2], line[3]);
      return;
    case "fence":
      state.fences.set(line[1], { index: line[2], reason: line[3] });
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
      const [, hostId, name, incarnation, bootId, dips, registeredIndex, formerBootIds, expired] = line;
      const isExpired = expired === 1;
      state.hosts.put({ hostId, name, incarnation, bootId, formerBootIds, dips, isExpired, registeredIndex });
      return;
    }
    case "mux": {
      const [
        ,
        muxId,
        name,
        incarnation,
        bootId,
        address,
        rules,
        snatRanges,
        muxState,
        joinedIndex,
        formerBootIds,
        ipv6,
        addressIpv6 = 0,
        drain = 0,
      ] = line;
      state.muxes.put({
        muxId,
        name,
        incarnation,
        bootId,
        formerBootIds,
        address,
        ...(addressIpv6 === 0 ? {} : { addressIpv6 }),
        capacity: { rules, snatRanges, ...(ipv6 === 1 ? { ipv6: true as const } : {}) },
        state: muxState,
        joinedIndex,
        ...(drain === 0 ? {} : { drain: { reason: drain[0], sinceMs: drain[1] } }),
      });
      return;
    }
    case "tenant": {
      const [, name, labels, specs, counters] = line;
      const ref = { kind: "Tenant", tenant: name, name } as const;
      storeObject(state, {
        ref,
        labels: Object.fromEntries(labels),
        ...readVersions(specs),
        ...readCounters(counters),
      });
      return;
    }
    case "group": {
      const [, tenant, name, labels, specs, counters] = line;
      const ref = { kind: "SecurityGroup", tenant, name } as const;
      storeObject(state, {
        ref,
        labels: Object.fromEntries(labels),
        ...readVersions(specs),
        ...readCounters(counters),
      });
      return;
    }
    case "pool":
      storeObject(state, readPool(line));
      return;
    case "vip":
      storeObject(state, readVip(line));
      return;
    case "down": {
      const [, poolId, dipId, reason, sinceMs, index] = line;
      state.health.put({ poolId, dipId, reason, sinceMs, index });
      return;
    }
    case "withdrawn": {
      const [, vipId, reason, sinceMs, untilMs] = line;
      state.withdrawals.put({ vipId, reason, sinceMs, untilMs });
      return;
    }
    case "backoff": {
      const [, vipId, times, forSeconds, calmSinceMs] = line;
      state.backoffs.put({ vipId, times, forSeconds, calmSinceMs });
      return;
    }
    case "drain": {
      const [, poolId, dipId, sinceMs, endsMs, over, port] = line;
      const leftPort = port < 0 ? null : (port as Port);
      state.drains.put({ poolId, dipId, sinceMs, endsMs, isOver: over === 1, leftPort });
      return;
    }
    case "tables": {
      const [, poolId, nextRevision, tuples] = line;
      const tables = tuples.map(([revision, members]) => ({
        revision,
        members: members.map(([dipId, weight]) => ({ dipId, weight })),
      }));
      state.tables.put({ poolId, nextRevision, tables });
      return;
    }
    case "owned": {
      const space = state.snat.openForReading(line[1], line[2]);
      for (const [range, count, dip, granted] of line[3]) state.snat.take(space, range, count, dip, granted);
      space.cursor = FIRST_RANGE; // `take` moved it; a "cursor" line follows where it stood elsewhere
      return;
    }
    case "quarantine": {
      const [, vip, protocol, range, dip, nowMs, index, runs] = line;
      const space = state.snat.openForReading(vip, protocol);
      let at = range;
      for (const [count, granted] of runs) {
        state.snat.take(space, at, count, dip, granted);
        at += count;
      }
      state.snat.release(space, range, at - range, dip, { nowMs, index });
      space.cursor = FIRST_RANGE;
      return;
    }
    case "recall": {
      const [, vip, protocol, range, dip, sinceMs] = line;
      state.snat.recalls.put({ vip, protocol, range, dip, sinceMs });
      return;
    }
    case "surplus": {
      const [, vip, protocol, dip, ranges, sinceMs] = line;
      state.snat.recalls.putSurplus(state.snat.openSpace(vip, protocol), { vip, protocol, dip, ranges, sinceMs });
      return;
    }
    case "claim": {
      const [, vip, protocol, dip, wanted, ranges, sinceMs, untilMs] = line;
      const space = state.snat.openSpace(vip, protocol);
      space.claims.set(dip, { dip, wanted, ranges, sinceMs, untilMs });
      state.snat.claimsChanged(space);
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

function readPool([, poolId, tenant, name, labels, specs, counters]: PoolLine): PoolObject {
  return {
    ref: { kind: "BackendPool", tenant, name },
    poolId,
    labels: Object.fromEntries(labels),
    ...readVersions([withTimeout(specs[0]), typeof specs[1] === "number" ? specs[1] : withTimeout(specs[1])]),
    ...readCounters(counters),
  };
}

const withTimeout = (spec: StoredPoolSpec): BackendPoolSpec =>
  spec.drainTimeoutSeconds === undefined ? { ...spec, drainTimeoutSeconds: 0 } : (spec as BackendPoolSpec);

function readVip([, vipId, tenant, name, labels, specs, counters, natPorts]: VipLine): VipObject {
  return {
    ref: { kind: "Vip", tenant, name },
    vipId,
    natPorts: natPorts.map(([rule, dip, port]) => ({ rule, dip, port })),
    labels: Object.fromEntries(labels),
    ...readVersions(specs),
    ...readCounters(counters),
  };
}

/** `spec` and `active` stay one object where they are equal: comparing them is then free. */
function readVersions<Spec extends object>([spec, second]: Versions<Spec>): { spec: Spec; active: Spec | null } {
  return { spec, active: second === 0 ? null : second === 1 ? spec : second };
}

function readCounters([generation, createdIndex, updatedIndex, activeIndex, deleting]: ObjectCounters): Pick<
  AnyStoredObject,
  "generation" | "createdIndex" | "updatedIndex" | "activeIndex" | "deleting"
> {
  return { generation, createdIndex, updatedIndex, activeIndex, deleting: deleting === 1 };
}
