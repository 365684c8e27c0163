/** Readings of the SNAT stock for people: blocks and sums. Not for the hot path. */
import { assert } from "../../../core/assert.js";
import type { DipId, IpAddress, LogIndex } from "../../../core/brands.js";
import { byAddress, inOrderOfAddress } from "../order.js";
import { RANGES_PER_SPACE, SNAT_PROTOCOLS } from "./port-ranges.js";
import type { Dip } from "../objects.js";
import type { PortSpace } from "./port-space.js";
import { claimsInOrder } from "./claims.js";
import { QUARANTINE_MS } from "./quarantine.js";
import type { SnatBlock, SnatContest, SnatFilter, SnatPage, SnatSpace, SnatUsage } from "../state-machine.js";
import type { State } from "../state.js";

/** A page is full when it holds as many blocks; a space holds at most 8,064 more. */
const PAGE_BLOCKS = 2_000;
/** Spaces looked at for one page at most, however few of their blocks match. */
const PAGE_SPACES = 256;

/** Owned and quarantined ranges, merged into blocks of one grant, ordered by (vip, protocol, range). */
export function listBlocks(state: State, filter: SnatFilter): readonly SnatBlock[] {
  return spacesOf(state, filter).flatMap((space) => blocksOf(state, space, filter));
}

export function listPage(state: State, filter: SnatFilter, after: SnatSpace | null): SnatPage {
  const blocks: SnatBlock[] = [];
  const spaces = spacesOf(state, filter);
  let at = after === null ? 0 : firstBehind(spaces, after);
  const end = at + PAGE_SPACES;
  for (; at < spaces.length; at++) {
    const space = spaces[at]!; // below length
    for (const block of blocksOf(state, space, filter)) blocks.push(block);
    const isFull = blocks.length >= PAGE_BLOCKS || at + 1 === end;
    if (isFull && at + 1 < spaces.length) return { blocks, end: { vip: space.vip, protocol: space.protocol } };
  }
  return { blocks, end: null };
}

/** The spaces that the filter leaves, in order. */
function spacesOf(state: State, { vip, protocol }: SnatFilter): readonly PortSpace[] {
  const all =
    vip === undefined ? state.snat.spaces() : SNAT_PROTOCOLS.flatMap((each) => state.snat.space(vip, each) ?? []);
  return protocol === undefined ? all : all.filter((space) => space.protocol === protocol);
}

/** Position of the first space behind `after`, by halving. */
function firstBehind(spaces: readonly PortSpace[], after: SnatSpace): number {
  let low = 0;
  let high = spaces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const { vip, protocol } = spaces[middle]!; // below length
    if ((byAddress(vip, after.vip) || protocol - after.protocol) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function blocksOf(state: State, space: PortSpace, filter: SnatFilter): readonly SnatBlock[] {
  const blocks: SnatBlock[] = [];
  const add = (range: number, count: number, dip: DipId, grantedIndex: LogIndex, freeAtMs: number | null): void => {
    if (matches(state, filter, dip))
      blocks.push(describeBlock(state, space, { range, count, dip, grantedIndex, freeAtMs }));
  };
  space.visitAllOwned((first, count, dip, grantedIndex) => {
    for (let from = first; from < first + count;) {
      let end = from + 1;
      while (end < first + count && space.isWanted(end) === space.isWanted(from)) end++;
      add(from, end - from, dip, grantedIndex, null);
      from = end;
    }
  });
  for (let resting = space.firstQuarantine; resting !== null; resting = resting.nextInSpace) {
    const freeAtMs = resting.releasedAtMs + QUARANTINE_MS;
    for (const run of space.grantRuns(resting.range, resting.count))
      add(run.first, run.count, resting.dip, run.grantedIndex, freeAtMs);
  }
  return blocks.sort((a, b) => a.range - b.range);
}

function matches(state: State, filter: SnatFilter, dip: DipId): boolean {
  if (filter.dip !== undefined && filter.dip !== dip) return false;
  return filter.host === undefined || state.dips.must(dip).hostId === filter.host;
}

interface Run {
  readonly range: number;
  readonly count: number;
  readonly dip: DipId;
  readonly grantedIndex: LogIndex;
  readonly freeAtMs: number | null;
}

function describeBlock(state: State, space: PortSpace, run: Run): SnatBlock {
  const { dipId, tenant, address, hostId } = state.dips.must(run.dip);
  return {
    vip: space.vip,
    vipId: state.objects.vipAt(space.vip)?.vipId ?? null,
    protocol: space.protocol,
    range: run.range,
    count: run.count,
    state: run.freeAtMs === null ? "owned" : "quarantined",
    recalledSinceMs: state.snat.recalls.get(space, run.range)?.sinceMs ?? null,
    dip: { dipId, tenant, address },
    host: hostId === null ? null : state.hosts.must(hostId).name,
    grantedIndex: run.grantedIndex,
    freeAtMs: run.freeAtMs,
  };
}

export function listContests(state: State): readonly SnatContest[] {
  const { snat, dips, hosts } = state;
  const named = (id: DipId): Dip => {
    const { dipId, tenant, address } = dips.must(id);
    return { dipId, tenant, address };
  };
  return snat.contested().map((space) => ({
    vip: space.vip,
    protocol: space.protocol,
    waiting: claimsInOrder(space).map(({ dip, ranges, sinceMs }) => ({ dip: named(dip), ranges, sinceMs })),
    asked: snat.recalls.surplusIn(space).map(({ dip, ranges, sinceMs }) => {
      const { hostId } = dips.must(dip);
      const host = hostId === null ? null : hosts.must(hostId).name;
      return { dip: named(dip), host, ranges, owned: space.ownedBy(dip), sinceMs };
    }),
  }));
}

/** Of every VIP with `outbound`, and of every address with ranges owned or resting; ordered by (vip, protocol). */
export function listUsage(state: State): readonly SnatUsage[] {
  return addressesWithSnat(state).flatMap((vip) => usageOf(state, vip));
}

function addressesWithSnat(state: State): readonly IpAddress[] {
  const addresses = new Set(
    state.snat
      .spaces()
      .filter((space) => space.ownedCount + space.quarantinedCount > 0)
      .map((space) => space.vip),
  );
  for (const vip of state.objects.allVips()) if (vip.spec.outbound !== null) addresses.add(vip.spec.address);
  return inOrderOfAddress(addresses);
}

/** Of one address, whatever stands there. */
export function usageOf(state: State, vip: IpAddress): readonly SnatUsage[] {
  return SNAT_PROTOCOLS.map((protocol): SnatUsage => {
    const space = state.snat.space(vip, protocol);
    const owned = space?.ownedCount ?? 0;
    const quarantined = space?.quarantinedCount ?? 0;
    const excluded = space?.excludedCount ?? state.objects.ruleRanges(vip, protocol).size;
    const free = RANGES_PER_SPACE - owned - quarantined - excluded;
    assert(space === null || space.freeCount === free, "the four states of a space's ranges add up");
    return { vip, protocol, owned, quarantined, excluded, free };
  });
}
