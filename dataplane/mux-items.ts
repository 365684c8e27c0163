/**
 * What the control plane tells a MUX, item by item. The MUX's tables are a projection of the replicated state at one log
 * index: the set of these items, each under a key of its own. A change either puts an item in place of the one with the
 * same key, or removes a key. The same items on every MUX of a site.
 *
 * Plain readonly objects with dense ids; addresses are text here, at the edge, and numbers in the tables.
 *
 * An optional field is absent when it has its usual meaning; nobody writes the usual value down (two forms of one item would
 * differ in their digests).
 */
import type { DipId, HostId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../core/brands.js";
import { assertNever } from "../core/assert.js";
import type { Distribution } from "./flow-hash.js";

/** Transport protocols that have ports to balance by, as IANA numbers: 6 TCP, 17 UDP. */
export type PortProtocol = 6 | 17;

/** Of a rule; 0: every protocol, only with port 0. */
export type RuleProtocol = 0 | PortProtocol;

export type MuxItem =
  MuxVipItem | MuxRuleItem | MuxNatItem | MuxPoolItem | MuxDipItem | MuxSnatItem | MuxPeerItem | MuxSiteItem;

export interface MuxVipItem {
  readonly kind: "vip";
  readonly vipId: VipId;
  readonly address: IpAddress;
  /** Routes to the VIP are announced. Packets that arrive all the same are handled: routers forget late. */
  readonly announced: boolean;
  /** Weight of its tenant when a MUX is overloaded (Ananta §3.6.2); 2 and more; absent: 1. */
  readonly weight?: number;
}

/**
 * Packets to VIP:port go to a member of the pool. Key: vipId, protocol, port. Port 0: all ports of the protocol, and with
 * protocol 0 everything that is sent to the VIP; used where no exact rule, inbound NAT or SNAT range has the port.
 */
export interface MuxRuleItem {
  readonly kind: "rule";
  readonly vipId: VipId;
  readonly protocol: RuleProtocol;
  readonly port: number;
  readonly poolId: PoolId;
  /** Absent: by five-tuple. */
  readonly distribution?: Exclude<Distribution, 0>;
  /** Idle time after which a trusted flow is forgotten; absent: the MUX's own default. */
  readonly idleTimeoutMs?: number;
  /** False: flows between VIPs stay on the MUXes. */
  readonly fastpath?: false;
}

/** Inbound NAT: VIP:port leads to one DIP, whatever its probes say. No flow entry, no second chance. */
export interface MuxNatItem {
  readonly kind: "nat";
  readonly vipId: VipId;
  readonly protocol: PortProtocol;
  readonly port: number;
  readonly dipId: DipId;
}

export interface MuxPoolItem {
  readonly kind: "pool";
  readonly poolId: PoolId;
  /** Fixes the size of the pool's Maglev table; see `maglev.ts`. */
  readonly maxMembers: number;
  /** A set: the order means nothing. */
  readonly members: readonly MuxPoolMember[];
  /** Backups serve when fewer than this many in 1,000 of the primaries are up; absent: when none is. */
  readonly failoverPermille?: number;
  /** When nobody is up: new flows go to all members as if they were (fail open). Default: new flows are dropped. */
  readonly failOpen?: true;
  /** TCP flows of a member that went down are reset. Default: they stay. UDP always moves. */
  readonly resetOnProbeDown?: true;
}

/** Takes new flows. */
export const MEMBER_UP = 0;
/** Its probes fail: no new flows; UDP moves at once. */
export const MEMBER_DOWN = 1;
/** No new flows; the ones it has stay. */
export const MEMBER_DRAINING = 2;
/** Drain is over: the flows it still has end. */
export const MEMBER_ENDED = 3;
export type MemberState = 0 | 1 | 2 | 3;

export interface MuxPoolMember {
  readonly dipId: DipId;
  /** Integer 0..1000, slow start included; 0 gets no new flows. */
  readonly weight: number;
  /** Absent: up. */
  readonly state?: Exclude<MemberState, 0>;
  readonly backup?: true;
}

export interface MuxDipItem {
  readonly kind: "dip";
  readonly dipId: DipId;
  /** Outer destination of what is encapsulated for it: where the DIP's host is found. */
  readonly locator: IpAddress;
  /** Host that runs it, by which FastPath messages are signed; absent: it gets none. */
  readonly hostId?: HostId;
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
  /** An operator has taken its routes off the routers: it announces nothing. */
  readonly drained?: true;
}

export interface MuxSiteItem {
  readonly kind: "site";
  /** Key of the flow hash: 8 bytes, one for the site. */
  readonly hashKey: Uint8Array;
  /** Key that only MUXes have: 16 bytes. Authenticates what they tell each other; absent: no peer channel. */
  readonly muxKey?: Uint8Array;
}

export type MuxChange =
  { readonly op: "upsert"; readonly item: MuxItem } | { readonly op: "remove"; readonly key: string };

/** "vip/3", "rule/3/6/80", "pool/2", "dip/7", "snat/3/6/1290", "nat/3/6/50001", "mux/1", "site". */
export function muxItemKey(item: MuxItem): string {
  switch (item.kind) {
    case "vip":
      return `vip/${item.vipId}`;
    case "rule":
      return `rule/${item.vipId}/${item.protocol}/${item.port}`;
    case "nat":
      return `nat/${item.vipId}/${item.protocol}/${item.port}`;
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
