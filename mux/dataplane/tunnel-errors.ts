/**
 * ICMP errors about packets that this MUX encapsulated: routers send them to the outer source, which is the MUX itself. Those about size are
 * learned (`dataplane/path-mtu.ts`); others say nothing that a MUX could act on, since whether a host is there is for the Managers to say.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { DISTRIBUTION_FIVE_TUPLE } from "../../dataplane/flow-hash.js";
import type { PathMtus } from "../../dataplane/path-mtu.js";
import { NO_FAULT } from "../../packet/fault.js";
import { createPacketHeader, type PacketHeader } from "../../packet/header.js";
import { isTooBig, parseIcmp } from "../../packet/icmp.js";
import { isFragment, PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";
import { parseInTunnel } from "../../packet/quoted.js";
import type { Encapsulator } from "./encapsulator.js";
import type { MuxTables } from "./tables.js";

export class TunnelErrors {
  readonly #tables: MuxTables;
  readonly #encapsulator: Encapsulator;
  readonly #paths: PathMtus;
  readonly #quoted = createPacketHeader();
  readonly #inner = createPacketHeader();

  constructor(tables: MuxTables, encapsulator: Encapsulator, paths: PathMtus) {
    this.#tables = tables;
    this.#encapsulator = encapsulator;
    this.#paths = paths;
  }

  /** The ICMP packet in `header`, for this MUX. `NO_FAULT`: it was believed. */
  take(view: DataView, header: PacketHeader, now: number): number {
    const quoted = this.#quoted;
    if (parseIcmp(view, header) !== NO_FAULT || !isTooBig(header)) return DROP.no_vip;
    const fault = this.#paths.read(view, header, quoted);
    if (fault !== NO_FAULT) return fault;
    return this.#hasOwnHash(view) ? this.#paths.learn(view, header, quoted, now) : DROP.path_mtu_unmatched;
  }

  /**
   * The outer header in `#quoted` carries the hash of the flow inside: nobody else knows the key. Of IPv4 as far as the flow is quoted, which
   * may be eight bytes; of IPv6 it is (RFC 4443 §3.2), and only what has such a hash is believed: anything else could be said by anybody.
   */
  #hasOwnHash(view: DataView): boolean {
    const quoted = this.#quoted;
    const inner = this.#inner;
    const isFlow = parseInTunnel(view, quoted, inner) === NO_FAULT && !isFragment(inner.fragment);
    const { protocol } = inner;
    if (!isFlow || (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP)) return quoted.family === 4;
    const ports = (inner.sourcePort << 16) | inner.destinationPort;
    const hash = this.#tables.hasher!.header(inner, ports, protocol, DISTRIBUTION_FIVE_TUPLE); // no packet comes here before
    return this.#encapsulator.carriesHash(view, quoted, hash);
  }
}
