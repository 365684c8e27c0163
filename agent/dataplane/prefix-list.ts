/** A short list of prefixes of both families: the destinations that are not source-NATed. Asked once per new outbound flow. */
import { parseIpv4 } from "../../core/address.js";
import { addressWords } from "../../packet/address-words.js";
import { type Addresses, isIpv6Number } from "./addresses.js";

interface Prefix {
  readonly text: string;
  readonly isIpv6: boolean;
  /** Four words each; of IPv4 the last one counts. */
  readonly network: Int32Array;
  readonly mask: Int32Array;
}

interface Listed extends Prefix {
  /** Undefined: every tenant's. */
  readonly tenant: string | undefined;
}

/** "10.0.0.0/8" or "fd00::/8", or null. Bits below the prefix length must be zero, so that one prefix has one text. */
export function parsePrefix(text: string): Prefix | null {
  const match = /^([0-9a-fA-F.:]+)\/(0|[1-9][0-9]{0,2})$/.exec(text);
  const network = match === null ? null : addressWords(match[1]!);
  if (network === null) return null;
  const isIpv6 = parseIpv4(match![1]!) === null; // network is not null, so it matched
  const bits = Number(match![2]);
  if (bits > (isIpv6 ? 128 : 32)) return null;
  const mask = Int32Array.from({ length: 4 }, (_, word) => wordMask(isIpv6 ? bits - word * 32 : bits));
  const isTight = mask.every((word, at) => (!isIpv6 && at < 3) || (network[at]! & ~word) === 0);
  return isTight ? { text, isIpv6, network, mask } : null;
}

const wordMask = (bits: number): number => (bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits));

/** An address never matches a prefix of the other family. */
export function isInPrefix(prefix: Prefix, addresses: Addresses, address: number): boolean {
  const { network, mask } = prefix;
  if (isIpv6Number(address) !== prefix.isIpv6) return false;
  if (!prefix.isIpv6) return (address & mask[3]!) === network[3];
  const { words } = addresses;
  const at = addresses.wordsAt(address);
  return (
    (words[at]! & mask[0]!) === network[0] &&
    (words[at + 1]! & mask[1]!) === network[1] &&
    (words[at + 2]! & mask[2]!) === network[2] &&
    (words[at + 3]! & mask[3]!) === network[3]
  );
}

export class PrefixList {
  readonly #addresses: Addresses;
  #prefixes: readonly Listed[] = [];

  constructor(addresses: Addresses) {
    this.#addresses = addresses;
  }

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
      if (prefix.tenant !== undefined && prefix.tenant !== tenant) continue;
      if (isInPrefix(prefix, this.#addresses, address)) return true;
    }
    return false;
  }
}
