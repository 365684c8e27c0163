/**
 * FastPath, the MUX's end (Ananta §3.2.4). A flow from one VIP to another is redirected once its handshake is over:
 * the first segment after the SYN has come from its client. Both ends are resolved here, because every MUX has all SNAT ranges:
 *
 *     source VIP1:p1 --SNAT range--> DIP1, host A        destination VIP2:p2 --flow table--> DIP2, host B
 *     a message to A, signed by A's key                  a message to B, signed by B's key
 *
 * What goes on coming, because a message was lost or has run out, is redirected again after a second at the earliest. When a DIP
 * moves or goes, a pool changes, or a rule keeps its flows from now on, the flow table is walked in steps, and flows that would now go
 * elsewhere are revoked. The walk goes round from where it is until it has been everywhere since the last change: however fast changes
 * come, every flow has its turn. It waits when there is no room for what it has to say.
 *
 * Per flow one word in the flow table: 0 not looked at, `NEVER`, or the time of the last message. Off the fast path: a few
 * messages per flow, rate-limited; they may allocate.
 */
import { PacketBatch } from "../../dataplane/packet-batch.js";
import {
  FASTPATH_ADDRESS,
  FASTPATH_MESSAGE_BYTES,
  FASTPATH_PORT,
  type FastpathMessage,
  fastpathHostKey,
  INITIATOR,
  REDIRECT,
  RESPONDER,
  REVOKE,
  writeFastpathMessage,
} from "../../dataplane/fastpath-message.js";
import { DISTRIBUTION_FIVE_TUPLE } from "../../dataplane/flow-hash.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { buildUdpPacket } from "../../packet/build.js";
import { NO_FAULT } from "../../packet/fault.js";
import { createPacketHeader, MAPPED_WORD, type PacketHeader } from "../../packet/header.js";
import type { Ipv4 } from "../../core/brands.js";
import { PROTOCOL_TCP } from "../../packet/ipv4.js";
import type { AddressWords } from "../../packet/ipv6.js";
import { parsePacket } from "../../packet/parse.js";
import type { Encapsulator } from "./encapsulator.js";
import type { FlowTable } from "./flow-table.js";
import type { MuxTables } from "./tables.js";

/** The flow's source is no VIP of ours. */
const NEVER = 1;
/** Between two messages about one flow: they cross the site in a millisecond, and segments are under way meanwhile. */
const AGAIN_MS = 1_000;
/** How long a host believes a redirect: bounds what a lost revocation costs, and is far below idle times of flows. */
export const REDIRECT_LIFETIME_MS = 30_000;
/** Redirected flows per second: two messages each. */
const REDIRECTS_PER_SECOND = 5_000;
/** Flow entries that one tick looks at for revocations. */
const REVOKE_MAX = 65_536;

/** More than entries there are: a position is the round of the walk times this, and the entry. */
const ROUND = 2 ** 26;
const MESSAGES_PER_FLOW = 2;

interface End {
  readonly dipId: number;
  readonly dipSlot: number;
  readonly hostId: number;
}

/** A DIP that moved or went. */
interface Moved {
  /** Redirects before this time led to where it was. */
  readonly at: number;
  /** Position of the walk at which all of them have been seen. */
  readonly seenAt: number;
}

export class Fastpath {
  /** Flows redirected and revoked since the start. */
  redirected = 0;
  revoked = 0;
  readonly #tables: MuxTables;
  readonly #flows: FlowTable;
  readonly #encapsulator: Encapsulator;
  readonly #bucket = new TokenBucket(REDIRECTS_PER_SECOND, REDIRECTS_PER_SECOND);
  readonly #message = new PacketBatch({ packets: 1, bytes: 256 });
  readonly #payload = new Uint8Array(FASTPATH_MESSAGE_BYTES);
  readonly #header = createPacketHeader();
  readonly #keys = new Map<number, Uint8Array>();
  #master: Uint8Array | null = null;
  #incarnation = 0;
  #sequence = 0;
  /** Where the walk is, and where it has been everywhere since the last change. */
  #position = 0;
  #seenAllAt = 0;
  readonly #moved = new Map<number, Moved>();
  #endsGeneration = 0;

  constructor(tables: MuxTables, flows: FlowTable, encapsulator: Encapsulator) {
    this.#tables = tables;
    this.#flows = flows;
    this.#encapsulator = encapsulator;
  }

  /** A segment of a TCP flow that has an entry, after its SYN. */
  segment(entry: number, header: PacketHeader, rule: number, dipSlot: number, now: number, out: PacketBatch): void {
    const flows = this.#flows;
    const at = flows.redirectedAt(entry);
    if (at === NEVER || (at !== 0 && ((now - at) | 0) < AGAIN_MS)) return;
    const tables = this.#tables;
    if (tables.muxKey === null || tables.rules.staysOnMuxes(rule)) return;
    const vip = tables.vips.find(header.source0, header.source1, header.source2, header.source3);
    if (vip === NOT_FOUND) {
      flows.setRedirectedAt(entry, NEVER);
      return;
    }
    const initiator = this.#end(tables.snat.find(tables.vips.vipId(vip), PROTOCOL_TCP, header.sourcePort));
    const responder = this.#end(tables.dips.dipId(dipSlot));
    if (initiator === null || responder === null || initiator.dipId === responder.dipId) return;
    const { isIpv6 } = tables.dips;
    if (isIpv6[initiator.dipSlot] !== isIpv6[responder.dipSlot]) return; // no outer header could have both locators
    if (out.freePackets <= MESSAGES_PER_FLOW) return; // the segment itself goes first
    if (!this.#bucket.take(now)) return;
    flows.setRedirectedAt(entry, now === 0 || now === NEVER ? now - 2 : now);
    const flow = {
      source: [header.source0, header.source1, header.source2, header.source3] as const,
      sourcePort: header.sourcePort,
      destination: [header.destination0, header.destination1, header.destination2, header.destination3] as const,
      destinationPort: header.destinationPort,
    };
    if (this.#tell(REDIRECT, flow, initiator, responder, now, out)) this.redirected++;
  }

  tick(now: number, out: PacketBatch): void {
    const tables = this.#tables;
    if (this.#endsGeneration !== tables.endsGeneration) {
      this.#endsGeneration = tables.endsGeneration;
      this.#seenAllAt = this.#position + ROUND;
      for (const dipId of tables.movedDips) {
        this.#moved.delete(dipId); // the order is that of the changes
        this.#moved.set(dipId, { at: now, seenAt: this.#seenAllAt });
      }
      tables.movedDips.clear();
    }
    const flows = this.#flows;
    for (let budget = REVOKE_MAX; budget > 0 && this.#position < this.#seenAllAt; budget--) {
      if (out.freePackets < MESSAGES_PER_FLOW) break;
      const entry = this.#position % ROUND;
      if (entry >= flows.end) {
        this.#position += ROUND - entry;
        continue;
      }
      this.#position++;
      if (flows.isLive(entry)) this.#revokeIfMoved(entry, now, out);
    }
    for (const [dipId, { seenAt }] of this.#moved) {
      if (this.#position < seenAt) break;
      this.#moved.delete(dipId);
    }
  }

  #revokeIfMoved(entry: number, now: number, out: PacketBatch): void {
    const { members, dips, snat, vips, rules } = this.#tables;
    const flows = this.#flows;
    const at = flows.redirectedAt(entry);
    if (at === 0 || at === NEVER || ((now - at) | 0) > REDIRECT_LIFETIME_MS) return;
    const { source, ports, vipId } = flows.key(entry);
    const member = flows.member(entry);
    const vip = vips.find(...source);
    const initiatorId = vip === NOT_FOUND ? 0 : snat.find(vips.vipId(vip), PROTOCOL_TCP, ports >>> 16);
    const dipSlot = members.dipSlot[member]!; // a member of an entry has a slot
    const isStale = dipSlot === NOT_FOUND || flows.generation(entry) !== members.generation(member, PROTOCOL_TCP);
    const responderId = dipSlot === NOT_FOUND ? 0 : dips.dipId(dipSlot);
    const rule = rules.find(vipId, PROTOCOL_TCP, ports & 0xffff);
    const flowRule = rule === NOT_FOUND ? rules.findAllPorts(vipId, PROTOCOL_TCP) : rule;
    const isKept = flowRule !== NOT_FOUND && rules.staysOnMuxes(flowRule);
    const hasMoved = this.#movedSince(initiatorId, at) || this.#movedSince(responderId, at);
    if (!isStale && !isKept && initiatorId !== 0 && !hasMoved) return;
    flows.setRedirectedAt(entry, 0);
    const ofDestination = vips.findId(vipId);
    if (ofDestination === NOT_FOUND) return;
    const [a = 0, b = 0, c = 0, d = 0] = vips.address(ofDestination);
    const destination = [a, b, c, d] as const;
    const flow = { source, sourcePort: ports >>> 16, destination, destinationPort: ports & 0xffff };
    if (this.#tell(REVOKE, flow, this.#end(initiatorId), this.#end(responderId), now, out)) this.revoked++;
  }

  /** After the redirect at `at`. */
  #movedSince(dipId: number, at: number): boolean {
    const moved = this.#moved.get(dipId);
    return moved !== undefined && ((moved.at - at) | 0) >= 0;
  }

  /** Null: nobody runs it, or it is not known who. */
  #end(dipId: number): End | null {
    if (dipId === 0) return null;
    const dipSlot = this.#tables.dips.find(dipId);
    if (dipSlot === NOT_FOUND) return null;
    const hostId = this.#tables.dips.hostIds[dipSlot]!;
    return hostId === 0 ? null : { dipId, dipSlot, hostId };
  }

  /** True: everybody who could be told was sent a message, and there was somebody. */
  #tell(
    kind: FastpathMessage["kind"],
    flow: Pick<FastpathMessage, "source" | "sourcePort" | "destination" | "destinationPort">,
    initiator: End | null,
    responder: End | null,
    now: number,
    out: PacketBatch,
  ): boolean {
    const self = this.#tables.peers.self(this.#encapsulator.address, this.#encapsulator.sourceMask);
    const master = this.#tables.muxKey;
    if (self === null || master === null) return false;
    if (this.#master !== master) {
      this.#master = master;
      this.#keys.clear();
    }
    if (this.#incarnation !== self.incarnation) {
      this.#incarnation = self.incarnation;
      this.#sequence = 0;
    }
    const about = { kind, protocol: PROTOCOL_TCP, ...flow, muxId: self.muxId, incarnation: self.incarnation };
    const send = (end: FastpathMessage["end"], to: End | null, peer: End | null): boolean => {
      if (to === null) return true;
      const message: FastpathMessage = {
        ...about,
        end,
        peerLocator: peer === null ? NOWHERE : this.#locator(peer.dipSlot),
        dipId: to.dipId,
        peerDipId: peer?.dipId ?? 0,
        sequence: ++this.#sequence,
        index: this.#tables.index(),
        lifetimeMs: kind === REDIRECT ? REDIRECT_LIFETIME_MS : 0,
      };
      return this.#send(message, to, now, out);
    };
    const [first, second] = [send(INITIATOR, initiator, responder), send(RESPONDER, responder, initiator)];
    return first && second && (initiator !== null || responder !== null);
  }

  /** False: it did not leave. */
  #send(message: FastpathMessage, to: End, now: number, out: PacketBatch): boolean {
    writeFastpathMessage(this.#payload, 0, message, this.#hostKey(to.hostId));
    const packet = buildUdpPacket({
      source: (this.#encapsulator.address >>> 0) as Ipv4,
      destination: (FASTPATH_ADDRESS >>> 0) as Ipv4,
      sourcePort: FASTPATH_PORT,
      destinationPort: FASTPATH_PORT,
      payload: this.#payload,
    });
    const batch = this.#message;
    batch.clear();
    batch.append(packet);
    const header = this.#header;
    if (parsePacket(batch.view, 0, packet.length, header) !== NO_FAULT) return false; // never: built just now
    const { dips, hasher } = this.#tables;
    const ports = (FASTPATH_PORT << 16) | FASTPATH_PORT;
    const hash = hasher === null ? 0 : hasher.header(header, ports, header.protocol, DISTRIBUTION_FIVE_TUPLE);
    const isIpv6 = dips.isIpv6[to.dipSlot] === 1;
    return this.#encapsulator.send(batch, header, dips.locators, to.dipSlot * 4, isIpv6, hash, now, out) === NO_FAULT;
  }

  #hostKey(hostId: number): Uint8Array {
    let key = this.#keys.get(hostId);
    if (key === undefined) {
      key = fastpathHostKey(this.#master!, hostId); // set by `#tell`
      this.#keys.set(hostId, key);
    }
    return key;
  }

  #locator(dipSlot: number): AddressWords {
    const { locators } = this.#tables.dips;
    const at = dipSlot * 4;
    return [locators[at]!, locators[at + 1]!, locators[at + 2]!, locators[at + 3]!]; // four words per slot
  }
}

const NOWHERE: AddressWords = [0, 0, MAPPED_WORD, 0];
