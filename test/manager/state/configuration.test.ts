/** What objects say, as MUXes and hosts see it: health, leases, withdrawals, inbound NAT, tenants, groups, promises. */
import { describe, expect, test } from "vitest";
import type { PoolId, Port, VipId } from "../../../core/brands.js";
import { MEMBER_DOWN, MEMBER_DRAINING, type MuxPoolItem } from "../../../dataplane/mux-items.js";
import type { ApplyObject, Command } from "../../../manager/state/commands/commands.js";
import type { InboundNatRule, SecurityGroupSpec, TenantSpec } from "../../../manager/state/objects.js";
import { TENANT_DEFAULTS } from "../../../manager/state/objects.js";
import { Site, pool, smallSite, vip } from "./fixture.js";
import { outboundSpec, probeSpec } from "./specs.js";

const tenant = (spec: Partial<TenantSpec>): ApplyObject => ({
  ref: { kind: "Tenant", tenant: "default", name: "default" },
  labels: {},
  object: { kind: "Tenant", spec: { ...TENANT_DEFAULTS, ...spec } },
  expectedGeneration: null,
});
const group = (name: string, spec: SecurityGroupSpec = { rules: [] }): ApplyObject => ({
  ref: { kind: "SecurityGroup", tenant: "default", name },
  labels: {},
  object: { kind: "SecurityGroup", spec },
  expectedGeneration: null,
});
const ssh = (ports: string): InboundNatRule => ({
  name: "ssh",
  protocol: "tcp",
  ports,
  pool: "web",
  backendPort: 22 as Port,
});
const probed = { probe: probeSpec({ protocol: "tcp", port: 0 as Port }) };

const poolItem = (site: Site): MuxPoolItem => site.muxView.get("pool/1") as MuxPoolItem;

function verdict(site: Site, dip: string, healthy: boolean): Command {
  const dipId = site.dipId(dip);
  const host = site.machine.hosts().find(({ dips }) => dips.includes(dipId));
  if (host === undefined) throw new Error(`no host runs ${dip}`);
  const transitions = [{ poolId: 1 as PoolId, dipId, healthy, reason: healthy ? "" : "connection refused" }];
  return { kind: "report-health", hostId: host.hostId, incarnation: host.incarnation, transitions };
}

describe("health", () => {
  // Found by the model: the verdict was kept, and took the member out the moment the pool got its probe.
  test("a verdict on a pool without a probe is worth nothing, then or later", () => {
    const site = smallSite();
    site.ok("none", verdict(site, "10.0.0.1", false));
    site.configure(pool("web", ["10.0.0.1", "10.0.0.2"], { spec: probed }));
    expect(poolItem(site).members[0]).not.toHaveProperty("state");
  });

  test("a member whose probe fails is down on the MUXes until it succeeds", () => {
    const site = smallSite();
    site.configure(pool("web", ["10.0.0.1", "10.0.0.2"], { spec: probed }));
    expect(site.hostKeys("host-1", "probe")).toHaveLength(2);
    site.ok("none", verdict(site, "10.0.0.1", false));
    expect(poolItem(site).members[0]).toMatchObject({ dipId: site.dipId("10.0.0.1"), state: MEMBER_DOWN });
    site.ok("none", verdict(site, "10.0.0.1", true));
    expect(poolItem(site).members[0]).not.toHaveProperty("state");
  });

  test("a report of an earlier start of the host is refused, and a pool without a probe does not listen", () => {
    const site = smallSite();
    const late = verdict(site, "10.0.0.1", false);
    site.ok("none", late);
    expect(poolItem(site).members[0]).not.toHaveProperty("state");
    site.register("host-1", ["10.0.0.1", "10.0.0.2"], [], "host-1-again");
    expect(site.refused(late).code).toBe("STALE_INCARNATION");
  });

  test("an operator's word is above the probe's", () => {
    const site = smallSite();
    const down = pool("web", ["10.0.0.1", "10.0.0.2"]);
    if (down.object.kind !== "BackendPool") throw new Error("a pool");
    const members = down.object.spec.members.map((one) => ({ ...one, adminState: "down" as const }));
    site.configure({ ...down, object: { kind: "BackendPool", spec: { ...down.object.spec, members } } });
    expect(poolItem(site).members.map(({ state }) => state)).toEqual([MEMBER_DOWN, MEMBER_DOWN]);
  });
});

describe("leases of hosts", () => {
  test("a silent host's DIPs get no new flows, and nothing else happens to them", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 8);
    const { hostId, incarnation } = site.machine.hosts()[0]!;
    site.ok("none", { kind: "expire-hosts", hosts: [{ hostId, incarnation }] });
    expect(poolItem(site).members.map(({ state }) => state)).toEqual([MEMBER_DRAINING, MEMBER_DRAINING]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 1 });
    site.ok("none", { kind: "renew-hosts", hosts: [{ hostId, incarnation }] });
    expect(poolItem(site).members[0]).not.toHaveProperty("state");
  });

  test("a hello of the same process that lists only some of its DIPs brings back all of them", () => {
    const site = smallSite();
    const { hostId, incarnation } = site.machine.hosts()[0]!;
    site.ok("none", { kind: "expire-hosts", hosts: [{ hostId, incarnation }] });
    site.register("host-1", ["10.0.0.2"]);
    expect(poolItem(site).members.every((member) => !("state" in member))).toBe(true);
  });

  test("more than 30 % of the hosts are never taken out together", () => {
    const site = smallSite();
    for (let at = 2; at <= 5; at++) site.register(`host-${at}`, [`10.0.1.${at}`]);
    const hosts = site.machine.hosts().map(({ hostId, incarnation }) => ({ hostId, incarnation }));
    expect(site.refused({ kind: "expire-hosts", hosts: hosts.slice(0, 2) }).message).toContain(
      "2 of 5 hosts are silent together",
    );
    site.ok("none", { kind: "expire-hosts", hosts: hosts.slice(0, 1) });
    site.refused({ kind: "expire-hosts", hosts: hosts.slice(1, 2) });
  });
});

describe("a withdrawn VIP", () => {
  const withdraw = { kind: "withdraw-vip", tenant: "default", name: "web", reason: "SYN flood" } as const;

  test("comes back by itself when its time is over", () => {
    const site = smallSite();
    site.ok("none", { ...withdraw, forSeconds: 60, isOverload: true });
    expect(site.muxView.get("vip/1")).toMatchObject({ announced: false });
    expect(site.machine.nextTickDueMs()).toBe(60_000);
    site.elapse(59_999);
    expect(site.muxView.get("vip/1")).toMatchObject({ announced: false });
    site.elapse(1);
    expect(site.muxView.get("vip/1")).toMatchObject({ announced: true });
  });

  test("stays where its overload policy says so, unless a person asks", () => {
    const site = smallSite();
    const overload = { action: "none", restoreAfterSeconds: 300 } as const;
    site.configure(vip("web", "198.51.100.1", { spec: { overload } }));
    expect(site.refused({ ...withdraw, forSeconds: 0, isOverload: true }).message).toContain("never withdrawn");
    site.ok("none", { ...withdraw, forSeconds: 0, isOverload: false });
    site.ok("none", { kind: "restore-vip", tenant: "default", name: "web" });
    expect(site.muxView.get("vip/1")).toMatchObject({ announced: true });
  });
});

test("an overload does not replace what a person has asked for in the meantime: longer, and with a reason of their own", () => {
  const site = smallSite();
  const withdraw = { kind: "withdraw-vip", tenant: "default", name: "web" } as const;
  site.ok("none", { ...withdraw, reason: "maintenance", forSeconds: 3_600, isOverload: false });
  const refusal = site.refused({ ...withdraw, reason: "overload: 9", forSeconds: 60, isOverload: true });
  expect([refusal.code, refusal.message]).toEqual([
    "FAILED_PRECONDITION",
    "VIP default/web is withdrawn already (maintenance)",
  ]);
  expect(site.machine.withdrawal(1 as VipId)).toMatchObject({ reason: "maintenance", untilMs: 3_600_000 });
  site.ok("none", { ...withdraw, reason: "longer", forSeconds: 7_200, isOverload: false });
  expect(site.machine.withdrawal(1 as VipId)).toMatchObject({ reason: "longer", untilMs: 7_200_000 });
});

describe("inbound NAT", () => {
  test("gives each member a port that stays its own while others come and go", () => {
    const site = smallSite();
    site.configure(vip("web", "198.51.100.1", { spec: { inboundNat: [ssh("50000-50002")] } }));
    expect(site.muxView.get("nat/1/6/50001")).toMatchObject({ dipId: site.dipId("10.0.0.2") });
    expect(site.hostKeys("host-1", "endpoint")).toContain(`endpoint/1/6/50001/${site.dipId("10.0.0.2")}`);
    site.configure(pool("web", ["10.0.0.9", "10.0.0.2"]));
    expect(site.muxView.get("nat/1/6/50001")).toMatchObject({ dipId: site.dipId("10.0.0.2") });
    expect(site.muxKeys("nat")).toHaveLength(2);
  });

  test("with too few ports is refused with the number it needs, from the VIP and from the pool", () => {
    const site = smallSite();
    const narrow = vip("web", "198.51.100.1", { spec: { inboundNat: [ssh("50000")] } });
    expect(site.refused({ kind: "apply-objects", objects: [narrow] }).message).toContain("1 ports for the 2 members");
    site.configure(vip("web", "198.51.100.1", { spec: { inboundNat: [ssh("50000-50001")] } }));
    const wide = pool("web", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    expect(site.refused({ kind: "apply-objects", objects: [wide] }).message).toContain("it needs 3");
  });
});

describe("tenants, groups and promises", () => {
  test("a tenant's weight reaches the MUXes, its address spaces the hosts", () => {
    const site = smallSite();
    site.configure(tenant({ weight: 7, addressSpaces: ["10.0.0.0/8"] }));
    expect(site.muxView.get("vip/1")).toMatchObject({ weight: 7 });
    expect(site.hostKeys("host-1", "internal")).toEqual(["internal/10.0.0.0/8/default"]);
    const outside = pool("web", ["192.168.0.1"]);
    expect(site.refused({ kind: "apply-objects", objects: [outside] }).message).toContain("none of the address spaces");
  });

  test("a limit of VIPs counts those of the request", () => {
    const site = smallSite();
    site.configure(tenant({ maxVips: 2 }));
    const more = [vip("b", "198.51.100.2"), vip("c", "198.51.100.3")];
    expect(site.refused({ kind: "apply-objects", objects: more }).message).toContain("a limit of 2 VIPs");
  });

  test("a security group is held by the hosts whose DIPs it guards, and can't go while it is named", () => {
    const site = smallSite();
    const rule = {
      direction: "in",
      protocol: "tcp",
      ports: ["80"],
      peer: "sg:web",
      action: "allow",
      priority: 1,
    } as const;
    site.configure(group("web", { rules: [rule] }), pool("web", ["10.0.0.1"], { spec: { securityGroups: ["web"] } }));
    expect(site.hostKeys("host-1", "group")).toEqual(["group/default/web"]);
    const refused = site.delete({ kind: "SecurityGroup", tenant: "default", name: "web" });
    expect(refused).toMatchObject({ ok: false, code: "FAILED_PRECONDITION" });
  });

  test("minPorts that all members together could not have are refused with the VIPs it would take", () => {
    const site = smallSite();
    const outbound = outboundSpec({ pools: ["web"], maxPorts: 64_512, minPorts: 4_096 });
    const greedy = vip("web", "198.51.100.1", { spec: { outbound } });
    expect(site.refused({ kind: "apply-objects", objects: [greedy] }).message).toContain(
      "4096 for up to 20 members are 81920 ports, more than 75 % of the 64512 of one VIP; 2 VIPs have that many",
    );
  });

  test("an IPv6 VIP waits until every live MUX forwards IPv6", () => {
    const site = new Site();
    site.bootstrap();
    site.join("old", "192.0.2.1", { rules: 100, snatRanges: 1_000 });
    const modern = vip("six", "2001:db8::1");
    expect(site.refused({ kind: "apply-objects", objects: [modern] }).message).toContain("forwards IPv4 only");
    site.join("old", "192.0.2.1", { rules: 100, snatRanges: 1_000, ipv6: true }, "new-boot");
    site.configure(modern);
    expect(site.muxView.get("vip/1")).toMatchObject({ address: "2001:db8::1" });
  });
});
