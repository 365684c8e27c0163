/** Orders that make listings, snapshots and digests canonical: the same on every replica, whatever was inserted when. */
import { parseIpv4, parseIpv6 } from "../../core/address.js";
import type { IpAddress } from "../../core/brands.js";

export const byNumber = (a: number, b: number): number => a - b;

/** By UTF-16 code units: locale never matters. */
export const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** IPv4 before IPv6, then by numeric value. */
export function byAddress(a: IpAddress, b: IpAddress): number {
  if (a === b) return 0;
  const a4 = parseIpv4(a);
  const b4 = parseIpv4(b);
  if (a4 !== null && b4 !== null) return a4 - b4;
  if (a4 !== null) return -1;
  if (b4 !== null) return 1;
  const a6 = parseIpv6(a) ?? [];
  const b6 = parseIpv6(b) ?? [];
  for (let group = 0; group < 8; group++) {
    const difference = (a6[group] ?? 0) - (b6[group] ?? 0);
    if (difference !== 0) return difference;
  }
  return byText(a, b);
}

/** As `byAddress` has it; each address is read once, not with every comparison. */
export function inOrderOfAddress(addresses: Iterable<IpAddress>): readonly IpAddress[] {
  const read = Array.from(addresses, (address) => ({ address, ipv4: parseIpv4(address) }));
  read.sort((a, b) => (a.ipv4 !== null && b.ipv4 !== null ? a.ipv4 - b.ipv4 : byAddress(a.address, b.address)));
  return read.map(({ address }) => address);
}
