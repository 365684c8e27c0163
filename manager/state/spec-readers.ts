/**
 * Specs as JSON, in the log and in snapshots: fields by name. Reading builds an object with exactly these fields, in this
 * order, so that equal specs are equal bytes whoever built them. The one place that lists the fields for the codecs.
 */
import type { Port } from "../../core/brands.js";
import { address, integer, list, malformed, text } from "./commands/command-fields.js";
import type {
  BackendPoolSpec,
  HealthProbe,
  InboundNatRule,
  ObjectKind,
  ObjectSpec,
  PoolMember,
  SecurityGroupSpec,
  SecurityRule,
  TenantSpec,
  VipOutbound,
  VipOverload,
  VipRule,
  VipSpec,
} from "./objects.js";

type Reader<Value> = (value: unknown, name: string) => Value;

function record<Value>(fields: { readonly [Name in keyof Value]: Reader<Value[Name]> }): Reader<Value> {
  const names = Object.keys(fields) as (keyof Value & string)[];
  return (value, name) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) malformed(`${name} is not an object`);
    const given = value as Readonly<Record<string, unknown>>;
    for (const key of Object.keys(given)) if (!Object.hasOwn(fields, key)) malformed(`${name}.${key} is not known`);
    const read: Partial<Value> = {};
    for (const key of names) read[key] = fields[key](given[key], `${name}.${key}`);
    return read as Value;
  };
}

const oneOf =
  <const Value extends string>(...values: readonly Value[]): Reader<Value> =>
  (value, name) =>
    values.find((candidate) => candidate === value) ?? malformed(`${name} is not one of ${values.join(", ")}`);

const whole =
  (min: number, max: number): Reader<number> =>
  (value, name) =>
    integer(value, min, max, name);

const port: Reader<Port> = (value, name) => integer(value, 0, 65_535, name) as Port;
const flag: Reader<boolean> = (value, name) =>
  typeof value === "boolean" ? value : malformed(`${name} is not a flag`);
const texts: Reader<readonly string[]> = (value, name) => list(value, name, (item) => text(item, name));
const nullable =
  <Value>(read: Reader<Value>): Reader<Value | null> =>
  (value, name) =>
    value === null ? null : read(value, name);
const listOf =
  <Value>(read: Reader<Value>): Reader<readonly Value[]> =>
  (value, name) =>
    list(value, name, (item) => read(item, name));
/** Whatever a bad program may have written, `apply` says what is wrong with it; here only: a number that can be kept. */
const amount = whole(0, Number.MAX_SAFE_INTEGER);
const absentIsZero: Reader<number> = (value, name) => (value === undefined ? 0 : amount(value, name));

export const readTenant = record<TenantSpec>({
  weight: amount,
  addressSpaces: texts,
  maxVips: amount,
  maxRulesPerVip: amount,
});

const securityRule = record<SecurityRule>({
  direction: oneOf("in", "out"),
  protocol: oneOf("tcp", "udp", "icmp", "all"),
  ports: texts,
  peer: text,
  action: oneOf("allow", "deny"),
  priority: amount,
});

export const readGroup = record<SecurityGroupSpec>({ rules: listOf(securityRule) });

const member = record<PoolMember>({
  dip: address,
  port,
  weight: amount,
  role: oneOf("primary", "backup"),
  adminState: oneOf("none", "up", "down"),
});

const probe = record<HealthProbe>({
  protocol: oneOf("tcp", "http", "https", "udp"),
  port,
  intervalSeconds: amount,
  timeoutSeconds: amount,
  healthyThreshold: amount,
  unhealthyThreshold: amount,
  path: text,
  host: text,
  expectedStatus: texts,
  send: text,
  expect: text,
});

export const readPool = record<BackendPoolSpec>({
  members: listOf(member),
  maxMembers: amount,
  failoverPercent: amount,
  allDown: oneOf("failOpen", "drop"),
  tcpOnDown: oneOf("persist", "reset"),
  drainTimeoutSeconds: absentIsZero, // as in entries of before there was one
  probe: nullable(probe),
  securityGroups: texts,
});

const rule = record<VipRule>({
  name: text,
  protocol: oneOf("tcp", "udp", "tcp_udp", "all"),
  port,
  pool: text,
  backendPort: port,
  distribution: oneOf("fiveTuple", "clientIpProtocol", "clientIp"),
  floatingIp: flag,
  idleSeconds: amount,
  idleReset: flag,
  fastpath: flag,
});

const inboundNat = record<InboundNatRule>({
  name: text,
  protocol: oneOf("tcp", "udp"),
  ports: text,
  pool: text,
  backendPort: port,
});

const outbound = record<VipOutbound>({
  pools: texts,
  minPorts: amount,
  maxPorts: amount,
  selection: oneOf("spread", "paired"),
  udpMapping: oneOf("addressPortDependent", "endpointIndependent"),
  tcpIdleSeconds: amount,
  udpIdleSeconds: amount,
  idleReset: flag,
  onExhaustion: oneOf("reset", "drop"),
  queueSeconds: amount,
});

export const readVip = record<VipSpec>({
  address,
  scope: oneOf("public", "internal"),
  adminState: oneOf("up", "down"),
  hairpin: oneOf("snat", "drop"),
  securityGroups: texts,
  overload: record<VipOverload>({ action: oneOf("blackhole", "none"), restoreAfterSeconds: amount }),
  rules: listOf(rule),
  inboundNat: listOf(inboundNat),
  outbound: nullable(outbound),
});

export const readKind: Reader<ObjectKind> = oneOf("Tenant", "SecurityGroup", "BackendPool", "Vip");

export function readSpec(kind: ObjectKind, value: unknown): ObjectSpec {
  switch (kind) {
    case "Tenant":
      return { kind, spec: readTenant(value, "spec") };
    case "SecurityGroup":
      return { kind, spec: readGroup(value, "spec") };
    case "BackendPool":
      return { kind, spec: readPool(value, "spec") };
    case "Vip":
      return { kind, spec: readVip(value, "spec") };
  }
}
