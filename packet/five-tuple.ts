/** The five-tuple of a flow in the form that people and the wire use; tables and pipelines hold the same as numbers. */
import { formatIpv4 } from "../core/address.js";
import type { IpAddress, Ipv4 } from "../core/brands.js";

export interface FiveTuple {
  /** IANA number: 6 TCP, 17 UDP. */
  readonly protocol: number;
  readonly source: IpAddress;
  readonly sourcePort: number;
  readonly destination: IpAddress;
  readonly destinationPort: number;
}

/** The tuple from numbers as the tables hold them: addresses 32-bit words in host order, signed or not. */
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
