/**
 * Changing the Manager's replicas under way, as docs/operations.md tells it: real processes, real disks, the command line,
 * and a client that writes all the time. Every write that was acknowledged is there at the end.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { ApiClient } from "../../cli/api-client.js";
import { APPLY, LIST } from "../../cli/methods.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { Site } from "./embedded-site.js";

const ROOT = resolve(import.meta.dirname, "../..");

interface ClusterDocument {
  readonly leader: number | null;
  readonly replicas: readonly { readonly nodeId: number; readonly membership: string; readonly role: string }[];
}

/** One write after the other; each is tried again until it is acknowledged. */
class Writer {
  readonly acknowledged: string[] = [];
  refused = 0;
  readonly #client: ApiClient;
  #stopped = false;
  #done: Promise<void> = Promise.resolve();

  constructor(client: ApiClient) {
    this.#client = client;
  }

  start(): void {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const name = `w-${this.acknowledged.length}`;
      try {
        await this.#client.change(APPLY, { objects: [{ metadata: { name }, backendPool: { members: [] } }] });
        this.acknowledged.push(name);
      } catch (error) {
        if (!(error instanceof AnantaError)) throw error;
        this.refused++; // no answer within its time: the same name again
      }
    }
  }
}

const site = new Site(17_600, { args: ["--no-restart"] });
const endpoints = [1, 2, 3, 4, 5, 6].map((id) => site.endpoint(id)).join(",");
const env = createNodeEnv({ name: "writer", dataFolder: site.dataFolder, logLevel: "error", insecure: false });
const client = new ApiClient({ env, endpoints: endpoints.split(","), timeoutMs: 10_000 });
const writer = new Writer(client);
let sixth: ChildProcess | null = null;

const cluster = (): ClusterDocument =>
  JSON.parse(site.anantaAt(endpoints, "cluster", "status", "-o", "json").stdout) as ClusterDocument;
const membershipOf = (id: number): string =>
  cluster().replicas.find(({ nodeId }) => nodeId === id)?.membership ?? "none";

beforeAll(() => site.untilHealthy());
afterAll(async () => {
  await writer.stop();
  client.close();
  sixth?.kill("SIGKILL");
  await site.stop();
  site.removeData();
});

function startSixth(): ChildProcess {
  const settings = JSON.parse(readFileSync(join(site.dataFolder, "config/manager-1.json"), "utf8")) as {
    replicas: unknown[];
  };
  const own = { nodeId: 6, raftAddress: `127.0.0.1:${site.portBase + 16}`, apiAddress: site.endpoint(6) };
  const path = join(site.dataFolder, "config/manager-6.json");
  writeFileSync(
    path,
    JSON.stringify({
      ...settings,
      nodeId: 6,
      bootstrap: false,
      join: true,
      dataFolder: join(site.dataFolder, "manager-6"),
      opsAddress: `127.0.0.1:${site.portBase + 26}`,
      replicas: [...settings.replicas, own],
    }),
  );
  return spawn(process.execPath, [join(ROOT, "dist/manager/main.js"), "--config", path], {
    cwd: ROOT,
    stdio: "ignore",
  });
}

test("a sixth joins, is promoted, the leader is removed, another is killed, and no acknowledged write is lost", async () => {
  writer.start();
  const enough = async (what: string): Promise<void> => {
    const target = writer.acknowledged.length + 20;
    await site.until(`writes going on ${what}`, () => writer.acknowledged.length >= target, 20_000);
  };
  await enough("before");

  sixth = startSixth();
  const added = site.anantaAt(
    endpoints,
    ...["cluster", "add", "6"],
    ...["--raft-address", `127.0.0.1:${site.portBase + 16}`, "--api-address", site.endpoint(6)],
  );
  expect(added).toMatchObject({ code: 0 });
  expect(added.stdout).toMatch(/6 +learner/);
  await enough("with a learner");

  expect(site.anantaAt(endpoints, "cluster", "promote", "6", "--timeout", "30s")).toMatchObject({ code: 0 });
  expect(membershipOf(6)).toBe("voter");
  await enough("with six voters");

  const leader = await site.until("a leader", () => cluster().leader);
  expect(site.anantaAt(endpoints, "cluster", "remove", String(leader))).toMatchObject({ code: 0 });
  expect(membershipOf(leader)).toBe("none");
  await enough("after the leader's removal");
  const again = site.anantaAt(
    endpoints,
    ...["cluster", "add", String(leader)],
    ...["--raft-address", "127.0.0.1:9", "--api-address", "127.0.0.1:8"],
  );
  expect(again.code).toBe(1);
  expect(again.stderr).toContain("never used again");

  const victim = await site.until("a leader after it", () => cluster().leader);
  const { pid } = site.status().replicas.find(({ name }) => name === String(victim)) ?? { pid: sixth.pid ?? 0 };
  process.kill(pid, "SIGKILL");
  await enough("after a death");

  await writer.stop();
  const { response } = await client.read(LIST, { kind: "BackendPool" });
  const present = new Set(response.objects.map(({ metadata }) => metadata?.name));
  expect(writer.acknowledged.filter((name) => !present.has(name))).toEqual([]);
  expect(writer.acknowledged.length).toBeGreaterThan(100);
});
