/** A small host for agent tests: DIP 1 serves VIP:80 on port 8080 and may leave by the VIP; one MUX is known. */
import { createRandom } from "../../../core/random.js";
import type { DipId, IpAddress, LogIndex, MuxId, VipId } from "../../../core/brands.js";
import type { ApplyResult } from "../../../dataplane/contract.js";
import type { HostChange, HostItem } from "../../../dataplane/host-items.js";
import { PacketBatch, WIRE_LINK } from "../../../dataplane/packet-batch.js";
import {
  createAgentDataplane,
  type AgentDataplane,
  type AgentDataplaneOptions,
} from "../../../agent/dataplane/agent-dataplane.js";
import { batchOf, encapsulate, packetsOf, SEED } from "../../packet/packet-kit.js";

export const VIP = "203.0.113.10";
export const MUX = "192.0.2.1";
export const DIP = "10.0.0.1";
export const SMALL_LAYOUT = { dips: 16, vips: 16, endpoints: 32, ranges: 256, flows: 2_048, held: 16, heldPerDip: 8 };

export const dipItem = (dipId: number, address = `10.0.0.${dipId}`, locator = address): HostItem => ({
  kind: "dip",
  dipId: dipId as DipId,
  address: address as IpAddress,
  locator: locator as IpAddress,
  tenant: "default",
});
export const endpointItem = (port: number, dipPort: number, dipId = 1, vip = VIP, protocol: 6 | 17 = 6): HostItem => ({
  kind: "endpoint",
  vipId: vipIdOf(vip),
  vip: vip as IpAddress,
  protocol,
  port,
  dipId: dipId as DipId,
  dipPort,
});
export const outboundItem = (dipId = 1, vip = VIP): HostItem => ({
  kind: "outbound",
  dipId: dipId as DipId,
  vipId: vipIdOf(vip),
  vip: vip as IpAddress,
});
export const rangeItem = (range: number, dipId = 1, protocol: 6 | 17 = 6, vip = VIP): HostItem => ({
  kind: "range",
  vipId: vipIdOf(vip),
  vip: vip as IpAddress,
  protocol,
  range,
  dipId: dipId as DipId,
});
export const muxItem = (muxId = 1, address = MUX): HostItem => ({
  kind: "mux",
  muxId: muxId as MuxId,
  address: address as IpAddress,
});
/** Last number of the address, less 9: VIP 203.0.113.10 has id 1. */
const vipIdOf = (vip: string): VipId => (Number(vip.split(".")[3]) - 9) as VipId;

export const HOST: readonly HostItem[] = [
  dipItem(1),
  endpointItem(80, 8_080),
  endpointItem(53, 53, 1, VIP, 17),
  outboundItem(),
  muxItem(),
  { kind: "internal", prefix: "10.0.0.0/8" },
];

export const upsert = (item: HostItem): HostChange => ({ op: "upsert", item });
export const remove = (key: string): HostChange => ({ op: "remove", key });

export interface Sent {
  readonly toWire: readonly Uint8Array[];
  /** To DIP 1, unless asked otherwise. */
  readonly toVm: readonly Uint8Array[];
}

export class AgentBench {
  readonly agent: AgentDataplane;
  nowMs = 1_000;
  #index = 0;
  readonly #out = new PacketBatch({ packets: 512 });

  constructor(items: readonly HostItem[] = HOST, options: Partial<AgentDataplaneOptions> = {}) {
    this.agent = createAgentDataplane({ random: createRandom(SEED), layout: SMALL_LAYOUT, ...options });
    this.agent.tick(this.nowMs, new PacketBatch());
    this.agent.tables.apply({ kind: "snapshot", items }, ++this.#index as LogIndex);
  }

  change(...changes: readonly HostChange[]): ApplyResult {
    return this.agent.tables.apply({ kind: "changes", changes }, ++this.#index as LogIndex);
  }

  /** Packets as they come from the wire, outer header included. */
  wire(...packets: readonly Uint8Array[]): Sent {
    return this.#run((out) => this.agent.processFromWire(batchOf(...packets), this.nowMs, out));
  }

  /** A packet that the MUX encapsulated for a DIP. */
  fromMux(packet: Uint8Array, locator = DIP): Sent {
    return this.wire(encapsulate(packet, MUX, locator));
  }

  vm(...packets: readonly Uint8Array[]): Sent {
    return this.vmOf(1, ...packets);
  }

  vmOf(dipId: number, ...packets: readonly Uint8Array[]): Sent {
    return this.#run((out) => this.agent.processFromVm(dipId as DipId, batchOf(...packets), this.nowMs, out), dipId);
  }

  elapse(ms: number): Sent {
    this.nowMs += ms;
    return this.#run((out) => this.agent.tick(this.nowMs, out));
  }

  drops(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.agent.telemetry.counters().drops).filter(([, count]) => count > 0));
  }

  #run(action: (out: PacketBatch) => void, dipId = 1): Sent {
    const out = this.#out;
    out.clear();
    action(out);
    const packets = packetsOf(out);
    return {
      toWire: packets.filter((_, i) => out.links[i] === WIRE_LINK),
      toVm: packets.filter((_, i) => out.links[i] === dipId),
    };
  }
}
