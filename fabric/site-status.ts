/**
 * What the live view and the demo know of the running site: asked from every replica through the public API, as any
 * operator could. A replica that does not answer is shown as silent, with what it said last left out.
 */
import type { Env, Timer } from "../runtime/env.js";
import type { DataPathCounters } from "./data-path.js";
import { scrapeDataPaths, type MetricsPage } from "./launcher/scrape.js";
import type { ManagerApi, MuxView, OwnedPorts, ReplicaView, VipView } from "./control/manager-api.js";

export interface SiteStatus {
  /** One per replica, in order; null: no answer. */
  readonly replicas: readonly (ReplicaView | null)[];
  readonly vips: readonly VipView[];
  readonly snat: readonly OwnedPorts[];
  /** Of each MUX and Host Agent that answers. */
  readonly dataPaths: ReadonlyMap<string, DataPathCounters>;
}

/** Well above an answer's usual time on a busy machine, below the period of two redraws. */
const STATUS_DEADLINE_MS = 800;

export class SiteWatch {
  status: SiteStatus;
  /** Another replica leads, or the same again in a newer term. */
  onLeader: (leader: ReplicaView) => void = () => undefined;
  private readonly env: Env;
  private readonly api: ManagerApi;
  private readonly pages: readonly MetricsPage[];
  private timer: Timer | null = null;
  private rounds = 0;
  private leaderTerm = 0;
  private stopped = false;

  constructor(env: Env, api: ManagerApi, pages: readonly MetricsPage[]) {
    this.env = env;
    this.api = api;
    this.pages = pages;
    this.status = { replicas: api.endpoints.map(() => null), vips: [], snat: [], dataPaths: new Map() };
  }

  /** Asks again `intervalMs` after each answer. VIPs, ports and data paths are asked for in every fourth round. */
  start(intervalMs: number): void {
    void this.refresh(this.rounds++ % 4 === 0).then(() => {
      if (!this.stopped) this.timer = this.env.clock.setTimer(intervalMs, () => this.start(intervalMs));
    });
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  async refresh(withObjects: boolean): Promise<SiteStatus> {
    const replicas = await Promise.all(
      this.api.endpoints.map((_, endpoint) => this.api.status(endpoint, STATUS_DEADLINE_MS).catch(() => null)),
    );
    let { vips, snat, dataPaths } = this.status;
    if (withObjects) dataPaths = await scrapeDataPaths(this.pages);
    if (withObjects && replicas.some((replica) => replica !== null)) {
      [vips, snat] = await Promise.all([
        this.api.vips().catch(() => vips),
        this.api.snatList({ endpoint: null, stale: true }).then(
          (listing) => listing.blocks,
          () => snat,
        ),
      ]);
    }
    this.status = { replicas, vips, snat, dataPaths };
    const leader = leaderOf(this.status);
    if (leader !== null && leader.term > this.leaderTerm) {
      this.leaderTerm = leader.term;
      this.onLeader(leader);
    }
    return this.status;
  }
}

/** The replica that leads in the newest term; an older leader may not know yet that it was deposed. */
export function leaderOf(status: SiteStatus): ReplicaView | null {
  let leader: ReplicaView | null = null;
  for (const replica of status.replicas) {
    if (replica?.role === "leader" && (leader === null || replica.term > leader.term)) leader = replica;
  }
  return leader;
}

/** MUXes as the leader sees them, counters from whichever replica has the newest. */
export function muxesOf(status: SiteStatus): readonly MuxView[] {
  const source = leaderOf(status) ?? status.replicas.find((replica) => replica !== null);
  return (source?.muxes ?? []).map((mux) => {
    let newest = mux;
    for (const replica of status.replicas) {
      for (const other of replica?.muxes ?? []) {
        if (other.name === mux.name && other.packets > newest.packets) newest = other;
      }
    }
    return { ...newest, state: mux.state, index: Math.max(mux.index, newest.index) };
  });
}

/** Hosts with an open stream to some replica. */
export function connectedHosts(status: SiteStatus): ReadonlySet<string> {
  const names = new Set<string>();
  for (const replica of status.replicas) {
    for (const host of replica?.hosts ?? []) if (host.connectedHere) names.add(host.name);
  }
  return names;
}

export interface DipPorts {
  readonly dip: string;
  readonly host: string;
  readonly vip: string;
  readonly tcpPorts: number;
  readonly udpPorts: number;
}

/** Ports that each DIP owns per VIP, in order of DIPs. */
export function portsByDip(snat: readonly OwnedPorts[]): readonly DipPorts[] {
  const rows = new Map<string, { dip: string; host: string; vip: string; tcpPorts: number; udpPorts: number }>();
  for (const block of snat) {
    if (block.state !== "owned") continue;
    const key = `${block.dip} ${block.vip}`;
    const row = rows.get(key) ?? { dip: block.dip, host: block.host, vip: block.vip, tcpPorts: 0, udpPorts: 0 };
    if (block.protocol === "tcp") row.tcpPorts += block.count * 8;
    else row.udpPorts += block.count * 8;
    rows.set(key, row);
  }
  return [...rows.values()].sort((a, b) => (a.dip === b.dip ? (a.vip < b.vip ? -1 : 1) : a.dip < b.dip ? -1 : 1));
}
