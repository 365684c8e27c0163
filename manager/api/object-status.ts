/**
 * How objects stand, apart from what the operator wants: phase, conditions with reasons, members, ports. Computed at
 * reading from the state and from what the MUXes are known to have in force; stored nowhere.
 */
import type { ananta } from "../../proto/gen/wire.js";
import type { AnyStoredObject, ObjectSpec } from "../state/objects.js";
import type { SnatUsage, StateMachine } from "../state/state-machine.js";
import {
  type GroupObject,
  type PoolObject,
  type TenantObject,
  type VipObject,
  isPool,
  isVip,
} from "../state/vip-map.js";
import { type WireObject, wireSpec } from "./wire-objects.js";

type Condition = ananta.v1.Condition.$Properties;
type Member = ananta.v1.MemberStatus.$Properties;

/** A stored object with its status. Of many objects, use `wireObjects`: it looks through the state once. */
export function wireObject(object: AnyStoredObject, state: StateMachine, muxSafeIndex: number): WireObject {
  return wireObjects([object], state, muxSafeIndex)[0] ?? {};
}

/** O(objects + VIPs + hosts' DIPs). */
export function wireObjects(
  objects: readonly AnyStoredObject[],
  state: StateMachine,
  muxSafeIndex: number,
): readonly WireObject[] {
  const usages = objects.some(isVip) ? usageByVip(state) : new Map<string, readonly SnatUsage[]>();
  const hosts = objects.some(isPool) ? hostByDip(state) : new Map<string, HostedDip>();
  return objects.map((object) => {
    const { tenant, name } = object.ref;
    const members = isPool(object) ? memberStatus(object, state, hosts) : [];
    return {
      metadata: { tenant, name, labels: { ...object.labels }, generation: object.generation },
      ...wireSpec(specOf(object)),
      status: {
        phase: phaseOf(object, muxSafeIndex),
        updatedIndex: object.updatedIndex,
        conditions: conditionsOf(object, state, muxSafeIndex, members),
        ...(isVip(object)
          ? {
              snat: object.spec.outbound === null ? [] : (usages.get(object.spec.address) ?? []).map(wireUsage),
              natPorts: object.natPorts.map((assigned) => ({ ...assigned })),
            }
          : {}),
        ...(isPool(object) ? { members } : {}),
      },
    };
  });
}

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
function phaseOf(object: AnyStoredObject, muxSafeIndex: number): "Ready" | "Pending" | "Deleting" {
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
  if (isVip(object)) conditions.push(announcement(object, state));
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
  if (withdrawal !== null) {
    const leftSeconds = Math.max(0, Math.ceil((withdrawal.untilMs - state.clusterTimeMs) / 1_000));
    return fails("Announced", "Withdrawn", `${withdrawal.reason}; announced again in ${leftSeconds} s`);
  }
  if (vip.spec.adminState === "down") return fails("Announced", "AdminDown", "spec.adminState is down");
  if (vip.active === null || vip.deleting) return fails("Announced", "NotActive", "no MUX uses it");
  return holds("Announced");
}

function service(members: readonly Member[]): Condition {
  const up = members.filter(({ health }) => health === "up").length;
  const homeless = members.filter(({ health }) => health === "no-host").map(({ dip }) => dip ?? "");
  if (members.length === 0) return fails("Serving", "NoMembers", "the pool has no members");
  if (homeless.length > 0) {
    const listed = `${homeless.slice(0, 5).join(", ")}${homeless.length > 5 ? ` and ${homeless.length - 5} more` : ""}`;
    return fails("Serving", "MembersWithoutHost", `no host runs ${listed}: they get no traffic`);
  }
  if (up === 0) return fails("Serving", "AllDown", "no member is up");
  if (up < members.length)
    return fails("Serving", "MembersDown", `${members.length - up} of ${members.length} are not up`);
  return holds("Serving");
}

interface HostedDip {
  readonly host: string;
  readonly isExpired: boolean;
  readonly dipId: Parameters<StateMachine["dip"]>[0];
}

function memberStatus(pool: PoolObject, state: StateMachine, hosts: ReadonlyMap<string, HostedDip>): Member[] {
  return pool.spec.members.map(({ dip, adminState }) => {
    const hosted = hosts.get(`${pool.ref.tenant}/${dip}`);
    if (hosted === undefined) return { dip, host: "", health: "no-host", reason: "no host has registered it" };
    const down = state.memberHealth(pool.poolId, hosted.dipId);
    const is = (health: string, reason: string): Member => ({ dip, host: hosted.host, health, reason });
    if (adminState === "down") return is("down", "adminState is down");
    if (hosted.isExpired) return is("draining", `host ${hosted.host} is silent`);
    if (adminState === "none" && pool.spec.probe !== null && down !== null) return is("down", down.reason);
    return is("up", "");
  });
}

function usageByVip(state: StateMachine): ReadonlyMap<string, readonly SnatUsage[]> {
  const usages = new Map<string, SnatUsage[]>();
  for (const usage of state.snatUsage()) {
    const known = usages.get(usage.vip);
    if (known === undefined) usages.set(usage.vip, [usage]);
    else known.push(usage);
  }
  return usages;
}

function hostByDip(state: StateMachine): ReadonlyMap<string, HostedDip> {
  const hosts = new Map<string, HostedDip>();
  for (const { name, isExpired, dips } of state.hosts()) {
    for (const dipId of dips) {
      const dip = state.dip(dipId);
      if (dip !== null) hosts.set(`${dip.tenant}/${dip.address}`, { host: name, isExpired, dipId });
    }
  }
  return hosts;
}

const wireUsage = (usage: SnatUsage): ananta.v1.SnatUsage.$Properties => ({
  protocol: usage.protocol,
  ownedRanges: usage.owned,
  quarantinedRanges: usage.quarantined,
  excludedRanges: usage.excluded,
  freeRanges: usage.free,
});
