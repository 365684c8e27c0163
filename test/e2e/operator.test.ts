/** What an operator does with the running system, and what it bears: the commands of the README, real processes. */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Site } from "./embedded-site.js";

interface Listing {
  readonly items: readonly { readonly range?: number; readonly status?: unknown }[];
}

interface Muxes {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status: { readonly counters?: { readonly vipsAnnounced?: number } };
  }[];
}

describe("the site of npm start, with --no-restart", () => {
  const site = new Site(17_400, { args: ["--no-restart"] });

  beforeAll(() => site.untilHealthy());
  afterAll(async () => {
    await site.stop();
    site.removeData();
  });

  const file = (name: string, text: string): string => {
    const path = join(site.dataFolder, name);
    writeFileSync(path, text);
    return path;
  };

  /** "VIP:ports/protocol DIP" of every owned block. */
  const owners = (): Map<string, string> => {
    const lines = site.ananta("snat", "list").stdout.trim().split("\n").slice(1);
    return new Map(
      lines
        .map((line) => line.split(/\s+/))
        .filter((cells) => cells[6] === "owned")
        .map((cells) => [`${cells[0] ?? ""} ${cells[1] ?? ""} ${cells[2] ?? ""}`, cells[4] ?? ""]),
    );
  };

  /** Every port range that had an owner before still has the same one; blocks may have grown together. */
  const stillOwned = (before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): void => {
    const portOwner = new Map<string, string>();
    for (const [block, dip] of after) for (const port of portsOf(block)) portOwner.set(port, dip);
    for (const [block, dip] of before)
      for (const port of portsOf(block)) expect(`${port} ${portOwner.get(port) ?? "nobody"}`).toBe(`${port} ${dip}`);
  };

  test("status, get, apply, describe, snat list and delete do what they say", async () => {
    const status = site.ananta("status");
    expect(status.code).toBe(0);
    expect(status.stdout).toMatch(/Leader:\s+replica \d/);
    expect(site.ananta("get", "vips", "-o", "wide").stdout).toContain("203.0.113.10");
    const applied = site.ananta("apply", "-f", "examples/web.yaml");
    expect(applied.stdout + applied.stderr).toContain("created");
    expect(applied.code).toBe(0);
    expect(site.ananta("describe", "vip", "web").stdout).toContain("203.0.113.20");
    await site.until("SNAT ports", () => owners().size > 0);
    const snat = JSON.parse(site.ananta("snat", "list", "-o", "json").stdout) as Listing;
    expect(snat.items.length).toBeGreaterThan(0);
    const [[block, dip] = ["", ""]] = owners();
    const [vip = "", protocol = "", ports = ""] = block.split(" ");
    const who = site.ananta("snat", "who", `${vip}:${ports.split("-")[0] ?? ""}/${protocol}`);
    expect(who.stdout).toContain(dip);
    expect(
      site.ananta("snat", "who", `${vip}:${ports.split("-")[0] ?? ""}/${protocol}`, "--at", "9h").stderr,
    ).toContain("nobody is known to have owned it");
    expect(site.ananta("snat", "usage", "--by", "vip").stdout).toContain(vip);
    expect(site.ananta("snat", "forecast").stdout).toContain("not at this rate");
    expect(site.ananta("delete", "vip", "web").code).toBe(0);
    const gone = site.ananta("get", "vip", "web");
    expect(gone.code).toBe(1);
    expect(gone.stderr).toContain("web");
    site.ananta("delete", "pool", "web-pool");
  });

  test("a file with mistakes is refused with file and line, all of them at once, and nothing of it is applied", () => {
    const path = file(
      "bad.yaml",
      `apiVersion: ananta/v1
kind: BackendPool
metadata: {name: good-pool}
spec: {members: [{dip: 10.1.1.1}]}
---
apiVersion: ananta/v1
kind: Vip
metadata: {name: bad}
spec:
  address: 203.0.113.30
  colour: blue
  rules:
    - {name: http, protocol: tcp, port: 70000, pool: good-pool}
    - {name: one, protocol: tcp, port: 443, pool: good-pool}
    - {name: two, protocol: tcp, port: 443, pool: good-pool}
`,
    );
    const refused = site.ananta("apply", "-f", path);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/bad\.yaml:11/);
    expect(refused.stderr).toContain("colour");
    expect(refused.stderr).toMatch(/bad\.yaml:13.*70000/);
    expect(refused.stderr).toMatch(/443/);
    expect(site.ananta("get", "pool", "good-pool").code).toBe(1);
  });

  test("a pool that nobody knows is refused by the Managers, and the message names file, path and pool", () => {
    const path = file(
      "unknown-pool.yaml",
      `apiVersion: ananta/v1
kind: Vip
metadata: {name: lost}
spec:
  address: 203.0.113.31
  rules:
    - name: http
      protocol: tcp
      port: 80
      pool: nowhere
`,
    );
    const refused = site.ananta("apply", "-f", path);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/unknown-pool\.yaml:10/);
    expect(refused.stderr).toContain("nowhere");
  });

  test("flow explain names rule, DIP, host and what each MUX holds", () => {
    const explained = site.ananta("flow", "explain", "tcp", "198.51.100.10:40000", "203.0.113.10:80");
    expect(explained.code).toBe(0);
    expect(explained.stdout).toMatch(/10\.1\.\d\.\d/);
    for (const mux of ["mux-1", "mux-2"]) expect(explained.stdout).toMatch(new RegExp(`${mux}\\s+(yes|no)\\s+10\\.1`));
  });

  test("a MUX is drained and undrained: the other one announces meanwhile, and the last one is not drained unasked", async () => {
    /** VIPs that each MUX announces, as it says itself. */
    const announced = (): Record<string, number> => {
      const { items } = JSON.parse(site.ananta("get", "muxes", "-o", "json").stdout) as Muxes;
      return Object.fromEntries(
        items.map(({ metadata, status }) => [metadata.name, status.counters?.vipsAnnounced ?? 0]),
      );
    };
    await site.until("both MUXes announce", () => Object.values(announced()).every((vips) => vips > 0));
    const drained = site.ananta("mux", "drain", "mux-1", "--reason", "kernel");
    expect(drained).toMatchObject({ code: 0, stdout: "mux/mux-1 drained; 1 MUX announces\n" });
    await site.until("its routes are gone", () => announced()["mux-1"] === 0);
    expect(announced()["mux-2"]).toBeGreaterThan(0);
    expect(site.ananta("get", "muxes").stdout).toMatch(/mux-1 +live,drained/);
    expect(site.ananta("describe", "mux", "mux-1").stdout).toMatch(/Drained: +kernel/);
    const last = site.ananta("mux", "drain", "mux-2");
    expect(last.code).toBe(1);
    expect(last.stderr).toContain("MUX mux-2 is the last one that announces VIPs");
    expect(site.ananta("mux", "undrain", "mux-1")).toMatchObject({ code: 0, stdout: "mux/mux-1 undrained\n" });
    await site.until("it announces again", () => (announced()["mux-1"] ?? 0) > 0);
  });

  test("the leader is killed with -9: another leads, every grant keeps its owner, the killed one catches up", async () => {
    const before = owners();
    expect(before.size).toBeGreaterThan(0);
    const { leader, replicas } = site.status();
    const victim = replicas.find(({ name }) => name.endsWith(String(leader)));
    process.kill(victim?.pid ?? 0, "SIGKILL");
    const next = await site.until("another leader", () => {
      const status = site.status();
      return status.leader !== null && status.leader !== leader && status.leader;
    });
    expect(next).not.toBe(leader);
    stillOwned(before, owners());
    const applied = site.ananta("apply", "-f", "examples/web.yaml");
    expect(applied.code, applied.stderr).toBe(0);
    const command = await site.until(
      "the command that starts it again",
      () => /node \S*manager\/main\.js --config \S+/.exec(site.output)?.[0],
    );
    const [, ...args] = command.split(" ");
    const again = spawn(process.execPath, args, { stdio: "ignore" });
    try {
      await site.until("the killed replica has caught up", () => {
        const status = site.status();
        return (
          status.health === "healthy" &&
          status.replicas.every((replica) => replica.appliedIndex >= status.appliedIndex - 20)
        );
      });
      stillOwned(before, owners());
    } finally {
      again.kill("SIGTERM");
    }
  });

  test("with a majority dead, changes end in time and say so, stale reads answer with index and age", async () => {
    // One replica is down already (the one started by hand has just been ended); two more make three.
    const alive = site.status().replicas.filter(({ pid, role }) => pid > 0 && role !== "unreachable" && role !== "");
    const leader = site.status().leader;
    const doomed = alive.filter(({ name }) => !name.endsWith(String(leader))).slice(0, 2);
    const [first, second] = doomed;
    process.kill(first?.pid ?? 0, "SIGKILL");
    await site.until("still writable with two dead", () => site.ananta("apply", "-f", "examples/web.yaml").code === 0);
    process.kill(second?.pid ?? 0, "SIGKILL");
    await site.until("no majority", () => site.status().leader === null);
    const started = Date.now();
    const change = site.ananta("delete", "vip", "web", "--timeout", "3s");
    expect([4, 5]).toContain(change.code);
    expect(Date.now() - started).toBeLessThan(15_000);
    const stale = site.ananta("get", "vips", "--stale");
    expect(stale.code).toBe(0);
    expect(stale.stdout).toContain("203.0.113.10");
    expect(stale.stderr).toMatch(/index \d+/);
    expect(site.ananta("status").code).toBe(3);
  });
});

describe("a site that is stopped and started again", () => {
  test("finds the same VIPs and the same port owners, and Ctrl-C leaves no process behind", async () => {
    const first = new Site(17_600);
    let blocks: string;
    let pids: readonly number[];
    try {
      await first.untilHealthy();
      await first.until("SNAT ports", () => first.ananta("snat", "list").stdout.split("\n").length > 2);
      pids = first.status().replicas.map(({ pid }) => pid);
      blocks = first.ananta("snat", "list", "-o", "name").stdout;
    } finally {
      expect(await first.stop()).toBe(0);
    }
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow();

    const second = new Site(17_600, { dataFolder: first.dataFolder });
    try {
      await second.untilHealthy();
      expect(second.ananta("get", "vips", "-o", "name").stdout).toContain("demo");
      const now = new Set(
        second
          .ananta("snat", "list", "-o", "name")
          .stdout.split("\n")
          .flatMap((line) => portsOf(line)),
      );
      const lost = blocks
        .split("\n")
        .flatMap((line) => portsOf(line))
        .filter((port) => !now.has(port));
      expect(lost).toEqual([]);
    } finally {
      await second.stop();
      second.removeData();
    }
  });

  test("a second start on the same folder, or on taken ports, is one clear line and a non-zero exit", async () => {
    const first = new Site(17_800);
    try {
      await first.untilHealthy();
      const sameFolder = new Site(18_000, { dataFolder: first.dataFolder });
      expect(await sameFolder.stopped()).not.toBe(0);
      expect(sameFolder.output.trim().split("\n")).toHaveLength(1);
      const samePorts = new Site(17_800);
      expect(await samePorts.stopped()).not.toBe(0);
      expect(samePorts.output.trim().split("\n")).toHaveLength(1);
      expect(samePorts.output).toMatch(/17\d{3}/);
      samePorts.removeData();
    } finally {
      await first.stop();
      first.removeData();
    }
  });
});

/** "203.0.113.10:1024-1031/tcp" or "203.0.113.10 tcp 1024-1031" as one text per port. */
function portsOf(block: string): string[] {
  const match = /^(\S+?)[: ](?:(tcp|udp) )?(\d+)-(\d+)(?:\/(tcp|udp))?$/.exec(block.trim());
  if (match === null) return [];
  const [, vip = "", before, first = "0", last = "-1", after] = match;
  const ports: string[] = [];
  for (let port = Number(first); port <= Number(last); port++) ports.push(`${vip} ${before ?? after ?? ""} ${port}`);
  return ports;
}
