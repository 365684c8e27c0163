/**
 * [pure] What MUXes of a pool tell each other: how far each has come, whether its lease is held, and whether it announces. One
 * message to each peer, twice a second, as UDP from address to address.
 *
 *     0   4  "APS1"
 *     4   1  1: the lease is held, else 0
 *     5   1  1: it announces VIPs, else 0
 *     6   2  0
 *     8   4  id of the sender
 *    12   4  id of the receiver
 *    16   8  the sender's incarnation
 *    24   8  sequence, from 1 in each start of the process
 *    32   8  cluster epoch
 *    40   8  log index in force at the sender
 *    48  16  mark of the receiver's process: the first 16 bytes of the hash of its boot id
 *    64  16  SipHash-2-4-128 of the bytes before, by the key of the pool's channel
 *
 * Invariants
 *  (C1) The key follows from the master key that only MUXes and Managers have. It is another one than any host's (FastPath),
 *       and what it signs is no FastPath message.
 *  (C2) A message is good for one receiver, in one start of its process, once: it names the receiver and its process, and
 *       (incarnation, sequence) of the sender only grows, see `ReplayWindow`.
 */
import { getLong, setLong } from "../../dataplane/long.js";
import { isEqualTag, SIP_KEY_BYTES, SIP_TAG_BYTES, sipHash128 } from "../../dataplane/sip-hash.js";

/** Both ends use it. */
export const PEER_PORT = 46_802;

const BODY_BYTES = 64;
export const PEER_MESSAGE_BYTES = BODY_BYTES + SIP_TAG_BYTES;
const MAGIC = 0x41505331; // "APS1"
const MARK_AT = 48;

interface PeerMessage {
  readonly isLeased: boolean;
  readonly isAnnouncing: boolean;
  readonly from: number;
  readonly to: number;
  /** Integers up to 2^53 - 1, as `sequence`, `clusterEpoch` and `index`. */
  readonly incarnation: number;
  readonly sequence: number;
  readonly clusterEpoch: number;
  readonly index: number;
}

/** Key of the channel by the master key (C1). Both have 16 bytes. */
export function peerChannelKey(masterKey: Uint8Array): Uint8Array {
  const key = new Uint8Array(SIP_KEY_BYTES);
  sipHash128(masterKey, new TextEncoder().encode("ananta mux peer channel key"), key, 0);
  return key;
}

/** Of a process, by its boot id: no secret, only short and of one length. */
export function processMark(bootId: string): Uint8Array {
  const mark = new Uint8Array(SIP_TAG_BYTES);
  sipHash128(new Uint8Array(SIP_KEY_BYTES), new TextEncoder().encode(bootId), mark, 0);
  return mark;
}

/** Writes all `PEER_MESSAGE_BYTES` of `bytes`. `mark`: of the receiver's process. */
export function writePeerMessage(bytes: Uint8Array, message: PeerMessage, mark: Uint8Array, key: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, PEER_MESSAGE_BYTES);
  view.setUint32(0, MAGIC);
  view.setUint8(4, message.isLeased ? 1 : 0);
  view.setUint8(5, message.isAnnouncing ? 1 : 0);
  view.setUint16(6, 0);
  view.setUint32(8, message.from);
  view.setUint32(12, message.to);
  setLong(view, 16, message.incarnation);
  setLong(view, 24, message.sequence);
  setLong(view, 32, message.clusterEpoch);
  setLong(view, 40, message.index);
  bytes.set(mark, MARK_AT);
  sipHash128(key, bytes.subarray(0, BODY_BYTES), bytes, BODY_BYTES);
}

const tag = new Uint8Array(SIP_TAG_BYTES);

/** Null: it is none, or not signed with this key; nothing of such a message may be believed. */
export function readPeerMessage(bytes: Uint8Array, key: Uint8Array): PeerMessage | null {
  if (bytes.length !== PEER_MESSAGE_BYTES) return null;
  sipHash128(key, bytes.subarray(0, BODY_BYTES), tag, 0);
  if (!isEqualTag(bytes, BODY_BYTES, tag)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0) !== MAGIC) return null;
  return {
    isLeased: view.getUint8(4) === 1,
    isAnnouncing: view.getUint8(5) === 1,
    from: view.getUint32(8),
    to: view.getUint32(12),
    incarnation: getLong(view, 16),
    sequence: getLong(view, 24),
    clusterEpoch: getLong(view, 32),
    index: getLong(view, 40),
  };
}

/** A message that was read is for the process with this mark (C2). */
export function isForProcess(bytes: Uint8Array, mark: Uint8Array): boolean {
  return isEqualTag(bytes, MARK_AT, mark);
}
