/**
 * Does a large site work, and does anything hold up a Manager's event loop? 20,000 endpoints, 100,000 DIPs, 1.6 M SNAT ports
 * and 2,000 agent streams over five replicas, taken through start, snapshot, death of the leader, restore and a sixth
 * replica that catches up. bench/README.md says what each row is.
 */
import { print, runBenchmark } from "./measure/benchmark.js";
import { numberText, resultNumber } from "./measure/statistics.js";
import { LargeSite, MANAGERS, type PhaseStalls, SNAPSHOT_EVERY_ENTRIES } from "./scale/large-site.js";
import { poolsOf, type SiteSize } from "./scale/objects.js";
import { INTERVAL_MS } from "./scale/stall-watch.js";
import { turnNames } from "./scale/turn-names.js";

/** Of each phase, with a profile. */
const TURNS_NAMED = 8;

function printTable(large: LargeSite, stalls: readonly PhaseStalls[]): void {
  const head = ["own, ms", "GC, ms", "over 50", "late, ms"].map((text) => text.padStart(11)).join("");
  print(`\n${"phase".padEnd(32)}${"seconds".padStart(9)}${head}`);
  large.phases.forEach(({ name, seconds, note }, at) => {
    const { ownMs = 0, gcMs = 0, gcKind = "", over = 0, lateMs = 0, who = "" } = stalls[at] ?? {};
    const figures = [ownMs, gcMs, over, lateMs].map((figure) => figure.toFixed(0).padStart(11)).join("");
    print(
      `${name.padEnd(32)}${seconds.toFixed(1).padStart(9)}${figures}  ${who}${gcKind === "" ? "" : `, GC ${gcKind}`}`,
    );
    if (note !== "") print(`${" ".repeat(4)}${note}`);
  });
  const names = MANAGERS.map((name) => name.replace("manager-", "m")).map((name) => name.padStart(9));
  print(`\n${"own, ms, by process".padEnd(32)}${names.join("")}`);
  large.phases.forEach(({ name }, at) => {
    const own = MANAGERS.map((manager) => (stalls[at]?.ownMsOf.get(manager)?.toFixed(0) ?? "-").padStart(9));
    print(`${name.padEnd(32)}${own.join("")}`);
  });
  print(`\n${"process".padEnd(32)}${"MB now".padStart(9)}${"MB most".padStart(11)}`);
  for (const { name, nowMb, peakMb } of large.memory())
    print(`${name.padEnd(32)}${nowMb.toFixed(0).padStart(9)}${peakMb.toFixed(0).padStart(11)}`);
}

/** From the profiles that the Managers leave behind when they end; one that was killed left none. */
function printTurns(phases: ReturnType<LargeSite["longestTurns"]>): void {
  const names = new Map(MANAGERS.map((name) => [name, turnNames(`${name}.cpuprofile`)]));
  print("\nlongest hold-ups, ms of processor time (late), and what most of it was");
  for (const { phase, turns } of phases) {
    print(phase);
    for (const { name, ownMs, lateMs, gcMs, gcKind, sinceBootMs } of turns) {
      const what = names.get(name)?.(sinceBootMs - lateMs - INTERVAL_MS, sinceBootMs) ?? "no profile";
      print(
        `  ${ownMs.toFixed(0).padStart(5)} (${lateMs.toFixed(0)}) ${name}, GC ${gcMs.toFixed(0)} ${gcKind}: ${what}`,
      );
    }
  }
}

await runBenchmark({
  name: "scale",
  question:
    "A large site on five replicas: time, memory, and what holds up a Manager's event loop, from the start to a restore.",
  options: {
    hosts: { meaning: "hosts, with a stream each", default: 2_000, min: 10, max: 4_000 },
    "dips-per-host": { meaning: "DIPs on each host", default: 50, min: 1, max: 64 },
    "ports-from": { meaning: "where the search for free ports starts", default: 27_000, min: 1_024, max: 32_000 },
    profile: {
      meaning:
        "1: Node writes a CPU profile of every Manager to the current folder, and the longest hold-ups are named",
      default: 0,
      min: 0,
      max: 1,
    },
  },
  async run(options) {
    const size: SiteSize = { hosts: options.hosts, dipsPerHost: options["dips-per-host"] };
    const profile = options.profile === 1;
    const large = await LargeSite.start(size, { portsFrom: options["ports-from"], profile });
    let turns: ReturnType<LargeSite["longestTurns"]> = [];
    try {
      await large.phase("configuration is applied", () => large.configure());
      await large.phase("agents register and follow", () => large.connect());
      await large.phase("every DIP gets ports", () => large.grantAll());
      await large.phase("every replica takes a snapshot", () => large.snapshots());
      const full = (await large.figures()).filter((one) => one !== null);
      const managerMb = Math.max(
        ...large.memory().flatMap(({ name, nowMb }) => (name.startsWith("manager") ? [nowMb] : [])),
      );
      await large.phase("the leader dies and comes back", () => large.killLeader());
      await large.phase("a MUX is killed and started", () => large.restartMux());
      await large.phase("a sixth replica joins", () => large.joinSixth());
      await large.phase("an operator looks", () => large.reads());
      const after = (await large.figures()).filter((one) => one !== null);
      const stalls = large.stalls();
      printTable(large, stalls);
      if (profile) turns = large.longestTurns(TURNS_NAMED);
      print(
        `\n${numberText(poolsOf(size))} pools; a snapshot, of ${(large.snapshotBytes() / 2 ** 20).toFixed(1)} MiB, every ${SNAPSHOT_EVERY_ENTRIES} log entries instead of 10,000`,
      );
      print(
        "own: longest hold-up of a Manager's event loop, processor time of its main thread; over 50: how many were longer",
      );
      print("late: longest hold-up with all that it waited for; GC: pauses of the collector in the longest own one");
      return {
        managerMb: resultNumber(managerMb),
        snapshotSeconds: resultNumber(Math.max(...full.map(({ snapshotSeconds }) => snapshotSeconds)), 2),
        restoreSeconds: resultNumber(Math.max(...after.map(({ restoreSeconds }) => restoreSeconds)), 2),
        longestStallMs: resultNumber(Math.max(...stalls.map(({ ownMs }) => ownMs))),
      };
    } finally {
      await large.stop();
      if (turns.length > 0) printTurns(turns);
    }
  },
});
