/**
 * Addresses that exist between a host and its machines only: link-local (RFC 3927), never on a wire. A packet with one of them
 * that comes from the wire, or would leave to it, is dropped.
 */

/** 169.254.100.1: where health probes come from. Stable, so that a machine's own firewall and logs can name it. */
export const PROBE_SOURCE = 0xa9fe_6401 | 0;

/** 169.254.100.2: source of a flow that a VIP leads back to the machine that began it. */
export const HAIRPIN_SOURCE = 0xa9fe_6402 | 0;
