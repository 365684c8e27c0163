/** What machines take for a sound packet, against packets that were built by other code than theirs. */
import { describe, expect, it } from "vitest";
import type { IpAddress, Port } from "../../core/brands.js";
import { readPacket, writeTcp, writeUdp } from "../../fabric/endpoints/packets.js";
import { packetOf } from "../packet/fixtures/notation.js";

const FAMILIES = [
  ["IPv4", "198.51.100.7:1000 > 203.0.113.10:80", "198.51.100.7", "203.0.113.10"],
  ["IPv6", "[2001:db8::7]:1000 > [2001:db8:113::10]:80", "2001:db8::7", "2001:db8:113::10"],
] as const;

/** The packet with one bit of byte `at` turned over. */
function damaged(packet: Uint8Array, at: number): Uint8Array {
  const copy = packet.slice();
  copy[at < 0 ? copy.length + at : at]! ^= 4;
  return copy;
}

describe.each(FAMILIES)("a machine of %s", (family, flow, from, to) => {
  const tuple = {
    ...{ source: from as IpAddress, sourcePort: 1_000 as Port },
    ...{ destination: to as IpAddress, destinationPort: 80 as Port },
  };
  const headerBytes = family === "IPv4" ? 20 : 40;

  it("reads segments and datagrams of others, and writes the same bytes", () => {
    const segment = readPacket(packetOf(`tcp ${flow} S seq=7 mss=1300`));
    expect(segment).toMatchObject({ kind: "tcp", tuple, segment: { seq: 7, mss: 1_300 } });
    if (segment.kind !== "tcp") return;
    expect(readPacket(writeTcp(tuple, segment.segment))).toEqual(segment);
    const datagram = packetOf(`udp ${flow} data=9`);
    expect(readPacket(datagram)).toMatchObject({ kind: "udp", tuple });
    const written = writeUdp(tuple, datagram.subarray(headerBytes + 8));
    expect(written.subarray(headerBytes)).toEqual(datagram.subarray(headerBytes));
  });

  it("tells what is wrong with a packet", () => {
    const whole = writeUdp(tuple, new Uint8Array(9));
    const segment = packetOf(`tcp ${flow} A data=9`);
    const reasonOf = (packet: Uint8Array): string => {
      const read = readPacket(packet);
      return read.kind === "bad" ? read.reason : read.kind;
    };
    expect(reasonOf(damaged(whole, -1))).toBe("bad_udp_checksum");
    expect(reasonOf(damaged(segment, -1))).toBe("bad_tcp_checksum");
    // Of IPv6 nothing but the transport's checksum guards the addresses.
    expect(reasonOf(damaged(whole, 15))).toBe(family === "IPv4" ? "bad_header_checksum" : "bad_udp_checksum");
    for (let bytes = 0; bytes < whole.length; bytes++) expect(reasonOf(whole.subarray(0, bytes))).toBe("malformed");
    const unsummed = whole.slice();
    unsummed.fill(0, headerBytes + 6, headerBytes + 8);
    expect(reasonOf(unsummed)).toBe(family === "IPv4" ? "udp" : "bad_udp_checksum");
  });
});
