/**
 * How far the ports of VIPs go: what `minPorts` promises each member of a pool must be there when all members
 * ask. A quarter of the stock is left for those who need more than their minimum, and for ranges that rest.
 */
import type { BackendPoolSpec, VipSpec } from "../objects.js";
import { portsIn } from "./port-text.js";
import { FIRST_RANGE, PORTS_PER_RANGE, RANGES_PER_SPACE, type SnatProtocol, rangeOfPort } from "./port-ranges.js";
import { protocolNumber, protocolsOf } from "../vip-map.js";

/** Of the stock, how much may be promised. */
const PROMISED_SHARE_MAX = 0.75;

export interface SnatArithmetic {
  /** Ports of the VIP that no rule holds, of the protocol that has fewer. */
  readonly stockPorts: number;
  /** Members that may own some: of all pools, each at its `maxMembers`. */
  readonly dipsMax: number;
  /** Members there are. */
  readonly dips: number;
  readonly promisedPorts: number;
  /** What each DIP gets when all own alike, in whole ranges: 0 without DIPs. */
  readonly portsPerDip: number;
  /** VIPs of this stock that the promise needs; 1 or less: it fits. */
  readonly vipsNeeded: number;
}

/** `pools`: those that `outbound` names, each once. */
export function snatArithmetic(vip: VipSpec, pools: readonly BackendPoolSpec[]): SnatArithmetic {
  const stockPorts = Math.min(stockOf(vip, 6), stockOf(vip, 17));
  const dipsMax = pools.reduce((sum, pool) => sum + pool.maxMembers, 0);
  const dips = new Set(pools.flatMap((pool) => pool.members.map(({ dip }) => dip))).size;
  const promisedPorts = (vip.outbound?.minPorts ?? 0) * dipsMax;
  const promisable = stockPorts * PROMISED_SHARE_MAX;
  return {
    stockPorts,
    dipsMax,
    dips,
    promisedPorts,
    portsPerDip: dips === 0 ? 0 : Math.floor(stockPorts / PORTS_PER_RANGE / dips) * PORTS_PER_RANGE,
    vipsNeeded: promisable <= 0 ? Infinity : Math.ceil(promisedPorts / promisable),
  };
}

function stockOf(vip: VipSpec, protocol: SnatProtocol): number {
  const held = new Set<number>();
  const hold = (first: number, last: number): void => {
    for (let range = Math.max(FIRST_RANGE, rangeOfPort(first)); range <= rangeOfPort(last); range++) held.add(range);
  };
  for (const rule of vip.rules)
    if (rule.port > 0 && protocolsOf(rule.protocol).includes(protocol)) hold(rule.port, rule.port);
  for (const nat of vip.inboundNat) {
    const { first, last } = portsIn(nat.ports);
    if (protocolNumber(nat.protocol) === protocol) hold(first, last);
  }
  return (RANGES_PER_SPACE - held.size) * PORTS_PER_RANGE;
}
