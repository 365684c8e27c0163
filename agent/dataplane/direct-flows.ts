/**
 * Which flows go straight to the peer's host (FastPath, Ananta §3.2.4), by NAT entry:
 *
 *     by the VIP --a MUX's redirect--> told --the peer is ready, too--> direct
 *          ^                             ^                                |-- lifetime over, revoked, a new SYN --> by the VIP
 *          |                             +--- redirect, after REST_MS --- resting
 *          +------------------------------------------------------------- ^ nothing heard directly for SILENCE_MS
 *
 * Invariants
 *  (X1) A flow goes directly only while its redirect lives, and only after the peer showed that it was told too (F4).
 *  (X2) Data that was sent directly and had no direct answer for a second ends it: a host that died, that started again, that
 *       the DIP has left, or a path that drops long packets. So does data that came by the VIP, unless something comes directly within
 *       a second: what our machine sends in a download are acknowledgements, which nobody answers. Then the VIP's way has the
 *       flow, at least for `REST_MS`.
 *  (X3) Packets of the peer are taken somewhat longer than the redirect lives: the two ends were not told in the same moment.
 *
 * 41 bytes per entry, nothing allocated per packet.
 */
import type { IpAddress } from "../../core/brands.js";
import { formatWords } from "../../packet/address-words.js";
import { MAPPED_WORD } from "../../packet/header.js";
import { IPV4_SOURCE } from "../../packet/ipv4.js";
import { type AddressWords, IPV6_SOURCE } from "../../packet/ipv6.js";

const BY_VIP = 0;
const TOLD = 1;
const DIRECT = 2;
const RESTING = 3;

/** Above delayed acknowledgements (RFC 9293: 500 ms) and the first retransmissions. */
const SILENCE_MS = 1_000;
const REST_MS = 30_000;
/** Two messages of one MUX cross the site in milliseconds. */
const PEER_GRACE_MS = 5_000;
/** A MUX says 30 s; whatever it says, no redirect is believed for longer. */
const LIFETIME_MAX_MS = 60_000;
const HEARD = -1;

export class DirectFlows {
  readonly #state: Uint8Array;
  readonly #until: Float64Array;
  /** When data was sent directly that nothing has answered yet; or `HEARD`. */
  readonly #waitingSince: Float64Array;
  /** Log index of the newest message. */
  readonly #index: Float64Array;
  readonly #peers: Int32Array;
  /** Flows that went silent. */
  fellBack = 0;

  constructor(capacity: number) {
    this.#state = new Uint8Array(capacity);
    this.#until = new Float64Array(capacity).fill(-Infinity);
    this.#waitingSince = new Float64Array(capacity);
    this.#index = new Float64Array(capacity);
    this.#peers = new Int32Array(capacity * 4);
  }

  /** Four words per entry, at `entry * 4`. */
  get peers(): Int32Array {
    return this.#peers;
  }

  /** The flow's packets go to the peer now. */
  isDirect(entry: number, nowMs: number): boolean {
    return this.#state[entry] === DIRECT && this.#isStillDirect(entry, nowMs);
  }

  #isStillDirect(entry: number, nowMs: number): boolean {
    if (nowMs >= this.#until[entry]!) {
      this.#state[entry] = BY_VIP;
      return false;
    }
    const since = this.#waitingSince[entry]!;
    if (since === HEARD || nowMs - since < SILENCE_MS) return true;
    this.#state[entry] = RESTING;
    this.fellBack++;
    return false;
  }

  /** A redirect. False: a newer message is known. Afterwards `isTold` says whether the peer has yet to show itself. */
  redirect(entry: number, peer: AddressWords, lifetimeMs: number, index: number, nowMs: number): boolean {
    if (index < this.#index[entry]!) return false;
    this.#index[entry] = index;
    const isSamePeer = this.#isPeer(entry, peer[0], peer[1], peer[2], peer[3]);
    const isDirect = isSamePeer && this.isDirect(entry, nowMs);
    const rests =
      isSamePeer && this.#state[entry] === RESTING && nowMs < this.#waitingSince[entry]! + SILENCE_MS + REST_MS;
    this.#peers.set(peer, entry * 4);
    this.#until[entry] = nowMs + Math.min(lifetimeMs, LIFETIME_MAX_MS);
    if (isDirect || rests) return true;
    this.#state[entry] = TOLD;
    this.#waitingSince[entry] = HEARD;
    return true;
  }

  /** A revocation. False: a newer message is known, or there was no redirect. */
  revoke(entry: number, index: number): boolean {
    if (index < this.#index[entry]! || this.#until[entry] === -Infinity) return false;
    this.forget(entry);
    this.#index[entry] = index;
    return true;
  }

  /** The flow ends, or begins anew. */
  forget(entry: number): void {
    this.#state[entry] = BY_VIP;
    this.#until[entry] = -Infinity;
    this.#index[entry] = 0;
  }

  /** Locator that the flow's packets go to now; null: they go by the VIP. Changes nothing. */
  peerOf(entry: number, nowMs: number): IpAddress | null {
    if (this.#state[entry] !== DIRECT || nowMs >= this.#until[entry]!) return null;
    const at = entry * 4;
    const [a = 0, b = 0, c = 0, d = 0] = this.#peers.subarray(at, at + 4);
    return formatWords(a, b, c, d);
  }

  /** A MUX told this host, and the peer has not shown yet that it knows. */
  isTold(entry: number): boolean {
    return this.#state[entry] === TOLD;
  }

  /** The packet whose outer header of `family` is at `offset` came from the flow's peer. */
  isFromPeer(entry: number, view: DataView, offset: number, family: number, nowMs: number): boolean {
    if (nowMs >= this.#until[entry]! + PEER_GRACE_MS) return false;
    if (family === 4) return this.#isPeer(entry, 0, 0, MAPPED_WORD, view.getInt32(offset + IPV4_SOURCE));
    const at = offset + IPV6_SOURCE;
    return this.#isPeer(entry, view.getInt32(at), view.getInt32(at + 4), view.getInt32(at + 8), view.getInt32(at + 12));
  }

  /** Something came from the peer: it was told, too. */
  heard(entry: number, nowMs: number): void {
    if (this.#state[entry] === RESTING) return; // what comes says nothing of what goes
    this.#waitingSince[entry] = HEARD;
    if (this.#state[entry] === TOLD && nowMs < this.#until[entry]!) this.#state[entry] = DIRECT;
  }

  /** Data went to the peer, which will have an answer; or data came by the VIP, though the flow goes directly. */
  asked(entry: number, nowMs: number): void {
    if (this.#state[entry] === DIRECT && this.#waitingSince[entry] === HEARD) this.#waitingSince[entry] = nowMs;
  }

  #isPeer(entry: number, a: number, b: number, c: number, d: number): boolean {
    const peers = this.#peers;
    const at = entry * 4;
    return peers[at + 3] === d && peers[at + 2] === c && peers[at + 1] === b && peers[at] === a;
  }
}
