/**
 * What an operator writes: declarative objects, applied whole, checked against a generation. Names are unique per kind
 * and tenant. Every field here does something in the state machine and in a projection; there are no others.
 * Bounds are checked at the edge (`api/object-schema`) and what depends on other objects in `apply`.
 */
import type { DipId, IpAddress, LogIndex, PoolId, Port, VipId } from "../../core/brands.js";

export type ObjectKind = "BackendPool" | "Vip";

export interface ObjectRef {
  readonly kind: ObjectKind;
  /** `default` when the operator names none. */
  readonly tenant: string;
  /** RFC 1123 label: 1..63 of a-z, 0-9 and "-", not at either end. */
  readonly name: string;
}

/** "Vip/default/web": unique in the cluster. */
export const objectKey = (ref: ObjectRef): string => `${ref.kind}/${ref.tenant}/${ref.name}`;

export interface BackendPoolSpec {
  readonly members: readonly PoolMember[];
  /** Size of the Maglev table is chosen from this and fixed at creation; 1..655. */
  readonly maxMembers: number;
}

export interface PoolMember {
  /** A machine behind the VIPs; (tenant, address) is its identity. */
  readonly dip: IpAddress;
  /** Port on the DIP; 0 means the rule's backend port. */
  readonly port: Port;
  /** Share of new flows, 0..1000; 0 gets none. */
  readonly weight: number;
}

export interface VipSpec {
  readonly address: IpAddress;
  readonly rules: readonly VipRule[];
  /** Source NAT for flows that the members of these pools open; absent: none. */
  readonly outbound: VipOutbound | null;
}

export interface VipRule {
  readonly name: string;
  readonly protocol: "tcp" | "udp";
  /** 1..65535; (protocol, port) is unique within a VIP. */
  readonly port: Port;
  /** Name of a BackendPool of the same tenant. */
  readonly pool: string;
  /** 1..65535; the edge fills in `port` when the operator leaves it out. */
  readonly backendPort: Port;
}

export interface VipOutbound {
  /** Names of BackendPools of the same tenant. */
  readonly pools: readonly string[];
  /** Most ports one DIP may own on this VIP and protocol; a multiple of 8 in 8..64512. */
  readonly maxPorts: number;
}

export type ObjectSpec =
  { readonly kind: "BackendPool"; readonly spec: BackendPoolSpec } | { readonly kind: "Vip"; readonly spec: VipSpec };

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

export type StoredPool = StoredObject<"BackendPool", BackendPoolSpec> & { readonly poolId: PoolId };
/** A deleted object stays with `deleting` true until MUXes have dropped it (its deletion is activated). */
export type StoredVip = StoredObject<"Vip", VipSpec> & { readonly vipId: VipId };
export type AnyStoredObject = (StoredPool | StoredVip) & { readonly deleting: boolean };

/** A machine behind VIPs. Known from a pool that names it, from a host that runs it, or both. */
export interface Dip {
  readonly dipId: DipId;
  readonly tenant: string;
  readonly address: IpAddress;
}
