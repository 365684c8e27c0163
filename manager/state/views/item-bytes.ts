/**
 * How long an item is on the wire, about, and never less than it is: what is sent at once is bounded by it. Pools and tables have
 * up to 655 members, a security group 256 rules with their ports: counting items alone would say nothing of a message's length.
 */
import type { HostItem } from "../../../dataplane/host-items.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";

/** Tag and value of a number: 32 bits take five bytes, an index of the log eight at most. */
const NUMBER_BYTES = 9;
/** Tag and length of a text, a list's item or a message; one byte more where it is longer than 16,383. */
const FRAME_BYTES = 5;
/** Four small numbers, or two, and the frame: DIP ids take four bytes at most. */
const POOL_MEMBER_BYTES = 20;
const TABLE_MEMBER_BYTES = 14;
/** Of a range: an address as text, 39 characters at most, and numbers. */
const RANGE_BYTES = 80;

export function itemBytes(item: MuxItem | HostItem): number {
  switch (item.kind) {
    case "snat":
    case "range":
      return RANGE_BYTES;
    case "pool":
      return 6 * NUMBER_BYTES + FRAME_BYTES + item.members.length * POOL_MEMBER_BYTES;
    case "table":
      return 4 * NUMBER_BYTES + FRAME_BYTES + item.members.length * TABLE_MEMBER_BYTES;
    default:
      return valueBytes(item);
  }
}

function valueBytes(value: unknown): number {
  // UTF-8 takes three bytes per UTF-16 unit at most.
  if (typeof value === "string") return FRAME_BYTES + value.length * 3;
  if (value instanceof Uint8Array) return FRAME_BYTES + value.length;
  if (typeof value !== "object" || value === null) return NUMBER_BYTES;
  let sum = 2 * FRAME_BYTES;
  for (const part of Object.values(value)) sum += valueBytes(part);
  return sum;
}
