/**
 * The numbers of SNAT port ranges: a range is 8 contiguous, aligned ports, named by `port >> 3`. Ports below
 * 1024 are never handed out, so ranges run from 128 to 8191: 8,064 per VIP address and protocol.
 */
import type { IpAddress } from "../../../core/brands.js";
import type { RangeBlock } from "../commands/commands.js";

/** Ports in a range: the paper's choice. MUX entries and the wire contract depend on it. */
export const PORTS_PER_RANGE = 8;
/** 1024 >> 3. */
export const FIRST_RANGE = 128;
/** One past the last range, 65536 >> 3. */
export const END_RANGE = 8192;
/** Ranges of one VIP address and protocol. */
export const RANGES_PER_SPACE = END_RANGE - FIRST_RANGE;

export type SnatProtocol = 6 | 17;

export const SNAT_PROTOCOLS: readonly SnatProtocol[] = [6, 17];

export const rangeOfPort = (port: number): number => port >> 3;

/** True when all of the block's ranges exist. */
export function isRangeBlock(block: RangeBlock): boolean {
  return (
    (block.protocol === 6 || block.protocol === 17) &&
    Number.isInteger(block.range) &&
    Number.isInteger(block.count) &&
    block.range >= FIRST_RANGE &&
    block.count >= 1 &&
    block.range + block.count <= END_RANGE
  );
}

export const protocolName = (protocol: SnatProtocol): "tcp" | "udp" => (protocol === 6 ? "tcp" : "udp");

/** "198.51.100.1:1024-1087/tcp", for messages. */
export function formatBlock(block: RangeBlock): string {
  const first = block.range * PORTS_PER_RANGE;
  return `${formatPorts(block.vip, first, first + block.count * PORTS_PER_RANGE - 1)}/${protocolName(block.protocol)}`;
}

function formatPorts(vip: IpAddress, first: number, last: number): string {
  return `${vip.includes(":") ? `[${vip}]` : vip}:${first}-${last}`;
}
