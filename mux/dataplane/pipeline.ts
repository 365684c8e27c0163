/**
 * The life of a packet in a MUX (Ananta §3.3, DATAPATH §2):
 *
 *     parse -> VIP? -> exact rule?  yes -> SYN: the map. Else: the flow table, then the map  --> DIP
 *                          no       -> SNAT range of the port                                --> DIP
 *     DIP -> locator -> outer header in front, inner packet untouched -> out
 *
 * Rules come first: a flow entry exists for ports of rules only, and a range that holds a rule's port is never granted. SNAT
 * ranges need no entry: the range names the DIP.
 *
 * Per packet this allocates nothing: numbers, typed arrays, no closures. `header` is filled again for each packet.
 */
import { DROP, DROP_REASONS } from "../../dataplane/drop-reasons.js";
import { DISTRIBUTION_FIVE_TUPLE } from "../../dataplane/flow-hash.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { NO_FAULT } from "../../packet/fault.js";
import { UNREACHABLE_FRAGMENTATION_NEEDED, unreachableBytes, writeUnreachable } from "../../packet/icmp.js";
import { OUTER_BYTES, writeOuterHeader } from "../../packet/ip-in-ip.js";
import { createPacketHeader, FLAG_DONT_FRAGMENT, PROTOCOL_TCP } from "../../packet/ipv4.js";
import { parsePacket } from "../../packet/parse.js";
import { TCP_ACK, TCP_SYN } from "../../packet/tcp.js";
import type { FlowTable } from "./flow-table.js";
import type { MuxTables } from "./tables.js";

/** "Too big" answers per second: enough for path MTU discovery, too few to be used against somebody. */
const TOO_BIG_PER_SECOND = 100;

export interface MuxPipelineOptions {
  /** Outer source, unsigned 32 bits. */
  readonly address: number;
  /** The low `hashBits` bits of the outer source carry the flow hash; 0: the address as it is. */
  readonly hashBits: number;
  /** Largest packet, outer header included. */
  readonly fabricMtuBytes: number;
}

export class MuxPipeline {
  readonly drops = new Float64Array(DROP_REASONS.length);
  receivedPackets = 0;
  receivedBytes = 0;
  sentPackets = 0;
  sentBytes = 0;
  readonly #tables: MuxTables;
  readonly #flows: FlowTable;
  readonly #address: number;
  readonly #hashMask: number;
  readonly #mtu: number;
  readonly #header = createPacketHeader();
  readonly #tooBig = new TokenBucket(TOO_BIG_PER_SECOND, TOO_BIG_PER_SECOND);
  #hasherGeneration = 0;

  constructor(tables: MuxTables, flows: FlowTable, options: MuxPipelineOptions) {
    this.#tables = tables;
    this.#flows = flows;
    this.#hashMask = options.hashBits === 0 ? 0 : 0xffff_ffff >>> (32 - options.hashBits);
    this.#address = (options.address & ~this.#hashMask) >>> 0;
    if (this.#hashMask === 0) this.#address = options.address;
    this.#mtu = options.fabricMtuBytes;
  }

  process(batch: PacketBatch, nowMs: number, out: PacketBatch): void {
    if (this.#hasherGeneration !== this.#tables.hasherGeneration) {
      this.#flows.clear(); // entries are found by hash: of another key they are lost
      this.#hasherGeneration = this.#tables.hasherGeneration;
    }
    const count = batch.count;
    for (let i = 0; i < count; i++) {
      const length = batch.lengths[i]!; // i < count
      this.receivedPackets++;
      this.receivedBytes += length;
      const drop = this.#forward(batch, batch.offsets[i]!, length, nowMs, out);
      if (drop !== NO_FAULT) this.drops[drop]!++;
    }
  }

  /** `NO_FAULT` when the packet left, else the drop reason's number. */
  #forward(batch: PacketBatch, offset: number, length: number, nowMs: number, out: PacketBatch): number {
    const tables = this.#tables;
    const hasher = tables.hasher;
    if (hasher === null) return DROP.not_ready;
    const header = this.#header;
    const fault = parsePacket(batch.view, offset, length, header);
    if (fault !== NO_FAULT) return fault;
    if (header.ttl === 0) return DROP.ttl_expired;
    const vipSlot = tables.vips.find(header.destination);
    if (vipSlot === NOT_FOUND) return DROP.no_vip;
    tables.vips.packets[vipSlot]!++;
    tables.vips.bytes[vipSlot]! += header.totalBytes;
    const vipId = tables.vips.vipId(vipSlot);
    const ports = (header.sourcePort << 16) | header.destinationPort;
    const hash = hasher.ipv4(header.source, header.destination, ports, header.protocol, DISTRIBUTION_FIVE_TUPLE);
    const poolId = tables.rules.find(vipId, header.protocol, header.destinationPort);
    let dipSlot: number;
    if (poolId !== 0) {
      dipSlot = this.#balance(poolId, hash, ports, nowMs);
    } else {
      const dipId = tables.snat.find(vipId, header.protocol, header.destinationPort);
      if (dipId === 0) return DROP.no_rule;
      dipSlot = tables.dips.find(dipId);
    }
    if (dipSlot === NOT_FOUND) return DROP.no_dip;
    return this.#encapsulate(batch, dipSlot, hash, nowMs, out);
  }

  /** DIP slot for a packet of a rule, by flow table and map, or `NOT_FOUND`. */
  #balance(poolId: number, hash: number, ports: number, nowMs: number): number {
    const { dips, pools } = this.#tables;
    const flows = this.#flows;
    const { source, destination, protocol, tcpFlags } = this.#header;
    const startsFlow = protocol === PROTOCOL_TCP && (tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN;
    const entry = flows.find(hash, source, destination, ports, protocol);
    if (entry !== NOT_FOUND && !startsFlow) {
      const dipSlot = flows.dipSlot[entry]!;
      if (flows.dipGeneration[entry] === dips.generation[dipSlot]) {
        flows.confirm(entry, nowMs);
        return dipSlot;
      }
    }
    const dipSlot = dips.find(pools.select(poolId, hash)); // DIP 0 is never found
    if (dipSlot === NOT_FOUND) return NOT_FOUND;
    const generation = dips.generation[dipSlot]!;
    if (entry === NOT_FOUND) flows.insert(hash, source, destination, ports, protocol, dipSlot, generation, nowMs);
    else if (flows.dipSlot[entry] !== dipSlot || flows.dipGeneration[entry] !== generation) {
      flows.restart(entry, dipSlot, generation, nowMs);
    }
    // A SYN again to the same DIP leaves the entry as it is: repeated SYNs neither make a flow trusted nor keep it.
    return dipSlot;
  }

  #encapsulate(batch: PacketBatch, dipSlot: number, hash: number, nowMs: number, out: PacketBatch): number {
    const header = this.#header;
    const innerBytes = header.totalBytes;
    const totalBytes = innerBytes + OUTER_BYTES;
    if (totalBytes > this.#mtu) return this.#answerTooBig(batch, nowMs, out);
    const at = out.reserve(totalBytes, WIRE_LINK);
    if (at < 0) return DROP.output_full;
    const dips = this.#tables.dips;
    const source = this.#hashMask === 0 ? this.#address : (this.#address | (hash & this.#hashMask)) >>> 0;
    writeOuterHeader(out.view, at, source, dips.locator[dipSlot]!, header.tos, innerBytes);
    out.copyIn(batch, header.offset, at + OUTER_BYTES, innerBytes);
    dips.packets[dipSlot]!++;
    dips.bytes[dipSlot]! += innerBytes;
    this.sentPackets++;
    this.sentBytes += totalBytes;
    return NO_FAULT;
  }

  /**
   * The packet does not fit with its outer header. With "don't fragment" its sender is told by the VIP, so that path MTU
   * discovery works (RFC 1191); without, it would be fragmented inside, which is not done yet.
   */
  #answerTooBig(batch: PacketBatch, nowMs: number, out: PacketBatch): number {
    const header = this.#header;
    if ((header.fragment & FLAG_DONT_FRAGMENT) === 0 || !this.#tooBig.take(nowMs)) return DROP.too_big;
    const at = out.reserve(unreachableBytes(header.headerBytes, header.totalBytes), WIRE_LINK);
    if (at < 0) return DROP.too_big;
    const fields = {
      source: header.destination,
      destination: header.source,
      code: UNREACHABLE_FRAGMENTATION_NEEDED,
      nextHopMtu: this.#mtu - OUTER_BYTES,
    };
    writeUnreachable(out.arena, at, fields, batch.arena, header.offset, header.headerBytes, header.totalBytes);
    return DROP.too_big;
  }
}
