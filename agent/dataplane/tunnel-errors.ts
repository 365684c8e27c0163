/**
 * ICMP errors about packets that this host encapsulated: they come to the outer source, a locator of ours, and are never for the machine
 * that has it as its address, since no machine may encapsulate. Those about size are learned (`dataplane/path-mtu.ts`).
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { NO_FAULT } from "../../packet/fault.js";
import { createPacketHeader } from "../../packet/header.js";
import { isIcmpError, isTooBig, parseIcmp } from "../../packet/icmp.js";
import { isFragment } from "../../packet/ipv4.js";
import { isIcmp } from "../../packet/parse.js";
import { parseQuotedTunnel } from "../../packet/quoted.js";
import type { HostParts } from "./host-parts.js";

/** The packet is another one. */
export const NO_TUNNEL_ERROR = -8;

export class TunnelErrors {
  readonly #parts: HostParts;
  readonly #quoted = createPacketHeader();

  constructor(parts: HostParts) {
    this.#parts = parts;
  }

  /** The packet in `header`, plain from the wire, its addresses as they came. `NO_FAULT`: it was believed. */
  take({ view }: PacketBatch, nowMs: number): number {
    const { header, paths } = this.#parts;
    const quoted = this.#quoted;
    if (!isIcmp(header) || isFragment(header.fragment) || parseIcmp(view, header) !== NO_FAULT) return NO_TUNNEL_ERROR;
    if (!isIcmpError(header) || parseQuotedTunnel(view, header, quoted) !== NO_FAULT) return NO_TUNNEL_ERROR;
    if (!isTooBig(header)) return DROP.icmp_unmatched;
    const fault = paths.read(view, header, quoted);
    if (fault !== NO_FAULT) return fault;
    return this.#isForUs() ? paths.learn(view, header, quoted, nowMs) : DROP.path_mtu_unmatched;
  }

  #isForUs(): boolean {
    const { header, tables, addresses } = this.#parts;
    const { destination0, destination1, destination2, destination3 } = header;
    const locator =
      header.family === 4 ? destination3 : addresses.findWords(destination0, destination1, destination2, destination3);
    return tables.findLocator(locator) !== NOT_FOUND;
  }
}
