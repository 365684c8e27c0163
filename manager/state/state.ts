/** The whole replicated state, one part per concept. `apply/` changes it, `snapshot` writes and reads it. */
import type { HostId, LogIndex, NodeId } from "../../core/brands.js";
import { BeforeImages } from "./snapshot/before-images.js";
import { ClusterEpoch } from "./cluster-epoch.js";
import { ClusterTime } from "./cluster-time.js";
import { DipTable } from "./dip-table.js";
import { DrainTable } from "./drain-table.js";
import { HealthTable } from "./health-table.js";
import { HostTable } from "./host-table.js";
import { MuxPool } from "./mux-pool.js";
import { OutboundIndex } from "./snat/outbound-index.js";
import { Projection } from "./views/projection.js";
import { TableHistory } from "./table-history.js";
import { Sessions } from "./sessions.js";
import { SnatAllocator } from "./snat/allocator.js";
import { VipMap } from "./vip-map.js";
import { Withdrawals } from "./withdrawals.js";
import { OverloadBackoffs } from "./overload-backoff.js";

export interface Site {
  readonly clusterId: string;
  readonly clusterEpoch: number;
  readonly hashKey: string;
  /** Never leaves the Managers and MUXes. */
  readonly muxKey?: string;
}

export interface Replica {
  readonly nodeId: NodeId;
  readonly incarnation: number;
  readonly bootId: string;
}

/** An operator's declaration that a host is dead; ends when a new process of it registers. */
export interface Fence {
  readonly index: LogIndex;
  readonly reason: string;
}

export interface State {
  /** The last entry applied; 0 before the first. */
  appliedIndex: LogIndex;
  /** Of the parts that change in place, for readings that take longer than one entry: DIPs, sessions, port spaces. */
  readonly images: BeforeImages;
  site: Site | null;
  readonly time: ClusterTime;
  readonly epoch: ClusterEpoch;
  readonly fences: Map<HostId, Fence>;
  readonly replicas: Map<NodeId, Replica>;
  readonly sessions: Sessions;
  readonly objects: VipMap;
  readonly dips: DipTable;
  readonly hosts: HostTable;
  readonly health: HealthTable;
  readonly withdrawals: Withdrawals;
  readonly backoffs: OverloadBackoffs;
  /** Of pools with a drain timeout. */
  readonly drains: DrainTable;
  /** Who took the flows of each pool: a function of the log, since it remembers. */
  readonly tables: TableHistory;
  readonly muxes: MuxPool;
  readonly snat: SnatAllocator;
  readonly outbound: OutboundIndex;
  /** What MUXes and hosts see. Follows from the rest: never written to a snapshot. */
  readonly projection: Projection;
}

export function createState(): State {
  const images = new BeforeImages();
  const objects = new VipMap();
  const dips = new DipTable(images);
  const outbound = new OutboundIndex(objects, dips);
  const parts = {
    objects,
    dips,
    hosts: new HostTable(),
    health: new HealthTable(),
    withdrawals: new Withdrawals(),
    backoffs: new OverloadBackoffs(),
    drains: new DrainTable(),
    tables: new TableHistory(),
    muxes: new MuxPool(),
    snat: new SnatAllocator(
      {
        excludedRanges: (vip, protocol) => objects.ruleRanges(vip, protocol),
        lendingOf: (vip) => outbound.lendingOf(vip),
        tenantOf: (dip) => dips.must(dip).tenant,
        weightOf: (tenant) => objects.tenantSpec(tenant).weight,
      },
      images,
    ),
  };
  return {
    appliedIndex: 0 as LogIndex,
    images,
    site: null,
    time: new ClusterTime(),
    epoch: new ClusterEpoch(),
    fences: new Map(),
    replicas: new Map(),
    sessions: new Sessions(images),
    ...parts,
    outbound,
    projection: new Projection(parts),
  };
}
