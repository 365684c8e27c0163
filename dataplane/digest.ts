/**
 * Digest of a projection, so that its two ends can tell whether they hold the same items. Each item has a 64-bit hash;
 * the digest is the XOR of all: it does not depend on order, and putting or removing one item costs one hash and one XOR,
 * never a walk over all of them. It finds drift and defects, not an attacker: the hash is not keyed.
 *
 * The hash covers a canonical text: the key, then the item's fields by name in sorted order; one that is absent
 * means the usual, so that a sender older than a field agrees. Sets (pool members) are sorted first: equal sets are equal texts.
 */
import type { HostItem } from "./host-items.js";
import type { MuxItem } from "./mux-items.js";

/** 64 bits as two unsigned 32-bit halves. */
export interface Digest {
  readonly high: number;
  readonly low: number;
}

export const EMPTY_DIGEST: Digest = { high: 0, low: 0 };

/** XOR: adds an item that was not in, and takes out one that was. */
export const xorDigests = (a: Digest, b: Digest): Digest => ({
  high: (a.high ^ b.high) >>> 0,
  low: (a.low ^ b.low) >>> 0,
});

/** 16 hex digits. */
export const formatDigest = (digest: Digest): string =>
  digest.high.toString(16).padStart(8, "0") + digest.low.toString(16).padStart(8, "0");

function canonicalValue(value: unknown): string {
  if (value instanceof Uint8Array)
    return `x${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  if (Array.isArray(value)) return `[${(value as unknown[]).map(canonicalValue).sort().join(",")}]`;
  if (typeof value === "object" && value !== null) return `{${canonicalFields(value)}}`;
  return JSON.stringify(value);
}

const canonicalFields = (item: object): string =>
  Object.keys(item)
    .sort()
    .filter((name) => (item as Record<string, unknown>)[name] !== undefined)
    .map((name) => `${name}:${canonicalValue((item as Record<string, unknown>)[name])}`)
    .join(",");

/** As `canonicalFields`, five times as fast for the kinds that come by the hundred thousand. */
function fieldsOf(item: MuxItem | HostItem): string {
  switch (item.kind) {
    case "snat":
      return `dipId:${item.dipId},kind:"snat",protocol:${item.protocol},range:${item.range},vipId:${item.vipId}`;
    case "range": {
      const { dipId, protocol, range, vip, vipId } = item;
      return `dipId:${dipId},kind:"range",protocol:${protocol},range:${range},vip:"${vip}",vipId:${vipId}`;
    }
    default:
      return canonicalFields(item);
  }
}

/** Contribution of one item to the digest of its view. */
export function digestOf(key: string, item: MuxItem | HostItem): Digest {
  const text = `${key}=${fieldsOf(item)}`;
  // Two lanes of multiply-xor over UTF-16 units, mixed crosswise at the end (after MurmurHash3's finaliser).
  let high = 0x9e3779b9;
  let low = 0x85ebca6b;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    high = Math.imul(high ^ unit, 0x01000193);
    low = Math.imul(low ^ unit, 0x5bd1e995);
    low ^= low >>> 15;
  }
  high = Math.imul(high ^ (high >>> 16), 0x85ebca6b) ^ Math.imul(low ^ (low >>> 13), 0xc2b2ae35);
  low = Math.imul(low ^ (low >>> 16), 0x85ebca6b) ^ Math.imul(high ^ (high >>> 13), 0xc2b2ae35);
  return { high: (high ^ (high >>> 16)) >>> 0, low: (low ^ (low >>> 16)) >>> 0 };
}

/** True when the two items say the same. */
export const sameItem = (a: MuxItem | HostItem, b: MuxItem | HostItem): boolean =>
  a === b || (a.kind === b.kind && fieldsOf(a) === fieldsOf(b));
