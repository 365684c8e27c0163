/** Objects inside a command batch; see `command-codec`. By position like everything there; labels keep their names. */
import type { Port } from "../../core/brands.js";
import { address, count, integer, label, list, malformed, text, tuple } from "./command-fields.js";
import type { ApplyObject } from "./commands.js";
import type {
  BackendPoolSpec,
  ObjectKind,
  ObjectRef,
  ObjectSpec,
  PoolMember,
  VipOutbound,
  VipRule,
  VipSpec,
} from "./objects.js";

const PORT_MAX = 65_535;

export const encodeRef = ({ kind, tenant, name }: ObjectRef): readonly unknown[] => [kind, tenant, name];

export function decodeRef(value: unknown): ObjectRef {
  const [kind, tenant, name] = tuple(value, 3, "a reference");
  return { kind: objectKind(kind), tenant: label(tenant, "tenant"), name: label(name, "name") };
}

export function encodeApplyObject({ ref, labels, object, expectedGeneration }: ApplyObject): readonly unknown[] {
  const spec = object.kind === "BackendPool" ? encodePool(object.spec) : encodeVip(object.spec);
  return [encodeRef(ref), labels, object.kind, spec, expectedGeneration];
}

export function decodeApplyObject(value: unknown): ApplyObject {
  const [ref, labels, kind, spec, generation] = tuple(value, 5, "an object");
  const object: ObjectSpec =
    objectKind(kind) === "BackendPool"
      ? { kind: "BackendPool", spec: decodePool(spec) }
      : { kind: "Vip", spec: decodeVip(spec) };
  const expectedGeneration = generation === null ? null : count(generation, "expectedGeneration");
  return { ref: decodeRef(ref), labels: decodeLabels(labels), object, expectedGeneration };
}

const objectKind = (value: unknown): ObjectKind =>
  value === "BackendPool" || value === "Vip" ? value : malformed("kind is not BackendPool or Vip");

function decodeLabels(value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) malformed("labels are not an object");
  return Object.fromEntries(Object.entries(value).map(([name, content]) => [name, text(content, "a label")]));
}

const encodePool = (spec: BackendPoolSpec): readonly unknown[] => [
  spec.maxMembers,
  spec.members.map((member) => [member.dip, member.port, member.weight]),
];

function decodePool(value: unknown): BackendPoolSpec {
  const [maxMembers, members] = tuple(value, 2, "a pool's spec");
  return { members: list(members, "members", decodeMember), maxMembers: count(maxMembers, "maxMembers") };
}

function decodeMember(value: unknown): PoolMember {
  const [dip, port, weight] = tuple(value, 3, "a member");
  return {
    dip: address(dip, "dip"),
    port: integer(port, 0, PORT_MAX, "port") as Port,
    weight: count(weight, "weight"),
  };
}

const encodeVip = (spec: VipSpec): readonly unknown[] => [
  spec.address,
  spec.rules.map((rule) => [rule.name, rule.protocol, rule.port, rule.pool, rule.backendPort]),
  spec.outbound === null ? null : [spec.outbound.pools, spec.outbound.maxPorts],
];

function decodeVip(value: unknown): VipSpec {
  const [vip, rules, outbound] = tuple(value, 3, "a VIP's spec");
  return {
    address: address(vip, "address"),
    rules: list(rules, "rules", decodeRule),
    outbound: outbound === null ? null : decodeOutbound(outbound),
  };
}

function decodeRule(value: unknown): VipRule {
  const [name, protocol, port, pool, backendPort] = tuple(value, 5, "a rule");
  return {
    name: text(name, "name"),
    protocol: protocol === "tcp" || protocol === "udp" ? protocol : malformed("protocol is not tcp or udp"),
    port: integer(port, 1, PORT_MAX, "port") as Port,
    pool: text(pool, "pool"),
    backendPort: integer(backendPort, 1, PORT_MAX, "backendPort") as Port,
  };
}

function decodeOutbound(value: unknown): VipOutbound {
  const [pools, maxPorts] = tuple(value, 2, "outbound");
  return { pools: list(pools, "pools", (pool) => text(pool, "a pool's name")), maxPorts: count(maxPorts, "maxPorts") };
}
