/**
 * What an idle TCP flow's end is made of: a keepalive to our own machine, and resets. Both need numbers that their receiver
 * expects (RFC 5961 §3: a reset counts only with exactly the next sequence number), so entries keep each side's newest
 * acknowledgement: what one side acknowledged last is what it expects next.
 */
import type { Ipv4 } from "../../core/brands.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { type TcpFields, tcpPacketBytes, writeTcpPacket } from "../../packet/build.js";
import { TCP_ACK, TCP_RST } from "../../packet/tcp.js";
import type { HostParts } from "./host-parts.js";
import { HAIRPIN_SOURCE } from "./reserved.js";
import { knowsSequences } from "./tcp-track.js";

/** RFC 9293 §3.8.4: an acknowledged byte before the window, which a live connection answers. False: numbers are not known. */
export function sendKeepalive(parts: HostParts, entry: number, out: PacketBatch): boolean {
  const { nat } = parts;
  if (!knowsSequences(nat, entry)) return false;
  const sequence = (nat.ackInside[entry]! - 1) >>> 0;
  return put(out, parts.tables.dipId(nat.dipSlot(entry)), {
    ...toMachine(parts, entry),
    flags: TCP_ACK,
    sequence,
    acknowledgement: nat.ackOutside[entry]! >>> 0,
  });
}

/** To the machine in the remote's name, and to the remote in the VIP's. A full `out` loses them. */
export function sendResets(parts: HostParts, entry: number, out: PacketBatch): void {
  const { nat } = parts;
  if (!knowsSequences(nat, entry)) return;
  if (!nat.isDetached(entry)) {
    const sequence = nat.ackInside[entry]! >>> 0;
    put(out, parts.tables.dipId(nat.dipSlot(entry)), { ...toMachine(parts, entry), flags: TCP_RST, sequence });
  }
  if (nat.remote(entry) === HAIRPIN_SOURCE) return;
  put(out, WIRE_LINK, {
    source: (nat.vip(entry) >>> 0) as Ipv4,
    destination: (nat.remote(entry) >>> 0) as Ipv4,
    sourcePort: nat.vipPort(entry),
    destinationPort: nat.remotePort(entry),
    flags: TCP_RST,
    sequence: nat.ackOutside[entry]! >>> 0,
  });
}

const toMachine = (
  { nat }: HostParts,
  entry: number,
): Pick<TcpFields, "source" | "destination" | "sourcePort" | "destinationPort"> => ({
  source: (nat.remote(entry) >>> 0) as Ipv4,
  destination: (nat.dip(entry) >>> 0) as Ipv4,
  sourcePort: nat.remotePort(entry),
  destinationPort: nat.dipPort(entry),
});

function put(out: PacketBatch, link: number, fields: TcpFields): boolean {
  const at = out.reserve(tcpPacketBytes(fields), link);
  if (at < 0) return false;
  writeTcpPacket(out.arena, at, fields);
  return true;
}
