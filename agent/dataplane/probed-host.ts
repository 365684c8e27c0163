/** What the health monitor needs of the data plane: its members, a way to them, and what their UDP clients get. */
import type { DipId } from "../../core/brands.js";
import type { HostProbeItem } from "../../dataplane/host-items.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";

/** UDP of one port of a DIP since the start; only ever more. */
export interface UdpTraffic {
  /** Datagrams from outside. */
  readonly requests: number;
  /** Datagrams of the machine to those who asked. */
  readonly replies: number;
}

export interface ProbedHost {
  /** Counts changes of what `probes` answers. */
  probesVersion(): number;
  probes(): readonly HostProbeItem[];
  /** Address of a DIP of this host, or null. */
  addressOf(dipId: DipId): string | null;
  /** UDP from outside to the DIP, and back; by its port; null while there was none. */
  udpTraffic(dipId: DipId, dipPort: number): UdpTraffic | null;
  /** Packets of the host itself, each for the machine of its link. */
  processFromHost(batch: PacketBatch, nowMs: number, out: PacketBatch): void;
}
