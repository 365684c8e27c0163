import { describe, expect, it } from "vitest";
import { ananta } from "../../proto/gen/wire.js";
import { AnantaError } from "../../core/errors.js";
import { FakeSite } from "./fake-site.js";

const TCP = ananta.v1.RuleProtocol.RULE_PROTOCOL_TCP;
const SNAT_TCP = ananta.v1.Protocol.PROTOCOL_TCP;
const UDP = ananta.v1.RuleProtocol.RULE_PROTOCOL_UDP;

async function siteWithWeb(salt: string): Promise<FakeSite> {
  const site = await new FakeSite(salt).start();
  site.put(
    {
      metadata: { name: "web" },
      backendPool: { members: [{ dip: "10.1.0.4" }, { dip: "10.1.0.5", port: 81, weight: 0 }] },
    },
    {
      metadata: { name: "web", labels: { app: "shop" } },
      vip: {
        address: "203.0.113.10",
        rules: [80, 443, 8080, 8443].map((port) => ({ name: `p${port}`, protocol: TCP, port, pool: "web" })),
        outbound: { pools: ["web"] },
      },
    },
    {
      metadata: { name: "dns", tenant: "bank" },
      vip: { address: "203.0.113.11", rules: [{ name: "dns", protocol: UDP, port: 53, pool: "web" }] },
    },
  );
  site.blocks = [
    {
      block: { vip: "203.0.113.10", protocol: SNAT_TCP, range: 128, count: 2 },
      tenant: "default",
      dip: "10.1.0.4",
      host: "host-1",
      state: "owned",
    },
    {
      block: { vip: "203.0.113.10", protocol: SNAT_TCP, range: 140, count: 1 },
      tenant: "default",
      dip: "10.1.0.5",
      host: "",
      state: "quarantined",
      freeInSeconds: 90,
    },
  ];
  return site;
}

describe("get", () => {
  it("chooses by labels, in one tenant and in all", async () => {
    const site = await siteWithWeb("labels");
    expect((await site.run("get vips -l app=shop -o name")).out).toBe("vip/web\n");
    expect((await site.run("get vips -A -l !app -o name")).out).toBe("vip/dns\n");
    expect(await site.run("get vips -l app=bank")).toEqual({
      code: 0,
      err: 'no Vip in tenant "default" with labels app=bank\n',
      out: "",
    });
    const refused = async (line: string): Promise<string> => {
      const { code, err } = await site.run(line);
      expect(code).toBe(2);
      return err;
    };
    expect(await refused("get vips -l app>1")).toContain('"app>1" is no requirement');
    expect(await refused("get vip web -l app")).toContain("give no names with it");
    expect(await refused("get vips -l app -w")).toContain("--selector does not go with --watch");
    expect(await refused("get muxes -l app")).toContain("have no labels");
  });

  it("lists objects of the default tenant in columns", async () => {
    const site = await siteWithWeb("get");
    expect(await site.run("get vips")).toEqual({
      code: 0,
      err: "",
      out: [
        "NAME   ADDRESS        PORTS                        SNAT     STATUS",
        "web    203.0.113.10   80/tcp,443/tcp,8080/tcp +1   16/tcp   Ready",
        "",
      ].join("\n"),
    });
    expect((await site.run("get pools")).out).toBe(
      "NAME   MEMBERS   HOSTED   UP    MAX   STATUS\n" + "web    2         2/2      2/2   100   Ready\n",
    );
  });

  it("shows all tenants, and more columns, when asked to", async () => {
    const site = await siteWithWeb("get wide");
    expect((await site.run("get vips -A -o wide")).out).toBe(
      "TENANT    NAME   ADDRESS        PORTS                              SNAT     STATUS   POOLS   GENERATION   INDEX   LABELS\n" +
        "bank      dns    203.0.113.11   53/udp                             <none>   Ready    web     1            10      <none>\n" +
        "default   web    203.0.113.10   80/tcp,443/tcp,8080/tcp,8443/tcp   16/tcp   Ready    web     1            10      app=shop\n",
    );
  });

  it("writes names that delete and describe take", async () => {
    const site = await siteWithWeb("get name");
    expect((await site.run("get pools -o name")).out).toBe("backendpool/web\n");
    expect((await site.run("get muxes -o name")).out).toBe("mux/mux-1\n");
    expect((await site.run("describe mux/mux-1")).code).toBe(0);
  });

  it("lists several types: a table each, and one document", async () => {
    const site = await siteWithWeb("get several");
    const { out } = await site.run("get vips,pools");
    expect(out.split("\n\n").map((table) => table.split(/ +/).slice(0, 2))).toEqual([
      ["NAME", "ADDRESS"],
      ["NAME", "MEMBERS"],
    ]);
    expect((await site.run("get vips,muxes -o name")).out).toBe("vip/web\nmux/mux-1\n");
    const kindsOf = async (words: string) =>
      (JSON.parse((await site.run(`get ${words} -o json`)).out) as { items: { kind: string }[] }).items.map(
        ({ kind }) => kind,
      );
    expect(await kindsOf("vips,hosts")).toEqual(["Vip", "Host"]);
    expect(await kindsOf("vip/web pool/web")).toEqual(["Vip", "BackendPool"]);
    expect((await site.run("get tenants,vips")).err).toBe('no Tenant in tenant "default"\n');
    expect(await site.run("get vips,pools web")).toMatchObject({ code: 2 });
    expect(await site.run("get vips,pods")).toMatchObject({ code: 2 });
  });

  it("writes JSON with apiVersion and kind: one object, or a list", async () => {
    const site = await siteWithWeb("get json");
    const one: unknown = JSON.parse((await site.run("get vip web -o json")).out);
    expect(one).toMatchObject({
      apiVersion: "ananta/v1",
      kind: "Vip",
      metadata: { name: "web", generation: 1 },
      status: { phase: "Ready" },
    });
    const list: unknown = JSON.parse((await site.run("get vips -A -o json")).out);
    expect(list).toMatchObject({
      apiVersion: "ananta/v1",
      kind: "List",
      metadata: { index: 10 },
      items: [{ kind: "Vip" }, { kind: "Vip" }],
    });
    const hosts: unknown = JSON.parse((await site.run("get hosts -o json")).out);
    expect(hosts).toMatchObject({
      kind: "List",
      items: [{ kind: "Host", metadata: { name: "host-1" }, status: { connectedToReplicas: [1, 2] } }],
    });
  });

  it("says how old a stale answer is, and from where", async () => {
    const site = await siteWithWeb("get stale");
    const run = await site.run("get vips --stale");
    expect(run.err).toBe("stale: as manager-1:7401 knows it, at index 10, 1.5 s old\n");
    const list: unknown = JSON.parse((await site.run("get vips --stale -o json")).out);
    expect(list).toMatchObject({ metadata: { index: 10, stale: true, ageMs: 1_500 } });
  });

  it("puts a MUX together from what each replica knows of it", async () => {
    const site = await siteWithWeb("get muxes");
    expect((await site.run("get muxes")).out).toBe(
      "NAME    STATE   ADDRESS     INDEX   RENEWED     FLOWS   PACKETS   DROPS\n" +
        "mux-1   live    192.0.2.1   10      40 ms ago   7       500       3\n",
    );
  });

  it("colours states on a terminal only, and not where NO_COLOR is set", async () => {
    const site = await siteWithWeb("get colour");
    expect((await site.run("get pools", { isTty: true })).out).toContain("\x1b[32mReady\x1b[39m");
    expect((await site.run("get pools", { isTty: true, variables: { NO_COLOR: "1" } })).out).not.toContain("\x1b");
    expect((await site.run("get pools")).out).not.toContain("\x1b");
  });

  it("refuses a process that is not there", async () => {
    const site = await siteWithWeb("get no mux");
    expect(await site.run("get mux mux-9")).toEqual({
      code: 1,
      out: "",
      err: 'error: mux "mux-9" does not exist (NOT_FOUND)\n',
    });
  });
});

describe("get --watch", () => {
  it("shows the present state, then each change under the same columns, until Ctrl-C", async () => {
    const site = await siteWithWeb("watch");
    const running = site.run("get vips -w", { interruptAfterMs: 2_000 });
    site.world.env("elsewhere").clock.setTimer(1_000, () => {
      const web = site.wire("Vip/default/web");
      site.emit({ type: "modified", object: { ...web, status: { ...web.status, phase: "Pending" } }, index: 11 });
      site.emit({ type: "deleted", object: web, index: 12 });
    });
    const run = await running;
    expect(run.code).toBe(0);
    expect(run.out.split("\n").map((line) => line.replaceAll(/ {2,}/g, " | "))).toEqual([
      "NAME | ADDRESS | PORTS | SNAT | STATUS",
      "web | 203.0.113.10 | 80/tcp,443/tcp,8080/tcp +1 | 16/tcp | Ready",
      "web | 203.0.113.10 | 80/tcp,443/tcp,8080/tcp +1 | 16/tcp | Pending",
      "web | 203.0.113.10 | 80/tcp,443/tcp,8080/tcp +1 | 16/tcp | Deleted",
      "",
    ]);
  });

  it("goes on at another replica from where it was, and repeats nothing", async () => {
    const site = await siteWithWeb("watch on");
    const running = site.run("get vip web -w -o name", { interruptAfterMs: 4_000 });
    const { clock } = site.world.env("elsewhere");
    clock.setTimer(1_000, () => site.world.crash("manager-1"));
    clock.setTimer(3_000, () => site.emit({ type: "modified", object: site.wire("Vip/default/web"), index: 11 }));
    expect(await running).toEqual({ code: 0, out: "vip/web\nvip/web\n", err: "" });
  });
});

describe("a watch that breaks off", () => {
  // An entry changed two objects. The replica dies when it has told of the first.
  it("goes on before the entry that it was told part of, and behind one that was told whole", async () => {
    const site = await siteWithWeb("watch part");
    const running = site.run("get vip web -w -o name", { interruptAfterMs: 6_000 });
    const { clock } = site.world.env("elsewhere");
    clock.setTimer(1_000, () => {
      site.emit({ type: "modified", object: site.wire("Vip/default/web"), index: 12 });
      site.index = 12;
    });
    clock.setTimer(1_500, () => site.world.crash("manager-1"));
    clock.setTimer(4_000, () => site.world.crash("manager-2"));
    expect((await running).code).toBe(0);
    expect(site.watchedFrom).toEqual([0, 11, 12]);
  });

  it("from an index shows only what comes after it, and says so when that is no longer held", async () => {
    const site = await siteWithWeb("watch from");
    const running = site.run("get vips -w --from-index 9", { interruptAfterMs: 2_000 });
    site.world.env("elsewhere").clock.setTimer(1_000, () => {
      site.emit({ type: "modified", object: site.wire("Vip/default/web"), index: 11 });
    });
    const { out } = await running;
    expect(out.split("\n").map((line) => line.slice(0, 3))).toEqual(["NAM", "web", ""]);
    expect(site.watchedFrom).toEqual([9]);
    site.watchRefusal = new AnantaError("FAILED_PRECONDITION", "changes up to index 10 are no longer held");
    expect(await site.run("get vips -w --from-index 9")).toMatchObject({
      code: 1,
      err: "error: changes up to index 10 are no longer held (FAILED_PRECONDITION)\n",
    });
    expect((await site.run("get vips --from-index 9")).code).toBe(2);
    expect((await site.run("get vips -w --from-index x")).code).toBe(2);
  });

  it("starts over with pauses when its index is gone, and gives up in time when nothing helps", async () => {
    const site = await siteWithWeb("watch over");
    site.watchRefusal = new AnantaError("FAILED_PRECONDITION", "index 0 is compacted");
    const startMs = site.world.nowMs;
    const run = await site.run("get vips -w --timeout 2s");
    expect(run.code).toBe(1);
    expect(site.world.nowMs - startMs).toBeLessThan(3_000);
    expect(site.watchedFrom.length).toBeLessThanOrEqual(15);
  });
});

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
  it("says how many flows ended where, and exits 3 when somebody could not be asked", async () => {
    const site = await siteWithWeb("flow reset");
    const run = await site.run("flow reset --dip 10.1.0.4 --protocol udp");
    expect(run).toMatchObject({
      code: 0,
      out: "ON     NAME     FLOWS\nhost   host-1   12\nmux    mux-1    9\n",
    });
    expect(site.flowResets).toMatchObject([{ tenant: "default", dip: "10.1.0.4", vip: "", protocol: 17 }]);
    site.flowResetAnswer = { hosts: [{ name: "host-1" }] };
    const unasked = await site.run("flow reset --vip 203.0.113.10");
    expect(unasked.code).toBe(3);
    expect(unasked.out).toContain("host   host-1   not asked: no connection\n");
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
