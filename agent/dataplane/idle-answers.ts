/**
 * What an idle TCP flow's end is made of: a keepalive to our own machine, and resets. Both need numbers that their receiver
 * expects (RFC 5961 §3: a reset counts only with exactly the next sequence number), so entries keep each side's newest
 * acknowledgement: what one side acknowledged last is what it expects next.
 */
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { TCP_ACK, TCP_RST } from "../../packet/tcp.js";
import type { HostParts } from "./host-parts.js";
import { buildSegment } from "./segment.js";
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
  const { nat, addresses, reserved } = parts;
  if (!knowsSequences(nat, entry)) return;
  if (!nat.isDetached(entry)) {
    const sequence = nat.ackInside[entry]! >>> 0;
    put(out, parts.tables.dipId(nat.dipSlot(entry)), { ...toMachine(parts, entry), flags: TCP_RST, sequence });
  }
  if (reserved.isHairpin(nat.remote(entry))) return;
  put(out, WIRE_LINK, {
    source: addresses.wordsOf(nat.vip(entry)),
    destination: addresses.wordsOf(nat.remote(entry)),
    sourcePort: nat.vipPort(entry),
    destinationPort: nat.remotePort(entry),
    flags: TCP_RST,
    sequence: nat.ackOutside[entry]! >>> 0,
  });
}

type Segment = Parameters<typeof buildSegment>[0];

const toMachine = (
  { nat, addresses }: HostParts,
  entry: number,
): Pick<Segment, "source" | "destination" | "sourcePort" | "destinationPort"> => ({
  source: addresses.wordsOf(nat.remote(entry)),
  destination: addresses.wordsOf(nat.dip(entry)),
  sourcePort: nat.remotePort(entry),
  destinationPort: nat.dipPort(entry),
});

const put = (out: PacketBatch, link: number, fields: Segment): boolean => out.append(buildSegment(fields), link);
