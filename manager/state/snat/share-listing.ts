/** Who may own SNAT ports, and who does: a row per DIP at a VIP and protocol, some VIPs at a time. For people. */
import type { DipId, IpAddress } from "../../../core/brands.js";
import type { DipRecord } from "../dip-table.js";
import { byAddress } from "../order.js";
import { SNAT_PROTOCOLS } from "./port-ranges.js";
import type { PortSpace } from "./port-space.js";
import type { ShareFilter, SharePage, SnatShare, SnatSpace } from "../state-machine.js";
import type { State } from "../state.js";

/** A page is full when it holds as many rows; those of one (VIP, protocol) more, at most. */
const PAGE_SHARES = 1_000;
/** (VIP, protocol) looked at for one page at most, however few of their rows match. */
const PAGE_SPACES = 64;

/** In order of (vip, protocol), then most owned first; what lies behind `after`, which need not exist any more. */
export function sharePage(state: State, filter: ShareFilter, after: SnatSpace | null): SharePage {
  const shares: SnatShare[] = [];
  const spaces = spacesToShare(state, filter).filter((space) => after === null || compare(space, after) > 0);
  for (const [at, space] of spaces.entries()) {
    for (const share of sharesOf(state, space, filter)) shares.push(share);
    const isFull = shares.length >= PAGE_SHARES || at + 1 === PAGE_SPACES;
    if (isFull && at + 1 < spaces.length) return { shares, end: space };
  }
  return { shares, end: null };
}

const compare = (a: SnatSpace, b: SnatSpace): number => byAddress(a.vip, b.vip) || a.protocol - b.protocol;

/** Those of VIPs with `outbound`, and those of which somebody owns ports. */
function spacesToShare(state: State, { vip: wanted }: ShareFilter): readonly SnatSpace[] {
  const addresses = new Set(state.snat.spaces().map((space) => space.vip));
  for (const { spec } of state.objects.allVips()) if (spec.outbound !== null) addresses.add(spec.address);
  const chosen = wanted === null ? [...addresses] : addresses.has(wanted) ? [wanted] : [];
  return chosen.sort(byAddress).flatMap((vip) => SNAT_PROTOCOLS.map((protocol) => ({ vip, protocol })));
}

function sharesOf(state: State, { vip, protocol }: SnatSpace, filter: ShareFilter): readonly SnatShare[] {
  const space = state.snat.space(vip, protocol);
  const owned = space?.ownedByDip ?? new Map<DipId, number>();
  const dips = new Set([...outboundMembers(state, vip), ...owned.keys()]);
  const shares: SnatShare[] = [];
  for (const id of dips) {
    const record = state.dips.must(id);
    if (!matches(record, filter)) continue;
    const limits = state.outbound.vipsFor(record).find(({ address }) => address === vip);
    const has = owned.get(id) ?? 0;
    if (has === 0 && limits === undefined) continue;
    const { dipId, tenant, address, hostId } = record;
    shares.push({
      vip,
      protocol,
      dip: { dipId, tenant, address },
      host: hostId === null ? null : state.hosts.must(hostId).name,
      owned: has,
      recalled: space === null ? 0 : recalledOf(state, space, id),
      waiting: space?.claims.get(id)?.ranges ?? 0,
      guaranteed: limits?.minRanges ?? 0,
      limit: limits?.maxRanges ?? 0,
    });
  }
  return shares.sort((a, b) => b.owned - a.owned || a.dip.dipId - b.dip.dipId);
}

/** By rules, or for others. */
function recalledOf({ snat }: State, space: PortSpace, dip: DipId): number {
  const byRules = snat.recalls
    .ofDip(dip)
    .filter(({ vip, protocol }) => vip === space.vip && protocol === space.protocol);
  return byRules.length + (snat.recalls.surplusOf(space, dip)?.ranges ?? 0);
}

/** Members of the pools that the VIP's `outbound` names. */
function outboundMembers(state: State, address: IpAddress): readonly DipId[] {
  const vip = state.objects.vipAt(address);
  return (vip?.spec.outbound?.pools ?? []).flatMap((name) => {
    const pool = state.objects.pool(vip?.ref.tenant ?? "", name);
    return pool === null ? [] : state.dips.mustAll(pool.ref.tenant, pool.spec.members).map(({ dipId }) => dipId);
  });
}

const matches = ({ tenant, address }: DipRecord, filter: ShareFilter): boolean =>
  (filter.tenant === null || filter.tenant === tenant) && (filter.dip === null || filter.dip === address);
