/**
 * IP addresses at the edges: text in, canonical text or numbers out. Inside, tables use numbers; the control plane uses
 * canonical text, so that equal addresses are equal strings. Accepts only the unambiguous forms: IPv4 as four decimal
 * numbers without leading zeros (never "10.1" or "010.0.0.1"), IPv6 as in RFC 4291 §2.2 without zone, written back as
 * RFC 5952 says. IPv4-mapped IPv6 text is refused: it would give one address two spellings.
 */
import type { IpAddress, Ipv4 } from "./brands.js";

/** The address as a number, or null when `text` is not an IPv4 address. */
export function parseIpv4(text: string): Ipv4 | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return null;
    const octet = Number(part);
    if (octet > 255) return null;
    value = value * 256 + octet;
  }
  return value as Ipv4;
}

export function formatIpv4(address: Ipv4): IpAddress {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}` as IpAddress;
}

/** Eight 16-bit groups, or null when `text` is not an IPv6 address. */
export function parseIpv6(text: string): readonly number[] | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const groups = (half: string): number[] | null => {
    if (half === "") return [];
    const out: number[] = [];
    for (const group of half.split(":")) {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
      out.push(parseInt(group, 16));
    }
    return out;
  };
  const head = groups(halves[0] ?? "");
  const tail = halves.length === 2 ? groups(halves[1] ?? "") : [];
  if (head === null || tail === null) return null;
  if (halves.length === 1) return head.length === 8 ? head : null;
  const zeros = 8 - head.length - tail.length;
  if (zeros < 1) return null;
  const all = [...head, ...new Array<number>(zeros).fill(0), ...tail];
  const mapped = all.slice(0, 5).every((group) => group === 0) && all[5] === 0xffff;
  return mapped ? null : all;
}

/** Why no packet can be sent to or come from this IPv6 address; null: it is unicast, and not of a link (RFC 4291 §2.4). */
export function unusableIpv6(groups: readonly number[]): string | null {
  const [first = 0] = groups;
  if (groups.slice(0, 7).every((group) => group === 0)) return "the unspecified or loopback address";
  if ((first & 0xff00) === 0xff00) return "a multicast address";
  return (first & 0xffc0) === 0xfe80 ? "a link-local address" : null;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first on a tie) as "::". */
export function formatIpv6(groups: readonly number[]): IpAddress {
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
  }
  const text = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  if (bestStart < 0) return text(0, 8) as IpAddress;
  return `${text(0, bestStart)}::${text(bestStart + bestLength, 8)}` as IpAddress;
}

/** Canonical text of an IPv4 or IPv6 address, or null when `text` is neither. */
export function parseIpAddress(text: string): IpAddress | null {
  const v4 = parseIpv4(text);
  if (v4 !== null) return formatIpv4(v4);
  const v6 = text.includes(":") ? parseIpv6(text) : null;
  return v6 === null ? null : formatIpv6(v6);
}

/** "203.0.113.10:80", "[2001:db8::10]:80" (RFC 3986 §3.2.2). */
export const endpointText = (address: IpAddress, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

export type AddressFamily = "ipv4" | "ipv6";

export const familyOf = (address: IpAddress): AddressFamily => (address.includes(":") ? "ipv6" : "ipv4");
