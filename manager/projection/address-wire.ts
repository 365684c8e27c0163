/** IP addresses between the wire and the log: of either family, canonical from here on. */
import { formatIpv4, formatIpv6, parseIpv4, parseIpv6, unusableIpv6 } from "../../core/address.js";
import type { IpAddress } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";

/** Throws INVALID_ARGUMENT for what is no address, or an IPv6 address that no packet can be sent to. */
export function checkAddress(text: string | null | undefined, where: string): IpAddress {
  const ipv4 = parseIpv4(text ?? "");
  if (ipv4 !== null) return formatIpv4(ipv4);
  const groups = parseIpv6(text ?? "");
  const why =
    groups === null ? "not an IP address; write it like 10.0.1.4 or 2001:db8::4" : unusable(unusableIpv6(groups));
  if (groups === null || why !== null)
    throw new AnantaError("INVALID_ARGUMENT", `${where}: "${text ?? ""}" is ${why ?? ""}`);
  return formatIpv6(groups);
}

const unusable = (why: string | null): string | null => (why === null ? null : `${why}; use a unicast address`);
