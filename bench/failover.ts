/**
 * How long is a client without a SNAT grant when the leading Manager dies, freezes, or hands over? And does anybody elect
 * when nothing is wrong? bench/README.md says how it is taken.
 */
import { assert } from "../core/assert.js";
import { ETCD_MISSING, startEtcd } from "./etcd/etcd-cluster.js";
import { LeanEtcdClient } from "./etcd/lean-client.js";
import { AnantaSite, type Load } from "./failover/ananta-site.js";
import { EtcdLoad } from "./failover/etcd-load.js";
import { gapAfter, gapsOf, pause, printGaps, WATCH_MS } from "./failover/gaps.js";
import type { Phases } from "./failover/phases.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { percentile, resultNumber } from "./measure/statistics.js";

/**
 * One client process: 16 requesters that ask 6 times a second each, at moments of their own, and give back as much. A grant
 * every 10 ms shows a gap to 10 ms, and leaves a machine of two cores a third of its time: more would measure its queue.
 */
const CLIENT: Load = { pools: 16, dipsPerPool: 1, periodMs: 160 };
/** As much as the machine takes. */
const FULL: Load = { pools: 128, dipsPerPool: 2, periodMs: 0 };
/** Blows come at any moment of the heartbeat. */
const PHASE_MS_MAX = 200;
/** After everything is back in step: streams of MUXes and hosts find their second replica. */
const SETTLE_MS = 500;
/** Before the first blow. */
const QUIET_WATCHES = 10;

interface Blow {
  readonly gapMs: number;
  readonly phases: Phases;
  /** The victim was the active replica of a MUX. */
  readonly servedMux: boolean;
}

async function killOnce(site: AnantaSite): Promise<Blow> {
  const victim = await site.leader();
  const before = await site.muxSwitches();
  await pause(Math.random() * PHASE_MS_MAX);
  site.phases.mark();
  const [atMs, atWallMs] = [performance.now(), Date.now()];
  site.kill(victim);
  const gapMs = await gapAfter(site.answeredMs, atMs, "a SIGKILL");
  const phases = site.phases.read(atWallMs);
  const servedMux = (await site.muxSwitches()) > before;
  await site.restart(victim);
  await pause(SETTLE_MS);
  return { gapMs, phases, servedMux };
}

async function stopOnce(site: AnantaSite): Promise<Blow> {
  const victim = await site.leader();
  const before = await site.muxSwitches();
  await pause(Math.random() * PHASE_MS_MAX);
  site.phases.mark();
  const [atMs, atWallMs] = [performance.now(), Date.now()];
  site.pause(victim);
  let gapMs: number;
  try {
    gapMs = await gapAfter(site.answeredMs, atMs, "a SIGSTOP");
  } finally {
    await site.resume(victim);
  }
  const phases = site.phases.read(atWallMs);
  const servedMux = (await site.muxSwitches()) > before;
  await pause(SETTLE_MS);
  return { gapMs, phases, servedMux };
}

async function transferOnce(site: AnantaSite): Promise<Blow> {
  const leader = await site.leader();
  const before = await site.muxSwitches();
  await pause(Math.random() * PHASE_MS_MAX);
  site.phases.mark();
  const [atMs, atWallMs] = [performance.now(), Date.now()];
  await site.transfer(leader);
  const gapMs = await gapAfter(site.answeredMs, atMs, "a transfer");
  const phases = site.phases.read(atWallMs);
  return { gapMs, phases, servedMux: (await site.muxSwitches()) > before };
}

async function repeat(
  site: AnantaSite,
  count: number,
  blow: (site: AnantaSite) => Promise<Blow>,
  name: string,
): Promise<Blow[]> {
  const blows: Blow[] = [];
  for (let at = 1; at <= count; at++) {
    const last = await blow(site);
    blows.push(last);
    const { noticed, candidate, elected, inOffice, candidacies } = last.phases;
    progress(
      `${name} ${at} of ${count}: ${last.gapMs.toFixed(0)} ms without a grant (noticed ${noticed}, candidate ${candidate}, elected ${elected}, in office ${inOffice}, candidacies ${candidacies}${last.servedMux ? ", served a MUX" : ""})`,
    );
  }
  return blows;
}

/** What the client sees when nothing is wrong, to be set beside what a blow does. */
async function quietGaps(site: AnantaSite): Promise<number[]> {
  const gaps: number[] = [];
  for (let watch = 1; watch <= QUIET_WATCHES; watch++) {
    await pause(WATCH_MS);
    gaps.push(await gapAfter(site.answeredMs, performance.now() - WATCH_MS, "nothing"));
  }
  return gaps;
}

async function etcdKills(count: number, portsFrom: number): Promise<number[] | null> {
  const etcd = await startEtcd({ portsFrom });
  if (etcd === null) {
    progress(ETCD_MISSING);
    return null;
  }
  const client = new LeanEtcdClient(etcd.addresses);
  const gaps: number[] = [];
  try {
    const requesters = CLIENT.pools * CLIENT.dipsPerPool;
    const load = new EtcdLoad(client, { members: etcd.addresses.length, requesters, periodMs: CLIENT.periodMs });
    for (let at = 1; at <= count; at++) {
      await pause(SETTLE_MS + Math.random() * PHASE_MS_MAX);
      const leader = await etcd.leader();
      const atMs = performance.now();
      await etcd.kill(leader);
      const gapMs = await gapAfter(load.answeredMs, atMs, "a SIGKILL of etcd's leader");
      gaps.push(gapMs);
      progress(`etcd, kill ${at} of ${count}: ${gapMs.toFixed(0)} ms without an answer`);
      etcd.restart(leader);
      await etcd.ready();
    }
    await load.stop();
  } finally {
    client.close();
    await etcd.stop();
  }
  return gaps;
}

/** Elections while nothing is wrong: the term at the end, less that at the start. */
async function electionsDuring(minutes: number, load: Load | null, portsFrom: number): Promise<number | null> {
  if (minutes === 0) return null;
  const site = await AnantaSite.start(load ?? { pools: 1, dipsPerPool: 1, periodMs: 1_000 }, portsFrom);
  try {
    if (load !== null) await site.startGrants();
    const first = await site.leader();
    const name = load === null ? "idle" : "full load";
    for (let minute = 1; minute <= minutes; minute++) {
      const before = site.answeredMs.length;
      await pause(60_000);
      const rate = (site.answeredMs.length - before) / 60;
      const { term } = await site.leader();
      progress(`${name}, minute ${minute}: ${term - first.term} elections so far, ${rate.toFixed(0)} grants/s`);
    }
    const last = await site.leader();
    if (load !== null) await site.verify();
    return last.term - first.term;
  } finally {
    await site.stop();
  }
}

function printPhases(name: string, blows: readonly Blow[]): void {
  if (blows.length === 0) return;
  const median = (pick: (phases: Phases) => number): string =>
    percentile(blows.map(({ phases }) => pick(phases)).filter(Number.isFinite), 0.5).toFixed(0);
  const rounds = blows.filter(({ phases }) => phases.candidacies > 1).length;
  print(
    `  ${name}, medians after the blow in ms: noticed ${median((p) => p.noticed)}, candidate ${median((p) => p.candidate)}, elected ${median((p) => p.elected)}, in office ${median((p) => p.inOffice)}; more than one candidacy in ${rounds} of ${blows.length}`,
  );
}

await runBenchmark({
  name: "failover",
  question: "Time without a released SNAT grant, as one client sees it, when the leading Manager is killed or frozen.",
  options: {
    kills: { meaning: "SIGKILLs of the leader", default: 100, min: 0, max: 100_000 },
    stops: { meaning: "SIGSTOPs of the leader", default: 30, min: 0, max: 100_000 },
    transfers: { meaning: "planned transfers of leadership", default: 30, min: 0, max: 100_000 },
    "etcd-kills": { meaning: "SIGKILLs of etcd's leader", default: 12, min: 0, max: 1_000 },
    "idle-minutes": {
      meaning: "minutes without load in which elections are counted",
      default: 0,
      min: 0,
      max: 100_000,
    },
    "load-minutes": {
      meaning: "minutes at full load in which elections are counted",
      default: 0,
      min: 0,
      max: 100_000,
    },
    "ports-from": { meaning: "where the search for free ports starts", default: 21_000, min: 1_024, max: 32_000 },
  },
  async run(options) {
    const portsFrom = options["ports-from"];
    let kills: readonly Blow[] = [];
    let stops: readonly Blow[] = [];
    let transfers: readonly Blow[] = [];
    let quiet: readonly number[] = [];
    if (options.kills + options.stops + options.transfers > 0) {
      const site = await AnantaSite.start(CLIENT, portsFrom);
      try {
        await site.startGrants();
        await pause(SETTLE_MS);
        quiet = await quietGaps(site);
        kills = await repeat(site, options.kills, killOnce, "kill");
        stops = await repeat(site, options.stops, stopOnce, "stop");
        transfers = await repeat(site, options.transfers, transferOnce, "transfer");
        await site.verify();
        assert(site.refusals.size === 0, `every request was granted in the end: ${[...site.refusals].join(", ")}`);
      } finally {
        await site.stop();
      }
    }
    const etcd = options["etcd-kills"] === 0 ? null : await etcdKills(options["etcd-kills"], portsFrom);
    const idleElections = await electionsDuring(options["idle-minutes"], null, portsFrom);
    const loadElections = await electionsDuring(options["load-minutes"], FULL, portsFrom);

    const gaps = (blows: readonly Blow[]): number[] => blows.map(({ gapMs }) => gapMs);
    print("\nLongest time without an answer, in ms");
    printGaps("nothing is wrong", quiet);
    printGaps("leader killed", gaps(kills));
    printGaps("  of these, a MUX was served by the victim", gaps(kills.filter(({ servedMux }) => servedMux)));
    printGaps("leader stopped", gaps(stops));
    printGaps("  of these, a MUX was served by the victim", gaps(stops.filter(({ servedMux }) => servedMux)));
    printGaps("leadership handed over", gaps(transfers));
    printGaps("etcd, leader killed", etcd ?? []);
    printPhases("killed", kills);
    printPhases("stopped", stops);
    const killed = gapsOf(gaps(kills));
    return {
      killP50Ms: resultNumber(killed.p50),
      killP99Ms: resultNumber(killed.p99),
      killMaxMs: resultNumber(killed.max),
      stopP50Ms: resultNumber(gapsOf(gaps(stops)).p50),
      etcdKillP50Ms: etcd === null ? null : resultNumber(gapsOf(etcd).p50),
      transferP99Ms: resultNumber(gapsOf(gaps(transfers)).p99),
      idleElections,
      loadElections,
    };
  },
});
