/**
 * [pure] Path MTUs of tunnels (RFC 1191, RFC 8201; of tunnels RFC 2003 §5.1, RFC 2473 §7.1): what a router on the way to a host said about
 * a packet of ours that was too long for its next link. Whoever encapsulates keeps this, since the error comes to the outer source: a MUX
 * for what it sends to hosts and peers, a host for FastPath and for what it passes on. The inner sender hears of it when it next sends a
 * packet that does not fit: less the outer header.
 *
 *     sent, longer than LEAST -> noted: destination, longest, when
 *     "too big" about a packet to that destination, no longer than the longest noted lately -> its MTU, for ten minutes
 *
 *  (M1) Only what answers a packet that was sent is believed: the quoted source and destination are those of a tunnel in use, and the quoted
 *       length is one that was sent there in the last seconds. Callers check more where the wire carries a secret.
 *  (M2) Never below 576 for IPv4 or 1,280 for IPv6, and no reason to hold back what `isShortest`: its sender cannot send less; never raised by a message, only by time (RFC 1191 §6.3, RFC 8201 §4).
 *  (M3) Bounded: of more destinations than have room the one that was learned first is forgotten. Nothing is allocated per packet.
 */
import { DROP } from "./drop-reasons.js";
import { mixWords } from "./flow-hash.js";
import { RecordTable } from "./record-table.js";
import { NOT_FOUND } from "./word-index.js";
import { NO_FAULT } from "../packet/fault.js";
import type { PacketHeader } from "../packet/header.js";
import { hasGoodIcmpChecksum, tooBigMtu } from "../packet/icmp.js";
import { isAboutReceiver, parseQuotedTunnel, quotedBytes } from "../packet/quoted.js";
import { IPV6_MTU_MIN_BYTES } from "../packet/ipv6.js";

/** Packets up to this long fit every path that there is: they are neither looked up nor noted. */
export const PATH_MTU_LEAST = 576;

/** RFC 1191 §6.3, RFC 8201 §5.3: after ten minutes a longer packet tries the path again. */
const LEARNED_MS = 600_000;

const EXPIRE_EVERY_MS = 1_000;

/** An error comes within a round trip; the longest of a while is noted, and the while begins anew. */
const NOTED_MS = 5_000;

/** Words of a note: the destination's four, the longest packet, since when. */
const NOTE_WORDS = 6;
const LONGEST = 4;
const SINCE = 5;

/** RFC 1191 §7: what to try next when an old router does not say its MTU. */
const PLATEAUS = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];

/**
 * An IPv6 packet of 1,280 bytes or less inside: its sender is never told less (RFC 8201 §4). It is sent whatever was learned, so that a
 * message that should not have been believed stops nobody.
 */
export const isShortest = ({ family, totalBytes }: PacketHeader): boolean =>
  family === 6 && totalBytes <= IPV6_MTU_MIN_BYTES;

export class PathMtus {
  readonly #records: RecordTable;
  readonly #mtu: Uint16Array;
  readonly #learnedAt: Int32Array;
  readonly #notes: Int32Array;
  readonly #noteMask: number;
  readonly #fabricMtu: number;
  #hand = 0;
  #expiredAt = 0;
  /** Since the start: messages that were believed. */
  learned = 0;

  /** Room for so many destinations (40 bytes each), and notes of twice as many (24 bytes each); a power of two. */
  constructor(capacity: number, fabricMtuBytes: number) {
    this.#records = new RecordTable(capacity);
    this.#mtu = new Uint16Array(capacity);
    this.#learnedAt = new Int32Array(capacity);
    this.#notes = new Int32Array(2 * capacity * NOTE_WORDS);
    this.#noteMask = 2 * capacity - 1;
    this.#fabricMtu = fabricMtuBytes;
  }

  /** Destinations with an MTU of their own. */
  get size(): number {
    return this.#records.size;
  }

  /** Longest packet, outer header included, to the destination in the four words at `at`. Here and below `nowMs` may be modulo 2^32. */
  of(words: Int32Array, at: number, nowMs: number): number {
    return this.#of(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!, nowMs | 0);
  }

  /** As `of`. One of `totalBytes` that fits will be sent, and is noted. Only for packets longer than `PATH_MTU_LEAST`. */
  admit(words: Int32Array, at: number, totalBytes: number, nowMs: number): number {
    const mtu = this.of(words, at, nowMs);
    if (totalBytes <= mtu) this.sent(words, at, totalBytes, nowMs);
    return mtu;
  }

  /** One of `totalBytes` is sent without `admit`: a piece of one that does not fit. */
  sent(words: Int32Array, at: number, totalBytes: number, nowMs: number): void {
    this.#note(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!, totalBytes, nowMs | 0);
  }

  /**
   * Parses into `quoted` what the "too big" in `header` (parsed, with its transport; addresses as words) is about. `NO_FAULT`: an
   * encapsulated packet that the receiver of the message sent; else a drop reason's number.
   */
  read(view: DataView, header: PacketHeader, quoted: PacketHeader): number {
    if (!hasGoodIcmpChecksum(view, header)) return DROP.path_mtu_invalid;
    if (parseQuotedTunnel(view, header, quoted) !== NO_FAULT) return DROP.path_mtu_unmatched;
    return isAboutReceiver(header, quoted) ? NO_FAULT : DROP.path_mtu_unmatched;
  }

  /** Believes the message that `read` has parsed, or not: a drop reason's number. */
  learn(view: DataView, header: PacketHeader, quoted: PacketHeader, nowMs: number): number {
    const now = nowMs | 0;
    const { destination0, destination1, destination2, destination3 } = quoted;
    const sentBytes = quotedBytes(view, quoted);
    if (!this.#wasSent(destination0, destination1, destination2, destination3, sentBytes, now))
      return DROP.path_mtu_unmatched; // (M1)
    const mtu = usableMtu(header.family, tooBigMtu(view, header), sentBytes);
    if (mtu === 0) return DROP.path_mtu_invalid;
    const known = this.#of(destination0, destination1, destination2, destination3, now);
    const isNew = this.#records.find(destination0, destination1, destination2, destination3) === NOT_FOUND;
    if (isNew && this.#records.size === this.#records.capacity) this.#forgetOne();
    const record = this.#records.upsert(destination0, destination1, destination2, destination3);
    this.#mtu[record] = Math.min(mtu, known); // (M2)
    this.#learnedAt[record] = now;
    this.learned++;
    return NO_FAULT;
  }

  /** Frees what was learned ten minutes ago, and is in force no more. Call now and then. */
  expire(nowMs: number): void {
    if (this.#records.size === 0 || ((nowMs - this.#expiredAt) | 0) < EXPIRE_EVERY_MS) return;
    this.#expiredAt = nowMs | 0;
    for (let record = 0; record < this.#records.capacity; record++)
      if (this.#records.isUsed(record) && this.#isOld(record, nowMs | 0)) this.#records.remove(record);
  }

  #of(a: number, b: number, c: number, d: number, now: number): number {
    if (this.#records.size === 0) return this.#fabricMtu;
    const record = this.#records.find(a, b, c, d);
    return record === NOT_FOUND || this.#isOld(record, now) ? this.#fabricMtu : this.#mtu[record]!;
  }

  #isOld(record: number, now: number): boolean {
    return ((now - this.#learnedAt[record]!) | 0) >= LEARNED_MS;
  }

  /** (M3) */
  #forgetOne(): void {
    this.#records.remove(this.#hand);
    this.#hand = (this.#hand + 1) % this.#records.capacity;
  }

  #noteAt(a: number, b: number, c: number, d: number): number {
    return (mixWords(a, b, c, d) & this.#noteMask) * NOTE_WORDS;
  }

  #isNoteOf(at: number, a: number, b: number, c: number, d: number): boolean {
    const notes = this.#notes;
    return notes[at + 3] === d && notes[at + 2] === c && notes[at + 1] === b && notes[at] === a;
  }

  #note(a: number, b: number, c: number, d: number, totalBytes: number, now: number): void {
    const notes = this.#notes;
    const at = this.#noteAt(a, b, c, d);
    const age = (now - notes[at + SINCE]!) | 0;
    if (this.#isNoteOf(at, a, b, c, d) && age >= 0 && age < NOTED_MS) {
      if (totalBytes > notes[at + LONGEST]!) notes[at + LONGEST] = totalBytes;
      return;
    }
    notes[at] = a;
    notes[at + 1] = b;
    notes[at + 2] = c;
    notes[at + 3] = d;
    notes[at + LONGEST] = totalBytes;
    notes[at + SINCE] = now;
  }

  #wasSent(a: number, b: number, c: number, d: number, totalBytes: number, now: number): boolean {
    const at = this.#noteAt(a, b, c, d);
    const age = (now - this.#notes[at + SINCE]!) | 0;
    // Below 0: of weeks ago, since the clock's 32 bits have turned.
    const isLate = age < 0 || age >= 2 * NOTED_MS;
    return !isLate && this.#isNoteOf(at, a, b, c, d) && totalBytes <= this.#notes[at + LONGEST]!;
  }
}

/** What to believe of the MTU that a message names about a packet of `sentBytes`; 0: nothing. */
function usableMtu(family: number, named: number, sentBytes: number): number {
  if (named >= sentBytes) return 0; // it would have fitted
  if (family === 6) return named < IPV6_MTU_MIN_BYTES ? 0 : named; // RFC 8201 §4
  if (sentBytes <= PATH_MTU_LEAST) return 0;
  const mtu = named === 0 ? (PLATEAUS.find((plateau) => plateau < sentBytes) ?? PATH_MTU_LEAST) : named;
  return Math.max(PATH_MTU_LEAST, mtu);
}
