/**
 * Addresses that exist between a host and its machines only: link-local (RFC 3927, RFC 4291 §2.5.6), never on a wire. A packet
 * with one of them that comes from the wire, or would leave to it, is dropped.
 */
import type { IpAddress } from "../../core/brands.js";
import { type Addresses, isIpv6Number } from "./addresses.js";

/** Where health probes come from. Stable, so that a machine's own firewall and logs can name it. */
export const PROBE_SOURCES = { ipv4: "169.254.100.1" as IpAddress, ipv6: "fe80::a9fe:6401" as IpAddress };

/** Source of a flow that a VIP leads back to the machine that began it. */
const HAIRPIN_SOURCES = { ipv4: "169.254.100.2", ipv6: "fe80::a9fe:6402" } as const;

/** Their numbers. */
export class ReservedAddresses {
  static readonly count = 2;
  readonly #probe: number;
  readonly #probeIpv6: number;
  readonly #hairpin: number;
  readonly #hairpinIpv6: number;

  constructor(addresses: Addresses) {
    this.#probe = addresses.take(PROBE_SOURCES.ipv4);
    this.#probeIpv6 = addresses.take(PROBE_SOURCES.ipv6);
    this.#hairpin = addresses.take(HAIRPIN_SOURCES.ipv4);
    this.#hairpinIpv6 = addresses.take(HAIRPIN_SOURCES.ipv6);
  }

  isProbe(address: number): boolean {
    return address === this.#probe || address === this.#probeIpv6;
  }

  isHairpin(address: number): boolean {
    return address === this.#hairpin || address === this.#hairpinIpv6;
  }

  isReserved(address: number): boolean {
    return this.isProbe(address) || this.isHairpin(address);
  }

  /** Of the family of `address`. */
  hairpinFor(address: number): number {
    return isIpv6Number(address) ? this.#hairpinIpv6 : this.#hairpin;
  }
}
