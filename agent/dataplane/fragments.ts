/**
 * Packets in pieces at a host: only the first fragment has ports, so it is judged and translated as a whole packet is, and what
 * became of it is noted; the others go the same way, with the addresses changed alike. MUXes bring all fragments of a packet to one host
 * (ECMP separates them, see `mux/dataplane/pipeline.ts`).
 *
 *     first   -> as a whole packet -> noted by (source, destination, protocol, identification), machine and direction
 *     others  -> a note?  -> its NAT entry's addresses -> out
 *                none yet -> waits for the first one, bounded in number, in all and per machine and direction, and in time: from the
 *                            wire a moment, from a machine as long as the first one may wait for a SNAT port
 *
 * Invariants
 *  (G1) A later fragment leaves only by a note, and only while the noted entry still is a flow between the packet's addresses: what no
 *       security group has let through, and what nobody translates, does not pass in pieces either.
 *  (G2) No TCP fragment may write over the header that was judged (RFC 1858, RFC 3128).
 *
 * Of TCP and UDP. ICMP in pieces is dropped, as MUXes do. Identifications are left as they are: two machines behind one VIP may choose the
 * same one towards one destination within seconds (RFC 6864 §5.3).
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { FlowHasher, FRAGMENT_HASH } from "../../dataplane/flow-hash.js";
import { FragmentTable } from "../../dataplane/fragment-table.js";
import { HELD_FRAGMENT_MS, type HostLayout } from "../../dataplane/layouts.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { FAULT } from "../../packet/fault.js";
import type { PacketHeader } from "../../packet/header.js";
import { writeEcn } from "../../packet/ip-in-ip.js";
import { ECN_MASK, FRAGMENT_OFFSET_MASK, PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";
import { isLaterFragment, parseIpHeader } from "../../packet/parse.js";
import { TCP_HEADER_BYTES } from "../../packet/tcp.js";
import { NO_ADDRESS } from "./addresses.js";
import { NO_COUNTER } from "./counters.js";
import { holdLifetimesMs, holdQueue } from "./snat/held-packets.js";
import { HELD, type HostParts } from "./host-parts.js";
import type { WayOut } from "./way-out.js";

/** Noted of a packet that goes untranslated, from machine to machine inside. */
const UNTRANSLATED = -2;
/** Queue of fragments whose first one does not wait itself: it comes in a moment, or is lost. */
const REORDERED = 0;

/** A fragment without ports, of a protocol that has them. */
export const isLaterPart = ({ fragment, protocol }: PacketHeader): boolean =>
  isLaterFragment(fragment) && (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP);

export class HostFragments {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #table: FragmentTable;
  readonly #hasher: FlowHasher;
  /** Of the fragment at hand. */
  #hash = 0;
  #id = 0;
  #source = 0;
  #isNoted = false;

  constructor(parts: HostParts, wayOut: WayOut, layout: HostLayout, hashKey: Uint8Array, holdMs: number) {
    this.#parts = parts;
    this.#wayOut = wayOut;
    this.#table = new FragmentTable(layout.fragments, {
      capacity: layout.heldFragments,
      lifetimesMs: holdLifetimesMs(holdMs).map((ms) => Math.max(ms, HELD_FRAGMENT_MS)),
      groups: layout.dips * 2,
      perGroup: layout.heldFragmentsPerDip,
    });
    this.#hasher = new FlowHasher(hashKey);
  }

  get size(): number {
    return this.#table.size;
  }

  get heldCount(): number {
    return this.#table.heldCount;
  }

  /** The packet at hand is a fragment; before its addresses get numbers. */
  look(header: PacketHeader): void {
    this.#hash = this.#hasher.header(header, header.fragmentId, header.protocol, FRAGMENT_HASH);
    this.#id = header.fragmentId;
    this.#source = header.source3;
    this.#isNoted = false;
  }

  /** The first fragment at hand left: by this entry, or, with `NOT_FOUND`, untranslated. */
  note(slot: number, isFromVm: boolean, entry: number, nowMs: number): void {
    const value = entry === NOT_FOUND ? UNTRANSLATED : entry;
    this.#table.put(this.#hash, scopeOf(slot, isFromVm), this.#id, this.#source, value, nowMs);
    this.#isNoted = true;
  }

  /** A later fragment, its addresses numbers. `HELD` when it waits. */
  later(batch: PacketBatch, slot: number, isFromVm: boolean, ecn: number, nowMs: number, out: PacketBatch): number {
    const { header } = this.#parts;
    if (header.protocol === PROTOCOL_TCP && (header.fragment & FRAGMENT_OFFSET_MASK) * 8 < TCP_HEADER_BYTES)
      return FAULT.bad_transport_header; // (G2)
    const scope = scopeOf(slot, isFromVm);
    const value = this.#table.find(this.#hash, scope, this.#id, this.#source);
    if (value !== NOT_FOUND) return this.#send(batch, slot, isFromVm, value, ecn, out);
    const queue = isFromVm ? this.#queueOf(slot) : REORDERED;
    const group = slot * 2 + (isFromVm ? 1 : 0);
    const place = this.#table.hold(this.#hash, scope, this.#id, this.#source, batch, header, nowMs, queue, group);
    if (place === NOT_FOUND) return DROP.fragment_table_full;
    writeEcn(this.#table.store.view, this.#table.heldOffset(place), ecn); // what decapsulation made of it
    return HELD;
  }

  /** The first one may wait for a port as long as the machine's VIP says. */
  #queueOf(slot: number): number {
    const { tables } = this.#parts;
    const [leavesBy] = tables.outboundVips(tables.dipId(slot));
    return leavesBy === undefined ? REORDERED : holdQueue(leavesBy.holdSeconds);
  }

  /** The fragment at hand is done with: those that waited for it follow, if it left. Its header is overwritten. */
  release(slot: number, isFromVm: boolean, out: PacketBatch): void {
    if (!this.#isNoted) return;
    const { header, addresses, counters } = this.#parts;
    const table = this.#table;
    const scope = scopeOf(slot, isFromVm);
    const value = table.find(this.#hash, scope, this.#id, this.#source);
    for (;;) {
      const place = table.nextHeld(this.#hash, scope, this.#id, this.#source);
      if (place === NOT_FOUND) return;
      parseIpHeader(table.store.view, table.heldOffset(place), table.heldLength(place), header); // it was good before
      let result = DROP.bad_ip_address;
      if (addresses.name(header)) {
        result = this.#send(table.store, slot, isFromVm, value, header.tos & ECN_MASK, out);
        addresses.unname(header);
      }
      if (result >= 0) counters.drops[result]!++;
      table.free(place);
    }
  }

  tick(nowMs: number): void {
    this.#table.expire(nowMs);
    this.#parts.counters.drops[DROP.fragment_unmatched]! += this.#table.expireHeld(nowMs);
  }

  #send(batch: PacketBatch, slot: number, isFromVm: boolean, value: number, ecn: number, out: PacketBatch): number {
    const { header, tables, nat, reserved } = this.#parts;
    const dipId = tables.dipId(slot);
    if (value === UNTRANSLATED) return this.#wayOut.plain(batch, slot, isFromVm ? WIRE_LINK : dipId, out);
    const { source3, destination3, protocol } = header;
    if (!nat.isLive(value) || nat.dipSlot(value) !== slot || nat.protocol(value) !== protocol)
      return DROP.fragment_unmatched; // (G1)
    const isHairpin = reserved.isHairpin(nat.remote(value));
    const counter = nat.counter[value] ?? NO_COUNTER;
    nat.countPacket(value, isFromVm);
    if (isFromVm) {
      if (nat.dip(value) !== source3 || nat.remote(value) !== destination3) return DROP.fragment_unmatched;
      const destination = isHairpin ? tables.address[slot]! : NO_ADDRESS;
      const link = isHairpin ? dipId : WIRE_LINK;
      return this.#wayOut.part(batch, slot, link, nat.vip(value), destination, ecn, counter, out);
    }
    const remote = isHairpin ? reserved.hairpinFor(source3) : source3;
    if (nat.remote(value) !== remote || nat.vip(value) !== destination3) return DROP.fragment_unmatched;
    const source = isHairpin ? remote : NO_ADDRESS;
    return this.#wayOut.part(batch, slot, dipId, source, nat.dip(value), ecn, counter, out);
  }
}

const scopeOf = (slot: number, isFromVm: boolean): number => (isFromVm ? ~slot : slot);
