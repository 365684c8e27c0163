/**
 * Every field that an operator can write does something: another value changes what MUXes or Host Agents see, or what is
 * admitted, granted or withdrawn. The list of fields is the schema's own, so a new one fails here until it does something.
 */
import { expect, test } from "vitest";
import { describeField, type Field } from "../../../manager/api/objects/schema-fields.js";
import { KINDS, SCHEMAS, validateDocument } from "../../../manager/api/objects/schema.js";
import type { ApplyObject } from "../../../manager/state/commands/commands.js";
import type { ObjectKind } from "../../../manager/state/objects.js";
import { Site } from "./fixture.js";

type Fields = Record<string, unknown>;

const SPECS: Readonly<Record<ObjectKind, Fields>> = {
  Tenant: { weight: 1, addressSpaces: ["10.0.0.0/8"], maxVips: 9, maxRulesPerVip: 99 },
  SecurityGroup: {
    rules: [{ direction: "in", protocol: "tcp", ports: ["80"], peer: "0.0.0.0/0", action: "allow", priority: 100 }],
  },
  BackendPool: {
    members: [
      { dip: "10.0.0.1", weight: 100, role: "primary", adminState: "none" },
      { dip: "10.0.0.2", weight: 100, role: "primary", adminState: "none" },
    ],
    maxMembers: 20,
    failoverPercent: 0,
    allDown: "failOpen",
    tcpOnDown: "persist",
    probe: {
      protocol: "http",
      port: 8080,
      intervalSeconds: 5,
      timeoutSeconds: 3,
      healthyThreshold: 2,
      unhealthyThreshold: 2,
      path: "/",
      host: "a.example",
      expectedStatus: ["200"],
      send: "",
      expect: "",
    },
    securityGroups: [],
  },
  Vip: {
    address: "198.51.100.1",
    scope: "public",
    adminState: "up",
    hairpin: "snat",
    securityGroups: [],
    overload: { action: "blackhole", restoreAfterSeconds: 300 },
    rules: [
      {
        name: "http",
        protocol: "tcp",
        port: 80,
        pool: "it",
        distribution: "fiveTuple",
        floatingIp: false,
        idleSeconds: 0,
        idleReset: true,
        fastpath: true,
      },
    ],
    inboundNat: [{ name: "ssh", protocol: "tcp", ports: "50000-50019", pool: "it", backendPort: 22 }],
    outbound: {
      pools: ["it"],
      minPorts: 8,
      maxPorts: 512,
      selection: "spread",
      udpMapping: "addressPortDependent",
      tcpIdleSeconds: 0,
      udpIdleSeconds: 0,
      idleReset: true,
      onExhaustion: "reset",
      queueSeconds: 3,
    },
  },
};

/** Another value of each field; of a list, of its first item. */
const OTHER: Readonly<Record<string, unknown>> = {
  "Tenant.weight": 2,
  "Tenant.addressSpaces": ["10.0.0.0/9"],
  "SecurityGroup.rules.direction": "out",
  "SecurityGroup.rules.protocol": "udp",
  "SecurityGroup.rules.ports": ["81"],
  "SecurityGroup.rules.peer": "probe",
  "SecurityGroup.rules.action": "deny",
  "SecurityGroup.rules.priority": 200,
  "BackendPool.members.dip": "10.0.0.3",
  "BackendPool.members.port": 8081,
  "BackendPool.members.weight": 50,
  "BackendPool.members.role": "backup",
  "BackendPool.members.adminState": "down",
  "BackendPool.failoverPercent": 50,
  "BackendPool.allDown": "drop",
  "BackendPool.tcpOnDown": "reset",
  "BackendPool.probe.protocol": "https",
  "BackendPool.probe.port": 9000,
  "BackendPool.probe.intervalSeconds": 10,
  "BackendPool.probe.timeoutSeconds": 2,
  "BackendPool.probe.healthyThreshold": 3,
  "BackendPool.probe.unhealthyThreshold": 3,
  "BackendPool.probe.path": "/health",
  "BackendPool.probe.host": "b.example",
  "BackendPool.probe.expectedStatus": ["204"],
  "BackendPool.probe.send": "00",
  "BackendPool.probe.expect": "00",
  "BackendPool.securityGroups": ["it"],
  "Vip.address": "198.51.100.2",
  "Vip.scope": "internal",
  "Vip.adminState": "down",
  "Vip.hairpin": "drop",
  "Vip.securityGroups": ["it"],
  "Vip.rules.protocol": "tcp_udp",
  "Vip.rules.port": 81,
  "Vip.rules.pool": "other",
  "Vip.rules.backendPort": 8088,
  "Vip.rules.distribution": "clientIp",
  "Vip.rules.floatingIp": true,
  "Vip.rules.idleSeconds": 60,
  "Vip.rules.idleReset": false,
  "Vip.rules.fastpath": false,
  "Vip.inboundNat.protocol": "udp",
  "Vip.inboundNat.ports": "51000-51019",
  "Vip.inboundNat.pool": "other",
  "Vip.inboundNat.backendPort": 23,
  "Vip.outbound.pools": ["other"],
  "Vip.outbound.selection": "paired",
  "Vip.outbound.udpMapping": "endpointIndependent",
  "Vip.outbound.tcpIdleSeconds": 60,
  "Vip.outbound.udpIdleSeconds": 60,
  "Vip.outbound.idleReset": false,
  "Vip.outbound.onExhaustion": "drop",
  "Vip.outbound.queueSeconds": 1,
};

/** What they do is not a row of a view; where it is seen. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  "Tenant.maxVips", // admission: messages/refused.test.ts
  "Tenant.maxRulesPerVip", // likewise
  "BackendPool.maxMembers", // size of the table, fixed at creation; admission of minPorts
  "Vip.overload.action", // objects are withdrawn or not: activate.test.ts, flow-decision.test.ts
  "Vip.overload.restoreAfterSeconds", // how long
  "Vip.rules.name", // names in messages, and in flow explain
  "Vip.inboundNat.name", // likewise; which ports are kept
  "BackendPool.drainTimeoutSeconds", // what comes later: drains.test.ts
  "Vip.outbound.minPorts", // reservation: snat-share.test.ts
  "Vip.outbound.maxPorts", // grants: snat.test.ts
]);

function object(kind: ObjectKind, name: string, spec: Fields): ApplyObject {
  const checked = validateDocument({ apiVersion: "ananta/v1", kind, metadata: { name }, spec });
  if ("problems" in checked) throw new Error(JSON.stringify(checked.problems));
  return checked.ok;
}

/** What all receivers see of a site with these specs. */
function views(specs: Readonly<Record<ObjectKind, Fields>>): string {
  const site = new Site();
  site.bootstrap();
  site.join("mux-1", "192.0.2.1");
  site.register("host-1", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
  site.configure(
    object("Tenant", "default", specs.Tenant),
    object("SecurityGroup", "it", specs.SecurityGroup),
    object("BackendPool", "it", specs.BackendPool),
    object("BackendPool", "other", { members: [{ dip: "10.0.0.3" }], securityGroups: ["it"] }),
    object("Vip", "it", specs.Vip),
  );
  return JSON.stringify([[...site.muxView], [...site.hostViews].map(([host, view]) => [host, [...view]])]);
}

function changed(spec: Fields, path: readonly string[], value: unknown): Fields {
  const [key = "", ...rest] = path;
  if (rest.length === 0) return { ...spec, [key]: value };
  const inside = spec[key];
  if (!Array.isArray(inside)) return { ...spec, [key]: changed(inside as Fields, rest, value) };
  const [first, ...others] = inside as Fields[];
  return { ...spec, [key]: [changed(first ?? {}, rest, value), ...others] };
}

const leaves: string[] = [];
const visit = (path: string, { fields }: Field): void => {
  if (fields.length === 0) leaves.push(path);
  for (const field of fields) visit(`${path}.${field.name}`, field);
};
for (const kind of KINDS)
  for (const field of describeField(SCHEMAS[kind], "spec")?.fields ?? []) visit(`${kind}.${field.name}`, field);

/** Only a UDP probe sends and expects. */
const udp = { ...SPECS, BackendPool: changed(SPECS.BackendPool, ["probe", "protocol"], "udp") };

test("the lists here are those of the schema", () => {
  expect([...Object.keys(OTHER), ...ELSEWHERE].sort()).toEqual([...leaves].sort());
});

test.each(Object.entries(OTHER))("%s = %j changes what MUXes or hosts see", (field, value) => {
  const [kind = "", ...path] = field.split(".");
  const base = field.endsWith(".send") || field.endsWith(".expect") ? udp : SPECS;
  const of = kind as ObjectKind;
  expect(views({ ...base, [of]: changed(base[of], path, value) })).not.toBe(views(base));
});
