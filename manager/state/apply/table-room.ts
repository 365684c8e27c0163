/** Whether the MUXes' tables have room for more ranges of a tenant (see `tenant-ranges`), and what its DIP is told where they have none. */
import type { DipId } from "../../../core/brands.js";
import type { DipRecord } from "../dip-table.js";
import type { PortSpace } from "../snat/port-space.js";
import type { CommandResult } from "../commands/results.js";
import type { State } from "../state.js";
import type { TenantShare } from "../snat/tenant-ranges.js";
import { type ApplyContext, refuse } from "./outcome.js";

/** Any tenant may give ranges back at any time. */
const FULL_RETRY_MS = 1_000;
/** Its own hosts give back what they have not used for two minutes. */
const SHARE_RETRY_MS = 10_000;
/** Tenants named to someone who finds nothing. */
const TENANTS_NAMED_MAX = 3;

/** In ranges. */
export interface TableRoom {
  readonly free: number;
  /** Of these, what the tenant may have beyond what is reserved for the asking DIP. */
  readonly forTenant: number;
}

/** A MUX is live. From `enough` on it may be less than there is. */
export function tableRoom({ muxes, snat }: State, tenant: string, enough: number): TableRoom {
  const { snatRanges } = muxes.smallestCapacity;
  return { free: snatRanges - snat.ownedTotal, forTenant: snat.tenants.grantable(tenant, snatRanges, enough) };
}

/** What the DIP may get of the VIP's ports as far as the tables go. */
export const roomIn = ({ free, forTenant }: TableRoom, space: PortSpace, dip: DipId): number =>
  Math.min(free, forTenant + space.lackOf(dip));

/** The table is full, or what is left is for others: who owns most of it for its weight, and when to ask again. */
export function refuseTable(context: ApplyContext, dip: DipRecord): CommandResult {
  const { tenants } = context.state.snat;
  const { snatRanges } = context.state.muxes.smallestCapacity;
  const shares = tenants.shares(snatRanges);
  const own = shares.find(({ tenant }) => tenant === dip.tenant);
  const { owned = 0, weight = 1 } = own ?? {};
  const share = tenants.shareOf(dip.tenant, snatRanges);
  const free = snatRanges - tenants.ownedTotal;
  const left = Math.max(0, free - tenants.reservedTotal);
  const isFull = left === 0;
  const who = `tenant ${dip.tenant}, of weight ${weight}, owns ${owned}; its share is ${share}`;
  const what = isFull
    ? `${tenants.ownedTotal} are owned, and the other ${free} reserved for DIPs below their minPorts`
    : `the last ${left} are left to tenants below their share`;
  const most = shares.slice(0, TENANTS_NAMED_MAX).map(describeShare).join(", ");
  const retryAfterMs = isFull ? FULL_RETRY_MS : SHARE_RETRY_MS;
  const message =
    `the SNAT table of the smallest live MUX holds ${snatRanges} ranges: ${what}; ${who}; most for their weight own ${most};` +
    ` ranges come back when hosts have not used them for 120 s: ask again in ${retryAfterMs / 1_000} s`;
  return refuse(context, "SNAT_PORTS_EXHAUSTED", message, {
    dip: dip.address,
    reason: isFull ? "mux-table-full" : "mux-table-share",
    snatRanges,
    ownedRanges: owned,
    shareRanges: share,
    weight,
    free: left,
    topOwners: most,
    retryAfterMs,
  });
}

const describeShare = ({ tenant, weight, owned }: TenantShare): string => `${tenant} (${owned}, weight ${weight})`;
