/**
 * A story that the system plays by itself, and checks: flows in both directions and grants go on while the leader is killed
 * and comes back, and while a MUX is killed. Each step is printed as it happens; one that does not hold ends the story.
 *
 * What is judged (the last line, RESULT, has the numbers):
 *   a flow is broken when it is reset, answered by another DIP, or 30 s without progress;
 *   a grant is lost when its owner changed without a release;
 *   a range is doubly owned when any replica, or what clients were told, gives it to two DIPs.
 */
import type { Port } from "../core/brands.js";
import { BulkCheck } from "./bulk-check.js";
import { countsText } from "./data-path.js";
import type { ApiObject, OwnedPorts, ReplicaView } from "./control/manager-api.js";
import type { EmbeddedSite } from "./embedded-site.js";
import { FlowGenerator, type FlowStatistics } from "./flow-generator.js";
import { GrantWorkload } from "./grant-workload.js";
import { clockText } from "./live-view.js";
import { changedOwners, doublyOwned, longestGapMs } from "./ownership.js";
import { bulkObjects, DEMO_VIP, exampleObjects, IPV6_VIP, SERVER_PORT } from "./site.js";
import { leaderOf, muxesOf } from "./site-status.js";
import { UdpProber } from "./udp-prober.js";

export interface DemoOptions {
  /** Per direction. */
  readonly flows: number;
  readonly print: (line: string) => void;
  /** Since the launcher started. */
  readonly elapsedMs: () => number;
}

/** What the last line tells: plain names, the unit at the end; null: not measured. */
export interface DemoResult {
  readonly passed: boolean;
  readonly [measure: string]: number | boolean | null;
}

/** A step that did not hold. */
export class StepFailed extends Error {
  override readonly name = "StepFailed";
}

const DEMO_VIPS = [DEMO_VIP, IPV6_VIP];
const HTTP = 80 as Port;
const DNS = 53 as Port;
const GRANT_HOST = "demo-client";
const GRANT_VIP = "203.0.113.11";
const GRANT_POOL = "grant-pool";
const GRANT_DIPS: readonly string[] = Array.from({ length: 16 }, (_, n) => `10.9.0.${n + 1}`);
/** Flows are opened at this pace per direction: a thousand in five seconds. */
const OPENS_PER_SECOND = 200;
const REQUEST_INTERVAL_MS = 5_000;
/** How long the grants are watched after a kill: far beyond the gap that is looked for. */
const LEADER_WATCH_MS = 4_000;
const MUX_WATCH_MS = 4_000;

export class Demo {
  private readonly site: EmbeddedSite;
  private readonly options: DemoOptions;
  private readonly inbound: FlowGenerator;
  private readonly outbound: FlowGenerator;
  private readonly udp: UdpProber;
  private readonly grants: GrantWorkload;
  private readonly stalls: { readonly step: string; readonly inboundMs: number; readonly outboundMs: number }[] = [];
  private leaderKillGapMs = Number.NaN;
  private electionMs = Number.NaN;
  private catchUpMs = Number.NaN;
  private muxKillGapMs = Number.NaN;
  private readonly bulk = new BulkCheck();
  private ownedBefore: readonly OwnedPorts[] = [];

  constructor(site: EmbeddedSite, options: DemoOptions) {
    this.site = site;
    this.options = options;
    const { fabric, env } = site;
    const clients = [...fabric.clients, ...fabric.clientsIpv6];
    const common = {
      flows: options.flows,
      opensMax: options.flows,
      opensPerSecond: OPENS_PER_SECOND,
      requestIntervalMs: REQUEST_INTERVAL_MS,
      lifetimeMs: null,
    };
    this.inbound = new FlowGenerator(
      {
        ...common,
        direction: "inbound",
        sources: clients,
        destinations: DEMO_VIPS.map((address) => ({ address, port: HTTP })),
      },
      env.random.fork(),
    );
    this.outbound = new FlowGenerator(
      {
        ...common,
        direction: "outbound",
        sources: fabric.vms,
        destinations: [...fabric.servers, ...fabric.serversIpv6].map(({ address }) => ({ address, port: SERVER_PORT })),
      },
      env.random.fork(),
    );
    this.udp = new UdpProber({
      sources: clients,
      destinations: DEMO_VIPS.map((address) => ({ address, port: DNS })),
      flows: clients.length,
      intervalMs: 1_000,
    });
    this.grants = new GrantWorkload(env, site.api, {
      host: GRANT_HOST,
      dips: GRANT_DIPS,
      periodMs: 85,
      blocksKept: 40,
    });
  }

  /** Plays everything and prints the table. */
  async play(): Promise<DemoResult> {
    let failure: string | null = null;
    try {
      await this.run("start", () => this.start());
      await this.run("apply the VIPs", () => this.apply());
      await this.run(`open ${this.options.flows} + ${this.options.flows} flows`, () => this.openFlows());
      await this.run("send 10 MB of random bytes through a VIP of IPv4 and one of IPv6", () => this.sendBulk());
      await this.run("grant ports all the time", () => this.startGrants());
      const killed = await this.run("kill the leader", () => this.killLeader());
      await this.run("start the replica again", () => this.restartReplica(killed));
      const mux = await this.run("kill a MUX", () => this.killMux());
      await this.run("start the MUX again", () => this.restartMux(mux));
      await this.run("end all flows", () => this.endFlows());
    } catch (caught) {
      failure = caught instanceof Error ? caught.message : String(caught);
    }
    return this.judge(failure);
  }

  private async run<T>(step: string, body: () => Promise<T>): Promise<T> {
    this.inbound.step = step;
    this.outbound.step = step;
    this.options.print(`${this.clock()}  ${step}`);
    try {
      return await body();
    } catch (caught) {
      throw new StepFailed(`${step}: ${caught instanceof Error ? caught.message : String(caught)}`, { cause: caught });
    } finally {
      this.stalls.push({
        step,
        inboundMs: this.inbound.takeLongestStallMs(),
        outboundMs: this.outbound.takeLongestStallMs(),
      });
    }
  }

  private say(text: string): void {
    this.options.print(`${this.clock()}      ${text}`);
  }

  private clock(): string {
    return `[${clockText(this.options.elapsedMs())}]`;
  }

  private async start(): Promise<void> {
    const { site } = this;
    await site.whenReady(60_000);
    const { status } = site.watch;
    const leader = leaderOf(status);
    this.say(
      `${status.replicas.length} Managers, leader ${leader?.nodeId ?? 0} in term ${leader?.term ?? 0}; ${site.plan.muxes.length} MUXes live; ${site.plan.hosts.length} hosts connected`,
    );
  }

  private async apply(): Promise<void> {
    const { changes, inForce } = await this.site.apply([
      ...exampleObjects(this.site.plan),
      ...grantObjects(),
      ...bulkObjects(),
    ]);
    for (const change of changes) this.say(change);
    if (!inForce) throw new StepFailed("the VIPs are not in force on all MUXes");
    const { fabric, plan, env } = this.site;
    await this.site.until("all MUXes to announce the VIP", 10_000, () => {
      const announcing = fabric.router
        .routes(env.clock.nowMs())
        .filter((route) => [...DEMO_VIPS, ...this.bulk.vips].every((vip) => route.vips.includes(vip))).length;
      return announcing === plan.muxes.length ? null : `${announcing} of ${plan.muxes.length} announce all of them`;
    });
    this.say(`${DEMO_VIPS.join(" and ")} are in force and announced by ${plan.muxes.length} MUXes`);
  }

  private async openFlows(): Promise<void> {
    const { fabric } = this.site;
    fabric.add(this.inbound);
    fabric.add(this.outbound);
    fabric.add(this.udp);
    const { flows } = this.options;
    await this.site.until("all flows to be answered", 60_000, () => {
      const [inbound, outbound] = [this.inbound.statistics(), this.outbound.statistics()];
      this.throwIfBroken();
      return inbound.answeredOnce === flows && outbound.answeredOnce === flows
        ? null
        : `inbound ${inbound.answeredOnce} of ${flows}, outbound ${outbound.answeredOnce} of ${flows} answered`;
    });
    const spread = (statistics: FlowStatistics): string =>
      [...statistics.spread]
        .sort()
        .map(([name, answers]) => `${name} ${answers}`)
        .join(", ");
    this.say(`answers of each DIP: ${spread(this.inbound.statistics())}`);
    this.say(`answers to each VIP: ${spread(this.outbound.statistics())}`);
  }

  private async sendBulk(): Promise<void> {
    const failure = await this.bulk.run(this.site, (text) => this.say(text));
    if (failure !== null) throw new StepFailed(failure);
  }

  private async startGrants(): Promise<void> {
    await this.grants.start();
    await this.site.pause(2_000);
    const { length } = this.grants.answeredMs;
    if (length === 0) throw new StepFailed(`no grant in 2 s (${this.refusals()})`);
    this.say(
      `${GRANT_DIPS.length} requesters of a third-party client, ${length} grants in 2 s, through all ${this.site.api.endpoints.length} replicas`,
    );
    this.ownedBefore = (await this.site.api.snatList({ endpoint: null, stale: false })).blocks;
  }

  private async killLeader(): Promise<ReplicaView> {
    const { site } = this;
    const { clock } = site.env;
    const leader = leaderOf(await site.watch.refresh(false));
    if (leader === null) throw new StepFailed("there is no leader to kill");
    const name = site.supervisor.nameOf(leader.pid);
    if (name === null) throw new StepFailed(`pid ${leader.pid} of the leader is not a child of ours`);
    const killedMs = clock.nowMs();
    site.supervisor.killAndHold(name);
    this.say(`${name}, pid ${leader.pid}, gets SIGKILL`);
    await site.until("a new leader", 15_000, async () => {
      const next = leaderOf(await site.watch.refresh(false));
      return next !== null && next.term > leader.term ? null : "none is elected";
    });
    this.electionMs = clock.nowMs() - killedMs;
    const next = leaderOf(site.watch.status);
    await site.pause(Math.max(0, LEADER_WATCH_MS - (clock.nowMs() - killedMs)));
    this.leaderKillGapMs = longestGapMs(this.grants.answeredMs, killedMs - 100, clock.nowMs());
    this.say(
      `manager-${next?.nodeId ?? 0} leads in term ${next?.term ?? 0}; longest time without a grant ${ms(this.leaderKillGapMs)}`,
    );
    const since = this.grants.answeredMs.filter((time) => time > killedMs).length;
    if (since === 0) throw new StepFailed(`no grant since the leader's death (${this.refusals()})`);
    return leader;
  }

  private async restartReplica(killed: ReplicaView): Promise<void> {
    const { site } = this;
    const { clock } = site.env;
    const startedMs = clock.nowMs();
    const manager = site.plan.managers.find(({ nodeId }) => nodeId === killed.nodeId);
    if (manager === undefined) throw new StepFailed(`replica ${killed.nodeId} is not in the plan`);
    const target = leaderOf(await site.watch.refresh(false))?.commitIndex ?? 0;
    site.supervisor.start(manager.name);
    await site.until(`${manager.name} to catch up`, 30_000, async () => {
      const status = await site.watch.refresh(false);
      const back = status.replicas.find((replica) => replica?.nodeId === killed.nodeId) ?? null;
      if (back === null) return "it does not answer yet";
      if (back.pid === killed.pid) return "the old process answers";
      return back.appliedIndex >= target ? null : `applied ${back.appliedIndex} of ${target}`;
    });
    this.catchUpMs = clock.nowMs() - startedMs;
    this.say(`${manager.name} is back and has caught up to index ${target} after ${ms(this.catchUpMs)}`);
  }

  private async killMux(): Promise<string> {
    const { site } = this;
    const { clock } = site.env;
    const victim = site.plan.muxes[0]!; // the plan has two
    const killedMs = clock.nowMs();
    site.supervisor.killAndHold(victim.name);
    this.say(`${victim.name} gets SIGKILL`);
    await site.until("the router to notice", 10_000, () =>
      site.fabric.router.routes(clock.nowMs()).some((route) => route.mux === victim.name) ? "its routes stand" : null,
    );
    this.say(`the router took its routes away after ${ms(clock.nowMs() - killedMs)}`);
    await site.until("grants to go on", 20_000, () => {
      const { answeredMs } = this.grants;
      return answeredMs.length > 0 && answeredMs.at(-1)! > killedMs + 500 ? null : `no grant (${this.refusals()})`; // not empty
    });
    await site.pause(Math.max(500, MUX_WATCH_MS - (clock.nowMs() - killedMs)));
    this.muxKillGapMs = longestGapMs(this.grants.answeredMs, killedMs - 100, clock.nowMs());
    this.say(`longest time without a grant ${ms(this.muxKillGapMs)}`);
    await this.everyFlowTalks();
    return victim.name;
  }

  private async restartMux(name: string): Promise<void> {
    const { site } = this;
    const { clock } = site.env;
    const startedMs = clock.nowMs();
    site.supervisor.start(name);
    await site.until(`${name} to be live and announce again`, 20_000, async () => {
      const mux = muxesOf(await site.watch.refresh(false)).find((candidate) => candidate.name === name);
      if (mux?.state !== "live") return `it is ${mux?.state ?? "not known"}`;
      return site.fabric.router.routes(clock.nowMs()).some((route) => route.mux === name)
        ? null
        : "it announces nothing";
    });
    this.say(`${name} is live and announces again after ${ms(clock.nowMs() - startedMs)}`);
    await this.everyFlowTalks();
  }

  /** Waits until each open flow was answered again: the change of MUXes is behind all of them. */
  private async everyFlowTalks(): Promise<void> {
    const before = [this.inbound.statistics().answers, this.outbound.statistics().answers];
    await this.site.pause(REQUEST_INTERVAL_MS * 1.3);
    this.throwIfBroken();
    const after = [this.inbound.statistics().answers, this.outbound.statistics().answers];
    this.say(
      `all flows go on: ${after[0]! - before[0]!} inbound and ${after[1]! - before[1]!} outbound answers meanwhile`,
    );
  }

  private async endFlows(): Promise<void> {
    await this.grants.stop();
    this.inbound.finish();
    this.outbound.finish();
    await this.site.until("all flows to end", 45_000, () => {
      const open = this.inbound.statistics().open + this.outbound.statistics().open;
      return open === 0 ? null : `${open} are open`;
    });
    this.throwIfBroken();
  }

  private throwIfBroken(): void {
    const [first] = [...this.inbound.statistics().broken, ...this.outbound.statistics().broken];
    if (first !== undefined) throw new StepFailed(`${first.flow} is broken: ${first.because}`);
  }

  private refusals(): string {
    const { refusals } = this.grants;
    return refusals.size === 0
      ? "requests are unanswered"
      : [...refusals].map(([code, times]) => `${code} ${times}`).join(", ");
  }

  private async judge(storyFailure: string | null): Promise<DemoResult> {
    const { site, options } = this;
    const failures = storyFailure === null ? [] : [storyFailure];
    await this.grants.stop();
    const { ledger } = this.grants;
    const doubled = new Set(ledger.conflicts);
    let lost: readonly string[] = ["the state could not be read"];
    try {
      const final = await site.api.snatList({ endpoint: null, stale: false });
      await site.until("all replicas to have applied everything", 15_000, async () => {
        const status = await site.watch.refresh(false);
        const behind = status.replicas.filter(
          (replica) => replica === null || replica.appliedIndex < final.index,
        ).length;
        return behind === 0 ? null : `${behind} are behind index ${final.index}`;
      });
      lost = [
        ...ledger.lost(final.blocks),
        ...changedOwners(
          this.ownedBefore.filter((block) => block.host !== GRANT_HOST),
          final.blocks,
        ),
      ];
      for (const [endpoint] of site.api.endpoints.entries()) {
        const listing = await site.api.snatList({ endpoint, stale: true });
        for (const range of doublyOwned(listing.blocks)) doubled.add(range);
        for (const range of changedOwners(final.blocks, listing.blocks))
          doubled.add(`replica ${endpoint + 1} differs: ${range}`);
      }
    } catch (caught) {
      failures.push(`check: ${caught instanceof Error ? caught.message : String(caught)}`);
    }
    const inbound = this.inbound.statistics();
    const outbound = this.outbound.statistics();
    const counters = site.fabric.counters();
    const badPackets = [...counters.badPackets.values()].reduce((sum, count) => sum + count, 0) + counters.misdelivered;
    const broken = [...inbound.broken, ...outbound.broken];
    if (lost.length > 0) failures.push(`${lost.length} grants lost, the first: ${lost[0] ?? ""}`);
    if (doubled.size > 0) failures.push(`${doubled.size} ranges doubly owned, the first: ${[...doubled][0] ?? ""}`);
    if (badPackets > 0)
      failures.push(
        `${badPackets} packets reached an endpoint damaged or at the wrong address: ${describe(counters.badPackets)}`,
      );
    if (broken.length > 0 && storyFailure === null) failures.push(`${broken.length} flows broken`);
    if (this.udp.moved > 0) failures.push(`${this.udp.moved} UDP answers came from another DIP`);

    const { dataPaths } = await site.watch.refresh(true);
    const row = (name: string, value: string): void => options.print(`  ${name.padEnd(44)} ${value}`);
    options.print("");
    row(
      "flows carried, inbound / outbound",
      `${inbound.completed} / ${outbound.completed} of ${inbound.opened} / ${outbound.opened}`,
    );
    row(
      "    of them over IPv6",
      `${inbound.completedIpv6} / ${outbound.completedIpv6} of ${inbound.openedIpv6} / ${outbound.openedIpv6}`,
    );
    row("flows broken", String(inbound.brokenCount + outbound.brokenCount));
    for (const [step, count] of countBy(broken, (flow) => `${flow.step}: ${flow.because}`))
      row(`    ${step}`, String(count));
    row("requests answered", `${inbound.answers + outbound.answers} of ${inbound.requests + outbound.requests}`);
    row("UDP datagrams answered", `${this.udp.answered} of ${this.udp.asked}`);
    row("grants given to the third-party client", String(ledger.grants));
    row(
      "ranges owned by the hosts' own VMs",
      String(
        this.ownedBefore.filter((block) => block.host !== GRANT_HOST).reduce((sum, block) => sum + block.count, 0),
      ),
    );
    row("grants lost", String(lost.length));
    row("ranges with two owners", String(doubled.size));
    row("longest time without a grant, leader killed", ms(this.leaderKillGapMs));
    row("longest time without a grant, MUX killed", ms(this.muxKillGapMs));
    row("killed replica caught up after", ms(this.catchUpMs));
    for (const { step, inboundMs, outboundMs } of this.stalls) {
      if (inboundMs + outboundMs > 0) row(`longest stall: ${step}`, `${ms(inboundMs)} in, ${ms(outboundMs)} out`);
    }
    row("packets that reached an endpoint damaged", String(badPackets));
    row("packets dropped by the router", describe(site.fabric.router.drops));
    for (const [name, value] of this.bulk.rows()) row(name, value);
    for (const [name, { counts, drops }] of dataPaths) {
      row(`data path of ${name}`, countsText(counts));
      row("    dropped", countsText(drops));
    }
    options.print("");
    for (const failure of failures) options.print(`FAILED  ${failure}`);
    const stall = (pick: "inboundMs" | "outboundMs"): number =>
      Math.round(Math.max(0, ...this.stalls.map((entry) => entry[pick])));
    return {
      passed: failures.length === 0,
      flowsOpened: inbound.opened + outbound.opened,
      flowsCarried: inbound.completed + outbound.completed,
      flowsCarriedIpv6: inbound.completedIpv6 + outbound.completedIpv6,
      flowsBroken: inbound.brokenCount + outbound.brokenCount,
      grants: ledger.grants,
      releases: ledger.releases,
      grantsLost: lost.length,
      doublyOwnedRanges: doubled.size,
      leaderKillGapMs: rounded(this.leaderKillGapMs),
      electionMs: rounded(this.electionMs),
      replicaCatchUpMs: rounded(this.catchUpMs),
      muxKillGapMs: rounded(this.muxKillGapMs),
      inboundStallMs: stall("inboundMs"),
      outboundStallMs: stall("outboundMs"),
      damagedPackets: badPackets,
      udpAsked: this.udp.asked,
      udpAnswered: this.udp.answered,
      ...this.bulk.measures(),
      elapsedMs: Math.round(options.elapsedMs()),
    };
  }
}

/** A pool of DIPs that only the third-party client has, and a VIP for their outbound connections. */
function grantObjects(): readonly ApiObject[] {
  return [
    { metadata: { tenant: "default", name: GRANT_POOL }, backendPool: { members: GRANT_DIPS.map((dip) => ({ dip })) } },
    { metadata: { tenant: "default", name: "grants" }, vip: { address: GRANT_VIP, outbound: { pools: [GRANT_POOL] } } },
  ];
}

const ms = (value: number): string => (Number.isNaN(value) ? "not measured" : `${Math.round(value)} ms`);
/** Null in JSON when it was not measured. */
const rounded = (value: number): number | null => (Number.isNaN(value) ? null : Math.round(value));

const describe = (counts: ReadonlyMap<string, number>): string =>
  counts.size === 0
    ? "none"
    : [...counts]
        .sort()
        .map(([reason, count]) => `${reason} ${count}`)
        .join(", ");

function countBy<T>(items: readonly T[], key: (item: T) => string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  return counts;
}
