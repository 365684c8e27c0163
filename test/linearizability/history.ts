/**
 * [pure] What clients of the system did and were told, as a history that a checker can judge. docs/testing.md, "Histories",
 * has the same as JSON lines.
 *
 * Times are milliseconds of one monotonic clock. An operation took effect at one moment between `callMs` and `returnMs`, or
 * not at all; what is equal in time overlaps. Outcome unknown is not failure: such an operation may have taken effect at any
 * moment from its call on, or may never do.
 */

/** One range of 8 ports: "203.0.113.10/tcp/128". */
export type RangeName = string;
/** "BackendPool/default/web" */
export type ObjectName = string;

export type Action =
  | { readonly kind: "snat-allocate"; readonly dip: string }
  | { readonly kind: "snat-release"; readonly dip: string; readonly ranges: readonly RangeName[] }
  /** A linearizable listing of all ranges of `vips`; what it does not name is free. */
  | { readonly kind: "snat-list"; readonly vips: readonly string[] }
  /** Writes the whole object; `value` stands for its content. `generation`: refused when it differs; 0: no check. */
  | { readonly kind: "object-apply"; readonly object: ObjectName; readonly value: string; readonly generation: number }
  | { readonly kind: "object-delete"; readonly object: ObjectName; readonly generation: number }
  | { readonly kind: "object-get"; readonly object: ObjectName };

export type Outcome =
  /** `snat-allocate`: what was granted. */
  | { readonly kind: "granted"; readonly ranges: readonly RangeName[] }
  /** `snat-release` */
  | { readonly kind: "released" }
  /** `snat-list` */
  | { readonly kind: "listed"; readonly owners: ReadonlyMap<RangeName, RangeOwner> }
  /** `object-apply`, `object-delete` */
  | {
      readonly kind: "changed";
      readonly change: "created" | "configured" | "unchanged" | "deleted";
      readonly generation: number;
    }
  /** `object-get`; null: there is none. */
  | { readonly kind: "read"; readonly found: { readonly value: string; readonly generation: number } | null }
  /** Nothing was done. */
  | { readonly kind: "refused"; readonly code: string }
  /** `ranges`: of an allocation whose answer was lost, when the ownership history tells them (resolve.ts). */
  | { readonly kind: "unknown"; readonly ranges?: readonly RangeName[] };

export interface RangeOwner {
  readonly dip: string;
  /** A quarantined range has no owner; `dip` is the last one. */
  readonly state: "owned" | "quarantined";
}

export interface Operation {
  /** Unique in the history. */
  readonly id: number;
  /** Who asked; one client has one operation open at a time. */
  readonly client: string;
  /** What makes a repetition the same request; null for reads. */
  readonly origin: { readonly session: string; readonly sequence: number } | null;
  readonly callMs: number;
  /** Null: unknown outcome, or still open at the end. */
  readonly returnMs: number | null;
  readonly action: Action;
  readonly outcome: Outcome;
}

export interface History {
  /** Who recorded it: "chaos", "simulator". */
  readonly source: string;
  readonly seed: string;
  /** How long a released range rests before another DIP may get it. */
  readonly quarantineMs: number;
  readonly operations: readonly Operation[];
}

/** Blocks are written "203.0.113.10/tcp/128+2": two ranges from 128 on; "+1" is left out. */
export function rangesOfBlock(text: string): readonly RangeName[] | null {
  const match = /^([0-9a-f.:]{2,45})\/(tcp|udp)\/([0-9]{1,4})(?:\+([0-9]{1,4}))?$/.exec(text);
  if (match === null) return null;
  const [, vip = "", protocol = "", first = "", count = "1"] = match;
  const end = Number(first) + Number(count);
  if (Number(count) < 1 || end > RANGES_PER_ADDRESS) return null;
  return Array.from({ length: Number(count) }, (_, at) => `${vip}/${protocol}/${Number(first) + at}`);
}

/** 65,536 ports in ranges of 8. */
const RANGES_PER_ADDRESS = 8_192;

/** Ranges that follow one another as one block each. */
export function blocksOf(ranges: readonly RangeName[]): readonly string[] {
  const blocks: { readonly space: string; readonly first: number; count: number }[] = [];
  for (const name of ranges) {
    const slash = name.lastIndexOf("/");
    const [space, range] = [name.slice(0, slash), Number(name.slice(slash + 1))];
    const last = blocks.at(-1);
    if (last?.space === space && last.first + last.count === range) last.count++;
    else blocks.push({ space, first: range, count: 1 });
  }
  return blocks.map(({ space, first, count }) => `${space}/${first}${count === 1 ? "" : `+${count}`}`);
}

export const vipOf = (range: RangeName): string => range.slice(0, range.indexOf("/"));
