/**
 * [pure] The judge of the project's invariant: a (VIP, protocol, range) has one owner, and changes it only after a release.
 * It compares what clients were promised with what replicas say, range by range.
 */
import type { OwnedPorts, PortBlock } from "./control/manager-api.js";

/** "203.0.113.10/tcp/128": one range of 8 ports. */
export const rangeKey = (block: PortBlock, range: number): string => `${block.vip}/${block.protocol}/${range}`;

/** The single ranges of a block. */
export function rangesOf(block: PortBlock): readonly number[] {
  return Array.from({ length: block.count }, (_, offset) => block.range + offset);
}

/** Ranges that a listing gives to more than one owner; a quarantined one must not be owned at the same time either. */
export function doublyOwned(blocks: readonly OwnedPorts[]): readonly string[] {
  const owners = new Map<string, string>();
  const doubled = new Set<string>();
  for (const block of blocks) {
    for (const range of rangesOf(block)) {
      const key = rangeKey(block, range);
      if (owners.has(key)) doubled.add(`${key}: ${owners.get(key) ?? ""} and ${block.dip}`);
      owners.set(key, block.dip);
    }
  }
  return [...doubled];
}

/**
 * Ranges of `before` whose owner changed although it never released them. A range that its owner gave back rests for 120 s
 * under its name, so within that time a range must be found, owned or resting, under the same DIP.
 */
export function changedOwners(before: readonly OwnedPorts[], after: readonly OwnedPorts[]): readonly string[] {
  const now = index(after);
  const changed: string[] = [];
  for (const block of before) {
    if (block.state !== "owned") continue;
    for (const range of rangesOf(block)) {
      const key = rangeKey(block, range);
      const found = now.get(key);
      if (found?.dip !== block.dip) changed.push(`${key}: ${block.dip} before, ${found?.dip ?? "nobody"} after`);
    }
  }
  return changed;
}

function index(blocks: readonly OwnedPorts[]): ReadonlyMap<string, OwnedPorts> {
  const owners = new Map<string, OwnedPorts>();
  for (const block of blocks) for (const range of rangesOf(block)) owners.set(rangeKey(block, range), block);
  return owners;
}

/** What the clients of one workload were told, in the order in which they were told. */
export class GrantLedger {
  /** Acknowledged allocations. */
  grants = 0;
  ranges = 0;
  releases = 0;
  /** Granted while the ledger still had another holder, or while the range had to rest. */
  readonly conflicts: string[] = [];
  private readonly held = new Map<string, string>();
  private readonly rests = new Map<string, { readonly dip: string; readonly sinceMs: number }>();
  private readonly unsure = new Set<string>();
  private readonly quarantineMs: number;

  constructor(quarantineMs: number) {
    this.quarantineMs = quarantineMs;
  }

  granted(dip: string, blocks: readonly PortBlock[], nowMs: number): void {
    this.grants++;
    for (const block of blocks) {
      for (const range of rangesOf(block)) {
        const key = rangeKey(block, range);
        const holder = this.held.get(key);
        const rest = this.rests.get(key);
        if (holder !== undefined) this.conflicts.push(`${key}: granted to ${dip}, held by ${holder}`);
        if (rest !== undefined && rest.dip !== dip && nowMs - rest.sinceMs < this.quarantineMs) {
          this.conflicts.push(
            `${key}: granted to ${dip} ${Math.round(nowMs - rest.sinceMs)} ms after ${rest.dip} released it`,
          );
        }
        this.rests.delete(key);
        this.unsure.delete(key);
        this.held.set(key, dip);
        this.ranges++;
      }
    }
  }

  /** Before the release is sent: from here on the range may be given to another after its rest. */
  releasing(blocks: readonly PortBlock[]): void {
    for (const key of keysOf(blocks)) {
      this.held.delete(key);
      this.unsure.add(key);
    }
  }

  /** `sentMs` is when it was asked for: its rest cannot have begun earlier. */
  released(dip: string, blocks: readonly PortBlock[], sentMs: number): void {
    this.releases++;
    for (const key of keysOf(blocks)) {
      this.unsure.delete(key);
      this.rests.set(key, { dip, sinceMs: sentMs });
    }
  }

  /** Grants that were acknowledged, never released, and are not their DIP's in the listing. */
  lost(listing: readonly OwnedPorts[]): readonly string[] {
    const now = index(listing);
    const lost: string[] = [];
    for (const [key, dip] of this.held) {
      const found = now.get(key);
      if (found?.state !== "owned" || found.dip !== dip) {
        lost.push(
          `${key}: granted to ${dip}, now ${found === undefined ? "nobody's" : `${found.state} by ${found.dip}`}`,
        );
      }
    }
    return lost;
  }
}

const keysOf = (blocks: readonly PortBlock[]): readonly string[] =>
  blocks.flatMap((block) => rangesOf(block).map((range) => rangeKey(block, range)));

/** Longest time without an event in [fromMs, toMs]; `timesMs` ascends. The time until the first one counts too. */
export function longestGapMs(timesMs: readonly number[], fromMs: number, toMs: number): number {
  let last = fromMs;
  let longest = 0;
  for (const time of timesMs) {
    if (time < fromMs) continue;
    if (time > toMs) break;
    longest = Math.max(longest, time - last);
    last = time;
  }
  return Math.max(longest, toMs - last);
}
