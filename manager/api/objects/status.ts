/**
 * How objects stand, apart from what the operator wants: phase, conditions with reasons, members, ports. Computed at
 * reading from the state and from what the MUXes are known to have in force; stored nowhere.
 */
import type { IpAddress } from "../../../core/brands.js";
import { servingMembers } from "../../../dataplane/serving-members.js";
import type { ananta } from "../../../proto/gen/wire.js";
import type { ApplyObject } from "../../state/commands/commands.js";
import type { Drain } from "../../state/drain-table.js";
import type { LentPort } from "../../state/snat/lent-ports.js";
import type { AnyStoredObject, Dip, ObjectSpec } from "../../state/objects.js";
import { PORTS_PER_RANGE, formatBlock, protocolName } from "../../state/snat/port-ranges.js";
import { forgottenAtMs, type OverloadBackoff } from "../../state/overload-backoff.js";
import type { SnatUsage, StateMachine } from "../../state/state-machine.js";
import {
  type GroupObject,
  type PoolObject,
  type TenantObject,
  type VipObject,
  isPool,
  isVip,
} from "../../state/vip-map.js";
import { type WireObject, wireSpec } from "./wire.js";

type Condition = ananta.v1.Condition.$Properties;
type Member = ananta.v1.MemberStatus.$Properties;

/** A stored object with its status. O(its members, or the pools that its rules name). */
export function wireObject(object: AnyStoredObject, state: StateMachine, muxSafeIndex: number): WireObject {
  const { tenant, name } = object.ref;
  const members = isPool(object) ? memberStatus(object, state) : [];
  return {
    metadata: { tenant, name, labels: { ...object.labels }, generation: object.generation },
    ...wireSpec(specOf(object)),
    status: {
      phase: phaseOf(object, muxSafeIndex),
      updatedIndex: object.updatedIndex,
      conditions: conditionsOf(object, state, muxSafeIndex, members),
      ...(isVip(object)
        ? {
            snat: object.spec.outbound === null ? [] : state.snatUsageOf(object.spec.address).map(wireUsage),
            natPorts: object.natPorts.map((assigned) => ({ ...assigned })),
          }
        : {}),
      ...(isPool(object) ? { members } : {}),
    },
  };
}

/** What an operator should know of objects that may be stored all the same: sentences, at most `WARNINGS_MAX`. */
export function warningsOf(objects: readonly ApplyObject[], state: StateMachine): readonly string[] {
  let unlisted = 0;
  const warnings = objects.flatMap(({ ref, object }) => {
    if (object.kind === "Vip") {
      const { first, count } = state.lentPorts(object.spec, WARNINGS_MAX);
      const name = `VIP ${ref.tenant}/${ref.name}`;
      unlisted += count - first.length;
      return first.map((port) => `${name}: ${waitingText(object.spec.address, port, state.clusterTimeMs)}`);
    }
    if (object.kind !== "BackendPool") return [];
    const homeless = object.spec.members.filter(({ dip }) => (state.dipAt(ref.tenant, dip)?.hostId ?? null) === null);
    if (homeless.length === 0) return [];
    const dips = listed(homeless.map(({ dip }) => dip));
    return [`BackendPool ${ref.tenant}/${ref.name}: no host runs ${dips}: no traffic until one registers with it`];
  });
  if (!state.muxes().some((mux) => mux.state === "live"))
    warnings.push("no MUX is live: nothing is in force until one joins");
  const more = warnings.length + unlisted - WARNINGS_MAX;
  return more > 0 ? [...warnings.slice(0, WARNINGS_MAX), `and ${more} more warnings`] : warnings;
}

/** Answers stay small. */
const WARNINGS_MAX = 20;
const LISTED_MAX = 5;

const listed = (names: readonly string[]): string =>
  names.length <= LISTED_MAX
    ? names.join(", ")
    : `${names.slice(0, LISTED_MAX).join(", ")} and ${names.length - LISTED_MAX} more`;

function specOf(object: AnyStoredObject): ObjectSpec {
  const { kind } = object.ref;
  switch (kind) {
    case "Vip":
      return { kind, spec: (object as VipObject).spec };
    case "BackendPool":
      return { kind, spec: (object as PoolObject).spec };
    case "Tenant":
      return { kind, spec: (object as TenantObject).spec };
    case "SecurityGroup":
      return { kind, spec: (object as GroupObject).spec };
  }
}

/** "Ready": every live MUX uses the newest spec. */
export function phaseOf(object: AnyStoredObject, muxSafeIndex: number): "Ready" | "Pending" | "Deleting" {
  if (object.deleting) return "Deleting";
  const isActive = object.active !== null && object.activeIndex >= object.updatedIndex;
  return isActive && muxSafeIndex >= object.activeIndex ? "Ready" : "Pending";
}

const holds = (type: string): Condition => ({ type, status: true, reason: "", message: "" });
const fails = (type: string, reason: string, message: string): Condition => ({ type, status: false, reason, message });

function conditionsOf(
  object: AnyStoredObject,
  state: StateMachine,
  muxSafeIndex: number,
  members: readonly Member[],
): Condition[] {
  const conditions = [readiness(object, state, muxSafeIndex)];
  if (isVip(object))
    conditions.push(
      announcement(object, state),
      ...vipService(object, state),
      ...rulesInForce(object, state),
      ...portsShared(object, state),
    );
  if (isPool(object)) conditions.push(service(members));
  return conditions;
}

function readiness(object: AnyStoredObject, state: StateMachine, muxSafeIndex: number): Condition {
  if (object.deleting) return fails("Ready", "Deleting", "it is being taken off the MUXes");
  if (!state.muxes().some((mux) => mux.state === "live"))
    return fails("Ready", "NoLiveMux", "no MUX is live, so no packet is forwarded");
  if (object.active === null || object.activeIndex < object.updatedIndex)
    return fails("Ready", "WaitingForHosts", `hosts learn of generation ${object.generation}; MUXes follow`);
  if (muxSafeIndex < object.activeIndex)
    return fails("Ready", "WaitingForMuxes", `not every live MUX has index ${object.activeIndex} in force`);
  return holds("Ready");
}

function announcement(vip: VipObject, state: StateMachine): Condition {
  const withdrawal = state.withdrawal(vip.vipId);
  const backoff = state.overloadBackoff(vip.vipId);
  const secondsUntil = (atMs: number): number => Math.max(0, Math.ceil((atMs - state.clusterTimeMs) / 1_000));
  if (withdrawal !== null) {
    const again = `; announced again in ${secondsUntil(withdrawal.untilMs)} s`;
    const lately = backoff === null ? "" : `; withdrawn for overload ${timesLately(backoff)}`;
    return fails("Announced", "Withdrawn", withdrawal.reason + again + lately);
  }
  if (vip.spec.adminState === "down") return fails("Announced", "AdminDown", "spec.adminState is down");
  if (vip.active === null || vip.deleting) return fails("Announced", "NotActive", "no MUX uses it");
  const live = state.muxes().filter((mux) => mux.state === "live");
  if (live.length > 0 && live.every((mux) => mux.drain !== undefined))
    return fails("Announced", "MuxesDrained", "every live MUX is drained: ananta mux undrain");
  if (backoff === null) return holds("Announced");
  const message = `withdrawn for overload ${timesLately(backoff)}; forgotten in ${secondsUntil(forgottenAtMs(backoff))} s`;
  return { type: "Announced", status: true, reason: "WithdrawnLately", message };
}

/** `2 times lately, the last time for 120 s` */
const timesLately = ({ times, forSeconds }: OverloadBackoff): string =>
  `${times === 1 ? "once" : `${times} times`} lately, the last time for ${forSeconds} s`;

function service(members: readonly Member[]): Condition {
  // Who drains does so because somebody wanted it.
  const wanted = members.filter(({ health }) => health !== "draining" && health !== "drained");
  const up = wanted.filter(({ health }) => health === "up").length;
  const homeless = wanted.filter(({ health }) => health === "no-host").map(({ dip }) => dip ?? "");
  if (members.length === 0) return fails("Serving", "NoMembers", "the pool has no members");
  if (homeless.length > 0) {
    return fails("Serving", "MembersWithoutHost", `no host runs ${listed(homeless)}: they get no traffic`);
  }
  if (wanted.length === 0) return fails("Serving", "AllDraining", "every member drains: none takes new flows");
  if (up === 0) return fails("Serving", "AllDown", "no member is up");
  if (up < wanted.length)
    return fails("Serving", "MembersDown", `${wanted.length - up} of ${wanted.length} are not up`);
  return holds("Serving");
}

/** Of a VIP with rules: whether new flows find a member. As MUXes see it, hence nothing before it is activated. */
function vipService(vip: VipObject, state: StateMachine): readonly Condition[] {
  const { tenant } = vip.ref;
  const rules = vip.active?.rules ?? [];
  if (rules.length === 0) return [];
  const takesFlows = (name: string): boolean =>
    state
      .muxItemsOf({ kind: "BackendPool", tenant, name })
      .some((item) => item.kind === "pool" && servingMembers(item).length > 0);
  const idle = [...new Set(rules.map(({ pool }) => pool))].filter((name) => !takesFlows(name));
  if (idle.length === 0) return [holds("Serving")];
  return [fails("Serving", "NoMemberTakesFlows", `no member of ${listed(idle)} takes new flows`)];
}

/** Present while a rule waits for SNAT ports: who has them, and since when they are asked for. */
function rulesInForce(vip: VipObject, state: StateMachine): readonly Condition[] {
  if (vip.deleting) return [];
  const { count, first } = state.lentPorts(vip.spec, LISTED_MAX);
  if (count === 0) return [];
  const nowMs = state.clusterTimeMs;
  const shown = first.map((port) => waitingText(vip.spec.address, port, nowMs)).join("; ");
  const more = count - first.length;
  return [fails("RulesInForce", "PortsLent", more > 0 ? `${shown}; and ${more} more` : shown)];
}

/** Present while DIPs wait for ports of the VIP that others own above their fair share: who waits, and who is asked. */
function portsShared(vip: VipObject, state: StateMachine): readonly Condition[] {
  const contests = state.snatContests().filter((contest) => contest.vip === vip.spec.address);
  if (contests.length === 0) return [];
  const sentences = contests.map(({ protocol, waiting, asked }) => {
    const ports = (ranges: number): string => `${ranges * PORTS_PER_RANGE} ports of ${protocolName(protocol)}`;
    const name = (dip: Dip): string => `${dip.tenant}/${dip.address}`;
    const waits = listed(waiting.map(({ dip, ranges }) => `${name(dip)} (${ports(ranges)})`));
    const owners = asked.map(({ dip, host, ranges, owned, sinceMs }) => {
      const seconds = Math.floor((state.clusterTimeMs - sinceMs) / 1_000);
      const of = `${ranges * PORTS_PER_RANGE} of its ${owned * PORTS_PER_RANGE}`;
      return `${name(dip)}${host === null ? "" : ` of host ${host}`} for ${of}, since ${seconds} s`;
    });
    return owners.length === 0 ? `${waits} wait for what rests` : `${waits} wait; asked are ${listed(owners)}`;
  });
  const isAsking = contests.some(({ asked }) => asked.length > 0);
  return [fails("SnatPortsShared", isAsking ? "Recalling" : "Resting", sentences.join("; "))];
}

/** `rule "dns" waits for port 1030/tcp: DIP default/10.0.0.1 of host h1 has ports 1024-1031, recalled 12 s ago`. */
function waitingText(
  vip: IpAddress,
  { rule, protocol, port, range, dip, host, ...since }: LentPort,
  nowMs: number,
): string {
  const owner = `DIP ${dip.tenant}/${dip.address}${host === null ? "" : ` of host ${host}`}`;
  const block = formatBlock({ vip, protocol, range, count: 1 });
  const waits = `${rule} waits for port ${port}/${protocolName(protocol)}`;
  if (since.freeAtMs !== null) {
    const leftSeconds = Math.max(0, Math.ceil((since.freeAtMs - nowMs) / 1_000));
    return `${waits}: SNAT ports ${block}, which ${owner} gave back, rest for another ${leftSeconds} s`;
  }
  const asked =
    since.recalledSinceMs === null ? "" : `, asked back ${Math.floor((nowMs - since.recalledSinceMs) / 1_000)} s ago`;
  const lost = host === null ? "; no host runs it: `ananta host fence` ends what a lost host owns" : "";
  return `${waits}: ${owner} uses SNAT ports ${block}${asked}${lost}`;
}

function memberStatus(pool: PoolObject, state: StateMachine): Member[] {
  const drains = new Map(state.drainsOf(pool.poolId).map((drain) => [drain.dipId, drain]));
  const listed = new Set<string>(pool.spec.members.map(({ dip }) => dip));
  const former = [...drains.values()].flatMap((drain): Member[] => {
    const dip = state.dip(drain.dipId);
    if (drain.leftPort === null || dip === null || listed.has(dip.address)) return [];
    const { hostId } = state.dipAt(dip.tenant, dip.address) ?? { hostId: null };
    const host = hostId === null ? "" : (state.host(hostId)?.name ?? "");
    const down = state.memberHealth(pool.poolId, drain.dipId);
    const why = down === null ? "it has left the pool" : `it has left the pool, down (${down.reason})`;
    return [{ dip: dip.address, host, ...draining(why, drain, state.clusterTimeMs) }];
  });
  const members = pool.spec.members.map(({ dip, adminState, weight }): Member => {
    const place = state.dipAt(pool.ref.tenant, dip);
    const host = place === null || place.hostId === null ? null : state.host(place.hostId);
    if (place === null || host === null)
      return { dip, host: "", health: "no-host", reason: "no host has registered it" };
    const down = state.memberHealth(pool.poolId, place.dipId);
    const is = (health: string, reason: string): Member => ({ dip, host: host.name, health, reason });
    if (adminState === "down") return is("down", "adminState is down");
    if (weight === 0) {
      const drain = drains.get(place.dipId) ?? null;
      return { dip, host: host.name, ...draining("its weight is 0", drain, state.clusterTimeMs) };
    }
    if (host.isExpired) return is("silent", `host ${host.name} is silent`);
    if (adminState === "none" && pool.spec.probe !== null && down !== null) return is("down", down.reason);
    return is("up", "");
  });
  return [...members, ...former];
}

/** `drain` null: without a timeout, or its drain has not begun. */
function draining(
  why: string,
  drain: Drain | null,
  nowMs: number,
): Pick<Member, "health" | "reason" | "drainSecondsLeft"> {
  if (drain === null) return { health: "draining", reason: `${why}; its flows end by themselves` };
  if (drain.isOver) return { health: "drained", reason: `${why}; its flows have ended` };
  const drainSecondsLeft = Math.ceil((drain.endsMs - nowMs) / 1_000);
  return { health: "draining", reason: `${why}; ${drainSecondsLeft} s left`, drainSecondsLeft };
}

const wireUsage = (usage: SnatUsage): ananta.v1.SnatUsage.$Properties => ({
  protocol: usage.protocol,
  ownedRanges: usage.owned,
  quarantinedRanges: usage.quarantined,
  excludedRanges: usage.excluded,
  freeRanges: usage.free,
});
