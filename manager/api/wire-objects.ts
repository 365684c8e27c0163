/**
 * Objects in their three forms, each conversion in one place: what the state machine stores, what travels
 * (proto/ananta/v1/operator.proto), and the document that people write and read (object-schema.ts).
 *
 * Whatever comes in over the wire becomes a document first and is checked as one, so that a client that speaks gRPC hears
 * the same words as one that writes YAML. On the wire 0 and "" mean "left out"; in a document what is left out is absent.
 */
import { AnantaError } from "../../core/errors.js";
import { ananta } from "../../proto/gen/wire.js";
import type { ApplyObject } from "../state/commands.js";
import type { AnyStoredObject, BackendPoolSpec, ObjectSpec, VipSpec } from "../state/objects.js";
import type { SnatUsage, StateMachine } from "../state/state-machine.js";
import { formatProblem } from "./object-schema-messages.js";
import { API_VERSION, validateDocument } from "./object-schema.js";

type WireObject = ananta.v1.Object.$Properties;
type Fields = Record<string, unknown>;

/** Listed in an answer: it travels in trailers, which are small. The count is of all. */
const PROBLEMS_LISTED_MAX = 20;

const wireProtocol = (protocol: "tcp" | "udp"): ananta.v1.Protocol =>
  protocol === "tcp" ? ananta.v1.Protocol.PROTOCOL_TCP : ananta.v1.Protocol.PROTOCOL_UDP;

/** "tcp" for 6. What is no protocol of ours stays a number, and 0 is absent, so that the schema can complain. */
export function protocolName(protocol: number | null | undefined): string | number | undefined {
  if (protocol === 6) return "tcp";
  if (protocol === 17) return "udp";
  return protocol === 0 || protocol === null ? undefined : protocol;
}

// ---- in: wire -> document -> what the log carries ----

/** Throws INVALID_ARGUMENT with all problems of all objects, in the fact "problems" as JSON. */
export function objectsFromWire(objects: readonly WireObject[]): readonly ApplyObject[] {
  const checked = objects.map((object) => validateDocument(documentFromWire(object)));
  const problems = checked.flatMap((result, object) =>
    "problems" in result ? result.problems.map((problem) => ({ object, ...problem })) : [],
  );
  if (problems.length === 0) return checked.flatMap((result) => ("ok" in result ? [result.ok] : []));
  const listed = problems.slice(0, PROBLEMS_LISTED_MAX);
  const more = problems.length - listed.length;
  const sentences = listed.map(({ object, ...problem }) => `objects[${object}] ${formatProblem(problem)}`);
  throw new AnantaError("INVALID_ARGUMENT", sentences.join("; ") + (more > 0 ? `; and ${more} more` : ""), {
    problems: JSON.stringify(listed.map((problem) => ({ ...problem, code: "INVALID_ARGUMENT" }))),
    problemCount: problems.length,
  });
}

/**
 * A wire object as a document: what `get -o yaml` prints, and what can be applied again. Not checked: a field that is
 * wrong on the wire is wrong here too.
 */
export function documentFromWire(object: WireObject): Fields {
  const { metadata, vip, backendPool, status } = object;
  const kind = present(vip) ? "Vip" : present(backendPool) ? "BackendPool" : undefined;
  return withoutAbsent({
    apiVersion: API_VERSION,
    kind,
    metadata: withoutAbsent({
      name: text(metadata?.name),
      tenant: text(metadata?.tenant),
      labels: Object.keys(metadata?.labels ?? {}).length > 0 ? metadata?.labels : undefined,
      generation: count(metadata?.generation),
    }),
    spec: present(vip) ? vipDocument(vip) : present(backendPool) ? poolDocument(backendPool) : undefined,
    status: present(status) ? statusDocument(status, kind) : undefined,
  });
}

function vipDocument(vip: ananta.v1.VipSpec.$Properties): Fields {
  return withoutAbsent({
    address: text(vip.address),
    rules: (vip.rules ?? []).map((rule) =>
      withoutAbsent({
        name: text(rule.name),
        protocol: protocolName(rule.protocol),
        port: count(rule.port),
        pool: text(rule.pool),
        backendPort: count(rule.backendPort),
      }),
    ),
    outbound: present(vip.outbound)
      ? withoutAbsent({ pools: vip.outbound.pools ?? [], maxPorts: count(vip.outbound.maxPorts) })
      : undefined,
  });
}

function poolDocument(pool: ananta.v1.BackendPoolSpec.$Properties): Fields {
  return withoutAbsent({
    members: (pool.members ?? []).map((member) =>
      withoutAbsent({ dip: text(member.dip), port: count(member.port), weight: member.weight ?? undefined }),
    ),
    maxMembers: count(pool.maxMembers),
  });
}

function statusDocument(status: ananta.v1.ObjectStatus.$Properties, kind: "Vip" | "BackendPool" | undefined): Fields {
  const snat = (status.snat ?? []).map((usage) => ({
    protocol: protocolName(usage.protocol) ?? "",
    ownedRanges: usage.ownedRanges ?? 0,
    quarantinedRanges: usage.quarantinedRanges ?? 0,
    excludedRanges: usage.excludedRanges ?? 0,
    freeRanges: usage.freeRanges ?? 0,
  }));
  const members = (status.members ?? []).map((member) => ({ dip: member.dip ?? "", host: member.host ?? "" }));
  return {
    phase: status.phase ?? "",
    updatedIndex: status.updatedIndex ?? 0,
    ...(kind === "Vip" && snat.length > 0 ? { snat } : {}),
    ...(kind === "BackendPool" ? { members } : {}),
  };
}

const present = <T>(value: T | null | undefined): value is T => value !== null && value !== undefined;
const text = (value: string | null | undefined): string | undefined =>
  value === "" || value === null ? undefined : value;
const count = (value: number | null | undefined): number | undefined =>
  value === 0 || value === null ? undefined : value;

const withoutAbsent = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

// ---- out: what a client sends, what a replica answers ----

/** What Apply takes. */
export function wireApplyObject({ ref, labels, object, expectedGeneration }: ApplyObject): WireObject {
  return {
    metadata: { tenant: ref.tenant, name: ref.name, labels: { ...labels }, generation: expectedGeneration ?? 0 },
    ...wireSpec(object),
  };
}

function wireSpec(object: ObjectSpec): Pick<WireObject, "vip" | "backendPool"> {
  return object.kind === "Vip" ? { vip: wireVip(object.spec) } : { backendPool: wirePool(object.spec) };
}

function wireVip({ address, rules, outbound }: VipSpec): ananta.v1.VipSpec.$Properties {
  return {
    address,
    rules: rules.map((rule) => ({ ...rule, protocol: wireProtocol(rule.protocol) })),
    ...(outbound === null ? {} : { outbound: { pools: [...outbound.pools], maxPorts: outbound.maxPorts } }),
  };
}

function wirePool({ members, maxMembers }: BackendPoolSpec): ananta.v1.BackendPoolSpec.$Properties {
  return { members: members.map((member) => ({ ...member })), maxMembers };
}

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
  const hosts = objects.every(isVip) ? new Map<string, string>() : hostByDip(state);
  return objects.map((object) => {
    const { tenant, name } = object.ref;
    return {
      metadata: { tenant, name, labels: { ...object.labels }, generation: object.generation },
      ...(isVip(object) ? { vip: wireVip(object.spec) } : { backendPool: wirePool(object.spec) }),
      status: {
        phase: phaseOf(object, muxSafeIndex),
        updatedIndex: object.updatedIndex,
        ...(isVip(object)
          ? { snat: object.spec.outbound === null ? [] : (usages.get(object.spec.address) ?? []).map(wireUsage) }
          : { members: object.spec.members.map(({ dip }) => ({ dip, host: hosts.get(`${tenant}/${dip}`) ?? "" })) }),
      },
    };
  });
}

type StoredVip = Extract<AnyStoredObject, { readonly vipId: unknown }>;
const isVip = (object: AnyStoredObject): object is StoredVip => "vipId" in object;

/** "Ready": every live MUX uses the newest spec. */
function phaseOf(object: AnyStoredObject, muxSafeIndex: number): "Ready" | "Pending" | "Deleting" {
  if (object.deleting) return "Deleting";
  const isActive = object.active !== null && object.activeIndex >= object.updatedIndex;
  return isActive && muxSafeIndex >= object.activeIndex ? "Ready" : "Pending";
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

function hostByDip(state: StateMachine): ReadonlyMap<string, string> {
  const hosts = new Map<string, string>();
  for (const host of state.hosts()) {
    for (const id of host.dips) {
      const dip = state.dip(id);
      if (dip !== null) hosts.set(`${dip.tenant}/${dip.address}`, host.name);
    }
  }
  return hosts;
}

function wireUsage(usage: SnatUsage): ananta.v1.SnatUsage.$Properties {
  return {
    protocol: wireProtocol(usage.protocol === 6 ? "tcp" : "udp"),
    ownedRanges: usage.owned,
    quarantinedRanges: usage.quarantined,
    excludedRanges: usage.excluded,
    freeRanges: usage.free,
  };
}
