/** The five-tuple of a flow in the form that people and the wire use; tables and pipelines hold the same as numbers. */
import type { IpAddress } from "../core/brands.js";
import { formatIpv4 } from "../core/address.js";
import type { Ipv4 } from "../core/brands.js";

export interface FiveTuple {
  /** IANA number: 6 TCP, 17 UDP. */
  readonly protocol: number;
  readonly source: IpAddress;
  readonly sourcePort: number;
  readonly destination: IpAddress;
  readonly destinationPort: number;
}

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: "icmp", 4: "ip-in-ip", 6: "tcp", 17: "udp" };

/** "tcp 198.51.100.7:40000 > 203.0.113.10:80". */
export function formatFiveTuple(tuple: FiveTuple): string {
  const bracket = (address: IpAddress): string => (address.includes(":") ? `[${address}]` : address);
  const protocol = PROTOCOL_NAMES[tuple.protocol] ?? `protocol ${tuple.protocol}`;
  return `${protocol} ${bracket(tuple.source)}:${tuple.sourcePort} > ${bracket(tuple.destination)}:${tuple.destinationPort}`;
}

/** The tuple from numbers as the tables hold them: addresses unsigned 32-bit in host order. */
export function ipv4FiveTuple(
  protocol: number,
  source: number,
  sourcePort: number,
  destination: number,
  destinationPort: number,
): FiveTuple {
  return {
    protocol,
    source: formatIpv4(source as Ipv4),
    sourcePort,
    destination: formatIpv4(destination as Ipv4),
    destinationPort,
  };
}
