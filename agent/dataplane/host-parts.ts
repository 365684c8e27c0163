/** What the stages of a host's pipeline share, and the answers that they give each other beside drop reasons. */
import type { EventRing } from "../../dataplane/event-ring.js";
import type { PathMtus } from "../../dataplane/path-mtu.js";
import { type PacketHeader, PROTOCOL_TCP } from "../../packet/ipv4.js";
import { TCP_ACK, TCP_FIN, TCP_SYN } from "../../packet/tcp.js";
import type { Addresses } from "./addresses.js";
import type { HostCounters } from "./counters.js";
import type { DirectFlows } from "./direct-flows.js";
import type { EndpointMappings } from "./snat/endpoint-mappings.js";
import type { HeldPackets } from "./snat/held-packets.js";
import type { LastWords } from "./last-words.js";
import type { NatState } from "./nat-state.js";
import type { ReservedAddresses } from "./reserved.js";
import type { SnatPorts } from "./snat/snat-ports.js";
import type { HostTables } from "./tables.js";

export interface HostParts {
  readonly addresses: Addresses;
  readonly reserved: ReservedAddresses;
  readonly tables: HostTables;
  readonly nat: NatState;
  readonly direct: DirectFlows;
  readonly ports: SnatPorts;
  readonly mappings: EndpointMappings;
  readonly held: HeldPackets;
  readonly counters: HostCounters;
  readonly events: EventRing;
  readonly lastWords: LastWords;
  /** The packet at hand; filled by whoever parses. */
  readonly header: PacketHeader;
  readonly fabricMtuBytes: number;
  /** Of the ways to other hosts. */
  readonly paths: PathMtus;
}

/** The packet waits for a port. */
export const HELD = -2;
/** No entry, because another flow of the machine has the same inside tuple. */
export const CONFLICT = -3;
/** The packet belongs to no flow that is known: it begins one. */
export const NEW_FLOW = -4;

/** Well-known ports carry question and answer; see `NatTimeouts.udpAnsweredMs`. */
export const WELL_KNOWN_PORT_MAX = 1_023;

/** The packet in `header` is a SYN without ACK. */
export const startsTcpFlow = ({ protocol, tcpFlags }: PacketHeader): boolean =>
  protocol === PROTOCOL_TCP && (tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN;

/** The packet in `header` is a TCP segment that its receiver will acknowledge: data, or the end of it. */
export const hasTcpData = ({ protocol, tcpFlags, payloadOffset, offset, totalBytes }: PacketHeader): boolean =>
  protocol === PROTOCOL_TCP && (payloadOffset < offset + totalBytes || (tcpFlags & TCP_FIN) !== 0);
