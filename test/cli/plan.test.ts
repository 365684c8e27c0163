/** `ananta plan` and `ananta diff`: what apply would change, and nothing is changed. */
import { describe, expect, test } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { FakeSite } from "./fake-site.js";

const manifest = (weight: number, extra = ""): string => `apiVersion: ananta/v1
kind: BackendPool
metadata: {name: web}
spec:
  members:
    - {dip: 10.1.0.4, weight: ${weight}}
${extra}---
apiVersion: ananta/v1
kind: Vip
metadata: {name: web}
spec:
  address: 203.0.113.10
  outbound: {pools: [web], minPorts: 64}
`;
const [poolOnly = ""] = manifest(0, "    - {dip: 10.1.0.5}\n").split("---");

async function siteWith(salt: string, text: string): Promise<FakeSite> {
  const site = await new FakeSite(salt).start();
  await site.run("apply -f web.yaml", { files: { "web.yaml": text } });
  return site;
}

describe("plan", () => {
  test("of new objects shows who enters and the SNAT ports that each DIP gets; nothing is stored", async () => {
    const site = await new FakeSite("plan new").start();
    const run = await site.run("plan -f web.yaml", { files: { "web.yaml": manifest(100) } });
    expect(run).toEqual({
      code: 0,
      err: "",
      out: `backendpool/web would be created
  DIPs that enter: 10.1.0.4
vip/web would be created
SNAT ports per protocol, after it:
  VIP   PORTS   DIPS       PORTS-PER-DIP   MIN-PORTS   PROMISED   VIPS-NEEDED
  web   64512   1 of 100   1024            64          6400       1
plan: 2 to create, 0 to configure, 0 unchanged
`,
    });
    expect(site.stored.size).toBe(0);
  });

  // Scale-out takes ports from everybody: the operator of the pool need not have the VIP's file at hand.
  test("of a pool alone shows fields, who enters, drains and leaves, and the ports of VIPs that use it", async () => {
    const site = await siteWith(
      "plan change",
      manifest(100, "    - {dip: 10.1.0.9}\n").replace("64}", "64, maxPorts: 64512}"),
    );
    const run = await site.run("plan -f pool.yaml", { files: { "pool.yaml": `${poolOnly}    - {dip: 10.1.0.6}\n` } });
    expect(run.out).toBe(`backendpool/web would be configured
  ~ spec.members[10.1.0.4].weight: 100 -> 0
  - spec.members[10.1.0.9]: {dip: 10.1.0.9, weight: 100, role: primary, adminState: none, port: 0}
  + spec.members[10.1.0.5]: {dip: 10.1.0.5, weight: 100, role: primary, adminState: none, port: 0}
  + spec.members[10.1.0.6]: {dip: 10.1.0.6, weight: 100, role: primary, adminState: none, port: 0}
  DIPs that enter: 10.1.0.5, 10.1.0.6
  DIPs that drain (no new flows, known ones stay): 10.1.0.4
  DIPs that leave (no new flows, known ones stay): 10.1.0.9
SNAT ports per protocol, after it:
  VIP   PORTS   DIPS       PORTS-PER-DIP    MIN-PORTS   PROMISED   VIPS-NEEDED
  web   64512   3 of 100   32256 -> 21504   64          6400       1
plan: 0 to create, 1 to configure, 0 unchanged
`);
  });

  test("tells how many VIPs a promise needs that one VIP cannot keep, and what the Managers say to it", async () => {
    const site = await new FakeSite("plan promise").start();
    site.mischief.set(1, (method) => {
      if (method === "Apply")
        throw new AnantaError("FAILED_PRECONDITION", "no", {
          problems: JSON.stringify([{ object: 1, path: "spec.outbound.minPorts", code: "X", message: "too many" }]),
          problemCount: 1,
        });
    });
    const greedy = manifest(100).replace("minPorts: 64", "minPorts: 1024");
    const run = await site.run("plan -f web.yaml", { files: { "web.yaml": greedy } });
    expect(run.code).toBe(1);
    expect(run.out).toContain("102400     3\n");
    expect(run.err).toBe(
      "web.yaml:13:38: spec.outbound.minPorts: too many\nerror: 1 problem in web.yaml; it would be refused\n",
    );
  });

  test("--detailed-exitcode tells a change (6) from none (0)", async () => {
    const site = await siteWith("plan exit", manifest(100));
    const same = { files: { "web.yaml": manifest(100) } };
    const other = { files: { "web.yaml": manifest(99) } };
    expect((await site.run("plan --detailed-exitcode -f web.yaml", same)).code).toBe(0);
    expect((await site.run("plan --detailed-exitcode -f web.yaml", other)).code).toBe(6);
    expect((await site.run("plan -f web.yaml", other)).code).toBe(0);
  });

  test("-o json carries the same, for programs", async () => {
    const site = await siteWith("plan json", manifest(100));
    const { out } = await site.run("plan -o json -f pool.yaml", { files: { "pool.yaml": poolOnly } });
    expect(JSON.parse(out)).toMatchObject({
      kind: "Plan",
      changes: [
        {
          name: "web",
          change: "configured",
          fields: [
            { path: "spec.members[10.1.0.4].weight", before: 100, after: 0 },
            { path: "spec.members[10.1.0.5]", before: null },
          ],
          members: { enter: ["10.1.0.5"], drain: ["10.1.0.4"], serveAgain: [], leave: [] },
        },
      ],
      snat: [{ vip: "web", portsPerDipBefore: 1024, portsPerDipAfter: 1024, dips: 2, vipsNeeded: 1 }],
    });
  });
});

describe("diff", () => {
  test("is silent and exits 0 when nothing would change", async () => {
    const site = await siteWith("diff none", manifest(100));
    const run = await site.run("diff -f web.yaml", { files: { "web.yaml": manifest(100) } });
    expect(run).toEqual({ code: 0, out: "", err: "" });
  });

  test("shows labels, what is added and what is taken away, and exits 6", async () => {
    const site = await siteWith("diff some", manifest(100));
    const wanted = manifest(100)
      .replace(
        "metadata: {name: web}\nspec:\n  members",
        'metadata: {name: web, labels: {"a.b/c": x}}\nspec:\n  members',
      )
      .replace(
        "  outbound: {pools: [web], minPorts: 64}\n",
        "  rules: [{name: http, protocol: tcp, port: 80, pool: web}]\n",
      );
    const run = await site.run("diff -f web.yaml", { files: { "web.yaml": wanted } });
    expect(run.code).toBe(6);
    expect(run.out.split("\n").map((line) => line.slice(0, 46))).toEqual(
      [
        "backendpool/web would be configured",
        '  + metadata.labels["a.b/c"]: x',
        "vip/web would be configured",
        "  + spec.rules[http]: {name: http, protocol: tcp",
        "  - spec.outbound: {pools: [web], maxPorts: 1024",
        "",
      ].map((line) => line.slice(0, 46)),
    );
  });

  test("another order of the same members is a change, as it is for apply", async () => {
    const two = manifest(100, "    - {dip: 10.1.0.5}\n");
    const site = await siteWith("diff order", two);
    const turned = two.replace(/(.*10\.1\.0\.4.*\n)(.*10\.1\.0\.5.*\n)/, "$2$1");
    expect((await site.run("diff -f web.yaml", { files: { "web.yaml": turned } })).out).toBe(
      "backendpool/web would be configured\n  ~ spec.members: [10.1.0.4, 10.1.0.5] -> [10.1.0.5, 10.1.0.4]\n",
    );
  });
});

describe("vip withdraw and restore", () => {
  test("withdraws for a time, with a reason, and restores before it is over", async () => {
    const site = await siteWith("withdraw", manifest(100));
    const run = await site.run("vip withdraw web --reason flood --for 10m");
    expect(run).toEqual({ code: 0, out: "vip/web withdrawn; announced again by itself after 10 m\n", err: "" });
    expect(site.withdrawn.get("Vip/default/web")).toBe("flood for 600");
    expect((await site.run("vip restore web")).out).toBe("vip/web restored\n");
    expect(await site.run("vip restore web")).toEqual({
      code: 1,
      out: "",
      err: "error: VIP default/web is not withdrawn (FAILED_PRECONDITION)\n",
    });
  });

  test("leaves the time to the VIP's policy, and refuses one that is out of bounds", async () => {
    const site = await siteWith("withdraw bounds", manifest(100));
    expect((await site.run("vip withdraw web --reason test")).out).toBe(
      "vip/web withdrawn; announced again by itself after spec.overload.restoreAfterSeconds\n",
    );
    expect(site.withdrawn.get("Vip/default/web")).toBe("test for 0");
    for (const span of ["5s", "25h", "1.5", "soon"]) {
      const run = await site.run(`vip withdraw web --reason test --for ${span}`);
      expect(run.code).toBe(2);
      expect(run.err).toContain(`--for: "${span}"`);
    }
    expect((await site.run("vip withdraw web")).code).toBe(2);
  });
});
