/** `ananta describe`, `status`, `snat list`, `flow`, `version`: what is shown of a site. */
import { describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { FakeSite } from "./fake-site.js";
import { siteWithWeb } from "./site-with-web.js";

describe("describe", () => {
  it("shows a VIP with its rules, DIPs and SNAT ports", async () => {
    const site = await siteWithWeb("describe vip");
    const { out } = await site.run("describe vip web");
    expect(out).toContain("Name:        web\nKind:        Vip\nTenant:      default\nLabels:      app=shop\n");
    expect(out).toContain(
      "Rules:\n  NAME    PROTOCOL   PORT   POOL   BACKEND-PORT\n  p80     tcp        80     web    80\n",
    );
    expect(out).toContain(
      "DIPs:\n  POOL   DIP        WEIGHT   HOST     HEALTH\n  web    10.1.0.4   100      host-1   up\n  web    10.1.0.5   0        host-2   up\n",
    );
    expect(out).toContain(
      "  PROTOCOL   OWNED   RESTING   HELD-BY-RULES   FREE\n  tcp        2       0         1               8061\n",
    );
    expect(out).toContain("  10.1.0.4   host-1   tcp        owned         16\n");
  });

  it("shows a pool with its members and who uses it", async () => {
    const site = await siteWithWeb("describe pool");
    const { out } = await site.run("describe pool web");
    expect(out).toContain(
      "  10.1.0.4   the rule's   100      host-1   up\n  10.1.0.5   81           0        host-2   up\n",
    );
    expect(out).toContain("rule p80, rule p443, rule p8080, rule p8443, outbound");
  });
});

describe("status", () => {
  it("is healthy when all replicas answer, one leads and a MUX is live", async () => {
    const site = await siteWithWeb("status");
    const run = await site.run("status");
    expect(run.code).toBe(0);
    expect(run.out).toContain(
      "Health:    healthy\nLeader:    replica 1 (manager-1:7401), term 3\nReplicas:  3 of 3 answer\n",
    );
    expect(run.out).toContain(
      "REPLICA   ADDRESS          ROLE       TERM   COMMIT   APPLIED   PID    IN-STEP     NOTE\n",
    );
    expect(run.out).toContain("2         manager-2:7401   follower   3      10       10        4002   20 ms ago\n");
  });

  it("finds the other replicas from one endpoint", async () => {
    const site = await siteWithWeb("status one");
    const run = await site.run("status --endpoints manager-2:7401 -o json");
    expect(JSON.parse(run.out)).toMatchObject({
      kind: "ClusterStatus",
      health: "healthy",
      leader: 1,
      replicas: [{ nodeId: 1 }, { nodeId: 2 }, { nodeId: 3 }],
    });
  });

  it("is degraded, exit 3, when one replica is gone, and tells which and why", async () => {
    const site = await siteWithWeb("status degraded");
    site.world.crash("manager-3");
    const run = await site.run("status");
    expect(run.code).toBe(3);
    expect(run.out).toContain("Health:    degraded\n");
    expect(run.out).toMatch(/Problems:\n {2}- replica 3 \(manager-3:7401\) is unreachable: /);
  });

  it("is unhealthy without a majority, and still answers with index and age", async () => {
    const site = await siteWithWeb("status unhealthy");
    site.world.crash("manager-1");
    site.world.crash("manager-3");
    const run = await site.run("status");
    expect(run.code).toBe(3);
    expect(run.out).toContain("Health:    unhealthy\nLeader:    none\n");
    expect(run.out).toContain(
      "State:     index 10, in force on all MUXes up to 10\nAs of:     20 ms, from manager-2:7401\n",
    );
    expect(run.out).toContain(
      "  - no replica leads: nothing can be changed\n  - 1 of 3 voting replicas work: a majority is needed for changes\n",
    );
  });

  it("is unhealthy when no MUX is live", async () => {
    const site = await siteWithWeb("status mux");
    site.muxState = "lost";
    const run = await site.run("status");
    expect(run.code).toBe(3);
    expect(run.out).toContain("no MUX is live");
    expect(run.out).toContain("MUX mux-1 is lost");
  });

  it("is degraded as soon as a MUX that still holds its lease is connected to nobody, or renews late", async () => {
    const site = await siteWithWeb("status mux gone");
    site.muxConnectedTo = [];
    const gone = await site.run("status");
    expect(gone.code).toBe(3);
    expect(gone.out).toContain("Health:    degraded\n");
    expect(gone.out).toContain("MUX mux-1 holds a lease but is connected to no replica");
    site.muxConnectedTo = [2];
    site.muxRenewedMsAgo = 1_300;
    expect((await site.run("status")).out).toContain("MUX mux-1 renewed its lease 1.3 s ago: it is late");
    // A replica that does not answer may be the one that it is connected to.
    site.muxRenewedMsAgo = 40;
    site.world.crash("manager-2");
    expect((await site.run("status")).out).not.toContain("mux-1 holds");
  });

  it("lists hosts by their numbers", async () => {
    const site = await siteWithWeb("status hosts");
    site.furtherHosts = ["host-10", "host-2"];
    const { hosts } = JSON.parse((await site.run("status -o json")).out) as { hosts: { name: string }[] };
    expect(hosts.map(({ name }) => name)).toEqual(["host-1", "host-2", "host-10"]);
  });
});

describe("snat list", () => {
  it("shows who owns which ports, and what rests", async () => {
    const site = await siteWithWeb("snat");
    expect((await site.run("snat list")).out).toBe(
      "VIP            PROTOCOL   PORTS       COUNT   DIP        HOST     STATE\n" +
        "203.0.113.10   tcp        1024-1039   16      10.1.0.4   host-1   owned\n" +
        "203.0.113.10   tcp        1120-1127   8       10.1.0.5   <none>   quarantined, 90 s left\n",
    );
    expect(JSON.parse((await site.run("snat list -o json")).out)).toMatchObject({
      kind: "List",
      items: [{ kind: "SnatOwnership", firstPort: 1024, lastPort: 1039, dip: "10.1.0.4" }, { freeInSeconds: 90 }],
    });
    expect((await site.run("snat list -o name")).out).toBe("203.0.113.10:1024-1039/tcp\n203.0.113.10:1120-1127/tcp\n");
  });

  it("takes a VIP by address or by name", async () => {
    const site = await siteWithWeb("snat vip");
    const asked: unknown[] = [];
    site.mischief.set(1, (method, request) => {
      if (method === "List") asked.push(request);
    });
    await site.run("snat list --vip web");
    await site.run("snat list --vip 203.0.113.99 --dip 10.1.0.4 --stale");
    const [web, unknown] = [{ vip: "203.0.113.10" }, { vip: "203.0.113.99", dip: "10.1.0.4", stale: true }];
    // page after page
    expect(asked).toMatchObject([
      { ...web, page: "" },
      { ...web, page: "1" },
      { ...unknown, page: "" },
      { ...unknown, page: "1" },
    ]);
  });
});

describe("flow explain", () => {
  it("takes a flow as words or as one, and tells step by step where it goes", async () => {
    const site = await siteWithWeb("flow");
    site.explanation = {
      steps: [
        { what: "vip", found: "203.0.113.10 is Vip default/web" },
        { what: "dip", found: "10.1.0.4 by hash" },
      ],
      dip: "10.1.0.4",
      host: "host-1",
      muxes: [
        { mux: "mux-1", answered: true, inFlowTable: true, dip: "10.1.0.4", reason: "known flow" },
        { mux: "mux-2", reason: "not connected" },
      ],
    };
    const words = await site.run("flow explain tcp 198.51.100.10:40000 203.0.113.10:80");
    expect(words.out).toBe(
      "Flow:     tcp:198.51.100.10:40000->203.0.113.10:80\n" +
        "Goes to:  10.1.0.4 on host host-1\n\n" +
        "STEP   FOUND\nvip    203.0.113.10 is Vip default/web\ndip    10.1.0.4 by hash\n\n" +
        "MUX     IN-FLOW-TABLE   DIP        WHY\nmux-1   yes             10.1.0.4   known flow\nmux-2   ?               ?          not connected\n",
    );
    expect((await site.run("flow explain tcp:198.51.100.10:40000->203.0.113.10:80")).out).toBe(words.out);
  });

  it("says so when the packets are dropped, and exits 3", async () => {
    const site = await siteWithWeb("flow dropped");
    const run = await site.run("flow explain udp 198.51.100.10:1 203.0.113.10:9");
    expect(run.out).toContain("Goes to:  nowhere: its packets are dropped\n");
    expect(run.code).toBe(3);
    expect((await site.run("flow explain udp 198.51.100.10:1 203.0.113.10:9 -o json")).code).toBe(3);
  });
});

describe("flow reset", () => {
  it("says how many flows ended where, and exits 3 when somebody did not answer", async () => {
    const site = await siteWithWeb("flow reset");
    const run = await site.run("flow reset --dip 10.1.0.4 --protocol udp");
    expect(run).toMatchObject({
      code: 0,
      out: "ON     NAME     FLOWS\nhost   host-1   12\nmux    mux-1    9\n",
    });
    expect(site.flowResets).toMatchObject([{ tenant: "default", dip: "10.1.0.4", vip: "", protocol: 17 }]);
    site.flowResetAnswer = { hosts: [{ name: "host-1" }] };
    const unanswered = await site.run("flow reset --vip 203.0.113.10");
    expect(unanswered.code).toBe(3);
    expect(unanswered.out).toContain("host   host-1   unknown: no answer\n");
    await site.run("flow reset --vip web");
    expect(site.flowResets.at(-1)).toMatchObject({ vip: "203.0.113.10" });
    expect(await site.run("flow reset --vip nope")).toMatchObject({ code: 1 });
    expect(await site.run("flow reset")).toMatchObject({ code: 2 });
  });
});

describe("version and explain", () => {
  it("version tells its own before it asks anybody", async () => {
    const site = await siteWithWeb("version");
    expect((await site.run("version --client")).out).toBe("ananta 1.2.3\n");
    expect((await site.run("version")).out).toContain("1         manager-1:7401   1.2.3\n");
    for (const node of [1, 2, 3]) {
      site.mischief.set(node, () => {
        throw new AnantaError("UNAVAILABLE", "starting");
      });
    }
    expect(await site.run("version")).toMatchObject({ code: 4, out: "ananta 1.2.3\n" });
  });

  it("explain shows a field with its type, default and meaning", async () => {
    const site = new FakeSite("explain");
    const run = await site.run("explain vip.spec.outbound");
    expect(run.code).toBe(0);
    expect(run.out).toContain("Field:    Vip.spec.outbound\nType:     Object\nDefault:  none\n");
    expect(run.out).toMatch(/maxPorts +integer +1024 +Most SNAT ports that one DIP may own here/);
  });
});
