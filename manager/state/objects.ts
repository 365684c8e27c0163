/**
 * What an operator writes: declarative objects, applied whole, checked against a generation. Names are unique per kind
 * and tenant. Every field here does something in the state machine and in a projection; there are no others.
 * Bounds are checked at the edge (`api/objects/schema`) and what depends on other objects in `apply`.
 */
import type { DipId, IpAddress, LogIndex, PoolId, Port, VipId } from "../../core/brands.js";

export type ObjectKind = "Tenant" | "SecurityGroup" | "BackendPool" | "Vip";

/** In the order in which they are stored: what is named before what names it. */
export const OBJECT_KINDS: readonly ObjectKind[] = ["Tenant", "SecurityGroup", "BackendPool", "Vip"];

export interface ObjectRef {
  readonly kind: ObjectKind;
  /** `default` when the operator names none; of a Tenant, its own name. */
  readonly tenant: string;
  /** RFC 1123 label: 1..63 of a-z, 0-9 and "-", not at either end. */
  readonly name: string;
}

/** "Vip/default/web": unique in the cluster. */
export const objectKey = (ref: ObjectRef): string => `${ref.kind}/${ref.tenant}/${ref.name}`;

/** A tenant that nobody has written is as one with `TENANT_DEFAULTS`. */
export interface TenantSpec {
  /** Share of MUXes and of contested SNAT ports, 1..1000. */
  readonly weight: number;
  /**
   * CIDR, canonical. Where there are any, DIPs lie inside; flows between DIPs of these spaces are not source-NATed. May
   * overlap with other tenants'.
   */
  readonly addressSpaces: readonly string[];
  /** Most VIPs; 0: no limit. */
  readonly maxVips: number;
  /** Most rules in one VIP, 1..1500. */
  readonly maxRulesPerVip: number;
}

export const TENANT_DEFAULTS: TenantSpec = { weight: 1, addressSpaces: [], maxVips: 0, maxRulesPerVip: 1_500 };

/** Stateful: answers to what was let through pass. The lowest priority number that matches decides; none: denied. */
export interface SecurityGroupSpec {
  readonly rules: readonly SecurityRule[];
}

export interface SecurityRule {
  readonly direction: "in" | "out";
  readonly protocol: "tcp" | "udp" | "icmp" | "all";
  /** "8080" or "9000-9010"; empty: all. Only for tcp and udp. */
  readonly ports: readonly string[];
  /** The other end: CIDR, "sg:NAME" (came through a VIP with that group), or "probe" (the host's own probes). */
  readonly peer: string;
  readonly action: "allow" | "deny";
  /** 1..4096, unique in the group and direction. */
  readonly priority: number;
}

export interface BackendPoolSpec {
  readonly members: readonly PoolMember[];
  /** Size of the Maglev table is chosen from this and fixed at creation; 1..655. */
  readonly maxMembers: number;
  /** Backups serve when fewer than this share of the primaries is up, in percent; 0: when none is. */
  readonly failoverPercent: number;
  /** When no member is up: new flows go to all, or are dropped. */
  readonly allDown: "failOpen" | "drop";
  /** TCP flows of a member that goes down; UDP flows always move. */
  readonly tcpOnDown: "persist" | "reset";
  /**
   * How long a member that gets no new flows any more (its weight is 0, or it has left the pool) keeps those that it has, 1..3600;
   * 0: until they end by themselves.
   */
  readonly drainTimeoutSeconds: number;
  /** How hosts find out whether their DIPs can serve; null: a DIP is up while its host is. */
  readonly probe: HealthProbe | null;
  /** Names of SecurityGroups of the same tenant that guard the DIPs; at most 5. */
  readonly securityGroups: readonly string[];
}

export interface PoolMember {
  /** A machine behind the VIPs; (tenant, address) is its identity. */
  readonly dip: IpAddress;
  /** Port on the DIP; 0 means the rule's backend port. */
  readonly port: Port;
  /** Share of new flows, 0..1000; 0 gets none. */
  readonly weight: number;
  readonly role: "primary" | "backup";
  /** An operator's word above the probe's; "none": the probe decides. */
  readonly adminState: "none" | "up" | "down";
}

export interface HealthProbe {
  readonly protocol: "tcp" | "http" | "https" | "udp";
  /** 0: the port that the member serves on. */
  readonly port: Port;
  /** 1..300. */
  readonly intervalSeconds: number;
  /** 1..120, at most the interval. */
  readonly timeoutSeconds: number;
  /** Consecutive successes or failures that change the verdict, 1..10. */
  readonly healthyThreshold: number;
  readonly unhealthyThreshold: number;
  /** http and https. */
  readonly path: string;
  /** Host header; "": the DIP's address. */
  readonly host: string;
  /** "200" or "200-299"; 1 to 8. */
  readonly expectedStatus: readonly string[];
  /** udp: what is sent and what the answer must begin with, hex digits; "" for `expect`: any answer. */
  readonly send: string;
  readonly expect: string;
}

export interface VipSpec {
  readonly address: IpAddress;
  /** Internal VIPs are destinations that flows reach without source NAT. */
  readonly scope: "public" | "internal";
  /** down: its routes are withdrawn. */
  readonly adminState: "up" | "down";
  /** A member's flow to itself through the VIP: gets another source, or is dropped. */
  readonly hairpin: "snat" | "drop";
  /** Names of SecurityGroups of the same tenant; at most 5. */
  readonly securityGroups: readonly string[];
  /** What the Managers do when it overloads the MUXes. */
  readonly overload: VipOverload;
  readonly rules: readonly VipRule[];
  readonly inboundNat: readonly InboundNatRule[];
  /** Source NAT for flows that the members of these pools open; absent: none. */
  readonly outbound: VipOutbound | null;
}

export interface VipOverload {
  /** blackhole: withdrawn from all MUXes for a while; none: never withdrawn. */
  readonly action: "blackhole" | "none";
  /** 30..86400. */
  readonly restoreAfterSeconds: number;
}

export interface VipRule {
  readonly name: string;
  /** "all": every protocol, port 0. */
  readonly protocol: "tcp" | "udp" | "tcp_udp" | "all";
  /** 1..65535; (protocol, port) is unique within a VIP. 0 with protocol all. */
  readonly port: Port;
  /** Name of a BackendPool of the same tenant. */
  readonly pool: string;
  /** 1..65535; the edge fills in `port` when the operator leaves it out. 0 with protocol all. */
  readonly backendPort: Port;
  readonly distribution: "fiveTuple" | "clientIpProtocol" | "clientIp";
  /** The VIP stays the destination: the machine holds it itself. */
  readonly floatingIp: boolean;
  /** Idle time after which a flow is over, 10..86400; 0: the data path's own. */
  readonly idleSeconds: number;
  /** An idle TCP flow ends with a reset to both ends. */
  readonly idleReset: boolean;
  readonly fastpath: boolean;
}

/** A port of the VIP for each member of a pool, whatever its health; assigned in the log, kept while it is a member. */
export interface InboundNatRule {
  readonly name: string;
  readonly protocol: "tcp" | "udp";
  /** "50000-50099" */
  readonly ports: string;
  readonly pool: string;
  readonly backendPort: Port;
}

export interface VipOutbound {
  /** Names of BackendPools of the same tenant. */
  readonly pools: readonly string[];
  /** Ports kept for each member, per protocol; a multiple of 8 in 0..64512. */
  readonly minPorts: number;
  /** Most ports one DIP may own on this VIP and protocol; a multiple of 8 in 8..64512. */
  readonly maxPorts: number;
  /** Of several VIPs: flows are spread by destination, or a DIP always leaves as the same one. */
  readonly selection: "spread" | "paired";
  /** RFC 4787 §4.1. */
  readonly udpMapping: "addressPortDependent" | "endpointIndependent";
  /** 60..86400, 10..3600; 0: the data path's own. */
  readonly tcpIdleSeconds: number;
  readonly udpIdleSeconds: number;
  readonly idleReset: boolean;
  /** What a first packet without a port meets after `queueSeconds` (0..10). */
  readonly onExhaustion: "reset" | "drop";
  readonly queueSeconds: number;
}

export type ObjectSpec =
  | { readonly kind: "Tenant"; readonly spec: TenantSpec }
  | { readonly kind: "SecurityGroup"; readonly spec: SecurityGroupSpec }
  | { readonly kind: "BackendPool"; readonly spec: BackendPoolSpec }
  | { readonly kind: "Vip"; readonly spec: VipSpec };

interface StoredObject<Kind extends ObjectKind, Spec> {
  readonly ref: ObjectRef & { readonly kind: Kind };
  readonly labels: Readonly<Record<string, string>>;
  /** What the operator wants; Host Agents know it as soon as it is committed. */
  readonly spec: Spec;
  /** What MUXes use: null until first activated. Differs from `spec` between the two entries of a change. */
  readonly active: Spec | null;
  /** Counts changes of the spec or labels, from 1. */
  readonly generation: number;
  readonly createdIndex: LogIndex;
  /** The entry that prepared the present `spec`. */
  readonly updatedIndex: LogIndex;
  /** The entry that activated `active`; 0 before. */
  readonly activeIndex: LogIndex;
}

export type StoredTenant = StoredObject<"Tenant", TenantSpec>;
export type StoredGroup = StoredObject<"SecurityGroup", SecurityGroupSpec>;
export type StoredPool = StoredObject<"BackendPool", BackendPoolSpec> & { readonly poolId: PoolId };
export type StoredVip = StoredObject<"Vip", VipSpec> & {
  readonly vipId: VipId;
  /** Ports of inbound NAT: of each rule by name, each member's. Kept while the DIP is a member in either version. */
  readonly natPorts: readonly NatPort[];
};
/** A deleted object stays with `deleting` true until MUXes have dropped it (its deletion is activated). */
export type AnyStoredObject = (StoredTenant | StoredGroup | StoredPool | StoredVip) & { readonly deleting: boolean };

export interface NatPort {
  readonly rule: string;
  readonly dip: IpAddress;
  readonly port: Port;
}

/** A machine behind VIPs. Known from a pool that names it, from a host that runs it, or both. */
export interface Dip {
  readonly dipId: DipId;
  readonly tenant: string;
  readonly address: IpAddress;
}
