/**
 * The site of `npm start` (five Managers, two MUXes, three hosts), with one client process that asks for SNAT ports all the
 * time, and the blows that its Managers get. What clients were promised is checked at the end.
 */
import { assert } from "../../core/assert.js";
import type { ApiObject, ReplicaView } from "../../fabric/control/manager-api.js";
import { EmbeddedSite } from "../../fabric/embedded-site.js";
import { GrantWorkload } from "../../fabric/grant-workload.js";
import { DataFolder } from "../../fabric/launcher/data-folder.js";
import { doublyOwned } from "../../fabric/ownership.js";
import { exampleObjects, PORT_SPAN } from "../../fabric/site.js";
import { leaderOf } from "../../fabric/site-status.js";
import { CLUSTER_TRANSFER_LEADERSHIP } from "../../manager/api/methods.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { atExit, temporaryFolder } from "../measure/cleanup.js";
import { freePortBlock } from "../measure/ports.js";
import { pause } from "./gaps.js";
import { PhaseReader } from "./phases.js";

/**
 * Requesters are DIPs; each pool of them has a VIP of its own, whose 8,064 ranges rest for 120 s after each release: it bears 67
 * grants/s for ever, and a benchmark that asks for more measures how a VIP without ports refuses.
 */
export interface Load {
  readonly pools: number;
  readonly dipsPerPool: number;
  /** From one request of a DIP to its next; 0: without a pause. */
  readonly periodMs: number;
}

export interface Victim {
  readonly name: string;
  readonly nodeId: number;
  readonly pid: number;
  readonly term: number;
}

const READY_MS = 60_000;
const BACK_MS = 30_000;
const POLL_MS = 50;
const BLOCKS_KEPT = 10;

export class AnantaSite {
  readonly phases: PhaseReader;
  readonly #site: EmbeddedSite;
  readonly #grants: GrantWorkload;
  readonly #discard: () => void;

  static async start(load: Load, portsFrom: number): Promise<AnantaSite> {
    const temporary = temporaryFolder("site");
    const folder = new DataFolder(temporary.path);
    folder.lock();
    const env = createNodeEnv({ name: "benchmark", dataFolder: folder.path, logTo: folder.logPath("benchmark") });
    const portBase = (await freePortBlock(PORT_SPAN + 1, portsFrom)) - 1;
    const options = { folder, portBase, restart: false, ecmp: "plain", onEvent: () => undefined } as const;
    const site = await EmbeddedSite.start(env, options);
    const forget = atExit(() => {
      for (const { pid } of site.supervisor.list()) if (pid !== null) process.kill(pid, "SIGKILL");
    });
    await site.whenReady(READY_MS);
    const pools = poolsOf(load);
    const { inForce } = await site.apply([...exampleObjects(site.plan), ...pools.flatMap(({ objects }) => objects)]);
    assert(inForce, "the VIPs are in force on all MUXes");
    const grants = new GrantWorkload(env, site.api, {
      host: "benchmark",
      dips: pools.flatMap(({ dips }) => dips),
      periodMs: load.periodMs,
      blocksKept: BLOCKS_KEPT,
    });
    return new AnantaSite(site, grants, () => {
      forget();
      folder.unlock();
      temporary.remove();
    });
  }

  private constructor(site: EmbeddedSite, grants: GrantWorkload, discard: () => void) {
    this.#site = site;
    this.#grants = grants;
    this.#discard = discard;
    this.phases = new PhaseReader(site.plan.managers.map(({ name }) => site.folder.logPath(name)));
  }

  /** When grants were answered, on this process's clock. */
  get answeredMs(): readonly number[] {
    return this.#grants.answeredMs;
  }

  /** Requests that were not answered with a grant in the end, however often they were repeated. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#grants.refusals;
  }

  async startGrants(): Promise<void> {
    await this.#grants.start();
  }

  /** The leader, once all five follow it. */
  async leader(): Promise<Victim> {
    let found: ReplicaView | null = null;
    await this.#until("all Managers to follow one leader", async () => {
      const status = await this.#site.watch.refresh(false);
      const leader = leaderOf(status);
      found = leader;
      return leader !== null && status.replicas.every((replica) => replica?.leader === leader.nodeId);
    });
    const { nodeId, pid, term } = found!; // the condition above
    const name = this.#site.supervisor.nameOf(pid);
    assert(name !== null, "the leader is a child of this process");
    return { name, nodeId, pid, term };
  }

  kill({ name }: Victim): void {
    this.#site.supervisor.killAndHold(name);
  }

  /** Starts a dead one again; resolves when it has caught up. */
  async restart(victim: Victim): Promise<void> {
    this.#site.supervisor.start(victim.name);
    await this.inStep(victim.nodeId, victim.pid);
  }

  pause({ pid }: Victim): void {
    process.kill(pid, "SIGSTOP");
  }

  async resume({ pid, nodeId }: Victim): Promise<void> {
    process.kill(pid, "SIGCONT");
    await this.inStep(nodeId, null);
  }

  /** Hands leadership to another voter, as `ananta cluster transfer` does; resolves when it leads. */
  async transfer({ nodeId }: Victim): Promise<void> {
    const { env, plan } = this.#site;
    const leader = plan.managers.find((manager) => manager.nodeId === nodeId)!; // every Manager is in the plan
    const channel = env.network.connect(leader.api);
    try {
      const target = (nodeId % plan.managers.length) + 1;
      await channel.call(CLUSTER_TRANSFER_LEADERSHIP, { nodeId: target }, { deadlineMs: BACK_MS });
    } finally {
      channel.close();
    }
  }

  /** Resolves when the replica has applied what was committed when this was called. `notPid`: that process does not count. */
  async inStep(nodeId: number, notPid: number | null): Promise<void> {
    const target = leaderOf(await this.#site.watch.refresh(false))?.commitIndex ?? 0;
    await this.#until(`replica ${nodeId} to catch up`, async () => {
      const replica = await this.#site.api.status(nodeId - 1, 1_000).catch(() => null);
      return replica !== null && replica.pid !== notPid && replica.appliedIndex >= target && replica.leader !== 0;
    });
  }

  /** How often each MUX has exchanged its active replica, in sum: a blow to a replica that serves one makes it grow. */
  async muxSwitches(): Promise<number> {
    const pages = await Promise.all(
      this.#site.plan.muxes.map(async ({ ops }) => (await fetch(`http://${ops}/metrics`)).text()),
    );
    return pages.reduce(
      (sum, page) => sum + Number(/^ananta_mux_stream_switches_total(?:\{.*\})? (\d+)$/m.exec(page)?.[1]),
      0,
    );
  }

  /** Ends the requests and checks every promise. Throws with the first that was broken. */
  async verify(): Promise<void> {
    await this.#grants.stop();
    const { ledger } = this.#grants;
    const { blocks } = await this.#site.api.snatList({ endpoint: null, stale: false });
    const broken = [...ledger.conflicts, ...ledger.lost(blocks), ...doublyOwned(blocks)];
    assert(
      broken.length === 0,
      `every grant has one owner and stands; ${broken.length} do not, the first: ${broken[0] ?? ""}`,
    );
  }

  async stop(): Promise<void> {
    await this.#site.stop();
    this.#discard();
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const endMs = performance.now() + BACK_MS;
    while (!(await condition())) {
      if (performance.now() > endMs) throw new Error(`waited ${BACK_MS / 1_000} s for ${what}`);
      await pause(POLL_MS);
    }
  }
}

interface Pool {
  readonly dips: readonly string[];
  readonly objects: readonly ApiObject[];
}

function poolsOf({ pools, dipsPerPool }: Load): readonly Pool[] {
  return Array.from({ length: pools }, (_, at) => {
    const name = `grants-${at + 1}`;
    const dips = Array.from({ length: dipsPerPool }, (__, dip) => `10.9.${at}.${dip + 1}`);
    return {
      dips,
      objects: [
        { metadata: { tenant: "default", name }, backendPool: { members: dips.map((dip) => ({ dip })) } },
        {
          metadata: { tenant: "default", name },
          vip: { address: `203.0.113.${at + 11}`, outbound: { pools: [name] } },
        },
      ],
    };
  });
}
