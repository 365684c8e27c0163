/**
 * The way out of a MUX: an outer header in front, the inner packet untouched. What does not fit is fragmented
 * inside where its sender allows that, and answered with "fragmentation needed" by the VIP where not. What fits is for the fabric's MTU to
 * say, and for routers on the way to each host (`dataplane/path-mtu.ts`).
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { isShortest, PATH_MTU_LEAST, type PathMtus } from "../../dataplane/path-mtu.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NO_FAULT } from "../../packet/fault.js";
import { fragmentCount, writeFragment } from "../../packet/fragment.js";
import type { PacketHeader } from "../../packet/header.js";
import {
  ICMPV6_PACKET_TOO_BIG,
  icmpv6ErrorBytes,
  isIcmpError,
  UNREACHABLE_FRAGMENTATION_NEEDED,
  unreachableBytes,
  writeIcmpv6Error,
  writeUnreachable,
} from "../../packet/icmp.js";
import {
  innerProtocol,
  OUTER_BYTES,
  OUTER_IPV6_BYTES,
  writeOuterHeader,
  writeOuterIpv6Header,
} from "../../packet/ip-in-ip.js";
import { FLAG_DONT_FRAGMENT, IPV4_TOTAL_LENGTH } from "../../packet/ipv4.js";
import { IPV6_MTU_MIN_BYTES } from "../../packet/ipv6.js";
import { isIcmp } from "../../packet/parse.js";
import { buildReset } from "./reset.js";

/** Answers per second: enough for path MTU discovery and to end flows, too few to be used against somebody. */
const TOO_BIG_PER_SECOND = 100;
const RESETS_PER_SECOND = 1_000;

export interface EncapsulatorOptions {
  /** Outer IPv4 source, 32 bits. */
  readonly address: number;
  /** The low `hashBits` bits of the outer IPv4 source carry the flow hash; 0: the address as it is. */
  readonly hashBits: number;
  /** Outer IPv6 source; null: no IPv6 locators. Its flow label carries the hash. */
  readonly addressIpv6: Int32Array | null;
}

const NO_ADDRESS = new Int32Array(4);
const FLOW_LABEL_MASK = 0xf_ffff;

export class Encapsulator {
  /** Packets and bytes sent: in a typed array, so that counting never makes a heap number. */
  readonly #sent = new Float64Array(2);
  readonly #address: number;
  readonly #hashMask: number;
  readonly #addressIpv6: Int32Array;
  readonly #paths: PathMtus;
  readonly #tooBig = new TokenBucket(TOO_BIG_PER_SECOND, TOO_BIG_PER_SECOND);
  readonly #resets = new TokenBucket(RESETS_PER_SECOND, RESETS_PER_SECOND);

  constructor(options: EncapsulatorOptions, paths: PathMtus) {
    this.#hashMask = options.hashBits === 0 ? 0 : 0xffff_ffff >>> (32 - options.hashBits);
    this.#address = options.address & ~this.#hashMask;
    if (this.#hashMask === 0) this.#address = options.address | 0;
    this.#addressIpv6 = options.addressIpv6 ?? NO_ADDRESS;
    this.#paths = paths;
  }

  get sentPackets(): number {
    return this.#sent[0]!;
  }

  get sentBytes(): number {
    return this.#sent[1]!;
  }

  /** The packet is for this MUX itself: to an outer source of its own. */
  isOwn({ family, destination0, destination1, destination2, destination3 }: PacketHeader): boolean {
    if (family === 4) return (destination3 & ~this.#hashMask) === (this.#address & ~this.#hashMask);
    const own = this.#addressIpv6;
    return own[3] === destination3 && own[2] === destination2 && own[1] === destination1 && own[0] === destination0;
  }

  /** The outer header in `quoted`, of an ICMP error, carries this flow hash as those do that `send` writes. */
  carriesHash(view: DataView, quoted: PacketHeader, hash: number): boolean {
    if (quoted.family === 6) return (view.getInt32(quoted.offset) & FLOW_LABEL_MASK) === (hash & FLOW_LABEL_MASK);
    return (quoted.source3 & this.#hashMask) === (hash & this.#hashMask);
  }

  /** Of a peer's outer source, where the flow hash is not. */
  get sourceMask(): number {
    return ~this.#hashMask;
  }

  get address(): number {
    return this.#address;
  }

  /**
   * Sends the parsed packet to the address in the four words at `at`. `NO_FAULT`, or the drop reason's number, when the packet
   * did not leave; an answer to its sender may have.
   */
  send(
    batch: PacketBatch,
    header: PacketHeader,
    words: Int32Array,
    at: number,
    isIpv6: boolean,
    hash: number,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const outerBytes = isIpv6 ? OUTER_IPV6_BYTES : OUTER_BYTES;
    const innerBytes = header.totalBytes;
    const totalBytes = innerBytes + outerBytes;
    if (totalBytes > PATH_MTU_LEAST && !isShortest(header)) {
      const mtu = this.#paths.admit(words, at, totalBytes, nowMs);
      if (totalBytes > mtu)
        return this.#doesNotFit(batch, header, words, at, isIpv6, hash, mtu - outerBytes, nowMs, out);
    }
    const offset = out.reserve(totalBytes, WIRE_LINK);
    if (offset < 0) return DROP.output_full;
    out.copyIn(batch, header.offset, offset + outerBytes, innerBytes);
    this.#writeOuter(out.view, offset, header, words, at, isIpv6, hash, innerBytes);
    this.#sent[0]!++;
    this.#sent[1]! += totalBytes;
    return NO_FAULT;
  }

  #writeOuter(
    view: DataView,
    offset: number,
    header: PacketHeader,
    words: Int32Array,
    at: number,
    isIpv6: boolean,
    hash: number,
    innerBytes: number,
  ): void {
    const protocol = innerProtocol(header.family);
    if (isIpv6) {
      writeOuterIpv6Header(view, offset, this.#addressIpv6, 0, words, at, header.tos, innerBytes, protocol, hash);
      return;
    }
    const source = this.#address | (hash & this.#hashMask);
    writeOuterHeader(view, offset, source, words[at + 3]!, header.tos, innerBytes, protocol);
  }

  /** Fragmented inside (IPv4 without "don't fragment"), or answered (RFC 1191, RFC 8201). */
  #doesNotFit(
    batch: PacketBatch,
    header: PacketHeader,
    words: Int32Array,
    at: number,
    isIpv6: boolean,
    hash: number,
    innerMtu: number,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const outerBytes = isIpv6 ? OUTER_IPV6_BYTES : OUTER_BYTES;
    if (header.family === 6 || (header.fragment & FLAG_DONT_FRAGMENT) !== 0)
      return this.#answerTooBig(batch, header, innerMtu, nowMs, out);
    const count = fragmentCount(header, innerMtu);
    if (count === 0) return DROP.too_big;
    this.#paths.sent(words, at, outerBytes + innerMtu, nowMs);
    for (let piece = 0; piece < count; piece++) {
      const offset = out.reserve(outerBytes + innerMtu, WIRE_LINK);
      if (offset < 0) return DROP.output_full;
      const innerBytes = writeFragment(batch.view, header, piece, innerMtu, out.view, offset + outerBytes);
      out.lengths[out.count - 1] = outerBytes + innerBytes;
      this.#writeOuter(out.view, offset, header, words, at, isIpv6, hash, innerBytes);
      this.#sent[0]!++;
      this.#sent[1]! += outerBytes + innerBytes;
    }
    return NO_FAULT;
  }

  /** The sender is told by the VIP, so that path MTU discovery works. Never about an ICMP error or a later fragment. */
  #answerTooBig(batch: PacketBatch, header: PacketHeader, mtu: number, nowMs: number, out: PacketBatch): number {
    if ((isIcmp(header) && isIcmpError(header)) || (header.fragment & 0x1fff) !== 0) return DROP.too_big;
    if (!this.#tooBig.take(nowMs)) return DROP.too_big;
    if (header.family === 6) {
      const at = out.reserve(icmpv6ErrorBytes(header.totalBytes), WIRE_LINK);
      if (at < 0) return DROP.too_big;
      const fields = {
        source: [header.destination0, header.destination1, header.destination2, header.destination3] as const,
        destination: [header.source0, header.source1, header.source2, header.source3] as const,
        type: ICMPV6_PACKET_TOO_BIG,
        code: 0,
        parameter: Math.max(mtu, IPV6_MTU_MIN_BYTES),
      };
      writeIcmpv6Error(out.arena, at, fields, batch.arena, header.offset, header.totalBytes);
      return DROP.too_big;
    }
    // The quote is of the header as it is, so its length is that of the options too.
    const headerBytes = (batch.view.getUint8(header.offset) & 15) * 4;
    const totalBytes = batch.view.getUint16(header.offset + IPV4_TOTAL_LENGTH);
    const at = out.reserve(unreachableBytes(headerBytes, totalBytes), WIRE_LINK);
    if (at < 0) return DROP.too_big;
    const fields = {
      source: header.destination3,
      destination: header.source3,
      code: UNREACHABLE_FRAGMENTATION_NEEDED,
      nextHopMtu: mtu,
    };
    writeUnreachable(out.arena, at, fields, batch.arena, header.offset, headerBytes, totalBytes);
    return DROP.too_big;
  }

  /** Ends the TCP flow of the parsed segment towards its sender, in the VIP's name. */
  reset(batch: PacketBatch, header: PacketHeader, nowMs: number, out: PacketBatch): void {
    if (!this.#resets.take(nowMs)) return;
    const packet = buildReset(batch.view, header);
    if (packet !== null) out.append(packet);
  }
}
