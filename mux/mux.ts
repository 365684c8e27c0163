/**
 * One MUX: everything built from an `Env`, started in order, stopped in reverse.
 *
 *     router --packets--> io --batch of one turn--> data plane --encapsulated--> io --> router --> host
 *     Managers --projection--> manager client --deltas--> data plane's tables
 *                              manager client --VIPs----> announcer --> router
 */
import { parseIpAddress } from "../core/address.js";
import { hex } from "../core/hex.js";
import type { IpAddress } from "../core/brands.js";
import type { CounterSnapshot, GaugeSnapshot } from "../dataplane/contract.js";
import { flowFilter } from "../dataplane/flow-filter.js";
import type { MuxLayout } from "../dataplane/layouts.js";
import { PacketBatch } from "../dataplane/packet-batch.js";
import type { FiveTuple } from "../packet/five-tuple.js";
import type { Env, Timer } from "../runtime/env.js";
import type { MuxConfig } from "./config.js";
import { ManagerClient, type FlowAnswer, type ManagerClientStatus } from "./control/manager-client.js";
import { createMuxDataplane, type MuxDataplane } from "./dataplane/mux-dataplane.js";
import { FabricIo } from "./io/fabric-io.js";
import { FabricAnnouncer } from "./routing/fabric-announcer.js";
import type { PeerCounts } from "./peers/peer-channel.js";
import type { RouteAnnouncer } from "./routing/route-announcer.js";

/** The data plane's contract: at least every 100 ms. */
const TICK_MS = 100;
/** A batch of 256 may leave as more: packets in pieces, held fragments, two messages of FastPath beside a segment. */
const OUT_PACKETS = 1_024;

export interface Mux {
  /** Rejects with FAILED_PRECONDITION when a port is taken. */
  start(): Promise<void>;
  /** Withdraws the routes, leaves the pool, then ends. Takes about a second at most. */
  stop(): Promise<void>;
  status(): MuxStatus;
  readonly dataplane: MuxDataplane;
}

export interface MuxStatus extends ManagerClientStatus {
  readonly name: string;
  readonly bootId: string;
  readonly announced: readonly IpAddress[];
  readonly counters: CounterSnapshot;
  readonly gauges: GaugeSnapshot;
  readonly badFrames: number;
  /** Packets that were lost before the data plane saw them. */
  readonly inputLost: number;
  readonly peers: PeerCounts;
}

export interface MuxParts {
  /** In place of the one that the configuration names: for tests. */
  readonly announcer?: RouteAnnouncer;
  /** Room of tables that the configuration does not size; less of it makes a MUX of a test quick to start. */
  readonly layout?: Partial<MuxLayout>;
}

export function createMux(env: Env, config: MuxConfig, parts: MuxParts = {}): Mux {
  const { clock, log } = env;
  const bootId = hex(env.entropy(16));
  const dataplane = createMuxDataplane({
    address: config.address,
    ...(config.addressIpv6 === null ? {} : { addressIpv6: config.addressIpv6 }),
    packetsPerSecondMax: config.packetsPerSecondMax,
    layout: { ...parts.layout, ...config.capacity },
  });
  const io = new FabricIo(clock, env.datagrams, config.io);
  const announcer =
    parts.announcer ??
    new FabricAnnouncer({
      clock,
      log,
      name: config.name,
      address: config.address,
      send: (frame) => io.sendFrame(frame),
      selfTest: () => dataplane.tables.index() > 0,
    });
  const client = new ManagerClient({
    env,
    config,
    bootId,
    tables: dataplane.tables,
    capacity: dataplane.capacity,
    announcer,
    counters: () => {
      const { received, drops } = dataplane.telemetry.counters();
      return {
        packets: received.packets,
        bytes: received.bytes,
        flows: dataplane.telemetry.gauges().flows,
        drops: aboveZero(drops),
      };
    },
    overload: () => dataplane.overload(),
    tellPeers: (own, nowMs) => dataplane.peers.tell(own, nowMs),
    explain: (flow) => explain(dataplane, flow, clock.nowMs()),
    resetFlows: (reset) => {
      let flows = 0;
      dataplane.flows.reset(flowFilter(reset), (count) => (flows = count));
      return { id: reset.id ?? 0, flows };
    },
  });

  const out = new PacketBatch({ packets: OUT_PACKETS });
  let tick: Timer | null = null;
  let inputLost = 0;

  function forward(batch: PacketBatch): void {
    dataplane.process(batch, clock.nowMs(), out);
    flush();
  }

  function flush(): void {
    if (out.count === 0) return;
    io.send(out);
    out.clear();
  }

  function scheduleTick(): void {
    tick = clock.setTimer(TICK_MS, () => {
      scheduleTick();
      const { lost } = io.counters;
      dataplane.inputLost(lost - inputLost);
      inputLost = lost;
      dataplane.tick(clock.nowMs(), out);
      flush();
    });
  }

  return {
    dataplane,

    async start() {
      await io.start(forward);
      scheduleTick();
      announcer.start();
      client.start();
      log.info("mux started", { mux: config.name, listen: config.io.listen, bootId });
    },

    async stop() {
      await client.stop();
      announcer.stop();
      tick?.cancel();
      io.stop();
      log.info("mux stopped", { mux: config.name });
    },

    status: () => ({
      ...client.status(),
      name: config.name,
      bootId,
      announced: announcer.announced,
      counters: dataplane.telemetry.counters(),
      gauges: dataplane.telemetry.gauges(),
      badFrames: io.counters.badFrames,
      inputLost,
      peers: dataplane.peers.counts(clock.nowMs()),
    }),
  };
}

interface AskedFlow {
  readonly protocol?: number | null;
  readonly source?: string | null;
  readonly sourcePort?: number | null;
  readonly destination?: string | null;
  readonly destinationPort?: number | null;
}

function explain(dataplane: MuxDataplane, flow: AskedFlow, nowMs: number): FlowAnswer {
  const source = parseIpAddress(flow.source ?? "");
  const destination = parseIpAddress(flow.destination ?? "");
  if (source === null || destination === null)
    return { inFlowTable: false, dip: "", reason: "source or destination is not an IP address" };
  const tuple: FiveTuple = {
    protocol: flow.protocol ?? 0,
    source,
    sourcePort: flow.sourcePort ?? 0,
    destination,
    destinationPort: flow.destinationPort ?? 0,
  };
  const found = dataplane.explain(tuple, { nowMs });
  return { inFlowTable: found.flow !== null, dip: found.drop === null ? (found.locator ?? "") : "", reason: found.why };
}

const aboveZero = (counts: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
