/**
 * One Host Agent: everything built from an `Env`, started in order, stopped in reverse.
 *
 *     MUX -> router --packets--> io --+                       +--> io --> VM
 *                                     +--> data plane --------+
 *     VM  ------------packets--> io --+    ^          |       +--> io --> router
 *                                          | deltas   | demand for ports
 *     Managers --projection, answers--> manager client --requests--> Managers
 */
import type { DipId, LogIndex } from "../core/brands.js";
import { hex } from "../core/hex.js";
import { AnantaError } from "../core/errors.js";
import type { CounterSnapshot, GaugeSnapshot } from "../dataplane/contract.js";
import type { HostLayout } from "../dataplane/layouts.js";
import { HOST_LINK, PacketBatch } from "../dataplane/packet-batch.js";
import type { Env, Timer } from "../runtime/env.js";
import type { AgentConfig } from "./config.js";
import { HeldRanges } from "./control/held-ranges.js";
import { KeptRules } from "./control/kept-rules.js";
import { ManagerClient, type ManagerClientStatus } from "./control/manager-client.js";
import { createAgentDataplane, type AgentDataplane } from "./dataplane/agent-dataplane.js";
import { Health } from "./health/health.js";
import type { MemberHealth } from "./health/monitor.js";
import { FabricIo } from "./io/fabric-io.js";

/** The data plane's contract: at least every 100 ms. Held packets that a closing flow frees a port for leave with it. */
const TICK_MS = 20;
const EVENTS_PER_TURN = 256;
/** A packet may become several (fragments later), and held ones leave with it. */
const OUT_PACKETS = 1_024;

export interface Agent {
  /** Rejects with FAILED_PRECONDITION (a port is taken), STORAGE_LOCKED, STORAGE_DAMAGED or STORAGE_FAILED. */
  start(): Promise<void>;
  stop(): Promise<void>;
  status(): AgentStatus;
  readonly dataplane: AgentDataplane;
}

export interface AgentStatus extends ManagerClientStatus {
  readonly name: string;
  readonly bootId: string;
  readonly counters: CounterSnapshot;
  readonly gauges: GaugeSnapshot;
  readonly badFrames: number;
  readonly unknownNic: number;
  /** Connections whose first packet had to wait for a port, and those that found one. */
  readonly snatWaited: number;
  readonly snatServedLocally: number;
  /** Members probed here, their state where it is known, and probes since the start. */
  readonly health: readonly MemberHealth[];
  readonly probed: number;
  readonly probes: number;
  readonly probeFailures: number;
}

export interface AgentOutside {
  /** The durable record of ranges cannot be written: the process must end. */
  readonly failed: (error: AnantaError) => void;
  /** Room of the tables; less of it makes an agent of a test quick to start. */
  readonly layout?: Partial<HostLayout>;
}

export function createAgent(env: Env, config: AgentConfig, outside: AgentOutside): Agent {
  const { clock, log } = env;
  const bootId = hex(env.entropy(16));
  const dataplane = createAgentDataplane({ random: env.random.fork(), layout: outside.layout ?? {} });
  const io = new FabricIo(clock, env.datagrams, config.io);
  const out = new PacketBatch({ packets: OUT_PACKETS });
  const nics = new Map(config.dips.map((dip) => [`${dip.tenant}/${dip.address}`, dip.nic]));
  let client: ManagerClient | null = null;
  let held: HeldRanges | null = null;
  let rules: KeptRules | null = null;
  let tick: Timer | null = null;
  let snatWaited = 0;
  const health = new Health({
    random: env.random.fork(),
    log,
    host: dataplane,
    report: (members, whole) => client?.reportHealth(members, whole),
  });

  function forward(batch: PacketBatch): void {
    dataplane.process(batch, clock.nowMs(), out);
    hearOwn();
    finishTurn();
  }

  /** Packets for the host itself: what machines answer to probes. */
  function hearOwn(): void {
    const nowMs = clock.nowMs();
    let heard = false;
    for (let index = 0; index < out.count; index++) {
      if (out.links[index] !== HOST_LINK) continue;
      health.receive(out, index, out.sources[index]!, nowMs); // index < count
      heard = true;
    }
    if (heard) health.settle(nowMs, out);
  }

  /** Sends what came out, and hears what the data plane has to tell. */
  function finishTurn(): void {
    if (out.count > 0) {
      io.send(out);
      out.clear();
    }
    let needsPorts = false;
    for (const event of dataplane.telemetry.drainEvents(EVENTS_PER_TURN).events) {
      if (event.kind !== "snat-miss") continue;
      snatWaited++;
      needsPorts = true;
    }
    if (needsPorts) client?.reserveNow();
  }

  function scheduleTick(): void {
    tick = clock.setTimer(TICK_MS, () => {
      scheduleTick();
      runTick();
    });
  }

  function runTick(): void {
    const nowMs = clock.nowMs();
    dataplane.tick(nowMs, out);
    health.tick(nowMs, out);
    finishTurn();
  }

  function dipsKnown(
    dips: readonly { readonly tenant: string; readonly address: string; readonly dipId: DipId }[],
  ): void {
    for (const { tenant, address, dipId } of dips) {
      const nic = nics.get(`${tenant}/${address}`);
      if (nic !== undefined) io.connect(nic, dipId);
    }
  }

  /** What was in force before the restart serves until a Manager shows what is now. */
  async function restoreRules(kept: KeptRules): Promise<void> {
    const items = await kept.read(config.dips);
    if (items.length === 0) return;
    const result = dataplane.tables.apply({ kind: "snapshot", items }, 0 as LogIndex);
    if (result === "in-force") dipsKnown(items.filter((item) => item.kind === "dip"));
    log.info("rules of before the restart", { result, items: items.length });
  }

  return {
    dataplane,

    async start() {
      held = await HeldRanges.open(env.disk, config.dataFolder, log);
      log.info("held ranges read", { agent: config.name, ranges: held.size });
      try {
        rules = await KeptRules.open(env, config.dataFolder, config.clusterId);
        await restoreRules(rules);
        if (rules.wasUsed || held.size > 0) dataplane.restarted();
        await io.start(forward);
      } catch (caught) {
        await rules?.close();
        await held.close();
        throw caught;
      }
      client = new ManagerClient({
        env,
        config,
        bootId,
        dataplane,
        held,
        dipsKnown,
        tablesChanged: () => {
          rules?.writeSoon(() => dataplane.tables.items());
          if ((dataplane.telemetry.gauges().entries["held-packets"] ?? 0) > 0) runTick();
        },
        failed: outside.failed,
        activated: () => health.reportAll(clock.nowMs()),
        resetFlows: (filter) => {
          let flows = 0;
          dataplane.flows.reset(filter, (count) => (flows = count));
          if (flows > 0) runTick(); // resets leave at once: they carry sequence numbers that the next segment makes old
          return flows;
        },
      });
      scheduleTick();
      client.start();
      log.info("agent started", { agent: config.name, listen: config.io.listen, dips: config.dips.length, bootId });
    },

    async stop() {
      tick?.cancel();
      health.stop();
      await client?.stop();
      io.stop();
      await rules?.close();
      await held?.close();
      log.info("agent stopped", { agent: config.name });
    },

    status() {
      if (client === null) throw new AnantaError("FAILED_PRECONDITION", "the agent is not started");
      return {
        ...client.status(),
        name: config.name,
        bootId,
        counters: dataplane.telemetry.counters(),
        gauges: dataplane.telemetry.gauges(),
        ...io.counters,
        snatWaited,
        snatServedLocally: 0,
        health: health.states(clock.nowMs()),
        probed: health.counters.probed,
        probes: health.counters.probes,
        probeFailures: health.counters.failures,
      };
    },
  };
}
