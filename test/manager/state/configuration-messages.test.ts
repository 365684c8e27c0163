/** Every refusal in docs/configuration.md is provoked, and its words compared. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Port } from "../../../core/brands.js";
import type { ApplyObject, Command } from "../../../manager/state/commands.js";
import { TENANT_DEFAULTS, type TenantSpec } from "../../../manager/state/objects.js";
import { LARGE, type Site, pool, poolRef, smallSite, vip } from "./fixture.js";
import { outboundSpec, ruleSpec } from "./specs.js";

const text = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8");
const documented = [...text.matchAll(/^\| `([^`]+ [^`]*)` \|/gm)].map(([, message]) => message ?? "");

const applying = (...objects: readonly ApplyObject[]): Command => ({ kind: "apply-objects", objects });
const tenant = (spec: Partial<TenantSpec>): ApplyObject => ({
  ref: { kind: "Tenant", tenant: "default", name: "default" },
  labels: {},
  object: { kind: "Tenant", spec: { ...TENANT_DEFAULTS, ...spec } },
  expectedGeneration: null,
});
const web = (options: Parameters<typeof vip>[2]) => vip("web", "198.51.100.1", options);
const ssh = { name: "ssh", protocol: "tcp", ports: "50000", pool: "web", backendPort: 22 as Port } as const;
const group: ApplyObject = {
  ref: { kind: "SecurityGroup", tenant: "default", name: "g" },
  labels: {},
  object: { kind: "SecurityGroup", spec: { rules: [] } },
  expectedGeneration: null,
};
const all = ruleSpec({ name: "all", protocol: "all", port: 0 as Port, pool: "web", backendPort: 0 as Port });

/** What is done to a small site, and the request that is refused. */
const provocations: readonly ((site: Site) => Command)[] = [
  () => applying(vip("b", "198.51.100.1")),
  () => applying(vip("web", "198.51.100.9")),
  () => applying(vip("b", "198.51.100.2", { rules: ["tcp/80 -> nope"] })),
  () => ({ kind: "delete-objects", objects: [{ ref: poolRef("web"), expectedGeneration: null }] }),
  () => applying(web({ expectedGeneration: 7 })),
  () => applying(pool("web", ["10.0.0.1", "10.0.0.2"], { maxMembers: 30 })),
  () => applying(web({ spec: { inboundNat: [ssh] } })),
  () => applying(web({ spec: { outbound: outboundSpec({ pools: ["web"], maxPorts: 64_512, minPorts: 4_096 }) } })),
  () => applying(web({ outbound: ["web"], spec: { rules: [all] } })),
  () => applying(web({ spec: { securityGroups: ["nope"] } })),
  (site) => {
    site.configure(group, web({ spec: { securityGroups: ["g"] } }));
    return { kind: "delete-objects", objects: [{ ref: group.ref, expectedGeneration: null }] };
  },
  (site) => {
    site.configure(tenant({ addressSpaces: ["10.0.0.0/8"] }));
    return applying(pool("far", ["192.168.0.1"]));
  },
  (site) => {
    site.configure(tenant({ maxVips: 1 }));
    return applying(vip("b", "198.51.100.2"));
  },
  (site) => {
    const { rules, snatRanges } = LARGE;
    site.join("mux-1", "192.0.2.1", { rules, snatRanges }, "older-program");
    return applying(vip("six", "2001:db8::1"));
  },
  () => ({ kind: "restore-vip", tenant: "default", name: "web" }),
];

test("the document lists what the test provokes, and nothing else", () => {
  expect(documented).toHaveLength(provocations.length);
});

test.each(provocations.map((provoke, at) => [documented[at] ?? "", provoke] as const))("%s", (message, provoke) => {
  const site = smallSite();
  expect(site.refused(provoke(site)).message).toBe(message);
});
