import { describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { FakeSite } from "./fake-site.js";

const WEB = `# what examples/web.yaml looks like
apiVersion: ananta/v1
kind: BackendPool
metadata:
  name: web
spec:
  members:
    - dip: 10.1.0.4
    - dip: 10.1.0.5
---
apiVersion: ananta/v1
kind: Vip
metadata:
  name: web
spec:
  address: 203.0.113.10
  rules:
    - name: http
      protocol: tcp
      port: 80
      pool: web
  outbound:
    pools: [web]
`;

describe("apply", () => {
  it("writes all objects of a file through whichever replica answers", async () => {
    const site = await new FakeSite("apply").start();
    const run = await site.run("apply -f web.yaml", { files: { "web.yaml": WEB } });
    expect(run).toEqual({ code: 0, out: "backendpool/web created\nvip/web created\n", err: "" });
    expect([...site.stored.keys()]).toEqual(["BackendPool/default/web", "Vip/default/web"]);
    await finishesCleanly(site.world, ["desk"]);
  });

  it("reads standard input, several files and folders", async () => {
    const site = await new FakeSite("apply many").start();
    const [pool = "", vip = ""] = WEB.split("---\n");
    const run = await site.run("apply -f - -f dir", { files: { "-": pool, "dir/a.yaml": vip } });
    expect(run.out).toBe("backendpool/web created\nvip/web created\n");
  });

  it("tells all problems of all files with line and column, and applies nothing", async () => {
    const site = await new FakeSite("apply wrong").start();
    const wrong = WEB.replace("port: 80\n", "port: 70000\n").replace("pool: web\n", "pool: web\n      prot: tcp\n");
    const run = await site.run("apply -f web.yaml -f b.yaml", {
      files: { "web.yaml": wrong, "b.yaml": "kind: Vip\nspec: [\n" },
    });
    expect(run.code).toBe(1);
    expect(run.out).toBe("");
    expect(run.err).toBe(
      "b.yaml:3:1: not YAML: Flow sequence in block collection must be sufficiently indented and end with a ]\n" +
        "web.yaml:20:13: spec.rules[0].port: 70000 is not a port; use 1 to 65535\n" +
        'web.yaml:22:7: spec.rules[0].prot: "prot" is not a field here; did you mean "protocol"?\n' +
        "error: 3 problems in 2 files; nothing was applied\n",
    );
    expect(site.stored.size).toBe(0);
  });

  it("speaks of JSON to whoever wrote JSON, and says when a file is cut off", async () => {
    const site = await new FakeSite("apply json").start();
    const told = async (file: string, content: string): Promise<string> =>
      (await site.run(`apply -f ${file}`, { files: { [file]: content } })).err.split("\n")[0] ?? "";
    expect(await told("web.json", '{"kind": "Vip", "spec": {')).toBe(
      "web.json:1:26: not JSON: a } is missing; is the file cut off?",
    );
    expect(await told("-", '{"items": [{"kind": "Vip"}')).toMatch(/^<stdin>:1:\d+: not JSON: a \] is missing/);
    expect(await told("web.json", '{"kind" "Vip"}')).toMatch(/^web\.json:1:\d+: not JSON: /);
    expect(site.stored.size).toBe(0);
  });

  it("shows problems that only the server can know at their place in the file", async () => {
    const site = await new FakeSite("apply server").start();
    const problems = [
      {
        object: 1,
        path: "spec.rules[0].pool",
        code: "INVALID_ARGUMENT",
        message: 'VIP default/web: rule "http" names pool "web", which does not exist; tenant default has api',
      },
      {
        object: 1,
        path: "spec.outbound.pools[0]",
        code: "INVALID_ARGUMENT",
        message: 'VIP default/web: outbound names pool "web", which does not exist; tenant default has api',
      },
    ];
    site.mischief.set(1, () => {
      throw new AnantaError("INVALID_ARGUMENT", "no", { problems: JSON.stringify(problems), problemCount: 2 });
    });
    const run = await site.run("apply -f web.yaml", { files: { "web.yaml": WEB } });
    expect(run.code).toBe(1);
    expect(run.err).toBe(
      'web.yaml:21:13: spec.rules[0].pool: VIP default/web: rule "http" names pool "web", which does not exist; tenant default has api\n' +
        'web.yaml:23:13: spec.outbound.pools[0]: VIP default/web: outbound names pool "web", which does not exist; tenant default has api\n' +
        "error: 2 problems in web.yaml; nothing was applied\n",
    );
  });

  it("refuses an object that is written twice, and tells where it was first", async () => {
    const site = await new FakeSite("apply twice").start();
    const [pool = ""] = WEB.split("---\n");
    const run = await site.run("apply -f a.yaml -f b.yaml", { files: { "a.yaml": pool, "b.yaml": pool } });
    expect(run.err).toBe(
      'b.yaml:5:9: metadata.name: BackendPool "web" is written at a.yaml:5:9 already; write each object once\n' +
        "error: 1 problem in 2 files; nothing was applied\n",
    );
  });

  it("tells what the server warns of, and is done all the same", async () => {
    const site = await new FakeSite("apply warned").start();
    site.warnings = ["BackendPool default/web: no host runs 10.1.0.4: no traffic until one registers with it"];
    const run = await site.run("apply -f web.yaml", { files: { "web.yaml": WEB } });
    expect(run).toEqual({
      code: 0,
      out: "backendpool/web created\nvip/web created\n",
      err: "warning: BackendPool default/web: no host runs 10.1.0.4: no traffic until one registers with it\n",
    });
    const plan = await site.run("plan -f web.yaml", { files: { "web.yaml": WEB } });
    expect(plan.err).toBe(run.err);
  });

  it("changes nothing in a dry run", async () => {
    const site = await new FakeSite("apply dry").start();
    const run = await site.run("apply --dry-run -f web.yaml", { files: { "web.yaml": WEB } });
    expect(run).toEqual({
      code: 0,
      out: "backendpool/web would be accepted (dry run)\nvip/web would be accepted (dry run)\n",
      err: "",
    });
    expect(site.stored.size).toBe(0);
  });

  it("takes back what get has written, as a list in YAML or JSON", async () => {
    const site = await new FakeSite("apply again").start();
    await site.run("apply -f web.yaml", { files: { "web.yaml": WEB } });
    for (const format of ["yaml", "json"]) {
      const { out } = await site.run(`get vips -o ${format}`);
      const run = await site.run("apply -f -", { files: { "-": out } });
      expect(run).toEqual({ code: 0, out: "vip/web configured\n", err: "" });
    }
    const { out } = await site.run("get vip web -o yaml");
    expect(out).toMatch(/^apiVersion: ananta\/v1\nkind: Vip\n/);
    const broken = out.replace("port: 80", "port: 0");
    const { out: list } = await site.run("get vips -o yaml");
    expect((await site.run("apply -f -", { files: { "-": broken } })).err).toContain(
      "<stdin>:11:13: spec.rules[0].port: 0 is not a port",
    );
    expect((await site.run("apply -f -", { files: { "-": list.replace("port: 80", "port: 0") } })).err).toMatch(
      /<stdin>:\d+:\d+: spec\.rules\[0\]\.port: 0 is not/,
    );
  });

  it("gives objects without a tenant the one of --tenant, and refuses another", async () => {
    const site = await new FakeSite("apply tenant").start();
    await site.run("apply -t shop -f web.yaml", { files: { "web.yaml": WEB } });
    expect([...site.stored.keys()]).toEqual(["BackendPool/shop/web", "Vip/shop/web"]);
    const other = WEB.replace("name: web\nspec:\n  members", "name: web\n  tenant: bank\nspec:\n  members");
    const run = await site.run("apply -t shop -f web.yaml", { files: { "web.yaml": other } });
    expect(run.err).toContain('web.yaml:6:11: metadata.tenant: "bank" is not the tenant given with --tenant, "shop"');
  });

  it("exits 3 when the MUXes do not take the change up in time, and says that it stands", async () => {
    const site = await new FakeSite("apply slow").start();
    site.inForce = false;
    const startMs = site.world.nowMs;
    const run = await site.run("apply -f web.yaml --timeout 3s", { files: { "web.yaml": WEB } });
    expect(run.code).toBe(3);
    expect(run.out).toBe("backendpool/web created\nvip/web created\n");
    expect(run.err).toBe(
      "committed at index 11, but not in force on all MUXes within 3.0 s: backendpool/web, vip/web. See `ananta get muxes`.\n",
    );
    expect(site.world.nowMs - startMs).toBeLessThan(3_500);
    const hurried = await site.run("apply --no-wait -f web.yaml", { files: { "web.yaml": WEB } });
    expect(hurried.code).toBe(0);
  });

  // The change is committed; only then the replica that is asked how far it is refuses to say.
  it.each(["FAILED_PRECONDITION", "NOT_LEADER", "BEHIND", "INTERNAL"] as const)(
    "keeps waiting when a look after the commit ends with %s, and exits 3 at the deadline: never as if nothing was done",
    async (code) => {
      const site = await new FakeSite(`apply look ${code}`).start();
      site.inForce = false;
      for (const node of [1, 2, 3])
        site.mischief.set(node, (method) => {
          if (method === "Get") throw new AnantaError(code, "not now");
        });
      const startMs = site.world.nowMs;
      const run = await site.run("apply -f web.yaml --timeout 3s", { files: { "web.yaml": WEB } });
      expect(run.code).toBe(3);
      expect(run.err).toContain("committed at index 11, but not in force on all MUXes within 3.0 s");
      expect(site.world.nowMs - startMs).toBeGreaterThanOrEqual(2_900);
      expect(site.world.nowMs - startMs).toBeLessThan(3_500);
    },
  );

  it("is done waiting for an object that somebody has deleted meanwhile", async () => {
    const site = await new FakeSite("apply and gone").start();
    site.inForce = false;
    site.mischief.set(1, (method) => {
      if (method === "Get") site.stored.clear();
    });
    expect((await site.run("apply -f web.yaml --timeout 3s", { files: { "web.yaml": WEB } })).code).toBe(0);
  });

  it("exits 2 for files that are not there or hold nothing", async () => {
    const site = await new FakeSite("apply nothing").start();
    expect(await site.run("apply -f no.yaml")).toEqual({ code: 2, out: "", err: "error: no.yaml: no such file\n" });
    expect(await site.run("apply -f e.yaml", { files: { "e.yaml": "# nothing\n---\n" } })).toEqual({
      code: 2,
      out: "",
      err: "error: no objects in e.yaml\n",
    });
    expect((await site.run("apply")).code).toBe(2);
  });
});

describe("delete", () => {
  it("deletes by type and name, by TYPE/NAME, and by file", async () => {
    const site = await new FakeSite("delete").start();
    const files = { "web.yaml": WEB };
    await site.run("apply -f web.yaml", { files });
    expect((await site.run("delete vip web")).out).toBe("vip/web deleted\n");
    expect((await site.run("delete pool/web")).out).toBe("backendpool/web deleted\n");
    await site.run("apply -f web.yaml", { files });
    expect((await site.run("delete -f web.yaml", { files })).out).toBe("vip/web deleted\nbackendpool/web deleted\n");
    expect(site.stored.size).toBe(0);
  });

  it("deletes all or none: one that is missing keeps the others", async () => {
    const site = await new FakeSite("delete none").start();
    const files = { "web.yaml": WEB };
    await site.run("apply -f web.yaml", { files });
    const run = await site.run("delete vip web api");
    expect(run).toEqual({ code: 1, out: "", err: "Vip default/api does not exist\nerror: nothing was deleted\n" });
    expect(site.stored.has("Vip/default/web")).toBe(true);
    expect(await site.run("delete vip web api --ignore-not-found")).toEqual({
      code: 0,
      out: "vip/web deleted\n",
      err: "",
    });
    expect((await site.run("delete vip web --ignore-not-found")).code).toBe(0);
  });

  it("refuses to delete what is no object, or everything", async () => {
    const site = await new FakeSite("delete refuse").start();
    expect((await site.run("delete mux mux-1")).err).toBe(
      "error: a mux cannot be deleted; only vips, backendpools, tenants and securitygroups can\n",
    );
    expect((await site.run("delete vips")).err).toBe("error: name what to delete: ananta delete vip NAME...\n");
    expect((await site.run("delete vips")).code).toBe(2);
  });
});
