/**
 * Why packets are dropped. Each reason is a counter, named `drop_<reason>` in metrics; the number is its place in the
 * counters' typed array, so the order is append-only once a release has shipped.
 *
 * A drop is named after what was found, not after who is to blame: "no_rule" may be a port scan or a rule that is late.
 */
import { PACKET_FAULTS } from "../packet/fault.js";

export const DROP_REASONS = [
  // The packet itself: malformed, or of a kind that is not handled.
  ...PACKET_FAULTS,
  "ttl_expired",
  // What the tables say.
  "no_vip",
  "no_rule", // the VIP has neither a rule nor a port range for the port
  "no_dip", // pool without a member that takes flows, or a DIP whose host is unknown
  "not_ready", // no tables yet: no hash key
  "icmp_unmatched", // an ICMP error about no flow of ours
  "probe_down_reset", // TCP flow of a member that went down, in a pool that resets them
  "drain_ended", // TCP flow of a member whose drain is over
  // Overload of a MUX.
  "fair_share", // the VIP is above its fair share
  // From MUX to MUX.
  "unknown_peer", // relayed by somebody who is no MUX of the pool
  "fragment_table_full",
  "fragment_unmatched", // its first fragment never came
  // Leaving.
  "too_big",
  "output_full",
  // Host Agent.
  "unknown_encapsulator", // outer source is no MUX of ours
  "not_encapsulated", // from the wire, for a VIP or nobody here
  "bad_encapsulation", // what is inside is no packet, or ECN forbids (RFC 6040)
  "not_our_dip", // outer destination is no locator of this host
  "no_endpoint", // VIP:port is not translated for this DIP
  "not_owned_port", // port of a range that the DIP does not own
  "no_snat_flow", // owned port, but nobody behind it talks to this source
  "foreign_source", // from a VM, with a source that is not its own
  "forbidden_protocol", // from a VM: encapsulation of its own making (protocols 4 and 41)
  "no_outbound_vip", // to the outside, but the DIP has no VIP to leave by
  "snat_hold_full", // no port, and no room to wait for one
  "snat_hold_expired", // waited for a port in vain
  "nat_table_full",
  "unknown_link", // from a VM that is no DIP of this host
  "hairpin", // a VM to a VIP that leads back to itself, with its own address as source
  "no_flow", // from a VM, in mid-stream of a flow that is not known
  "already_held", // another packet of a flow whose first packet waits for a port
  "security_group", // a new flow that no rule of its security groups lets through
  "reserved_address", // of a host and its machines alone, where it cannot be
  "flow_conflict", // two VIPs, one client port, one DIP port: the VM could not tell them apart
  "fastpath_forged", // a FastPath message that is none, or not signed for this host
  "fastpath_replayed", // one that was taken before
  "fastpath_stale", // one of a MUX's earlier start, or about a flow or DIP that is not here any more
  "fastpath_off", // about a flow of a rule that keeps its flows on MUXes
  "fastpath_unreachable", // its peer's locator is none that this host could send to
  "fastpath_early", // a peer is ready, and no MUX has told this host yet
  "second_chance_limit", // a segment without state, while more than hosts may pass on per second are
  "peer_forged", // what a MUX of the pool is said to tell, and is none, or not signed with the pool's key
  "peer_replayed", // one that was taken before
  "peer_stale", // one for another start of this MUX, or of an earlier life of its sender
  "peer_early", // one that came before this MUX knew the pool's key and its own place in the pool
  "peer_limit", // more of them than MUXes send
  "path_mtu_unmatched", // "too big" about an encapsulated packet that was not sent from here lately
  "path_mtu_invalid", // "too big" with a bad checksum, or an MTU that cannot be
] as const;

export type DropReason = (typeof DROP_REASONS)[number];

/** Place of each reason in the counters, so that the packet path counts with a number: `DROP.no_vip`. */
export const DROP: Readonly<Record<DropReason, number>> = Object.freeze(
  Object.fromEntries(DROP_REASONS.map((reason, index) => [reason, index])) as Record<DropReason, number>,
);

/** Counters by reason as an object, for snapshots. */
export function dropsByReason(counts: Float64Array): Record<DropReason, number> {
  return Object.fromEntries(DROP_REASONS.map((reason, index) => [reason, counts[index] ?? 0])) as Record<
    DropReason,
    number
  >;
}
