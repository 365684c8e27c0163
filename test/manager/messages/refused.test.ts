/** Section "Refused by the Managers" of docs/configuration.md: what depends on what is stored. */
import type { IpAddress, Port } from "../../../core/brands.js";
import { HOST_LAYOUT, MUX_LAYOUT } from "../../../dataplane/layouts.js";
import { DIPS_MAX, INTERNAL_VIPS_MAX, MEMBERS_MAX, POOLS_MAX, VIPS_MAX } from "../../../manager/state/apply/limits.js";
import type { ApplyObject, Command } from "../../../manager/state/commands/commands.js";
import {
  TENANT_DEFAULTS,
  type InboundNatRule,
  type ObjectRef,
  type SecurityGroupSpec,
  type TenantSpec,
} from "../../../manager/state/objects.js";
import { expect, test } from "vitest";
import { LARGE, type Site, ip, pool, poolRef, smallSite, vip, vipRef } from "../state/fixture.js";
import { memberSpec, outboundSpec, ruleSpec } from "../state/specs.js";
import { provokeAll } from "./document.js";

const applying = (...objects: readonly ApplyObject[]): Command => ({ kind: "apply-objects", objects });
const deleting = (ref: ObjectRef, expectedGeneration: number | null = null): Command => ({
  kind: "delete-objects",
  objects: [{ ref, expectedGeneration }],
});
const tenant = (spec: Partial<TenantSpec>, name = "default"): ApplyObject => ({
  ref: { kind: "Tenant", tenant: name, name },
  labels: {},
  object: { kind: "Tenant", spec: { ...TENANT_DEFAULTS, ...spec } },
  expectedGeneration: null,
});
const group = (name: string, rules: SecurityGroupSpec["rules"] = []): ApplyObject => ({
  ref: { kind: "SecurityGroup", tenant: "default", name },
  labels: {},
  object: { kind: "SecurityGroup", spec: { rules } },
  expectedGeneration: null,
});
const web = (options: Parameters<typeof vip>[2]) => vip("web", "198.51.100.1", options);
const ssh: InboundNatRule = { name: "ssh", protocol: "tcp", ports: "50000", pool: "web", backendPort: 22 as Port };
const ofWeb = { pool: "web", backendPort: 53 as Port };
const all = ruleSpec({ name: "all", protocol: "all", port: 0 as Port, pool: "web", backendPort: 0 as Port });
const restore = (): Command => ({ kind: "restore-vip", tenant: "default", name: "web" });
const minPorts = (count: number, maxPorts = 64_512): Command =>
  applying(web({ spec: { outbound: outboundSpec({ pools: ["web"], maxPorts, minPorts: count }) } }));

/** 655 members each; `spread`: each pool has its own DIPs. */
const largePools = (count: number, spread: boolean): readonly ApplyObject[] =>
  Array.from({ length: count }, (_, at) =>
    pool(`p${at}`, [], {
      maxMembers: 655,
      spec: {
        members: Array.from({ length: 655 }, (_one, member) => {
          const number = (spread ? at * 655 : 0) + member;
          const dip = `10.${16 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
          return memberSpec({ dip: dip as IpAddress, port: 0 as Port, weight: 100 });
        }),
      },
    }),
  );
const manyVips = (count: number, scope: "public" | "internal" = "public"): readonly ApplyObject[] =>
  Array.from({ length: count }, (_, at) => vip(`v${at}`, `198.18.${at >> 8}.${at & 255}`, { spec: { scope } }));

/** What is done to a small site, and the request that is refused. */
const provocations: Readonly<Record<string, (site: Site) => Command>> = {
  "VIP default/b: 198.51.100.1 is the address of VIP default/web": () => applying(vip("b", "198.51.100.1")),
  "VIP default/c: 198.51.100.9 is the address of VIP default/b too": () =>
    applying(vip("b", "198.51.100.9"), vip("c", "198.51.100.9")),
  "VIP default/b: 10.0.0.1 belongs to DIP default/10.0.0.1": () => applying(vip("b", "10.0.0.1")),
  "VIP default/b: 192.0.2.1 is the outer address of MUX mux-1": () => applying(vip("b", "192.0.2.1")),
  "BackendPool default/b: 198.51.100.1 is the address of VIP default/web": () => applying(pool("b", ["198.51.100.1"])),
  "VIP default/web: the address is fixed at creation (198.51.100.1); delete the VIP and create another": () =>
    applying(vip("web", "198.51.100.9")),
  'VIP default/b: rule "tcp-80" names pool "nope", which does not exist; tenant default has web': () =>
    applying(vip("b", "198.51.100.2", { rules: ["tcp/80 -> nope"] })),
  'VIP default/b: rule "tcp-80" names pool "web", whose deletion is under way': (site) => {
    site.delete(vipRef("web"), poolRef("web"));
    return applying(vip("b", "198.51.100.2", { rules: ["tcp/80 -> web"] }));
  },
  'VIP default/web: rules "both" and "dns" both take tcp port 53': () => {
    const both = ruleSpec({ name: "both", protocol: "tcp_udp", port: 53 as Port, ...ofWeb });
    const dns = ruleSpec({ name: "dns", protocol: "tcp", port: 53 as Port, ...ofWeb });
    return applying(web({ spec: { rules: [both, dns] } }));
  },
  'VIP default/web: "http" and "ssh" both take tcp port 50000': () => {
    const http = ruleSpec({ name: "http", protocol: "tcp", port: 50_000 as Port, ...ofWeb });
    return applying(web({ spec: { rules: [http], inboundNat: [{ ...ssh, ports: "50000-50009" }] } }));
  },
  "BackendPool default/web is in use by VIP default/web": () => deleting(poolRef("web")),
  "Tenant shop is in use by BackendPool shop/b": (site) => {
    site.configure(tenant({}, "shop"), pool("b", [], { tenant: "shop" }));
    return deleting({ kind: "Tenant", tenant: "shop", name: "shop" });
  },
  "VIP default/nope does not exist": () => deleting(vipRef("nope")),
  "VIP default/web: it is at generation 1; generation 7 was expected": () => applying(web({ expectedGeneration: 7 })),
  "BackendPool default/new: it does not exist; generation 3 was expected": () =>
    applying(pool("new", [], { expectedGeneration: 3 })),
  "VIP default/web: its deletion is under way; apply it again when it is gone": (site) => {
    site.delete(vipRef("web"));
    return applying(web({}));
  },
  "BackendPool default/web: maxMembers is fixed at creation (20): another value would move most flows to other DIPs":
    () => applying(pool("web", ["10.0.0.1", "10.0.0.2"], { maxMembers: 30 })),
  'VIP default/web: inbound NAT "ssh" has 1 ports for the 2 members of pool "web"; it needs 2': () =>
    applying(web({ spec: { inboundNat: [ssh] } })),
  "VIP default/web: minPorts 4096 for up to 20 members are 81920 ports, more than 75 % of the 64512 of one VIP; 2 VIPs have that many":
    () => minPorts(4_096),
  "BackendPool default/large: 656 former members would drain at a time, more than 655; wait until some are done, or lower drainTimeoutSeconds":
    (site) => {
      const large = (from: number, count: number): ApplyObject =>
        pool(
          "large",
          Array.from({ length: count }, (_, at) => `10.1.${(from + at) >> 8}.${(from + at) & 255}`),
          { maxMembers: 655, spec: { drainTimeoutSeconds: 60 } },
        );
      site.configure(large(0, 655));
      site.configure(large(655, 1));
      return applying(large(656, 1));
    },
  "VIP default/web: minPorts is a multiple of 8 up to maxPorts 64, not 128": () => minPorts(128, 64),
  "VIP default/web: an all-port rule and outbound may not share a VIP: replies to SNAT come to its ports; use a second VIP":
    () => applying(web({ outbound: ["web"], spec: { rules: [all] } })),
  'VIP default/web: it names SecurityGroup "nope", which does not exist in tenant default': () =>
    applying(web({ spec: { securityGroups: ["nope"] } })),
  'VIP default/web: it names group "g" twice': () =>
    applying(group("g"), web({ spec: { securityGroups: ["g", "g"] } })),
  'SecurityGroup default/h: it names SecurityGroup "nope", which does not exist in tenant default': () =>
    applying(
      group("h", [{ direction: "in", protocol: "all", ports: [], peer: "sg:nope", action: "allow", priority: 1 }]),
    ),
  "SecurityGroup default/g is in use by VIP default/web": (site) => {
    site.configure(group("g"), web({ spec: { securityGroups: ["g"] } }));
    return deleting(group("g").ref);
  },
  "BackendPool default/far: 192.168.0.1 lies in none of the address spaces of tenant default: 10.0.0.0/8": (site) => {
    site.configure(tenant({ addressSpaces: ["10.0.0.0/8"] }));
    return applying(pool("far", ["192.168.0.1"]));
  },
  "Tenant default: DIP 10.0.0.1 of BackendPool default/web lies in none of 192.168.0.0/16": () =>
    applying(tenant({ addressSpaces: ["192.168.0.0/16"] })),
  "VIP default/b: tenant default has a limit of 1 VIPs and has 1": (site) => {
    site.configure(tenant({ maxVips: 1 }));
    return applying(vip("b", "198.51.100.2"));
  },
  "VIP default/b: 2 rules and inbound NAT ports; tenant default has a limit of 1 per VIP": (site) => {
    site.configure(tenant({ maxRulesPerVip: 1 }));
    return applying(vip("b", "198.51.100.2", { rules: ["tcp/80 -> web", "tcp/81 -> web"] }));
  },
  "Tenant default: VIP default/two has 2 rules, more than 1": (site) => {
    site.configure(vip("two", "198.51.100.2", { rules: ["tcp/80 -> web", "tcp/81 -> web"] }));
    return applying(tenant({ maxRulesPerVip: 1 }));
  },
  "VIP default/six: 2001:db8::1 is an IPv6 address, and the live MUX mux-1 forwards IPv4 only": (site) => {
    const { rules, snatRanges } = LARGE;
    site.join("mux-1", "192.0.2.1", { rules, snatRanges }, "older-program");
    return applying(vip("six", "2001:db8::1"));
  },
  'VIP default/six: rule "tcp-80" names pool "web" with member 10.0.0.1; VIP and DIPs are of one address family': () =>
    applying(vip("six", "2001:db8::1", { rules: ["tcp/80 -> web"] })),
  "BackendPool default/web: VIP default/web uses it, and VIP and DIPs are of one address family": () =>
    applying(pool("web", ["2001:db8::a"])),
  "VIP default/b: there would be 3 rules, and the smallest live MUX holds 2": (site) => {
    site.join("mux-2", "192.0.2.2", { ...LARGE, rules: 2 });
    return applying(vip("b", "198.51.100.2", { rules: ["tcp/80 -> web", "tcp/81 -> web"] }));
  },
  "VIP default/web: minPorts would reserve 320 more SNAT ranges of 8 ports, TCP and UDP, and 300 are left: the smallest live MUX holds 300 for all tenants, of which 0 are owned and 0 reserved":
    (site) => {
      site.join("mux-2", "192.0.2.2", { ...LARGE, snatRanges: 300 });
      return minPorts(640);
    },
  "the tables of MUX mux-2 hold 10000 rules and 100 SNAT ranges; in use are 1 and 8, and 312 more ranges are reserved by minPorts":
    (site) => {
      site.configure(
        web({
          rules: ["tcp/80 -> web"],
          spec: { outbound: outboundSpec({ pools: ["web"], maxPorts: 640, minPorts: 640 }) },
        }),
      );
      site.allocate("10.0.0.1", 64);
      const capacity = { ...LARGE, snatRanges: 100 };
      return { kind: "join-mux", name: "mux-2", bootId: "new", address: ip("192.0.2.2"), capacity };
    },
  "VIP default/v32767: a site holds at most 32768 VIPs": () => applying(...manyVips(VIPS_MAX)),
  "BackendPool default/p32767: a site holds at most 32768 BackendPools": () =>
    applying(...Array.from({ length: POOLS_MAX }, (_, at) => pool(`p${at}`, []))),
  "BackendPool default/p200: there would be 131657 DIPs; a site holds at most 131072": () =>
    applying(...largePools(201, true)),
  "BackendPool default/p200: there would be 131657 members in all pools; a site holds at most 131072": () =>
    applying(...largePools(201, false)),
  "VIP default/v128: there would be 129 internal VIPs; a site holds at most 128": () =>
    applying(...manyVips(129, "internal")),
  "VIP default/web is not withdrawn": restore,
  "Tenant default: a Tenant belongs to itself; leave metadata.tenant out": () =>
    applying({ ...tenant({}), ref: { kind: "Tenant", tenant: "shop", name: "default" } }),
  "MUX mux-1 is the last one that announces VIPs: without it no traffic comes in; force it, or undrain another one first":
    () => ({ kind: "drain-mux", name: "mux-1", reason: "kernel", force: false }),
  "no MUX is named mux-9; the MUXes are mux-1": () => ({ kind: "undrain-mux", name: "mux-9" }),
  "no host is named host-9": () => ({ kind: "fence-host", name: "host-9", reason: "gone" }),
};

provokeAll("Refused by the Managers", provocations, (provoke) => {
  const site = smallSite();
  const { message, facts } = site.refused(provoke(site));
  const listed = JSON.parse(String(facts["problems"] ?? "[]")) as readonly { readonly message: string }[];
  return [message, ...listed.map((problem) => problem.message)];
});

test("limits of a site are no more than the tables of MUXes and agents hold", () => {
  expect(VIPS_MAX).toBeLessThanOrEqual(MUX_LAYOUT.vips);
  expect(POOLS_MAX).toBeLessThanOrEqual(MUX_LAYOUT.pools);
  expect(DIPS_MAX).toBeLessThanOrEqual(MUX_LAYOUT.dips);
  expect(MEMBERS_MAX).toBeLessThanOrEqual(MUX_LAYOUT.members);
  expect(INTERNAL_VIPS_MAX * 2).toBeLessThanOrEqual(HOST_LAYOUT.internalPrefixes);
});

test("a change of members counts the larger of two versions until it is activated", () => {
  const site = smallSite();
  const { objects } = site.machine.inspect();
  expect(objects.memberCount).toBe(2);
  site.applyObjects(pool("web", ["10.0.0.1"]));
  expect(objects.memberCount).toBe(2);
  site.activate();
  expect(objects.memberCount).toBe(1);
  site.applyObjects(pool("web", ["10.0.0.1", "10.0.0.2", ip("10.0.0.3")]));
  expect(objects.memberCount).toBe(3);
});
