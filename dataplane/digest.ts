/**
 * Digest of a projection, so that its two ends can tell whether they hold the same items. Each item has a 64-bit hash;
 * the digest is the XOR of all: it does not depend on order, and putting or removing one item costs one hash and one XOR,
 * never a walk over all of them. It finds drift and defects, not an attacker: the hash is not keyed.
 *
 * The hash covers a canonical text (of port ranges, which are many, their numbers): the key, then the item's fields by name in sorted order; one that is absent
 * means the usual, so that a sender older than a field agrees. Sets (pool members) are sorted first: equal sets are equal texts.
 */
import { hex } from "../core/hex.js";
import type { HostItem, HostRangeItem } from "./host-items.js";
import type { MuxItem, MuxSnatItem } from "./mux-items.js";

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

/** Texts of which JSON is the text itself in quotes: names, addresses, prefixes. */
const PLAIN = /^[ !#-[\]-~]*$/;

function canonicalValue(value: unknown): string {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? `${value}` : "null";
    case "string":
      return PLAIN.test(value) ? `"${value}"` : JSON.stringify(value);
    case "boolean":
      return value ? "true" : "false";
    default:
      break;
  }
  if (value instanceof Uint8Array) return `x${hex(value)}`;
  if (Array.isArray(value)) return `[${(value as unknown[]).map(canonicalValue).sort().join(",")}]`;
  if (typeof value === "object" && value !== null) return `{${canonicalFields(value)}}`;
  return JSON.stringify(value);
}

function canonicalFields(item: object): string {
  let text = "";
  for (const name of sortedNames(item)) {
    const value = (item as Record<string, unknown>)[name];
    if (value === undefined) continue;
    text += text === "" ? `${name}:` : `,${name}:`;
    text += canonicalValue(value);
  }
  return text;
}

/** Names of fields as an object has them, and sorted. */
interface Shape {
  readonly names: readonly string[];
  readonly sorted: readonly string[];
}

/** Shapes seen, by how many fields they have: items are made in a few places, millions of them. */
const shapes = new Map<number, Shape[]>();
/** Of one number of fields. More than the code makes; what else comes is sorted each time. */
const SHAPES_MAX = 64;

function sortedNames(item: object): readonly string[] {
  const names = Object.keys(item);
  let known = shapes.get(names.length);
  if (known === undefined) shapes.set(names.length, (known = []));
  for (const shape of known) if (shape.names.every((name, at) => name === names[at])) return shape.sorted;
  const sorted = [...names].sort();
  if (known.length < SHAPES_MAX) known.push({ names, sorted });
  return sorted;
}

/** Two lanes of 32 bits, mixed crosswise at the end (after MurmurHash3's finaliser). */
const LANE_HIGH = 0x9e3779b9;
const LANE_LOW = 0x85ebca6b;

function mixed(high: number, low: number): Digest {
  high = Math.imul(high ^ (high >>> 16), 0x85ebca6b) ^ Math.imul(low ^ (low >>> 13), 0xc2b2ae35);
  low = Math.imul(low ^ (low >>> 16), 0x85ebca6b) ^ Math.imul(high ^ (high >>> 13), 0xc2b2ae35);
  return { high: (high ^ (high >>> 16)) >>> 0, low: (low ^ (low >>> 16)) >>> 0 };
}

function digestOfText(text: string): Digest {
  let high = LANE_HIGH;
  let low = LANE_LOW;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    high = Math.imul(high ^ unit, 0x01000193);
    low = Math.imul(low ^ unit, 0x5bd1e995);
    low ^= low >>> 15;
  }
  return mixed(high, low);
}
/**
 * The kinds that come by the hundred thousand, from their numbers: writing the text would cost ten times as much as granting
 * the range. Their key says nothing that their fields do not. Null: any other kind.
 */
export function digestOfRange(item: MuxItem | HostItem): Digest | null {
  if (item.kind !== "snat" && item.kind !== "range") return null;
  const address = item.kind === "range" ? digestOfText(item.vip) : EMPTY_DIGEST; // a VIP's id is its own for ever, its address is not
  let high = LANE_HIGH ^ address.high;
  let low = LANE_LOW ^ address.low;
  for (const number of [item.kind === "snat" ? 1 : 2, item.vipId, item.protocol, item.range, item.dipId]) {
    high = Math.imul(high ^ number, 0x01000193);
    high ^= high >>> 15;
    low = Math.imul(low ^ number, 0x5bd1e995);
    low ^= low >>> 13;
  }
  return mixed(high, low);
}

/** Contribution of one item to the digest of its view. */
export const digestOf = (key: string, item: MuxItem | HostItem): Digest =>
  digestOfRange(item) ?? digestOfText(`${key}=${canonicalFields(item)}`);

/** True when the two items say the same. */
export function sameItem(a: MuxItem | HostItem, b: MuxItem | HostItem): boolean {
  if (a === b) return true;
  if (a.kind === "snat" && b.kind === "snat") return samePorts(a, b);
  if (a.kind === "range" && b.kind === "range") return samePorts(a, b) && a.vip === b.vip;
  return a.kind === b.kind && canonicalFields(a) === canonicalFields(b);
}

const samePorts = (a: MuxSnatItem | HostRangeItem, b: MuxSnatItem | HostRangeItem): boolean =>
  a.vipId === b.vipId && a.protocol === b.protocol && a.range === b.range && a.dipId === b.dipId;
