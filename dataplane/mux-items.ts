/**
 * What the control plane tells a MUX, item by item. The MUX's tables are a projection of the replicated state at one log
 * index: the set of these items, each under a key of its own. A change either puts an item in place of the one with the
 * same key, or removes a key. The same items on every MUX of a site.
 *
 * Plain readonly objects with dense ids (DESIGN §4); addresses are text here, at the edge, and numbers in the tables.
 */
import type { DipId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../core/brands.js";
import { assertNever } from "../core/assert.js";

/** Transport protocols that have ports to balance by, as IANA numbers: 6 TCP, 17 UDP. */
export type PortProtocol = 6 | 17;

export type MuxItem = MuxVipItem | MuxRuleItem | MuxPoolItem | MuxDipItem | MuxSnatItem | MuxPeerItem | MuxSiteItem;

export interface MuxVipItem {
  readonly kind: "vip";
  readonly vipId: VipId;
  readonly address: IpAddress;
  /** Routes to the VIP are announced. Packets that arrive all the same are handled: routers forget late. */
  readonly announced: boolean;
}

/** Packets to VIP:port go to a member of the pool. Key: vipId, protocol, port. */
export interface MuxRuleItem {
  readonly kind: "rule";
  readonly vipId: VipId;
  readonly protocol: PortProtocol;
  readonly port: number;
  readonly poolId: PoolId;
}

export interface MuxPoolItem {
  readonly kind: "pool";
  readonly poolId: PoolId;
  /** Fixes the size of the pool's Maglev table; see `maglev.ts`. */
  readonly maxMembers: number;
  /** A set: the order means nothing. */
  readonly members: readonly MuxPoolMember[];
}

export interface MuxPoolMember {
  readonly dipId: DipId;
  /** Integer 0..1000; 0 gets no new flows. */
  readonly weight: number;
}

export interface MuxDipItem {
  readonly kind: "dip";
  readonly dipId: DipId;
  /** Outer destination of what is encapsulated for it: where the DIP's host is found. */
  readonly locator: IpAddress;
}

/** Return traffic of source NAT: ports [range * 8, range * 8 + 8) of the VIP belong to the DIP. */
export interface MuxSnatItem {
  readonly kind: "snat";
  readonly vipId: VipId;
  readonly protocol: PortProtocol;
  /** port >> 3, integer 128..8191. */
  readonly range: number;
  readonly dipId: DipId;
}

/** A live MUX of the pool; the receiver is among them. */
export interface MuxPeerItem {
  readonly kind: "mux";
  readonly muxId: MuxId;
  readonly name: string;
  readonly incarnation: number;
  /** Outer source of what it encapsulates. */
  readonly address: IpAddress;
  readonly bootId: string;
  /** It may announce once it has this index in force. */
  readonly joinedIndex: LogIndex;
}

export interface MuxSiteItem {
  readonly kind: "site";
  /** Key of the flow hash: 8 bytes, one for the site. */
  readonly hashKey: Uint8Array;
}

export type MuxChange =
  { readonly op: "upsert"; readonly item: MuxItem } | { readonly op: "remove"; readonly key: string };

/** "vip/3", "rule/3/6/80", "pool/2", "dip/7", "snat/3/6/1290", "mux/1", "site". */
export function muxItemKey(item: MuxItem): string {
  switch (item.kind) {
    case "vip":
      return `vip/${item.vipId}`;
    case "rule":
      return `rule/${item.vipId}/${item.protocol}/${item.port}`;
    case "pool":
      return `pool/${item.poolId}`;
    case "dip":
      return `dip/${item.dipId}`;
    case "snat":
      return `snat/${item.vipId}/${item.protocol}/${item.range}`;
    case "mux":
      return `mux/${item.muxId}`;
    case "site":
      return "site";
    default:
      return assertNever(item);
  }
}
