/**
 * The way of a failed probe through real processes: a machine's service stops, its host's probe is refused, the Managers commit it, and
 * both MUXes send new connections elsewhere, while an operator is told why. And the way back. The launcher of `npm start` runs in this
 * process, from the build, so that its machines can be told to stop listening.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import type { IpAddress, Port } from "../../core/brands.js";
import type * as embedded from "../../fabric/embedded-site.js";
import type * as identity from "../../fabric/endpoints/identity-server.js";
import type * as folders from "../../fabric/launcher/data-folder.js";
import { BACKEND_PORT } from "../../fabric/site.js";
import type * as node from "../../runtime/node/env.js";
import { Call } from "../site/call.js";

const run = promisify(execFile);
const DIST = resolve(import.meta.dirname, "../../dist");
const built = (path: string): Promise<unknown> => import(pathToFileURL(join(DIST, path)).href);

const VIP = "203.0.113.50" as IpAddress;
const PROBE = { protocol: "tcp", port: BACKEND_PORT, intervalSeconds: 1, timeoutSeconds: 1 };

it(
  "a service that stops gets no new connections from either MUX, and gets them again when it is back",
  { timeout: 240_000 },
  async () => {
    const { EmbeddedSite } = (await built("fabric/embedded-site.js")) as typeof embedded;
    const { DataFolder } = (await built("fabric/launcher/data-folder.js")) as typeof folders;
    const { IdentityServer } = (await built("fabric/endpoints/identity-server.js")) as typeof identity;
    const { createNodeEnv } = (await built("runtime/node/env.js")) as typeof node;

    const path = mkdtempSync(join(tmpdir(), "ananta-health-"));
    const folder = new DataFolder(path);
    folder.lock();
    const events: string[] = [];
    const env = createNodeEnv({ name: "fabric", dataFolder: path, logTo: folder.logPath("fabric") });
    const onEvent = (text: string): void => void events.push(text);
    const site = await EmbeddedSite.start(env, { folder, portBase: 54_000, restart: false, ecmp: "plain", onEvent });
    try {
      await site.whenReady(60_000);
      const [machine, ...others] = site.fabric.vms.filter(({ address }) => !address.includes(":")).slice(0, 3);
      const dipOf = ({ address }: { readonly address: IpAddress }): string => address;
      const dip = dipOf(machine!);
      const rules = [{ name: "http", protocol: 6, port: 80, pool: "probed", backendPort: BACKEND_PORT }];
      const members = [machine!, ...others].map((one) => ({ dip: dipOf(one) }));
      const applied = await site.apply([
        { metadata: { name: "probed" }, backendPool: { members, probe: PROBE } },
        { metadata: { name: "probed" }, vip: { address: VIP, rules } },
      ]);
      expect(applied.inForce, events.join("\n")).toBe(true);

      const endpoints = site.plan.managers.map(({ api }) => api).join(",");
      // Never in a way that stops this process: the machines and the router run in it.
      const described = async (): Promise<string> => {
        const args = [join(DIST, "cli/main.js"), "describe", "pool", "probed"];
        const variables = { ...process.env, ANANTA_ENDPOINTS: endpoints, NO_COLOR: "1" };
        const { stdout } = await run(process.execPath, args, { env: variables });
        return stdout.split("\n").find((line) => line.includes(`${dip} `)) ?? "";
      };
      const until = async (what: string, isSo: () => Promise<boolean> | boolean): Promise<void> => {
        const untilMs = env.clock.nowMs() + 60_000;
        while (!(await isSo())) {
          if (env.clock.nowMs() > untilMs) throw new Error(`${what} did not come; described: ${await described()}`);
          await sleep(200);
        }
      };
      /** Forty calls, two from each client; who answered. */
      const answers = async (): Promise<readonly string[]> => {
        const now = { nowMs: env.clock.nowMs() };
        const to = { address: VIP, port: 80 as Port };
        const calls = [...site.fabric.clients, ...site.fabric.clients].map((client) => new Call(now, client, to));
        await until("the end of all calls", () => calls.every(({ end }) => end !== null));
        return calls.map(({ text, end }) =>
          end === "closed" ? (/^by=(\S+)/.exec(text)?.[1] ?? "nobody") : String(end),
        );
      };

      await until("a member that is up", async () => /\bup\b/.test(await described()));
      const all = [machine!, ...others].map(dipOf).sort();
      expect([...new Set(await answers())].sort()).toEqual(all);

      machine!.unlisten(BACKEND_PORT);
      await until("a member that is down", async () => /\bdown\b/.test(await described()));
      expect(await described()).toContain("connection refused");
      const before = site.fabric.router.routes(env.clock.nowMs()).map(({ packets }) => packets);
      const whileDown = await answers();
      expect([...new Set(whileDown)].sort()).toEqual(others.map(dipOf).sort());
      const after = site.fabric.router.routes(env.clock.nowMs()).map(({ packets }) => packets);
      expect(
        after.map((packets, mux) => packets > before[mux]!),
        "both MUXes had their part",
      ).toEqual([true, true]);

      machine!.listen(BACKEND_PORT, new IdentityServer());
      await until("a member that is up again", async () => /\bup\b/.test(await described()));
      expect([...new Set(await answers())].sort()).toEqual(all);
    } finally {
      await site.stop();
      folder.unlock();
      rmSync(path, { recursive: true, force: true });
    }
  },
);
