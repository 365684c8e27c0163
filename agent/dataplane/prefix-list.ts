/** A short list of IPv4 prefixes: the destinations that are not source-NATed. Asked once per new outbound flow. */
import { parseIpv4 } from "../../core/address.js";

interface Prefix {
  readonly text: string;
  readonly network: number;
  /** As a signed 32-bit number, as bitwise operations give. */
  readonly mask: number;
}

interface Listed extends Prefix {
  /** Undefined: every tenant's. */
  readonly tenant: string | undefined;
}

/** "10.0.0.0/8", or null. Bits below the prefix length must be zero, so that one prefix has one text. */
export function parsePrefix(text: string): Prefix | null {
  const match = /^([0-9.]+)\/(0|[1-9][0-9]?)$/.exec(text);
  const address = match === null ? null : parseIpv4(match[1]!);
  const bits = Number(match?.[2]);
  if (address === null || bits > 32) return null;
  const mask = bits === 0 ? 0 : -1 << (32 - bits);
  return (address & ~mask) === 0 ? { text, network: address & mask, mask } : null;
}

export class PrefixList {
  #prefixes: readonly Listed[] = [];

  add(text: string, tenant?: string): void {
    const prefix = parsePrefix(text);
    if (prefix !== null) this.#prefixes = [...this.#prefixes, { ...prefix, tenant }];
  }

  remove(text: string, tenant?: string): void {
    this.#prefixes = this.#prefixes.filter((prefix) => prefix.text !== text || prefix.tenant !== tenant);
  }

  contains(address: number, tenant: string): boolean {
    for (let i = 0; i < this.#prefixes.length; i++) {
      const prefix = this.#prefixes[i]!; // i < length
      if ((address & prefix.mask) !== prefix.network) continue;
      if (prefix.tenant === undefined || prefix.tenant === tenant) return true;
    }
    return false;
  }
}
