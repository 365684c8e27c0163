/**
 * SNAT ports change hands. The hot path of the state machine: `allocateSnat` is a few look-ups and one search
 * in a bitmap.
 */
import { assert } from "../../../core/assert.js";
import type { DipId, HostId } from "../../../core/brands.js";
import type { AllocateSnatCommand, RangeBlock, ReleaseSnatCommand } from "../commands/commands.js";
import type { DipRecord } from "../dip-table.js";
import type { OutboundVip } from "../snat/outbound-index.js";
import {
  END_RANGE,
  FIRST_RANGE,
  PORTS_PER_RANGE,
  RANGES_PER_SPACE,
  SNAT_PROTOCOLS,
  formatBlock,
  isRangeBlock,
} from "../snat/port-ranges.js";
import { QUARANTINE_MS } from "../snat/quarantine.js";
import type { Claim, PortSpace } from "../snat/port-space.js";
import { claimRanges, rangesGranted } from "./claims.js";
import { grantable } from "../snat/share.js";
import type { CommandResult } from "../commands/results.js";
import { type ApplyContext, refuse, succeed } from "./outcome.js";
import { type TableRoom, refuseTable, roomIn, tableRoom } from "./table-room.js";

const HOSTS_NAMED_MAX = 5;
/** What a DIP is told to wait while nobody knows how long hosts take to come back. */
const EPOCH_RETRY_MS = 1_000;
/** Others may give ports back at any time. */
const KEPT_RETRY_MS = 1_000;

/** What comes back rests for minutes: asking more often finds nothing more. Well below the time after which a claim lapses. */
const CLAIM_RETRY_MS = 10_000;

/** Owners named to someone who finds nothing. */
const OWNERS_NAMED_MAX = 3;

interface Choice {
  readonly vip: OutboundVip;
  readonly space: PortSpace;
  /** Ranges that the DIP may get here: at least 1. */
  readonly most: number;
}

/**
 * Grants ports of the VIP that has most free, as many as its other DIPs leave room for (see `snat-share`): one block of the next power of two where there is one, so the grant may
 * exceed the request; otherwise pieces, or less. Refuses with NOT_FOUND, STALE_INCARNATION, PERMISSION_DENIED,
 * INVALID_ARGUMENT, SNAT_NOT_CONFIGURED, FAILED_PRECONDITION (VIP not activated yet), UNAVAILABLE
 * (the epoch is not settled), NO_LIVE_MUX, SNAT_LIMIT_REACHED
 * (the DIP owns `maxPorts` everywhere), SNAT_PORTS_EXHAUSTED (nothing is free for this DIP, or for its tenant in the MUXes' tables). Who is
 * refused because others own more than their fair share claims what it lacks of its own, and they are asked to give back.
 */
export function allocateSnat(context: ApplyContext, command: AllocateSnatCommand): CommandResult {
  const { state } = context;
  const dip = requester(context, command);
  if ("ok" in dip) return dip;
  const need = Math.ceil(command.ports / PORTS_PER_RANGE);
  if (!(need >= 1 && need <= RANGES_PER_SPACE)) {
    return refuse(
      context,
      "INVALID_ARGUMENT",
      `ports wanted are 1 to ${RANGES_PER_SPACE * PORTS_PER_RANGE}, not ${command.ports}`,
    );
  }
  const vips = state.outbound.vipsFor(dip);
  const [first] = vips;
  if (first === undefined) {
    return refuse(
      context,
      "SNAT_NOT_CONFIGURED",
      `no VIP's outbound names a pool with member ${dip.tenant}/${dip.address}`,
      { dip: dip.address },
    );
  }
  if (!vips.some((vip) => vip.isActive)) {
    return refuse(context, "FAILED_PRECONDITION", `VIP ${first.name} is being configured on the MUXes; ask again`, {
      vip: first.address,
    });
  }
  if (!state.epoch.isSettled) return refuseUnsettled(context);
  if (state.muxes.liveCount === 0)
    return refuse(context, "NO_LIVE_MUX", "no MUX is live, so none could deliver the replies");
  const room = tableRoom(state, dip.tenant, 2 * need);
  if (room.free < 1) return refuseTable(context, dip);

  const choice = choose(context, vips, { dip: dip.dipId, protocol: command.protocol, need, room });
  if (choice === "table") return refuseTable(context, dip);
  if (choice === "stock") return refuseStock(context, vips, dip, { protocol: command.protocol, need });
  const { space, most } = choice;
  const blocks = state.snat.grant(space, dip.dipId, need, most, context.index);
  assert(blocks.length > 0, "a chosen VIP has a free range that the DIP may own");
  for (const block of blocks) state.projection.rangesGranted(block, dip);
  const granted = blocks.reduce((sum, { count }) => sum + count, 0);
  rangesGranted(state, space, dip.dipId, granted, context.nowMs);
  return succeed(context, { kind: "snat-allocated", blocks });
}

/** After a restore: who has still to say what it holds, or how long ranges still rest. */
function refuseUnsettled(context: ApplyContext): CommandResult {
  const { state, nowMs } = context;
  const unsettled = state.epoch.unsettled(state.site?.clusterEpoch ?? 0);
  assert(unsettled !== null, "an epoch that is not settled says why");
  const waitMs = Math.max(0, unsettled.notBeforeMs - nowMs);
  const names = unsettled.missing.slice(0, HOSTS_NAMED_MAX).map((id) => state.hosts.must(id).name);
  const more = unsettled.missing.length - names.length;
  const hosts = `hosts have yet to declare their ports or be fenced: ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
  const rest = `ports that may have been in use rest for another ${Math.ceil(waitMs / 1000)} s`;
  const why = [...(names.length > 0 ? [hosts] : []), ...(waitMs > 0 ? [rest] : [])].join("; ");
  return refuse(context, "UNAVAILABLE", `epoch ${unsettled.clusterEpoch} began with a restore: ${why}`, {
    reason: "epoch-unsettled",
    clusterEpoch: unsettled.clusterEpoch,
    hostsMissing: unsettled.missing.length,
    retryAfterMs: Math.max(waitMs, EPOCH_RETRY_MS),
  });
}

interface Wanted {
  readonly dip: DipId;
  readonly protocol: 6 | 17;
  readonly need: number;
  readonly room: TableRoom;
}

/**
 * The active VIP with most free ranges among those where the DIP may get some; the lowest id on a tie. Or what keeps it from getting any:
 * the VIPs' stock, or where that would do, the MUXes' tables.
 */
function choose(
  context: ApplyContext,
  vips: readonly OutboundVip[],
  { dip, protocol, need, room }: Wanted,
): Choice | "stock" | "table" {
  let best: Choice | null = null;
  let hasStock = false;
  for (const vip of candidates(context, vips, dip)) {
    const space = spaceOf(context, vip, protocol);
    if (best !== null && space.freeCount <= best.space.freeCount) continue;
    const inStock = Math.min(grantable(space, dip, 2 * need), vip.maxRanges - space.ownedBy(dip));
    const most = Math.min(inStock, roomIn(room, space, dip));
    hasStock ||= inStock > 0;
    if (most > 0) best = { vip, space, most };
  }
  return best ?? (hasStock ? "table" : "stock");
}

const spaceOf = (context: ApplyContext, vip: OutboundVip, protocol: 6 | 17): PortSpace =>
  context.state.snat.openSpace(vip.address, protocol);

/** Active VIPs that the DIP may leave as: all, or with paired selection the one that it owns most of, or its own by its id. */
function candidates(context: ApplyContext, vips: readonly OutboundVip[], dip: DipId): readonly OutboundVip[] {
  const active = vips.filter(({ isActive }) => isActive);
  if (active.length < 2 || !active.some(({ isPaired }) => isPaired)) return active;
  const ownedAt = ({ address }: OutboundVip): number =>
    SNAT_PROTOCOLS.reduce((sum, protocol) => sum + (context.state.snat.space(address, protocol)?.ownedBy(dip) ?? 0), 0);
  const home = active.reduce((best, vip) => (ownedAt(vip) > ownedAt(best) ? vip : best));
  return [ownedAt(home) > 0 ? home : active[dip % active.length]!]; // in range
}

/** Nothing can be granted: because of the DIP's own limit, or because the stock is used up. */
function refuseStock(
  context: ApplyContext,
  vips: readonly OutboundVip[],
  dip: DipRecord,
  { protocol, need }: { readonly protocol: 6 | 17; readonly need: number },
): CommandResult {
  const active = candidates(context, vips, dip.dipId).map((vip) => ({ vip, space: spaceOf(context, vip, protocol) }));
  const below = active.filter(({ vip, space }) => space.ownedBy(dip.dipId) < vip.maxRanges);
  const first = active[0];
  assert(first !== undefined, "at least one VIP is active");
  if (below.length === 0) {
    const maxPorts = first.vip.maxRanges * PORTS_PER_RANGE;
    const message = `DIP ${dip.tenant}/${dip.address} owns all ${maxPorts} ports that VIP ${first.vip.name} allows a DIP`;
    const ownedPorts = first.space.ownedBy(dip.dipId) * PORTS_PER_RANGE;
    return refuse(context, "SNAT_LIMIT_REACHED", message, {
      dip: dip.address,
      vip: first.vip.address,
      maxPorts,
      ownedPorts,
    });
  }
  for (const { vip, space } of below) {
    const wanted = Math.min(need, vip.maxRanges - space.ownedBy(dip.dipId));
    const claim = claimRanges(context.state, { space, dip: dip.dipId, wanted }, context.nowMs);
    if (claim !== null && context.state.snat.recalls.surplusIn(space).length > 0)
      return refuseRecalling(context, dip, { vip, space, claim });
    if (claim !== null) break; // what rests is enough
  }
  const kept = below.find(({ space }) => space.freeCount > 0);
  if (kept !== undefined) return refuseKept(context, dip, kept.vip, kept.space);
  const soonest = below.reduce((a, b) => (freeAtMs(b.space) < freeAtMs(a.space) ? b : a));
  const { vip, space } = soonest;
  const facts = {
    dip: dip.address,
    vip: vip.address,
    free: 0,
    owned: space.ownedCount,
    quarantined: space.quarantinedCount,
  };
  if (space.quarantinedCount === 0) {
    const message = `all ports of VIP ${vip.name} are owned, most of them by ${topOwners(context, space)}`;
    return refuse(context, "SNAT_PORTS_EXHAUSTED", message, {
      ...facts,
      reason: "all-owned",
    });
  }
  const atMs = freeAtMs(space);
  const waitMs = Math.max(0, atMs - context.nowMs);
  const message = `no port of VIP ${vip.name} is free; ${space.quarantinedCount} ranges rest, the first for another ${Math.ceil(waitMs / 1000)} s`;
  return refuse(context, "SNAT_PORTS_EXHAUSTED", message, {
    ...facts,
    reason: "quarantine",
    freeAtMs: atMs,
    retryAfterMs: Math.min(waitMs, CLAIM_RETRY_MS),
  });
}

/** Ports are free, but for others: reserved, or the DIP has its share of what is left. */
function refuseKept(context: ApplyContext, dip: DipRecord, vip: OutboundVip, space: PortSpace): CommandResult {
  const isReserved = space.freeCount <= space.shortfall;
  const isContested = space.claims.size > 0;
  const free = space.freeCount * PORTS_PER_RANGE;
  const why = isReserved
    ? `the last ${free} are reserved for DIPs below their minPorts`
    : isContested
      ? `others wait for their fair share, and get what is free before it, which owns ${space.ownedBy(dip.dipId) * PORTS_PER_RANGE}`
      : `the last ${free} are left to DIPs that own less than its ${space.ownedBy(dip.dipId) * PORTS_PER_RANGE}`;
  return refuse(
    context,
    "SNAT_PORTS_EXHAUSTED",
    `VIP ${vip.name} has no port for DIP ${dip.tenant}/${dip.address}: ${why}`,
    {
      dip: dip.address,
      vip: vip.address,
      free: space.freeCount,
      owned: space.ownedCount,
      quarantined: space.quarantinedCount,
      reason: isReserved ? "reserved" : "fair-share",
      topOwners: topOwners(context, space),
      retryAfterMs: isContested ? CLAIM_RETRY_MS : KEPT_RETRY_MS,
    },
  );
}

/** Others own more than their fair share, and are asked for it. */
function refuseRecalling(
  context: ApplyContext,
  dip: DipRecord,
  { vip, space, claim }: { readonly vip: OutboundVip; readonly space: PortSpace; readonly claim: Claim },
): CommandResult {
  const asked = context.state.snat.recalls.surplusIn(space);
  const recalled = asked.reduce((sum, { ranges }) => sum + ranges, 0) * PORTS_PER_RANGE;
  const names = asked.slice(0, OWNERS_NAMED_MAX).map(({ dip: id, ranges, sinceMs }) => {
    const { tenant, address } = context.state.dips.must(id);
    const owned = space.ownedBy(id) * PORTS_PER_RANGE;
    const seconds = Math.floor((context.nowMs - sinceMs) / 1_000);
    return `${ranges * PORTS_PER_RANGE} of the ${owned} of ${tenant}/${address}, for ${seconds} s`;
  });
  const more = asked.length > names.length ? ` and others` : "";
  const rests = space.quarantinedCount * PORTS_PER_RANGE;
  const rest =
    rests === 0
      ? ""
      : `; ${rests} rest, the first for another ${Math.ceil(Math.max(0, freeAtMs(space) - context.nowMs) / 1_000)} s`;
  const waits = `DIP ${dip.tenant}/${dip.address} waits for ${claim.ranges * PORTS_PER_RANGE} ports of VIP ${vip.name}`;
  const message = `${waits}: others are asked for what they own above their fair share, ${names.join(", ")}${more}; ports come back when their flows are over, and rest for ${QUARANTINE_MS / 1_000} s${rest}`;
  return refuse(context, "SNAT_PORTS_EXHAUSTED", message, {
    dip: dip.address,
    vip: vip.address,
    free: space.freeCount,
    owned: space.ownedCount,
    quarantined: space.quarantinedCount,
    reason: "recalling",
    waitingPorts: claim.ranges * PORTS_PER_RANGE,
    recalledPorts: recalled,
    topOwners: topOwners(context, space),
    retryAfterMs: CLAIM_RETRY_MS,
  });
}

/** "default/10.0.0.1 (512), default/10.0.0.2 (64)": who owns most, in ports. */
function topOwners(context: ApplyContext, space: PortSpace): string {
  return [...space.ownedByDip]
    .sort(([a, most], [b, more]) => more - most || a - b)
    .slice(0, OWNERS_NAMED_MAX)
    .map(([id, ranges]) => {
      const { tenant, address } = context.state.dips.must(id);
      return `${tenant}/${address} (${ranges * PORTS_PER_RANGE})`;
    })
    .join(", ");
}

/** Cluster time at which the first resting range of the space may be free; Infinity when none rests. */
const freeAtMs = (space: PortSpace): number =>
  space.firstQuarantine === null ? Infinity : space.firstQuarantine.releasedAtMs + QUARANTINE_MS;

/** Ends ownership of the blocks, all or none; their quarantine begins. INVALID_ARGUMENT when any range is not the DIP's own. */
export function releaseSnat(context: ApplyContext, command: ReleaseSnatCommand): CommandResult {
  const { state, index, nowMs } = context;
  const dip = requester(context, command);
  if ("ok" in dip) return dip;
  const foreign = command.blocks.find((block) => !isRangeBlock(block) || !ownsBlock(context, block, dip.dipId));
  if (foreign !== undefined) {
    return refuse(
      context,
      "INVALID_ARGUMENT",
      `DIP ${dip.tenant}/${dip.address} does not own all of ${describe(foreign)}`,
      { dip: dip.address },
    );
  }
  if (overlap(command.blocks))
    return refuse(context, "INVALID_ARGUMENT", "a range is named twice in one release", { dip: dip.address });
  let ranges = 0;
  for (const block of command.blocks) {
    const space = state.snat.space(block.vip, block.protocol);
    assert(space !== null, "owned ranges lie in a space");
    state.snat.release(space, block.range, block.count, dip.dipId, { nowMs, index });
    state.projection.rangesReleased(block, dip);
    ranges += block.count;
  }
  return succeed(context, { kind: "snat-released", ranges });
}

/** The DIP that a host asks for, or why it may not. */
function requester(
  context: ApplyContext,
  request: { readonly hostId: HostId; readonly incarnation: number; readonly dipId: DipId },
): DipRecord | CommandResult {
  const { hosts, dips } = context.state;
  const host = hosts.get(request.hostId);
  if (host === null) return refuse(context, "NOT_FOUND", `no host has id ${request.hostId}`);
  if (host.incarnation !== request.incarnation) {
    const message = `host ${host.name} is at incarnation ${host.incarnation}; this request comes from ${request.incarnation}`;
    return refuse(context, "STALE_INCARNATION", message, { host: host.name, incarnation: host.incarnation });
  }
  const dip = dips.get(request.dipId);
  if (dip === null || dip.hostId !== host.hostId) {
    return refuse(context, "PERMISSION_DENIED", `DIP ${request.dipId} is not one of host ${host.name}`, {
      host: host.name,
    });
  }
  return dip;
}

function ownsBlock(context: ApplyContext, block: RangeBlock, dip: DipId): boolean {
  const space = context.state.snat.space(block.vip, block.protocol);
  if (space === null) return false;
  for (let range = block.range; range < block.range + block.count; range++) {
    if (!space.isOwnedBy(range, dip)) return false;
  }
  return true;
}

function overlap(blocks: readonly RangeBlock[]): boolean {
  if (blocks.length < 2) return false;
  const taken = new Map<string, Uint8Array>();
  for (const { vip, protocol, range, count } of blocks) {
    const key = `${vip}/${protocol}`;
    const marks = taken.get(key) ?? new Uint8Array(END_RANGE);
    taken.set(key, marks);
    if (marks.subarray(range, range + count).includes(1)) return true;
    marks.fill(1, range, range + count);
  }
  return false;
}

const describe = (block: RangeBlock): string =>
  isRangeBlock(block)
    ? formatBlock(block)
    : `ranges ${block.range} + ${block.count} (ranges are ${FIRST_RANGE}..${END_RANGE - 1})`;
