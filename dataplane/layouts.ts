/**
 * Capacities and lifetimes of both data planes, defined once. Tables are sized when a data plane is made and never grow: a
 * full table is an answer ("full", "nat_table_full"), not a slow-down. Memory per record is stated, so that a capacity can
 * be chosen.
 */

export interface MuxLayout {
  /** 40 bytes each, and their counters. */
  readonly vips: number;
  /** 40 bytes each. Declared when the MUX joins: admission refuses more. */
  readonly rules: number;
  readonly pools: number;
  /** Inbound NAT ports; 40 bytes each. */
  readonly nats: number;
  /** Members of all pools; 60 bytes each. */
  readonly members: number;
  /** 70 bytes each, counters included. */
  readonly dips: number;
  /** 40 bytes each, for 8 ports. Declared when the MUX joins. */
  readonly snatRanges: number;
  /** Flows of which more than one packet was seen; 72 to 80 bytes each, as the untrusted ones. */
  readonly trustedFlows: number;
  /** Flows of one packet. Apart, so that a flood of SYNs never takes room from flows that talk. */
  readonly untrustedFlows: number;
  /** Fragmented packets under way; and fragments that wait for their packet's first one, 2 KiB each. */
  readonly fragments: number;
  readonly heldFragments: number;
  readonly events: number;
  /** Packets sampled for export that wait to be taken. */
  readonly samples: number;
  /** Hosts and MUXes to which the path has a smaller MTU than the fabric; a power of two, 90 bytes each. */
  readonly pathMtus: number;
}

/** 20,000 endpoints, 100,000 DIPs and 1.6 M SNAT ports (Ananta §4) with room; in all about 105 MB, most of it touched only when used. */
export const MUX_LAYOUT: MuxLayout = {
  vips: 32_768,
  rules: 65_536,
  pools: 32_768,
  nats: 65_536,
  members: 131_072,
  dips: 131_072,
  snatRanges: 262_144,
  trustedFlows: 786_432,
  untrustedFlows: 262_144,
  fragments: 4_096,
  heldFragments: 256,
  events: 1_024,
  samples: 4_096,
  pathMtus: 8_192,
};

export interface MuxTimeouts {
  /**
   * Untrusted: the client answers a SYN-ACK within a few round trips; retransmissions come after 1 s and 3 s. Doubling it
   * doubles what a SYN flood keeps occupied.
   */
  readonly untrustedMs: number;
  /** Trusted: four minutes idle, as is usual for load balancers. The agent's NAT state outlives it: this is a cache. */
  readonly trustedMs: number;
}

export const MUX_TIMEOUTS: MuxTimeouts = { untrustedMs: 10_000, trustedMs: 240_000 };

/** Reassembly timers of hosts are 15 to 60 s; fragments of one packet come within milliseconds. */
export const FRAGMENT_MS = 5_000;
/** A fragment waits for its packet's first one no longer: they were reordered, or it is lost. */
export const HELD_FRAGMENT_MS = 500;

export interface HostLayout {
  readonly dips: number;
  /** VIPs whose traffic is counted. */
  readonly vips: number;
  readonly endpoints: number;
  readonly outbounds: number;
  readonly ranges: number;
  readonly muxes: number;
  readonly internalPrefixes: number;
  /** Rules of pools whose segments may be passed on; 40 bytes each. */
  readonly rules: number;
  /** Members that own slots of these pools, or did; 80 bytes each. */
  readonly owners: number;
  /** Slots of their Maglev tables, former ones included; 2 bytes each. */
  readonly tableSlots: number;
  /** NAT entries, inbound and outbound together; 222 bytes each, with what FastPath notes of them. */
  readonly flows: number;
  /** Fragmented packets under way, 60 bytes each; and fragments that wait for their packet's first one, 2 KiB each. */
  readonly fragments: number;
  readonly heldFragments: number;
  /** Of these, per DIP and direction: one machine, or who floods it, leaves room to the others. */
  readonly heldFragmentsPerDip: number;
  /** Packets that wait for a SNAT port, in all and per DIP; 2 KiB each. */
  readonly held: number;
  readonly heldPerDip: number;
  readonly events: number;
  /** Ended flows that are remembered; 88 bytes each. */
  readonly lastWords: number;
  /** Hosts to which the path has a smaller MTU than the fabric; a power of two, 90 bytes each. */
  readonly pathMtus: number;
}

export const HOST_LAYOUT: HostLayout = {
  dips: 1_024,
  vips: 8_192,
  endpoints: 16_384,
  outbounds: 4_096,
  ranges: 32_768,
  muxes: 256,
  internalPrefixes: 256,
  rules: 16_384,
  owners: 16_384,
  tableSlots: 16_777_216,
  flows: 131_072,
  fragments: 16_384,
  heldFragments: 256,
  heldFragmentsPerDip: 64,
  held: 2_048,
  heldPerDip: 512,
  events: 4_096,
  lastWords: 16_384,
  pathMtus: 1_024,
};

/** Largest packet that may wait for a port: a first packet is a SYN or a datagram of one MTU. */
export const HELD_PACKET_BYTES = 2_048;

/** Lifetimes of NAT entries. */
export interface NatTimeouts {
  /** SYN seen, no answer: the entry and its port. */
  readonly halfOpenMs: number;
  /** RFC 5382 REQ-5: not below 2 hours 4 minutes, the time of TCP keepalives. */
  readonly establishedMs: number;
  /** One or both FINs seen, the last ACK not: RFC 5382's four minutes for connections in transit. */
  readonly closingMs: number;
  /** Closed by our VM first: it keeps TIME-WAIT itself and will not use its port; the remote is free at once. */
  readonly closedByOwnMs: number;
  /** Closed by the remote first: it is in TIME-WAIT (60 s on most systems) and would refuse a new SYN from this port. */
  readonly closedByRemoteMs: number;
  readonly resetMs: number;
  /** RFC 4787 REQ-5: at least two minutes. */
  readonly udpMs: number;
  /** A datagram to a port below 1024 was answered: question and answer, most often DNS. */
  readonly udpAnsweredMs: number;
  /** Datagrams from outside that the VM has not answered: nobody waits for the entry yet. */
  readonly udpUnansweredMs: number;
  /** How long our machine may take to answer a keepalive for an idle connection. */
  readonly keepaliveMs: number;
  /** First packet of a flow without a port. */
  readonly holdMs: number;
}

export const NAT_TIMEOUTS: NatTimeouts = {
  halfOpenMs: 30_000,
  establishedMs: 7_440_000,
  closingMs: 240_000,
  closedByOwnMs: 5_000,
  closedByRemoteMs: 65_000,
  resetMs: 16_000,
  udpMs: 120_000,
  udpAnsweredMs: 10_000,
  udpUnansweredMs: 30_000,
  keepaliveMs: 3_000,
  holdMs: 3_000,
};

/** Ports in a range, and how a port becomes its number. */
export const RANGE_PORTS = 8;
export const RANGE_SHIFT = 3;

/**
 * MTU of the network between routers, MUXes and hosts. A packet may be this long with its outer header. The MSS that
 * follows is 1500 - 20 (outer) - 20 (inner) - 20 (TCP) = 1440 (Ananta §6).
 */
export const FABRIC_MTU_BYTES = 1_500;
