import { describe, expect, it } from "vitest";
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { FakeSite, type Mischief } from "./fake-site.js";

const POOL = "apiVersion: ananta/v1\nkind: BackendPool\nmetadata: {name: web}\nspec: {members: [{dip: 10.1.0.4}]}\n";
const files = { "pool.yaml": POOL };

const failing =
  (code: ErrorCode): Mischief =>
  () => {
    throw new AnantaError(code, `it says ${code}`);
  };
/** Takes the request and never answers. */
const silent: Mischief = () => new Promise(() => {});

async function siteWhere(salt: string, mischief: Readonly<Record<number, Mischief>>): Promise<FakeSite> {
  const site = await new FakeSite(salt).start();
  for (const [node, what] of Object.entries(mischief)) site.mischief.set(Number(node), what);
  return site;
}

describe("a change", () => {
  const rows: readonly { readonly title: string; readonly code: ErrorCode; readonly exit: number }[] = [
    { title: "that is refused exits 1", code: "FAILED_PRECONDITION", exit: 1 },
    { title: "that is overloaded away until time is up exits 1", code: "STAGE_OVERLOADED", exit: 1 },
    { title: "that finds no leader exits 4: nothing was done", code: "UNAVAILABLE", exit: 4 },
    { title: "whose leader was lost exits 5: it may have been done", code: "LEADERSHIP_LOST", exit: 5 },
    { title: "whose session expired exits 5", code: "SESSION_EXPIRED", exit: 5 },
    { title: "that broke a replica exits 5", code: "INTERNAL", exit: 5 },
  ];
  it.each(rows)("$title", async ({ title, code, exit }) => {
    const everywhere = failing(code);
    const site = await siteWhere(title, { 1: everywhere, 2: everywhere, 3: everywhere });
    const startMs = site.world.nowMs;
    const run = await site.run("apply -f pool.yaml --timeout 4s", { files });
    expect(run.code).toBe(exit);
    expect(run.out).toBe("");
    expect(run.err).toContain(`it says ${code}`);
    expect(run.err.includes("outcome unknown")).toBe(exit === 5);
    expect(site.world.nowMs - startMs).toBeLessThan(4_500);
    await finishesCleanly(site.world, ["desk"]);
  });

  it("says at its deadline why it was refused, not that the last try came too late to be looked at", async () => {
    const site = await siteWhere("a last try", {});
    const startMs = site.world.nowMs;
    const refuse: Mischief = () => {
      if (site.world.nowMs - startMs > 3_950) throw new AnantaError("STAGE_OVERLOADED", "it waited 3 ms", {});
      throw new AnantaError("UNAVAILABLE", "the restored cluster knows too little yet");
    };
    for (const node of [1, 2, 3]) site.mischief.set(node, refuse);
    const run = await site.run("apply -f pool.yaml --timeout 4s", { files });
    expect(run.err).toContain("no answer within 4 s; the last one was: the restored cluster knows too little yet");
  });

  it("that no replica answers exits 5 at its deadline and tells what to do", async () => {
    const site = await siteWhere("silent", { 1: silent, 2: silent, 3: silent });
    const startMs = site.world.nowMs;
    const run = await site.run("apply -f pool.yaml --timeout 4s", { files });
    expect(run.code).toBe(5);
    expect(run.err).toContain("The change may or may not have been made.");
    expect(site.world.nowMs - startMs).toBeLessThan(4_500);
  });

  it("stays unknown when, after one replica was silent, the others say that they did nothing", async () => {
    const site = await siteWhere("unknown stays", { 1: silent, 2: failing("UNAVAILABLE"), 3: failing("UNAVAILABLE") });
    expect((await site.run("apply -f pool.yaml --timeout 3s", { files })).code).toBe(5);
  });

  it("is done once when its answer is lost and it is sent to another replica with the same origin", async () => {
    const site = await new FakeSite("once").start();
    // Replica 1 does it and dies before it can say so.
    site.mischief.set(1, async (method) => {
      site.mischief.delete(1);
      if (method === "Apply") await site.loseAnswer(1);
    });
    const run = await site.run("apply -f pool.yaml", { files });
    expect(run).toEqual({ code: 0, out: "backendpool/web created\n", err: "" });
    expect(site.origins.map((line) => line.split(" ")[0])).toEqual(["1", "2"]);
    expect(new Set(site.origins.map((line) => line.slice(2))).size).toBe(1);
  });

  it("follows success past replicas that are dead, paused or without a leader", async () => {
    const site = await siteWhere("follows", { 2: failing("NOT_LEADER") });
    site.world.crash("manager-1");
    expect((await site.run("apply -f pool.yaml", { files })).code).toBe(0);
    site.world.restart("manager-1");
    site.world.pause("manager-3");
    site.mischief.clear();
    expect((await site.run("get pools")).code).toBe(0);
  });

  it("waits as long as an overloaded replica asks for, then succeeds", async () => {
    let refusals = 0;
    const busy: Mischief = () => {
      if (++refusals < 3) throw new AnantaError("STAGE_OVERLOADED", "busy", { retryAfterMs: 300 });
    };
    const site = await siteWhere("busy", { 1: busy, 2: busy, 3: busy });
    const startMs = site.world.nowMs;
    expect((await site.run("apply -f pool.yaml", { files })).code).toBe(0);
    expect(site.world.nowMs - startMs).toBeGreaterThan(600);
  });
});

describe("a read", () => {
  it("that is refused exits 1", async () => {
    const site = await new FakeSite("read refused").start();
    expect(await site.run("get vip web")).toEqual({
      code: 1,
      out: "",
      err: "error: Vip/default/web does not exist (NOT_FOUND)\n",
    });
  });

  it("without an answer in time exits 4, never 5, and says how long it waited", async () => {
    const site = await siteWhere("read silent", { 1: silent, 2: silent, 3: silent });
    const run = await site.run("get vips --timeout 2s");
    expect(run.code).toBe(4);
    expect(run.err).toMatch(/no answer within (2|1\.9) s; the last one was/);
  });

  it("exits 4 at once where nobody listens, and says how to name others", async () => {
    const site = new FakeSite("read nobody");
    site.world.env("manager-1");
    const startMs = site.world.nowMs;
    const run = await site.run("get vips --endpoints manager-1:1,manager-1:2");
    expect(run).toEqual({
      code: 4,
      out: "",
      err: "error: nobody listens at manager-1:1, manager-1:2; is Ananta running there? (--endpoints or ANANTA_ENDPOINTS name others) (UNAVAILABLE)\n",
    });
    expect(site.world.nowMs - startMs).toBeLessThan(500);
    expect((await site.run("status --endpoints manager-1:1")).code).toBe(4);
  });

  it("exits 4 at once where something else listens, and says so", async () => {
    const stranger: Mischief = () => {
      throw new AnantaError("UNAVAILABLE", "what listens at manager-1:7401 does not speak gRPC", { foreign: true });
    };
    const site = await siteWhere("stranger", { 1: stranger });
    const startMs = site.world.nowMs;
    const run = await site.run("get vips --endpoints manager-1:7401");
    expect(run.code).toBe(4);
    expect(run.err).toContain("does not speak gRPC; is Ananta running there?");
    expect(site.world.nowMs - startMs).toBeLessThan(500);
  });
});

describe("a wrong command line exits 2 and says what would be right", () => {
  const rows: readonly { readonly words: string; readonly says: string }[] = [
    { words: "", says: "Usage: ananta" },
    { words: "gett vips", says: "error: unknown command 'gett'" },
    { words: "get", says: "error: missing required argument 'target'" },
    { words: "get vipz", says: 'error: "vipz" is not a type; did you mean "vip"?' },
    {
      words: "get services",
      says: 'error: "services" is not a type; use one of vips, backendpools (pools), tenants, securitygroups (sg), muxes, hosts, replicas',
    },
    { words: "get vip/", says: 'error: "vip/" is not TYPE/NAME; write for example vip/web' },
    { words: "get vips -o xml", says: "Allowed choices are table, wide, json, yaml, name." },
    {
      words: "get vips --timeout soon",
      says: 'error: --timeout: "soon" is not a time span; write for example 500ms, 10s or 1m',
    },
    {
      words: "get vips --endpoints nowhere",
      says: 'error: --endpoints: "nowhere" is not host:port; write for example 127.0.0.1:7401,127.0.0.1:7402',
    },
    {
      words: "get muxes -w",
      says: "error: a mux cannot be watched; only vips, backendpools, tenants and securitygroups can",
    },
    { words: "get vip web -A", says: "error: a name belongs to one tenant: give --tenant, not --all-tenants" },
    { words: "vip show web -A", says: "error: a name belongs to one tenant: give --tenant, not --all-tenants" },
    { words: "pool health web -A", says: "error: a name belongs to one tenant: give --tenant, not --all-tenants" },
    { words: "flow explain sctp 1.2.3.4:1 1.2.3.4:2", says: 'error: "sctp" is not a protocol; use tcp or udp' },
    { words: "snat list --dip here", says: 'error: --dip: "here" is not an IP address' },
    { words: "explain vip.spec.ruels", says: 'error: vip.spec has no field "ruels"; did you mean "rules"?' },
    { words: "completion csh", says: "Allowed choices are bash, zsh, fish." },
  ];
  it.each(rows)("ananta $words", async ({ words, says }) => {
    const site = new FakeSite("usage");
    const run = await site.run(words);
    expect(run.code).toBe(2);
    expect(run.out).toBe("");
    expect(run.err).toContain(says);
  });

  it("but help is no mistake", async () => {
    const site = new FakeSite("help");
    for (const words of ["--help", "help get", "snat list --help"]) {
      const run = await site.run(words);
      expect(run.code).toBe(0);
      expect(run.out).toContain("Usage: ananta");
      expect(run.err).toBe("");
    }
  });
});

describe("a progress line", () => {
  it("tells a person on a terminal what is waited for, and leaves nothing behind", async () => {
    const site = await siteWhere("progress", { 1: silent, 2: silent });
    const run = await site.run("get pools", { isTty: true });
    expect(run.err).toContain("\r\x1b[Kasking manager-1:7401 ... 0 s\r\x1b[Kasking manager-1:7401 ... 1 s\r");
    expect(run.err).toContain("asking manager-2:7401 (");
    expect(run.err.split("\r\x1b[K").at(-1)).toBe('no BackendPool in tenant "default"\n');
  });

  it("is not written for a script", async () => {
    const site = await siteWhere("no progress", { 1: silent });
    expect((await site.run("get pools")).err).toBe('no BackendPool in tenant "default"\n');
  });
});
