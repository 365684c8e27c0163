/**
 * [pure] The channel between the MUXes of a pool: what each tells the others (peer-message.ts), and what follows from it.
 *
 *     control: index in force, lease, announcing --> tell() --> one signed message per peer, every 500 ms --> out
 *     a message for our own address --> receive(): known sender? signed? for us, now? not seen before? --> Staleness
 *     control <-- isStale;   pipeline <-- mayRelayTo(peer)
 *
 * Nothing is sent or believed without the master key of the site, and before control has told what to say. Packets that peers
 * relay are not signed: they say no more than a client's own packet would, and go no further (P1 of the pipeline).
 */
import type { Ipv4 } from "../../core/brands.js";
import { DROP } from "../../dataplane/drop-reasons.js";
import type { MuxPeerItem } from "../../dataplane/mux-items.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { ReplayWindow } from "../../dataplane/replay-window.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { udpPacketBytes, writeUdpPacket } from "../../packet/build.js";
import { NO_FAULT } from "../../packet/fault.js";
import type { PacketHeader } from "../../packet/header.js";
import { UDP_HEADER_BYTES } from "../../packet/udp.js";
import {
  isForProcess,
  PEER_MESSAGE_BYTES,
  PEER_PORT,
  peerChannelKey,
  processMark,
  readPeerMessage,
  writePeerMessage,
} from "./peer-message.js";
import { Staleness, type Progress } from "./staleness.js";

const TELL_MS = 500;
/** Former members that are still told: as many as a pool may lose at once. */
const FORMER_MAX = 64;
/** Signatures checked per second: ten times what a pool of 50 sends, and little work; what comes beyond is forged. */
const CHECKS_PER_SECOND = 1_000;

/** What the MUX itself knows of its place in the pool. */
export interface OwnWord extends Progress {
  /** Of this process: its place in the pool is that of its own boot, not of a successor or predecessor of its name. */
  readonly bootId: string;
  readonly isLeased: boolean;
  readonly isAnnouncing: boolean;
}

/** The pool as the tables have it. */
export interface Pool {
  readonly muxKey: () => Uint8Array | null;
  /** Counts changes of `members`. */
  readonly generation: () => number;
  members(): readonly MuxPeerItem[];
  /** Of this MUX; null: it is not in the pool. */
  self(): MuxPeerItem | null;
  addressOf(item: MuxPeerItem): number;
}

interface Peer {
  readonly item: MuxPeerItem;
  readonly address: number;
  readonly mark: Uint8Array;
}

export interface PeerCounts {
  readonly sent: number;
  readonly received: number;
  /** Peers that told something of late. */
  readonly heard: number;
}

export class PeerChannel {
  readonly #pool: Pool;
  readonly #address: Ipv4;
  readonly #mask: number;
  readonly #staleness = new Staleness();
  readonly #window = new ReplayWindow();
  /** The message of each peer that counts: one that it overtook says nothing new. */
  readonly #newest = new Map<number, { readonly incarnation: number; readonly sequence: number }>();
  readonly #checks = new TokenBucket(CHECKS_PER_SECOND, CHECKS_PER_SECOND);
  readonly #payload = new Uint8Array(PEER_MESSAGE_BYTES);
  #own: OwnWord | null = null;
  #peers: readonly Peer[] = [];
  /**
   * Those that were in the pool before, latest first: one that the Managers have declared lost may only be cut off, and still
   * announce. It has to hear that the others go on.
   */
  #former: readonly Peer[] = [];
  #self: Peer | null = null;
  #generation = -1;
  #bootId: string | null = null;
  #master: Uint8Array | null = null;
  #key: Uint8Array | null = null;
  #sequence = 0;
  #tellAtMs = 0;
  /** A life in the pool begins in silence: peers may not have heard of it yet. */
  #incarnation = 0;
  #quietUntilMs = 0;
  #sent = 0;
  #received = 0;

  /** `address`: of this MUX. `mask`: of the bits that tell the addresses of two MUXes apart. */
  constructor(pool: Pool, address: number, mask: number) {
    this.#pool = pool;
    this.#address = (address >>> 0) as Ipv4;
    this.#mask = mask;
  }

  /**
   * What is true of this MUX now; call at least every 100 ms. True: its peers have left it behind, and it must not announce
   * (staleness.ts).
   */
  tell(own: OwnWord, nowMs: number): boolean {
    const before = this.#own;
    if (before?.isLeased !== own.isLeased || before.isAnnouncing !== own.isAnnouncing) this.#tellAtMs = nowMs;
    this.#own = own;
    this.#follow();
    if (this.#key === null || this.#self === null) return false;
    const { incarnation } = this.#self.item;
    if (this.#incarnation !== incarnation) this.#quietUntilMs = nowMs + TELL_MS;
    this.#incarnation = incarnation;
    const poolSize = 1 + this.#peers.filter(({ item }) => item.drained !== true).length;
    return this.#staleness.step({ own, holdsLease: own.isLeased, poolSize }, nowMs);
  }

  /** Sends what is due. */
  tick(nowMs: number, out: PacketBatch): void {
    const own = this.#own;
    this.#follow();
    if (
      own === null ||
      this.#self === null ||
      this.#key === null ||
      nowMs < Math.max(this.#tellAtMs, this.#quietUntilMs)
    )
      return;
    const { muxId, incarnation } = this.#self.item;
    for (const { item, address, mark } of [...this.#peers, ...this.#former]) {
      const message = { ...own, from: muxId, to: item.muxId, incarnation, sequence: ++this.#sequence };
      writePeerMessage(this.#payload, message, mark, this.#key);
      const fields = {
        source: this.#address,
        destination: (address >>> 0) as Ipv4,
        sourcePort: PEER_PORT,
        destinationPort: PEER_PORT,
        payload: this.#payload,
      };
      const at = out.reserve(udpPacketBytes(fields), WIRE_LINK);
      if (at < 0) return; // the next tick tells all of them
      writeUdpPacket(out.arena, at, fields);
      this.#sent++;
    }
    this.#tellAtMs = nowMs + TELL_MS;
  }

  /** A UDP packet from a MUX's address to ours and to `PEER_PORT`. `NO_FAULT`, or the number of the reason to drop it. */
  receive(batch: PacketBatch, header: PacketHeader, nowMs: number): number {
    this.#follow();
    const payloadAt = header.transportOffset + UDP_HEADER_BYTES;
    const end = header.offset + header.totalBytes;
    if (this.#key === null || this.#self === null) return DROP.peer_early;
    if (end - payloadAt !== PEER_MESSAGE_BYTES) return DROP.peer_forged;
    if (!this.#checks.take(nowMs)) return DROP.peer_limit;
    const bytes = batch.arena.subarray(payloadAt, end);
    const message = readPeerMessage(bytes, this.#key);
    if (message === null) return DROP.peer_forged;
    const { from, to, incarnation, sequence } = message;
    const peer = this.#peers.find(({ item }) => item.muxId === from);
    if (peer === undefined) return DROP.unknown_peer; // itself, or a member that the tables do not have yet
    if (((peer.address ^ header.source3) & this.#mask) !== 0) return DROP.peer_forged; // signed by a MUX, and sent by another one
    // A peer may have begun a new life that this MUX has not heard of; never an older one.
    if (to !== this.#self.item.muxId || !isForProcess(bytes, this.#self.mark)) return DROP.peer_stale;
    if (incarnation < peer.item.incarnation) return DROP.peer_stale;
    const verdict = this.#window.admit(from, incarnation, sequence);
    if (verdict !== "fresh") return verdict === "replayed" ? DROP.peer_replayed : DROP.peer_stale;
    this.#received++;
    const { isLeased, isAnnouncing, clusterEpoch, index } = message;
    const newest = this.#newest.get(from);
    const isOvertaken = newest?.incarnation === incarnation && newest.sequence > sequence;
    if (isOvertaken) return NO_FAULT;
    this.#newest.set(from, { incarnation, sequence });
    const word = { isLeased, isAnnouncing, clusterEpoch, index, heardAtMs: nowMs };
    this.#staleness.told(from, word, this.#own ?? NOTHING);
    return NO_FAULT;
  }

  /** It has said of late that its lease is held. */
  isLeased(muxId: number, nowMs: number): boolean {
    return this.#staleness.wordOf(muxId, nowMs)?.isLeased === true;
  }

  counts(nowMs: number): PeerCounts {
    const heard = this.#peers.filter(({ item }) => this.#staleness.wordOf(item.muxId, nowMs) !== null).length;
    return { sent: this.#sent, received: this.#received, heard };
  }

  /** Takes over what the tables say of the pool. */
  #follow(): void {
    const muxKey = this.#pool.muxKey();
    const generation = this.#pool.generation();
    if (this.#master !== muxKey) {
      this.#master = muxKey;
      this.#key = muxKey === null ? null : peerChannelKey(muxKey);
    }
    const bootId = this.#own?.bootId ?? null;
    if (this.#generation === generation && this.#bootId === bootId) return;
    this.#generation = generation;
    this.#bootId = bootId;
    const peerOf = (item: MuxPeerItem): Peer => {
      return { item, address: this.#pool.addressOf(item), mark: processMark(item.bootId) };
    };
    const before = this.#peers;
    const self = this.#pool.self();
    // Before its own join, and once another process has taken over, this one has nothing to say: signed with the incarnation of
    // the other one, its messages would make that one's look stale or replayed.
    this.#self = self === null || self.bootId !== bootId ? null : peerOf(self);
    this.#peers = this.#pool
      .members()
      .filter((item) => item.muxId !== self?.muxId)
      .map(peerOf);
    const isMember = ({ item, address }: Peer): boolean =>
      address === (this.#address | 0) ||
      item.muxId === self?.muxId ||
      this.#peers.some((peer) => peer.item.muxId === item.muxId || peer.address === address);
    this.#former = [
      ...before,
      ...this.#former.filter((peer) => !before.some(({ item }) => item.muxId === peer.item.muxId)),
    ]
      .filter((peer) => !isMember(peer))
      .slice(0, FORMER_MAX);
    const isPeer = (muxId: number): boolean => this.#peers.some(({ item }) => item.muxId === muxId);
    this.#staleness.keepOnly(isPeer);
    this.#window.keepOnly(isPeer);
    for (const muxId of this.#newest.keys()) if (!isPeer(muxId)) this.#newest.delete(muxId);
  }
}

const NOTHING: Progress = { clusterEpoch: 0, index: 0 };
