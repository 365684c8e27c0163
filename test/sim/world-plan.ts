/**
 * What one seed decides: the shape of the site, its timeouts, disks, wires and clocks, the workload, and the script of
 * faults. A plan is plain data: the same plan gives the same world, event for event, and a shorter script of the same plan
 * is what the shrinker tries.
 */
import { createRandom, type Random } from "../../core/random.js";
import type { RaftTimings } from "../../manager/config.js";
import type { DiskOptions } from "../kit/fake-disk.js";
import type { LinkOptions } from "../kit/links.js";
import { drawScript, type Fault } from "./fault-script.js";

export interface WorldPlan {
  readonly seed: number;
  /**
   * "within": at most a minority of voters loses durable state, so everything is promised. "beyond": a majority may; then
   * the Managers may refuse for ever, and still nobody may own what another owns.
   */
  readonly budget: "within" | "beyond";
  readonly managers: number;
  readonly muxes: number;
  readonly hosts: number;
  readonly raft: Partial<RaftTimings>;
  readonly disk: Partial<DiskOptions>;
  readonly link: Partial<LinkOptions>;
  /** Virtual ms per ms of the world, by machine; machines that are not named keep exact time. */
  readonly clockRates: ReadonlyMap<string, number>;
  readonly clients: {
    /** DIPs of the third-party client, each with one open request. */
    readonly requesters: number;
    readonly pauseMs: number;
    readonly portsMax: number;
    readonly objects: number;
    readonly operatorPauseMs: number;
    /** Flows that VMs keep open to the outside. */
    readonly flows: number;
  };
  /** Time in which faults strike. */
  readonly faultMs: number;
  readonly faults: readonly Fault[];
}

/** One world in twenty is beyond the fault budget. */
const BEYOND_ONE_IN = 20;

export function drawPlan(seed: number): WorldPlan {
  const random = createRandom(seed);
  const one = <T>(...choices: readonly T[]): T => choices[random.below(choices.length)]!; // at least one is given
  const scale = one(1, 2, 2, 3, 4);
  const managers = one(5, 5, 3);
  const muxes = one(2, 2, 3);
  const hosts = one(2, 3);
  const budget = random.below(BEYOND_ONE_IN) === 0 ? "beyond" : "within";
  const faultMs = 2_500 + random.below(1_200) * scale;
  const compacts = random.below(2) === 0;
  return {
    seed,
    budget,
    managers,
    muxes,
    hosts,
    raft: {
      tickMs: 10 * scale,
      heartbeatMs: 30 * scale,
      electionTimeoutMinMs: 150 * scale,
      electionTimeoutMaxMs: 250 * scale,
      storageStallMs: one(300, 1_000),
      uncommittedBytesMax: one(16 * 1024 * 1024, 16 * 1024 * 1024, 4 * 1024),
      leaseReads: false,
      ...(compacts ? { snapshotEveryEntries: 20 + random.below(60), trailingEntries: 1 + random.below(20) } : {}),
    },
    disk: {
      unsyncedWrites: one("lost" as const, "by-chance" as const),
      syncMs: one([0.2, 0.6] as const, [0.5, 4] as const, [2, 15] as const),
    },
    link: { delayMs: one([0.1, 0.4] as const, [0.1, 2] as const, [1, 8] as const) },
    clockRates: drawClockRates(random, managers, muxes, hosts),
    clients: {
      requesters: 2 + random.below(3),
      pauseMs: one(60, 150, 400),
      portsMax: one(8, 64, 400),
      objects: 1 + random.below(3),
      operatorPauseMs: one(100, 300, 900),
      flows: one(0, 2, 4),
    },
    faultMs,
    faults: drawScript(random.fork(), { faultMs, budget }),
  };
}

/** In every other world clocks run apart by up to one percent: crystals do by a hundredth of that. */
function drawClockRates(random: Random, managers: number, muxes: number, hosts: number): ReadonlyMap<string, number> {
  const rates = new Map<string, number>();
  if (random.below(2) === 0) return rates;
  const drift = (name: string): Map<string, number> => rates.set(name, 0.99 + 0.02 * random.nextFloat());
  for (let n = 1; n <= managers; n++) drift(`manager-${n}`);
  for (let n = 1; n <= muxes; n++) drift(`mux-${n}`);
  for (let n = 1; n <= hosts; n++) drift(`host-${n}`);
  return rates;
}
