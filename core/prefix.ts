/** CIDR prefixes at the edges, as text: "10.0.0.0/8", "2001:db8::/32". Canonical: no bits set below the length. */
import { formatIpv4, formatIpv6, parseIpv4, parseIpv6 } from "./address.js";
import type { IpAddress, Ipv4 } from "./brands.js";

export interface Prefix {
  /** 16-bit groups of the network: 2 for IPv4, 8 for IPv6. */
  readonly groups: readonly number[];
  readonly length: number;
}

function groupsOf(text: string): readonly number[] | null {
  const v4 = parseIpv4(text);
  if (v4 !== null) return [v4 >>> 16, v4 & 0xffff];
  return text.includes(":") ? parseIpv6(text) : null;
}

/** Null when `text` is no prefix. Bits below the length are cleared. */
export function parsePrefix(text: string): Prefix | null {
  const [address = "", lengthText = "", ...rest] = text.split("/");
  const groups = groupsOf(address);
  if (groups === null || rest.length > 0 || !/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return null;
  const length = Number(lengthText);
  if (length > groups.length * 16) return null;
  return { groups: groups.map((group, at) => group & maskOf(length - at * 16)), length };
}

const maskOf = (bits: number): number => (bits >= 16 ? 0xffff : bits <= 0 ? 0 : (0xffff << (16 - bits)) & 0xffff);

export function formatPrefix({ groups, length }: Prefix): string {
  const [high = 0, low = 0] = groups;
  const address = groups.length === 2 ? formatIpv4((high * 65_536 + low) as Ipv4) : formatIpv6(groups);
  return `${address}/${length}`;
}

/** Of one family, and equal in the first `length` bits. */
export function prefixContains(prefix: Prefix, address: IpAddress): boolean {
  const groups = groupsOf(address);
  if (groups?.length !== prefix.groups.length) return false;
  return groups.every((group, at) => (group & maskOf(prefix.length - at * 16)) === prefix.groups[at]);
}

/** "/32" or "/128": the address alone. */
export const hostPrefix = (address: IpAddress): string => `${address}/${address.includes(":") ? 128 : 32}`;
