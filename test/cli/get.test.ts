/** `ananta get`: lists, single objects and watches. */
import { describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { siteWithWeb } from "./site-with-web.js";

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
