/** Managers, a router's port and MUXes on virtual time. */
import type { DipId, IpAddress, PoolId, VipId } from "../../../core/brands.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";
import { muxConfig, type MuxTimings } from "../../../mux/config.js";
import { createMux, type Mux } from "../../../mux/mux.js";
import { RecordingAnnouncer } from "../../../mux/routing/recording-announcer.js";
import { testSeed, VirtualWorld } from "../../kit/virtual-world.js";
import { CLUSTER_ID, FakeCluster, FakeReplica } from "./fake-managers.js";

export const ip = (text: string): IpAddress => text as IpAddress;
export const VIP = ip("203.0.113.10");

export const vipItem = (vipId: number, address: string, announced = true): MuxItem => ({
  kind: "vip",
  vipId: vipId as VipId,
  address: ip(address),
  announced,
});
export const dipItem = (dipId: number, locator: string): MuxItem => ({
  kind: "dip",
  dipId: dipId as DipId,
  locator: ip(locator),
});
export const snatItem = (vipId: number, range: number, dipId: number): MuxItem => ({
  kind: "snat",
  vipId: vipId as VipId,
  protocol: 6,
  range,
  dipId: dipId as DipId,
});
export const SITE: readonly MuxItem[] = [
  { kind: "site", hashKey: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) },
  vipItem(1, VIP),
  dipItem(1, "10.1.1.1"),
  { kind: "pool", poolId: 1 as PoolId, maxMembers: 8, members: [{ dipId: 1 as DipId, weight: 1 }] },
  { kind: "rule", vipId: 1 as VipId, protocol: 6, port: 80, poolId: 1 as PoolId },
];

export interface MuxWorld {
  readonly world: VirtualWorld;
  readonly cluster: FakeCluster;
  readonly replicas: readonly FakeReplica[];
  readonly routes: RecordingAnnouncer;
  readonly mux: Mux;
  /** The replica whose stream is active. */
  active(): FakeReplica;
  standby(): FakeReplica;
}

export async function managers(
  title: string,
  count = 3,
): Promise<{ world: VirtualWorld; cluster: FakeCluster; replicas: readonly FakeReplica[] }> {
  const world = new VirtualWorld({ seed: testSeed(title) });
  const cluster = new FakeCluster();
  const replicas: FakeReplica[] = [];
  for (let n = 1; n <= count; n++) {
    const replica = new FakeReplica(world.env(`manager-${n}`), `manager-${n}:7000`, cluster);
    await world.run(replica.start());
    replicas.push(replica);
  }
  cluster.commit(...SITE.map((item) => ({ op: "upsert", item }) as const));
  return { world, cluster, replicas };
}

export function makeMux(
  world: VirtualWorld,
  machine: string,
  options: { name?: string; timings?: Partial<MuxTimings>; managers?: readonly string[] } = {},
): { mux: Mux; routes: RecordingAnnouncer } {
  const env = world.env(machine);
  const routes = new RecordingAnnouncer(env.clock);
  const config = muxConfig({
    name: options.name ?? machine,
    clusterId: CLUSTER_ID,
    managers: options.managers ?? ["manager-1:7000", "manager-2:7000", "manager-3:7000"],
    address: ip("10.255.0.1"),
    io: { kind: "fabric", listen: `${machine}:4000`, router: "router:4000" },
    capacity: { rules: 100, snatRanges: 1_000 },
    ...(options.timings === undefined ? {} : { timings: options.timings }),
  });
  return { mux: createMux(env, config, { announcer: routes }), routes };
}

export async function startMux(title: string, timings: Partial<MuxTimings> = {}): Promise<MuxWorld> {
  const { world, cluster, replicas } = await managers(title);
  const { mux, routes } = makeMux(world, "mux-1", { timings });
  await world.run(mux.start());
  const at = (address: string | null): FakeReplica => {
    const found = replicas.find((replica) => replica.address === address);
    if (found === undefined) throw new Error(`no replica at ${String(address)}`);
    return found;
  };
  return {
    world,
    cluster,
    replicas,
    mux,
    routes,
    active: () => at(mux.status().activeReplica),
    standby: () => at(mux.status().standbyReplica),
  };
}

/** Until the MUX announces its VIP. */
export const announces = (setup: MuxWorld): Promise<number> =>
  setup.world.runUntil(() => setup.routes.announced.length > 0, 5_000, "the announcement of the VIP");
