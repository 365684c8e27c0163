/**
 * Objects in their three forms, each conversion in one place: what the state machine stores, what travels
 * (proto/ananta/v1/operator.proto), and the document that people write and read (schema.ts). The fields of a spec
 * have the same names in all three; protocols of rules are numbers on the wire.
 *
 * Whatever comes in over the wire becomes a document first and is checked as one, so that a client that speaks gRPC hears
 * the same words as one that writes YAML. On the wire 0 and "" mean "left out"; in a document what is left out is absent.
 */
import { AnantaError } from "../../../core/errors.js";
import { type ananta } from "../../../proto/gen/wire.js";
import type { ApplyObject } from "../../state/commands/commands.js";
import type { ObjectKind, ObjectSpec, VipRule } from "../../state/objects.js";
import { formatProblem } from "./schema-messages.js";
import { API_VERSION, validateDocument } from "./schema.js";

export type WireObject = ananta.v1.Object.$Properties;
export type WireSpec = Pick<WireObject, "vip" | "backendPool" | "tenant" | "securityGroup">;
type Fields = Record<string, unknown>;

/** Listed in an answer: it travels in trailers, which are small. The count is of all. */
const PROBLEMS_LISTED_MAX = 20;

const RULE_PROTOCOLS: Readonly<Record<VipRule["protocol"], number>> = { tcp: 6, udp: 17, tcp_udp: 256, all: 257 };

/** "tcp" for 6. What is no protocol of ours stays a number, and 0 is absent, so that the schema can complain. */
export function protocolName(protocol: number | null | undefined): string | number | undefined {
  const known = Object.entries(RULE_PROTOCOLS).find(([, number]) => number === protocol);
  if (known !== undefined) return known[0];
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

export function wireKind(object: WireSpec): ObjectKind | undefined {
  if (object.vip) return "Vip";
  if (object.backendPool) return "BackendPool";
  if (object.tenant) return "Tenant";
  return object.securityGroup ? "SecurityGroup" : undefined;
}

/**
 * A wire object as a document: what `get -o yaml` prints, and what can be applied again. Not checked: a field that is
 * wrong on the wire is wrong here too.
 */
export function documentFromWire(object: WireObject): Fields {
  const { metadata, vip, backendPool, tenant, securityGroup, status } = object;
  const kind = wireKind(object);
  const spec = vip ?? backendPool ?? tenant ?? securityGroup;
  return withoutAbsent({
    apiVersion: API_VERSION,
    kind,
    metadata: withoutAbsent({
      name: text(metadata?.name),
      tenant: kind === "Tenant" && metadata?.tenant === metadata?.name ? undefined : text(metadata?.tenant),
      labels: Object.keys(metadata?.labels ?? {}).length > 0 ? metadata?.labels : undefined,
      generation: count(metadata?.generation),
    }),
    spec: spec === null || spec === undefined ? undefined : specDocument(spec),
    status: status === null || status === undefined ? undefined : statusDocument(status, kind),
  });
}

/** Fields whose 0 is a value: `optional` in the schema of the wire. */
const ZERO_IS_A_VALUE: ReadonlySet<string> = new Set(["weight", "queueSeconds"]);
/** Lists that are shown when they are empty too: a reader looks for them. */
const SHOWN_WHEN_EMPTY: ReadonlySet<string> = new Set(["rules", "members", "pools"]);

function specDocument(spec: object, isTenant = "addressSpaces" in spec || "maxRulesPerVip" in spec): Fields {
  const document = plainFields(spec as Fields, isTenant);
  if (!isTenant && "address" in spec && document["rules"] === undefined) document["rules"] = [];
  return document;
}

function plainFields(fields: Fields, isTenant = false): Fields {
  const out: Fields = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined || value === "" || name.startsWith("$")) continue;
    if (value === 0 && (isTenant || !ZERO_IS_A_VALUE.has(name))) continue;
    if (Array.isArray(value)) {
      if (value.length === 0 && !SHOWN_WHEN_EMPTY.has(name)) continue;
      out[name] = value.map((item: unknown) => (isFields(item) ? plainFields(item) : item));
    } else if (name === "protocol" && typeof value === "number") out[name] = protocolName(value);
    else out[name] = isFields(value) ? plainFields(value) : value;
  }
  return out;
}

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null;

function statusDocument(status: ananta.v1.ObjectStatus.$Properties, kind: ObjectKind | undefined): Fields {
  const snat = (status.snat ?? []).map((usage) => ({
    protocol: protocolName(usage.protocol) ?? "",
    ownedRanges: usage.ownedRanges ?? 0,
    quarantinedRanges: usage.quarantinedRanges ?? 0,
    excludedRanges: usage.excludedRanges ?? 0,
    freeRanges: usage.freeRanges ?? 0,
  }));
  const members = (status.members ?? []).map((member) => ({
    dip: member.dip ?? "",
    host: member.host ?? "",
    health: member.health ?? "",
    ...(member.reason ? { reason: member.reason } : {}),
    ...(member.drainSecondsLeft ? { drainSecondsLeft: member.drainSecondsLeft } : {}),
  }));
  const conditions = (status.conditions ?? []).map((condition) => ({
    type: condition.type ?? "",
    status: condition.status ?? false,
    ...(condition.reason ? { reason: condition.reason } : {}),
    ...(condition.message ? { message: condition.message } : {}),
  }));
  const natPorts = (status.natPorts ?? []).map(({ rule, dip, port }) => ({ rule, dip, port }));
  return {
    phase: status.phase ?? "",
    updatedIndex: status.updatedIndex ?? 0,
    ...(conditions.length > 0 ? { conditions } : {}),
    ...(kind === "Vip" && snat.length > 0 ? { snat } : {}),
    ...(natPorts.length > 0 ? { natPorts } : {}),
    ...(kind === "BackendPool" ? { members } : {}),
  };
}

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

export function wireSpec(object: ObjectSpec): WireSpec {
  switch (object.kind) {
    case "Vip": {
      const { rules, inboundNat, outbound, securityGroups, ...spec } = object.spec;
      return {
        vip: {
          ...spec,
          securityGroups: [...securityGroups],
          rules: rules.map((rule) => ({ ...rule, protocol: RULE_PROTOCOLS[rule.protocol] })),
          inboundNat: inboundNat.map((nat) => ({ ...nat })),
          ...(outbound === null ? {} : { outbound: { ...outbound, pools: [...outbound.pools] } }),
        },
      };
    }
    case "BackendPool": {
      const { members, probe, securityGroups, ...spec } = object.spec;
      return {
        backendPool: {
          ...spec,
          securityGroups: [...securityGroups],
          members: members.map((member) => ({ ...member })),
          ...(probe === null ? {} : { probe: { ...probe, expectedStatus: [...probe.expectedStatus] } }),
        },
      };
    }
    case "Tenant":
      return { tenant: { ...object.spec, addressSpaces: [...object.spec.addressSpaces] } };
    case "SecurityGroup":
      return {
        securityGroup: { rules: object.spec.rules.map((rule) => ({ ...rule, ports: [...rule.ports] })) },
      };
  }
}
