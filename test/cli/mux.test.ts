/** `ananta mux drain` and `undrain`, and what the other commands show of it. */
import { describe, expect, test } from "vitest";
import { FakeSite } from "./fake-site.js";

describe("mux drain", () => {
  test("drains, says who is left, and is content when it is done already", async () => {
    const site = await new FakeSite("mux drain").start();
    const run = await site.run("mux drain mux-1 --reason kernel");
    expect(run).toEqual({ code: 0, out: "mux/mux-1 drained; 1 MUX announces\n", err: "" });
    expect(site.drained.get("mux-1")).toBe("kernel");
    const again = await site.run("mux drain mux-1");
    expect(again).toEqual({ code: 0, out: "mux/mux-1 is drained already; 1 MUX announces\n", err: "" });
    expect(site.drained.get("mux-1")).toBe("drained by an operator");
    expect((await site.run("mux undrain mux-1")).out).toBe("mux/mux-1 undrained\n");
    expect((await site.run("mux undrain mux-1")).out).toBe("mux/mux-1 is not drained\n");
  });

  test("refuses the last one that announces, and does it when forced", async () => {
    const site = await new FakeSite("mux drain last").start();
    await site.run("mux drain mux-1");
    const refused = await site.run("mux drain mux-2");
    expect(refused.code).toBe(1);
    expect(refused.err).toContain("MUX mux-2 is the last one that announces VIPs (FAILED_PRECONDITION)");
    const forced = await site.run("mux drain mux-2 --force");
    expect(forced).toEqual({ code: 0, out: "mux/mux-2 drained; 0 MUXes announce\n", err: "" });
  });

  test("is committed, and says so, when the MUXes do not follow in time", async () => {
    const site = await new FakeSite("mux drain late").start();
    site.inForce = false;
    const run = await site.run("mux drain mux-1");
    expect(run.code).toBe(3);
    expect(run.out).toBe("mux/mux-1 drained; 1 MUX announces\n");
    expect(run.err).toBe("committed at index 11, but not in force on all MUXes in time. See `ananta get muxes`.\n");
  });

  test.each([
    ["mux drain", "missing required argument 'mux'"],
    [`mux drain mux-1 --reason=${"x".repeat(257)}`, "--reason: 257 characters; use 1 to 256"],
    ["mux drain mux-1 --grace 5s", "unknown option '--grace'"],
  ])("of a wrong command line asks nobody: %s", async (words, message) => {
    const site = await new FakeSite("mux drain usage").start();
    const run = await site.run(words);
    expect(run.code).toBe(2);
    expect(run.err).toContain(message);
    expect(site.origins).toEqual([]);
  });

  test("shows in get, describe and status; a site whose every live MUX is drained is unhealthy", async () => {
    const site = await new FakeSite("mux drained views").start();
    expect((await site.run("status")).code).toBe(0);
    await site.run("mux drain mux-1 --reason kernel");
    expect((await site.run("get muxes")).out).toContain("mux-1   live,drained   192.0.2.1");
    const [mux] = (JSON.parse((await site.run("get muxes -o json")).out) as { items: { status: unknown }[] }).items;
    expect(mux?.status).toMatchObject({ state: "live", drain: { reason: "kernel", ageMs: 3_000 } });
    expect((await site.run("describe mux/mux-1")).out).toMatch(/Drained: +kernel, for 3.0 s\n/);
    const status = await site.run("status");
    expect(status.code).toBe(3);
    expect(status.out).toMatch(/MUXes: +1 of 1 live, 1 drained\n/);
    expect(status.out).toContain("every live MUX is drained: no VIP is announced (ananta mux undrain)");
  });
});
