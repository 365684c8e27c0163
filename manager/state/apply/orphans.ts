/**
 * What a new process of a host says it holds, against what the state says its DIPs own: the rest is orphaned (nobody uses it;
 * its quarantine begins). In an epoch that is not settled the hello is believed over the restored state; see `cluster-epoch`.
 */
import type { DipId, IpAddress } from "../../../core/brands.js";
import type { HeldRange, RangeBlock } from "../commands/commands.js";
import type { DipRecord } from "../dip-table.js";
import { END_RANGE, type SnatProtocol } from "../snat/port-ranges.js";
import type { PortSpace } from "../snat/port-space.js";
import { RANGE_OWNED } from "../snat/range-records.js";
import type { State } from "../state.js";
import type { ApplyContext } from "./outcome.js";

/** Ranges declared, as marks per DIP, address and protocol. */
export type Held = ReadonlyMap<string, Uint8Array>;

const heldKey = (dip: DipId, vip: IpAddress, protocol: SnatProtocol): string => `${dip}/${vip}/${protocol}`;

/** Only of the DIPs in `declaring`. */
export function heldByDip(state: State, heldRanges: readonly HeldRange[], declaring: ReadonlySet<DipId>): Held {
  const held = new Map<string, Uint8Array>();
  for (const { tenant, dip, vip, protocol, range, count } of heldRanges) {
    const record = state.dips.find(tenant, dip);
    if (record === null || !declaring.has(record.dipId)) continue;
    const key = heldKey(record.dipId, vip, protocol);
    const marks = held.get(key) ?? new Uint8Array(END_RANGE);
    held.set(key, marks);
    marks.fill(1, range, range + count);
  }
  return held;
}

const NOTHING: Held = new Map();

/** Begins the quarantine of every range that the DIP owns and its host did not declare; how many that were. */
export function orphan(context: ApplyContext, dip: DipRecord, held: Held): number {
  const { state, index, nowMs } = context;
  let ranges = 0;
  for (const space of state.snat.spacesOf(dip.dipId)) {
    const marks = held.get(heldKey(dip.dipId, space.vip, space.protocol));
    const orphaned: RangeBlock[] = [];
    space.visitOwned(dip.dipId, (first, count) => {
      for (let range = first; range < first + count; range++) {
        if (marks?.[range] === 1) continue;
        const last = orphaned.at(-1);
        if (last !== undefined && last.range + last.count === range)
          orphaned[orphaned.length - 1] = { ...last, count: last.count + 1 };
        else orphaned.push({ vip: space.vip, protocol: space.protocol, range, count: 1 });
      }
    });
    for (const block of orphaned) {
      state.snat.release(space, block.range, block.count, dip.dipId, { nowMs, index });
      state.projection.rangesReleased(block, dip);
      ranges += block.count;
    }
  }
  return ranges;
}

/** As `orphan`, for a host that declares nothing. */
export const orphanAll = (context: ApplyContext, dip: DipRecord): number => orphan(context, dip, NOTHING);

/**
 * Takes over what the host says its DIPs hold and the restored state does not know: ranges free there, resting there, or
 * of a DIP whose own host has not declared yet. Never a rule's port, never of an address without a VIP.
 */
export function takeOverHeld(
  context: ApplyContext,
  heldRanges: readonly HeldRange[],
  declaring: ReadonlySet<DipId>,
): void {
  const { state } = context;
  for (const { tenant, dip: address, vip, protocol, range, count } of heldRanges) {
    const dip = state.dips.find(tenant, address);
    if (dip === null || !declaring.has(dip.dipId)) continue;
    if (state.snat.space(vip, protocol) === null && state.objects.vipAt(vip) === null) continue;
    const space = state.snat.openSpace(vip, protocol);
    for (let at = range; at < range + count; at++) takeOver(context, space, at, dip);
  }
}

function takeOver(context: ApplyContext, space: PortSpace, range: number, dip: DipRecord): void {
  const { state, index } = context;
  const was = space.stateOf(range);
  if (space.isWanted(range) || space.isOwnedBy(range, dip.dipId)) return;
  const block = { vip: space.vip, protocol: space.protocol, range, count: 1 };
  if (was === RANGE_OWNED) {
    const owner = state.dips.must(space.ownerOf(range));
    if (owner.hostId !== null && !state.epoch.mustStillDeclare(owner.hostId)) return; // it has declared this one itself
    state.projection.rangesReleased(block, owner);
  }
  state.snat.takeOver(space, range, dip.dipId, index);
  state.projection.rangesGranted(block, dip);
}
