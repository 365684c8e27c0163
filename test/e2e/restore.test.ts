/**
 * All five Managers are lost, and the site goes on from a snapshot file, as docs/operations.md tells it. Ports that were granted
 * after the snapshot was taken are not in it: their holders declare them, and keep them.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { ApiClient } from "../../cli/api-client.js";
import { OPERATOR_APPLY, SNAT_ALLOCATE, SNAT_REGISTER } from "../../manager/api/methods.js";
import type { ananta } from "../../proto/gen/wire.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { Site } from "./embedded-site.js";

const ROOT = resolve(import.meta.dirname, "../..");
const IDS = [1, 2, 3, 4, 5];

const site = new Site(17_700, { args: ["--no-restart"] });
const restored: ChildProcess[] = [];

beforeAll(() => site.untilHealthy());
afterAll(async () => {
  client.close();
  for (const process of restored) process.kill("SIGKILL");
  await site.stop();
  site.removeData();
});

interface Ownership {
  readonly vip: string;
  readonly protocol: string;
  readonly range: number;
  readonly rangeCount: number;
  readonly dip: string;
  readonly state: string;
}

/** "VIP protocol range" -> DIP, of every range that is owned. */
function owners(): Map<string, string> {
  const listed = site.ananta("snat", "list", "-o", "json");
  const { items } = JSON.parse(listed.stdout) as { readonly items: readonly Ownership[] };
  const found = new Map<string, string>();
  for (const { vip, protocol, range, rangeCount, dip, state } of items)
    if (state === "owned") for (let at = 0; at < rangeCount; at++) found.set(`${vip} ${protocol} ${range + at}`, dip);
  return found;
}

const settingsFile = (id: number): string => join(site.dataFolder, `config/restored-${id}.json`);

function settingsOf(id: number): void {
  const settings = JSON.parse(readFileSync(join(site.dataFolder, `config/manager-${id}.json`), "utf8")) as object;
  const dataFolder = join(site.dataFolder, `restored-${id}`);
  writeFileSync(settingsFile(id), JSON.stringify({ ...settings, bootstrap: false, clusterEpoch: 2, dataFolder }));
}

/** A client of its own, as a third party's: one DIP, granted ports only after the snapshot. */
const env = createNodeEnv({ name: "late", dataFolder: site.dataFolder, logLevel: "error", insecure: false });
const newClient = (): ApiClient => new ApiClient({ env, endpoints: site.endpoints.split(","), timeoutMs: 10_000 });
let client = newClient();
const dip = "10.9.9.9";
const host = "late-host";

async function register(bootId: string, held: readonly ananta.v1.RangeBlock.$Properties[]): Promise<number> {
  const request = { host, bootId, dips: [{ address: dip }], heldRanges: held.map((block) => ({ block, dip })) };
  const { response } = await client.change(SNAT_REGISTER, request);
  expect(response.refusedRanges ?? []).toEqual([]);
  return response.incarnation ?? 0;
}

/** Asked again as long as the outcome is unknown: five processes have just started on what may be two busy cores. */
async function refusalOf(request: Omit<ananta.v1.AllocateRequest.$Properties, "origin">): Promise<AnantaError> {
  for (;;) {
    try {
      await client.change(SNAT_ALLOCATE, request);
    } catch (caught) {
      const error = AnantaError.from(caught);
      if (!error.outcomeUnknown) return error;
      continue;
    }
    throw new Error("ports were granted although the restored cluster does not know yet who holds what");
  }
}

test("a cluster restored from a snapshot file serves its VIPs, and every port stays with who held it", async () => {
  const file = join(site.dataFolder, "backup.snap");
  const late = { metadata: { name: "late" } };
  await client.change(OPERATOR_APPLY, {
    objects: [
      { ...late, backendPool: { members: [{ dip }] } },
      { ...late, vip: { address: "203.0.113.30", outbound: { pools: ["late"] } } },
    ],
  });
  await site.until("owned ports", () => owners().size > 0);
  expect(site.ananta("cluster", "snapshot", "save", file)).toMatchObject({ code: 0 });

  // What the file does not know: a VIP, a host, and its ports.
  expect(site.ananta("apply", "-f", "examples/web.yaml").code).toBe(0);
  const incarnation = await register("1".repeat(32), []);
  const { response } = await client.change(SNAT_ALLOCATE, { host, incarnation, dip, protocol: 6, ports: 64 });
  const granted = response.blocks ?? [];
  const before = owners();
  expect([...before.values()].filter((owner) => owner === dip)).toHaveLength(8);

  for (const { pid } of site.status().replicas) process.kill(pid, "SIGKILL");
  for (const id of IDS) {
    settingsOf(id);
    const made = site.ananta("cluster", "snapshot", "restore", file, "--config", settingsFile(id));
    expect(made.stderr + made.stdout).toContain("as epoch 2");
    expect(made.code).toBe(0);
  }
  for (const id of IDS) {
    const args = [join(ROOT, "dist/manager/main.js"), "--config", settingsFile(id)];
    restored.push(spawn(process.execPath, args, { cwd: ROOT, stdio: "ignore" }));
  }
  await site.until("a leader of the restored cluster", () => site.status().leader);
  await site.until("the reason why nothing is granted yet", () =>
    site.ananta("status").stdout.includes("epoch 2 began with a restore"),
  );

  client.close();
  client = newClient(); // a session does not outlive its epoch
  const again = await register("2".repeat(32), granted);
  const refusal = await refusalOf({ host, incarnation: again, dip, protocol: 6, ports: 8 });
  expect(refusal.message).toMatch(/epoch|restore/);
  const after = await site.until("every host's declaration", () => {
    const found = owners();
    return [...before.keys()].every((range) => found.has(range)) && found;
  });
  for (const [range, owner] of before) expect(`${range} ${after.get(range) ?? "nobody"}`).toBe(`${range} ${owner}`);
  expect(site.ananta("get", "vips", "demo", "-o", "name").code).toBe(0);
  expect(site.ananta("get", "vip", "web").code).toBe(1); // made after the snapshot: to be applied again
  expect(site.ananta("apply", "-f", "examples/web.yaml").code).toBe(0);
});
