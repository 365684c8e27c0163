/**
 * What the control plane tells a Host Agent, item by item: a projection of the replicated state at one log index, cut to
 * what concerns this host's own DIPs. Same rules as for a MUX, see `mux-items.ts`: absent means the usual.
 */
import type { DipId, IpAddress, MuxId, PoolId, VipId } from "../core/brands.js";
import { assertNever } from "../core/assert.js";
import type { Distribution } from "./flow-hash.js";
import type { PortProtocol } from "./mux-items.js";

export type HostItem =
  | HostDipItem
  | HostEndpointItem
  | HostOutboundItem
  | HostRangeItem
  | HostRecallItem
  | HostProbeItem
  | HostGroupItem
  | HostMuxItem
  | HostInternalItem
  | HostRuleItem
  | HostTableItem
  | HostOwnerItem
  | HostSiteItem;

/** A DIP that lives on this host. */
export interface HostDipItem {
  readonly kind: "dip";
  readonly dipId: DipId;
  readonly address: IpAddress;
  readonly locator: IpAddress;
  readonly tenant: string;
  /** Keys of the security groups of its pools, "tenant/name". Absent: everything is let through. */
  readonly groups?: readonly string[];
  /** Key of its host, 16 bytes: FastPath messages about its flows are signed with it. Absent: none is believed. */
  readonly fastpathKey?: Uint8Array;
}

/**
 * VIP:port is translated to DIP:dipPort. Key: vip, protocol, port, dipId (a host may run several members of a pool).
 * Port 0 with dipPort 0: every port without an endpoint of its own, unchanged.
 */
export interface HostEndpointItem {
  readonly kind: "endpoint";
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  readonly port: number;
  readonly dipId: DipId;
  readonly dipPort: number;
  /** Packets reach the VM with the VIP as destination: it holds the VIP itself (no DNAT). */
  readonly floating?: true;
  /** Flows of a member to itself through the VIP are dropped. Absent: they get a source of the agent's own. */
  readonly hairpin?: "drop";
  /** Seconds without a packet after which a flow is over; absent: the agent's own for the protocol. */
  readonly idleSeconds?: number;
  /** False: an idle TCP flow ends in silence. Absent: with a reset to both ends. */
  readonly idleReset?: false;
  readonly fastpath?: false;
  /** The drain of the DIP is over: flows through this endpoint end, and none begin. */
  readonly ended?: true;
  /** Keys of the security groups of the VIP, "tenant/name". Absent: everything is let through. */
  readonly groups?: readonly string[];
}

/** Flows that the DIP opens to the outside may leave as this VIP. */
export interface HostOutboundItem {
  readonly kind: "outbound";
  readonly dipId: DipId;
  readonly vipId: VipId;
  readonly vip: IpAddress;
  /** All flows of a DIP leave as the same VIP. Absent: spread over the VIPs that it has ports of, by destination. */
  readonly selection?: "paired";
  /** RFC 4787 §4.1; absent: address-and-port-dependent. */
  readonly udpMapping?: "endpointIndependent";
  readonly tcpIdleSeconds?: number;
  readonly udpIdleSeconds?: number;
  /** False: an idle TCP flow ends in silence. */
  readonly idleReset?: false;
  /** What a first packet without a port meets after `queueSeconds`; absent: a reset or an ICMP error. */
  readonly onExhaustion?: "drop";
  /** How long a first packet without a port is held, 0..10 s; absent: 3. */
  readonly queueSeconds?: number;
}

/** How the host finds out whether its DIP can serve a pool. Key: poolId, dipId. */
export interface HostProbeItem {
  readonly kind: "probe";
  readonly poolId: PoolId;
  readonly dipId: DipId;
  readonly protocol: "tcp" | "http" | "https" | "udp";
  readonly port: number;
  readonly intervalSeconds: number;
  readonly timeoutSeconds: number;
  /** Consecutive successes, failures, 1..10. */
  readonly healthyThreshold: number;
  readonly unhealthyThreshold: number;
  /** For http and https. */
  readonly path?: string;
  readonly host?: string;
  /** "200-299", "301": answers that count as success. */
  readonly expectedStatus?: readonly string[];
  /** For udp: what is sent, and what the answer must begin with; hex digits. `expect` absent: any answer. */
  readonly send?: string;
  readonly expect?: string;
}

/** A security group that one of the host's DIPs or endpoints names. */
export interface HostGroupItem {
  readonly kind: "group";
  /** "tenant/name". */
  readonly group: string;
  readonly rules: readonly SecurityRuleItem[];
}

/** Stateful: answers to what was let through pass. The lowest priority number that matches decides; none: denied. */
export interface SecurityRuleItem {
  readonly direction: "in" | "out";
  readonly protocol: "tcp" | "udp" | "icmp" | "all";
  /** "8080" or "9000-9010"; empty: all. */
  readonly ports: readonly string[];
  /** CIDR of the other end, "sg:tenant/name" (came through a VIP with that group), or "probe" (the host's own probes). */
  readonly peer: string;
  readonly action: "allow" | "deny";
  readonly priority: number;
}

/** The DIP owns ports [range * 8, range * 8 + 8) of the VIP. */
export interface HostRangeItem {
  readonly kind: "range";
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  /** port >> 3, integer 128..8191. */
  readonly range: number;
  readonly dipId: DipId;
}

/** The Managers want these ranges back: no new flow starts on them, and they are given back when their flows are over. */
export interface HostRecallItem {
  readonly kind: "recall";
  readonly dipId: DipId;
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  /** As in `HostRangeItem`, ascending. */
  readonly ranges: readonly number[];
  /** Besides, so many ranges of the host's choice; absent: none. */
  readonly surplus?: number;
}

/** Encapsulated packets are accepted from these outer sources. */
export interface HostMuxItem {
  readonly kind: "mux";
  readonly muxId: MuxId;
  readonly address: IpAddress;
  /** Absent: it reaches no IPv6 locator. */
  readonly addressIpv6?: IpAddress;
}

/** Destinations in this prefix are not source-NATed: other DIPs of the tenant's address spaces. */
export interface HostInternalItem {
  readonly kind: "internal";
  /** CIDR text, "10.0.0.0/8". */
  readonly prefix: string;
  /** Whose flows this holds for; absent: every tenant's. */
  readonly tenant?: string;
}

/**
 * TCP flows to VIP:port belong to a slot of the pool's Maglev tables; of pools that a DIP of the host owns slots of, now or
 * formerly. Port 0: ports without a rule of their own. Key: poolId, vipId, port; a VIP's port has one pool at a time.
 */
export interface HostRuleItem {
  readonly kind: "rule";
  readonly poolId: PoolId;
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly port: number;
  /** Absent: by five-tuple. */
  readonly distribution?: Exclude<Distribution, 0>;
}

/** Who takes, or took, the flows of a pool; a Maglev table follows from it. The highest revision is the newest. */
export interface HostTableItem {
  readonly kind: "table";
  readonly poolId: PoolId;
  readonly revision: number;
  /** Fixes the size of the table, see `maglev.ts`. */
  readonly maxMembers: number;
  /** Of weight above 0. */
  readonly members: readonly TableMember[];
}

export interface TableMember {
  readonly dipId: DipId;
  readonly weight: number;
}

/** Where an owner of slots is found: segments that another owner may have state for go there, and come from there. */
export interface HostOwnerItem {
  readonly kind: "owner";
  readonly poolId: PoolId;
  readonly dipId: DipId;
  readonly locator: IpAddress;
}

export interface HostSiteItem {
  readonly kind: "site";
  /** Key of the flow hash: 8 bytes, one for the site. */
  readonly hashKey: Uint8Array;
}

export type HostChange =
  { readonly op: "upsert"; readonly item: HostItem } | { readonly op: "remove"; readonly key: string };

/**
 * "dip/7", "endpoint/3/6/80/7", "outbound/7/3", "range/3/6/1290", "recall/7/3/6", "probe/2/7", "group/default/web", "mux/1", "internal/10.0.0.0/8", "rule/2/3/80",
 * "table/2/5", "owner/2/7", "site".
 */
export function hostItemKey(item: HostItem): string {
  switch (item.kind) {
    case "dip":
      return `dip/${item.dipId}`;
    case "endpoint":
      return `endpoint/${item.vipId}/${item.protocol}/${item.port}/${item.dipId}`;
    case "outbound":
      return `outbound/${item.dipId}/${item.vipId}`;
    case "range":
      return `range/${item.vipId}/${item.protocol}/${item.range}`;
    case "recall":
      return `recall/${item.dipId}/${item.vipId}/${item.protocol}`;
    case "probe":
      return `probe/${item.poolId}/${item.dipId}`;
    case "group":
      return `group/${item.group}`;
    case "mux":
      return `mux/${item.muxId}`;
    case "internal":
      return item.tenant === undefined ? `internal/${item.prefix}` : `internal/${item.prefix}/${item.tenant}`;
    case "rule":
      return `rule/${item.poolId}/${item.vipId}/${item.port}`;
    case "table":
      return `table/${item.poolId}/${item.revision}`;
    case "owner":
      return `owner/${item.poolId}/${item.dipId}`;
    case "site":
      return "site";
    default:
      return assertNever(item);
  }
}
