/**
 * One seed, one world: builds the site, lets the script of faults strike under a workload, ends all faults, and demands that
 * everything comes back. Everything that is said on the way goes into the trace hash.
 */
import { formatLine } from "../kit/capture-log.js";
import { VirtualWorld } from "../kit/virtual-world.js";
import { DEMO_VIP, SERVER_PORT, exampleObjects } from "../../fabric/site.js";
import { FlowGenerator } from "../../fabric/flow-generator.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import { Operators, POOL, SnatRequesters, requesterDips, type ClientCounters } from "./clients.js";
import type { FaultKind } from "./fault-script.js";
import { Injector } from "./inject.js";
import { SimSite } from "./site.js";
import { hashText } from "./trace-hash.js";
import { Violation, mustHold } from "./violation.js";
import { Watch } from "./watch.js";
import type { WorldPlan } from "./world-plan.js";

export interface WorldReport {
  readonly seed: number;
  readonly virtualMs: number;
  readonly events: number;
  readonly traceHash: string;
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  readonly checks: number;
  readonly fullChecks: number;
  readonly grants: number;
  readonly releases: number;
  readonly requests: number;
  readonly answered: number;
  readonly reads: number;
  readonly packets: number;
  readonly violation: { readonly invariant: string; readonly message: string; readonly atMs: number } | null;
}

/** Ten election timeouts: what a leader is waited for. */
const ELECTIONS = 10;
/** Supervisors take up to a second; a disk that hung for five seconds has that much to make up for. */
const START_MS = 8_000;
/** All the rest of coming back: restarts, reconnections with back-off, a MUX's lease, the last request's answer. */
const SETTLE_MS = 30_000;

export async function runWorld(plan: WorldPlan, onLine: ((line: string) => void) | null = null): Promise<WorldReport> {
  const world = new VirtualWorld({ seed: plan.seed, logLevel: "info", disk: plan.disk, link: plan.link });
  let hash = 0x811c9dc5;
  world.log.onLine = (line) => {
    const text = formatLine(line);
    hash = hashText(text, hash);
    onLine?.(text);
  };
  const watch = new Watch();
  const site = new SimSite(world, plan, watch);
  watch.site = site;
  world.clock.afterEvent = () => watch.afterEvent();
  const counters: ClientCounters = { requests: 0, answered: 0, refused: new Map(), reads: 0 };
  const requesters = new SnatRequesters(site, counters, watch);
  const operators = new Operators(site, counters);
  const injector = new Injector(site, requesters);
  let violation: WorldReport["violation"] = null;
  try {
    await build(site);
    requesters.start();
    operators.start();
    startFlows(site);
    injector.start();
    await world.advance(plan.faultMs);
    injector.stop();
    requesters.stop();
    operators.stop();
    await comeBack(site, () => requesters.running + operators.running + injector.changes.running);
    watch.fullCheck();
  } catch (caught) {
    const found =
      caught instanceof Violation
        ? caught
        : new Violation(
            "no unexpected exception",
            caught instanceof Error ? (caught.stack ?? caught.message) : String(caught),
          );
    violation = { invariant: found.invariant, message: found.message, atMs: world.nowMs };
  }
  world.clock.afterEvent = null;
  hash = hashText(`${world.clock.events} ${world.nowMs} ${watch.checks}`, hash);
  return {
    seed: plan.seed,
    virtualMs: world.nowMs,
    events: world.clock.events,
    traceHash: hash.toString(16).padStart(8, "0"),
    faults: Object.fromEntries(injector.counts),
    checks: watch.checks,
    fullChecks: watch.fullChecks,
    grants: watch.ledger.grants,
    releases: watch.ledger.releases,
    requests: counters.requests,
    answered: counters.answered,
    reads: counters.reads,
    packets: watch.packets,
    violation,
  };
}

async function build(site: SimSite): Promise<void> {
  const { world } = site;
  await site.startNetwork();
  for (const one of site.managers) site.startManager(one, "bootstrap");
  await within(site, 10_000, "a first leader", () => site.inOffice() !== null);
  for (const one of site.muxes) site.startMux(one);
  for (const one of site.agents) site.startAgent(one);
  await within(site, 10_000, "the MUXes join", () => liveMuxes(site) === site.muxes.length);
  const api = new ManagerApi(world.env("operator"), site.apiAddresses);
  const pool = {
    metadata: { name: POOL },
    backendPool: { members: requesterDips(site.plan.clients.requesters).map((dip) => ({ dip })) },
  };
  const vip = { metadata: { name: "grants" }, vip: { address: "203.0.113.11", outbound: { pools: [POOL] } } };
  await world.run(
    api.apply(api.newSession(), [...exampleObjects(site.layout), pool, vip], { deadlineMs: 20_000, hedgeMs: 3_000 }),
  );
  api.close();
}

function startFlows(site: SimSite): void {
  const { fabric, world } = site;
  const { flows } = site.plan.clients;
  if (fabric === null || flows === 0) return;
  const common = { flows, opensMax: null, opensPerSecond: 20, requestIntervalMs: 400, lifetimeMs: 1_500 };
  const random = world.env("fabric").random.fork();
  fabric.add(
    new FlowGenerator(
      {
        ...common,
        direction: "outbound",
        sources: fabric.vms,
        destinations: fabric.servers.map(({ address }) => ({ address, port: SERVER_PORT })),
      },
      random,
    ),
  );
  fabric.add(
    new FlowGenerator(
      {
        ...common,
        flows: 1,
        direction: "inbound",
        sources: fabric.clients,
        destinations: [{ address: DEMO_VIP, port: 80 as typeof SERVER_PORT }],
      },
      random.fork(),
    ),
  );
}

/** Liveness: a leader, every request answered, all digests equal, every MUX live and in step. */
async function comeBack(site: SimSite, pending: () => number): Promise<void> {
  const { plan, world } = site;
  const mayFail = plan.budget === "beyond" && site.managers.some(({ damaged }) => damaged !== null);
  const timeoutMs = plan.raft.electionTimeoutMaxMs ?? 250;
  try {
    await within(site, START_MS, "replicas start", () =>
      site.managers.every((one) => one.retired || one.ready || one.damaged !== null),
    );
    await within(site, ELECTIONS * timeoutMs, "a leader within ten election timeouts", () => site.leader() !== null);
    await within(site, SETTLE_MS, "every request is answered", () => pending() === 0);
    await within(
      site,
      SETTLE_MS,
      "all MUXes are live and in step",
      () => liveMuxes(site) === site.muxes.length && muxesInStep(site),
    );
    await within(site, SETTLE_MS, "all replicas agree", () => replicasAgree(site));
  } catch (caught) {
    if (!(caught instanceof Violation) || caught.invariant !== LIVENESS || !mayFail) throw caught;
    world.log.note(world.nowMs, `beyond the fault budget: ${caught.message}`);
  }
}

const LIVENESS = "liveness";

async function within(site: SimSite, limitMs: number, what: string, holds: () => boolean): Promise<void> {
  const tookMs = await site.world.clock.runUntil(holds, limitMs);
  mustHold(tookMs !== null, LIVENESS, () => `${what}: not within ${limitMs} ms; ${site.ended.slice(-3).join("; ")}`);
}

function liveMuxes(site: SimSite): number {
  const state = site.inOffice()?.unit?.state;
  return (state?.muxes() ?? []).filter((mux) => mux.state === "live").length;
}

function muxesInStep(site: SimSite): boolean {
  const state = site.inOffice()?.unit?.state;
  if (state === undefined) return false;
  return site.muxes.every(({ unit }) => unit !== null && unit.dataplane.tables.digest() === state.muxDigest());
}

function replicasAgree(site: SimSite): boolean {
  const leader = site.inOffice()?.unit;
  if (leader === null || leader === undefined) return false;
  const { members } = leader.raftStatus();
  const running = site.runningManagers.filter(
    ({ id, damaged }) => damaged === null && members.some((member) => Number(member.id) === id),
  );
  const { appliedIndex } = leader.state;
  if (!running.every(({ unit }) => unit.state.appliedIndex === appliedIndex)) return false;
  const digest = leader.state.digest();
  return running.every(({ unit }) => unit.state.digest() === digest);
}
