/**
 * Numbers and texts that must not be mixed up carry a brand: the compiler refuses a `LogIndex` where a `Term` is asked
 * for. Brands exist only in types; at run time these are plain values. The constructors check the range.
 */
import { assert } from "./assert.js";

/** A Raft term, integer >= 0; 0 is before the first election (Raft §5.1). */
export type Term = number & { readonly __brand: "Term" };
/** Position in the replicated log, integer >= 0; the first entry has index 1, 0 is "before the log" (Raft §5.3). */
export type LogIndex = number & { readonly __brand: "LogIndex" };
/** A Manager replica, integer 1..65535, unique in the cluster and never used again for another replica. */
export type NodeId = number & { readonly __brand: "NodeId" };
/** A transport-layer port, integer 0..65535. */
export type Port = number & { readonly __brand: "Port" };
/** An IPv4 address as an unsigned 32-bit number in host order: 10.0.0.1 is 0x0a000001. */
export type Ipv4 = number & { readonly __brand: "Ipv4" };
/** An IPv4 or IPv6 address in canonical text (RFC 5952 for IPv6): equal addresses are equal strings. */
export type IpAddress = string & { readonly __brand: "IpAddress" };

/** Dense ids are assigned in the log, integers >= 1, and never used again. */
export type VipId = number & { readonly __brand: "VipId" };
export type PoolId = number & { readonly __brand: "PoolId" };
export type DipId = number & { readonly __brand: "DipId" };
export type HostId = number & { readonly __brand: "HostId" };
export type MuxId = number & { readonly __brand: "MuxId" };

function integer(value: number, min: number, max: number, what: string): number {
  assert(
    Number.isInteger(value) && value >= min && value <= max,
    `${what} is an integer in ${min}..${max}, not ${value}`,
  );
  return value;
}

export const term = (value: number): Term => integer(value, 0, Number.MAX_SAFE_INTEGER, "a term") as Term;
export const logIndex = (value: number): LogIndex =>
  integer(value, 0, Number.MAX_SAFE_INTEGER, "a log index") as LogIndex;
export const nodeId = (value: number): NodeId => integer(value, 1, 65_535, "a node id") as NodeId;
