/**
 * `npm start`: the whole site on this machine, with a live view, or the story of `--demo`. This process is the launcher, the
 * router, the clients and the VMs; Managers, MUXes and Host Agents are its children.
 *
 * Exit codes: 0 ended as asked, 1 something failed (one line says what), 2 wrong arguments, 130 the demo was interrupted.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import type { Port } from "../core/brands.js";
import { createNodeEnv } from "../runtime/node/env.js";
import type { Env } from "../runtime/env.js";
import { mapStacksOnDemand, stackOf } from "../runtime/stacks.js";
import { parseArguments, type Arguments } from "./arguments.js";
import { Demo } from "./demo.js";
import { EmbeddedSite } from "./embedded-site.js";
import { FlowGenerator } from "./flow-generator.js";
import { DataFolder, LauncherError } from "./launcher/data-folder.js";
import { clockText, LiveView, type SiteEvent, type ViewModel } from "./live-view.js";
import { DEMO_VIP, exampleObjects, IPV6_VIP, PORT_BASE_DEFAULT, SERVER_PORT } from "./site.js";
import { UdpProber } from "./udp-prober.js";

/** A cold start on a busy two-core machine takes a few seconds; what takes this long does not come any more. */
const READY_TIMEOUT_MS = 60_000;
const EVENTS_KEPT = 50;
const STATUS_INTERVAL_MS = 400;
const HTTP = 80 as Port;
const DNS = 53 as Port;

type Signal = "SIGINT" | "SIGTERM" | "SIGHUP";

/** Resolves with the first signal that asks this process to end; a second one ends it at once. */
function interruption(): Promise<Signal> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => {
        if (asked) process.exit(1); // children are tethered: they end with us
        asked = true;
        resolve(signal);
      });
    }
  });
}

async function runDemo(env: Env, args: Arguments, folder: DataFolder, interrupted: Promise<Signal>): Promise<number> {
  const startedMs = env.clock.nowMs();
  const { portBase, ecmp, locators } = args;
  const elapsedMs = (): number => env.clock.nowMs() - startedMs;
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  let told = false;
  const onEvent = (text: string): void => {
    if (!told) print(`[${clockText(elapsedMs())}]        ${text}`);
  };
  const site = await EmbeddedSite.start(env, { folder, portBase, restart: false, ecmp, locators, onEvent });
  const demo = new Demo(site, {
    flows: args.flows,
    print,
    elapsedMs,
  });
  const result = await Promise.race([demo.play(), interrupted.then(() => null)]);
  told = true;
  await site.stop();
  if (result === null) return 130;
  if (!result.passed) process.stderr.write(`ananta: logs and data are in ${folder.path}\n`);
  print(`RESULT ${JSON.stringify(result)}`); // the last line, for scripts
  return result.passed ? 0 : 1;
}

async function runSite(env: Env, args: Arguments, folder: DataFolder, interrupted: Promise<Signal>): Promise<number> {
  const startedMs = env.clock.nowMs();
  const events: SiteEvent[] = [];
  let view: LiveView | null = null;
  const onEvent = (text: string): void => {
    const event = { atMs: env.clock.nowMs() - startedMs, text };
    events.push(event);
    if (events.length > EVENTS_KEPT) events.shift();
    view?.event(event);
  };
  const { portBase, restart, ecmp, locators } = args;
  const site = await EmbeddedSite.start(env, { folder, portBase, restart, ecmp, locators, onEvent });
  const { fabric } = site;
  const endpoints = portBase === PORT_BASE_DEFAULT ? [] : site.plan.managers.map(({ api }) => api);
  if (endpoints.length > 0) onEvent(`commands reach this site with ANANTA_ENDPOINTS=${endpoints.join(",")}`);
  const inbound = new FlowGenerator(
    {
      direction: "inbound",
      flows: 40,
      opensMax: null,
      opensPerSecond: 5,
      requestIntervalMs: 1_000,
      lifetimeMs: 30_000,
      sources: [...fabric.clients, ...fabric.clientsIpv6],
      destinations: [DEMO_VIP, IPV6_VIP].map((address) => ({ address, port: HTTP })),
    },
    env.random.fork(),
  );
  const outbound = new FlowGenerator(
    {
      direction: "outbound",
      flows: 20,
      opensMax: null,
      opensPerSecond: 3,
      requestIntervalMs: 1_000,
      lifetimeMs: 30_000,
      sources: fabric.vms,
      destinations: [...fabric.servers, ...fabric.serversIpv6].map(({ address }) => ({ address, port: SERVER_PORT })),
    },
    env.random.fork(),
  );
  const model = (): ViewModel => {
    const counters = fabric.counters();
    return {
      elapsedMs: env.clock.nowMs() - startedMs,
      status: site.watch.status,
      children: site.supervisor.list(),
      routes: fabric.router.routes(env.clock.nowMs()),
      routerDrops: fabric.router.drops,
      inbound: inbound.statistics(),
      outbound: outbound.statistics(),
      badPackets: [...counters.badPackets.values()].reduce((sum, count) => sum + count, counters.misdelivered),
      retransmissions: counters.retransmissions,
      events,
      dataFolder: relative(process.cwd(), folder.path) || ".",
      endpoints,
    };
  };
  const colour = process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "";
  view = new LiveView(env.clock, process.stdout, { colour, view: model });
  for (const event of events) view.event(event);
  process.stdout.on("resize", () => view.redraw());
  view.start();
  let failure: Error | null = null;
  try {
    const begun = await Promise.race([begin(site, onEvent).then(() => true), interrupted.then(() => false)]);
    if (begun) {
      fabric.add(inbound);
      fabric.add(outbound);
      fabric.add(
        new UdpProber({
          sources: [...fabric.clients.slice(0, 3), ...fabric.clientsIpv6.slice(0, 2)],
          destinations: [DEMO_VIP, IPV6_VIP].map((address) => ({ address, port: DNS })),
          flows: 5,
          intervalMs: 1_000,
        }),
      );
      site.watch.start(STATUS_INTERVAL_MS);
      await interrupted;
    }
  } catch (caught) {
    failure = caught instanceof Error ? caught : new Error(String(caught));
  }
  view.stop();
  process.stdout.write(failure === null ? "ananta: stopping\n" : "");
  await site.stop();
  if (failure !== null) throw failure;
  return 0;
}

/** Until the site serves: ready, and the first time the example applied. */
async function begin(site: EmbeddedSite, onEvent: (text: string) => void): Promise<void> {
  await site.whenReady(READY_TIMEOUT_MS);
  onEvent("a leader is elected, all MUXes are live, all hosts are connected");
  if (site.formed) return;
  const { changes, inForce } = await site.apply(exampleObjects(site.plan));
  for (const change of changes) onEvent(`applied: ${change}`);
  onEvent(inForce ? "in force on all MUXes" : "not yet in force on all MUXes");
}

async function main(): Promise<number> {
  const args = parseArguments(process.argv.slice(2));
  if (args === "help") {
    process.stdout.write(readFileSync(new URL("usage.txt", import.meta.url), "utf8"));
    return 0;
  }
  if ("problem" in args) {
    process.stderr.write(`ananta: ${args.problem}\n`);
    return 2;
  }
  const interrupted = interruption();
  const temporary = args.demo && args.dataFolder === null;
  const path = temporary ? mkdtempSync(join(tmpdir(), "ananta-demo-")) : resolve(args.dataFolder ?? ".ananta");
  const folder = new DataFolder(path);
  folder.lock();
  let code = 1;
  try {
    const env = createNodeEnv({ name: "fabric", dataFolder: path, logTo: folder.logPath("fabric") });
    code = await (args.demo ? runDemo(env, args, folder, interrupted) : runSite(env, args, folder, interrupted));
    return code;
  } finally {
    folder.unlock();
    if (temporary && code === 0) rmSync(path, { recursive: true, force: true });
  }
}

mapStacksOnDemand();
try {
  // At once: what an interrupted start still waits for shall not keep the process.
  process.exit(await main());
} catch (caught) {
  const known = caught instanceof LauncherError;
  process.stderr.write(
    `ananta: ${known ? caught.message : caught instanceof Error ? (stackOf(caught) ?? caught.message) : String(caught)}\n`,
  );
  process.exit(1);
}
