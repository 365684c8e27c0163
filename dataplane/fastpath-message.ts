/**
 * FastPath (Ananta §3.2.4): what a MUX tells the two hosts of a flow between VIPs, so that they send to each other
 * and not through MUXes.
 *
 *     DIP1 --host A: source VIP1:p1--> MUX --> host B: DIP2           before
 *     MUX --message, key of A--> host A,   MUX --message, key of B--> host B
 *     DIP1 --host A--encapsulated--> host B: DIP2, and back alike     after
 *
 * On the wire: IP-in-IP from the MUX to the locator of the receiver's DIP; inside, UDP from the MUX to `FASTPATH_ADDRESS`,
 * which no machine has. All numbers big-endian; addresses are four words, IPv4 as ::ffff:a.b.c.d.
 *
 *     0   4  "AFP1"
 *     4   1  kind: 1 redirect, 2 revoke
 *     5   1  receiver's end: 0 initiator, 1 responder
 *     6   1  protocol of the flow
 *     7   1  0
 *     8  16  source, as the initiator's packets have it
 *    24  16  destination, likewise
 *    40   2  source port
 *    42   2  destination port
 *    44  16  locator of the peer
 *    60   4  0
 *    64   4  DIP of the receiver's end
 *    68   4  DIP of the peer
 *    72   4  id of the MUX
 *    76   8  its incarnation
 *    84   8  sequence, from 1 in each incarnation
 *    92   8  log index that the ends were resolved at
 *   100   4  lifetime, ms
 *   104  16  SipHash-2-4-128 of the bytes before, by the host's key
 *
 * Invariants
 *  (F1) A host's key follows from its id and the master key that only MUXes (and the Managers) have: no host can speak for a MUX to
 *       another host.
 *  (F2) (incarnation, sequence) of a MUX only grows, see `ReplayWindow`: each message is good once.
 *  (F3) A redirect is about one flow, and ends after its lifetime at the receiver; then the flow goes by the VIP again, and a MUX
 *       redirects it anew, to where its ends are then.
 *
 *  (F4) A host sends to the peer only after the peer has said, or shown by a packet of the flow, that it was told too: with one of
 *       the two messages lost, the flow stays with the MUXes, and is redirected again.
 *
 * The receiver asks besides whether it has that flow in its own NAT state with that DIP; an end of FastPath is a return to the
 * VIP's path, where second chance finds the flow.
 *
 * What hosts say to each other for (F4) is "ready": IP-in-IP from locator to locator; inside, UDP to `FASTPATH_ADDRESS`, the first
 * 44 bytes as above with kind 3, the receiver's end, and at 7: 1 asks for the same in return, 0 answers. It is not signed, because a
 * host has no key of another: it is believed from the outer source that a MUX has named as the peer of this flow, as the flow's
 * packets are.
 */
import { getLong, setLong } from "./long.js";
import { SIP_KEY_BYTES, SIP_TAG_BYTES, isEqualTag, sipHash128 } from "./sip-hash.js";
import type { AddressWords } from "../packet/ipv6.js";

/** Link-local (RFC 3927): never the address of a machine, never outside of the tunnel. */
export const FASTPATH_ADDRESS = (169 << 24) | (254 << 16) | (255 << 8) | 4 | 0;
export const FASTPATH_PORT = 46_801;

const READY = 3;
export const FASTPATH_READY_BYTES = 44;
const BODY_BYTES = 104;
export const FASTPATH_MESSAGE_BYTES = BODY_BYTES + SIP_TAG_BYTES;
const MAGIC = 0x41465031; // "AFP1"

export const REDIRECT = 1;
export const REVOKE = 2;
export const INITIATOR = 0;
export const RESPONDER = 1;

/** Which flow, and whose end of it. */
export interface FastpathFlow {
  /** Which end of the flow the receiver has. */
  readonly end: typeof INITIATOR | typeof RESPONDER;
  readonly protocol: number;
  readonly source: AddressWords;
  readonly sourcePort: number;
  readonly destination: AddressWords;
  readonly destinationPort: number;
}

export interface FastpathMessage extends FastpathFlow {
  /** `REVOKE`: the flow goes by the VIP from now on; `peerLocator` and `lifetimeMs` mean nothing. */
  readonly kind: typeof REDIRECT | typeof REVOKE;
  /** Outer destination for the flow's packets from now on. */
  readonly peerLocator: AddressWords;
  readonly dipId: number;
  readonly peerDipId: number;
  readonly muxId: number;
  /** Integers up to 2^53 - 1, as `sequence` and `index`. */
  readonly incarnation: number;
  readonly sequence: number;
  readonly index: number;
  readonly lifetimeMs: number;
}

/** Key of a host by the master key (F1). Both have 16 bytes. */
export function fastpathHostKey(masterKey: Uint8Array, hostId: number): Uint8Array {
  const label = new TextEncoder().encode("ananta fastpath host key....");
  new DataView(label.buffer).setUint32(label.length - 4, hostId);
  const key = new Uint8Array(SIP_KEY_BYTES);
  sipHash128(masterKey, label, key, 0);
  return key;
}

/** Writes `FASTPATH_MESSAGE_BYTES` at `at`, signed with the receiver's key. */
export function writeFastpathMessage(
  arena: Uint8Array,
  at: number,
  message: FastpathMessage,
  hostKey: Uint8Array,
): void {
  const view = new DataView(arena.buffer, arena.byteOffset + at, FASTPATH_MESSAGE_BYTES);
  writeFlow(view, message.kind, message, 0);
  setAddress(view, 44, message.peerLocator);
  view.setUint32(60, 0);
  view.setUint32(64, message.dipId);
  view.setUint32(68, message.peerDipId);
  view.setUint32(72, message.muxId);
  setLong(view, 76, message.incarnation);
  setLong(view, 84, message.sequence);
  setLong(view, 92, message.index);
  view.setUint32(100, message.lifetimeMs);
  sipHash128(hostKey, arena.subarray(at, at + BODY_BYTES), arena, at + BODY_BYTES);
}

const tag = new Uint8Array(SIP_TAG_BYTES);

/** Null: it is none, or not signed with this key; nothing of such a message may be believed. */
export function readFastpathMessage(bytes: Uint8Array, hostKey: Uint8Array): FastpathMessage | null {
  if (bytes.length !== FASTPATH_MESSAGE_BYTES) return null;
  sipHash128(hostKey, bytes.subarray(0, BODY_BYTES), tag, 0);
  if (!isEqualTag(bytes, BODY_BYTES, tag)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kind = view.getUint8(4);
  const flow = readFlow(view);
  if (flow === null || (kind !== REDIRECT && kind !== REVOKE)) return null;
  return {
    kind,
    ...flow,
    peerLocator: getAddress(view, 44),
    dipId: view.getUint32(64),
    peerDipId: view.getUint32(68),
    muxId: view.getUint32(72),
    incarnation: getLong(view, 76),
    sequence: getLong(view, 84),
    index: getLong(view, 92),
    lifetimeMs: view.getUint32(100),
  };
}

/** Writes `FASTPATH_READY_BYTES` at the start of `bytes`. */
export function writeFastpathReady(bytes: Uint8Array, flow: FastpathFlow, asks: boolean): void {
  writeFlow(new DataView(bytes.buffer, bytes.byteOffset, FASTPATH_READY_BYTES), READY, flow, asks ? 1 : 0);
}

/** Null: it is none. */
export function readFastpathReady(bytes: Uint8Array): { readonly flow: FastpathFlow; readonly asks: boolean } | null {
  if (bytes.length !== FASTPATH_READY_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flow = readFlow(view);
  return flow === null || view.getUint8(4) !== READY ? null : { flow, asks: view.getUint8(7) === 1 };
}

function writeFlow(view: DataView, kind: number, flow: FastpathFlow, asks: number): void {
  view.setUint32(0, MAGIC);
  view.setUint8(4, kind);
  view.setUint8(5, flow.end);
  view.setUint8(6, flow.protocol);
  view.setUint8(7, asks);
  setAddress(view, 8, flow.source);
  setAddress(view, 24, flow.destination);
  view.setUint16(40, flow.sourcePort);
  view.setUint16(42, flow.destinationPort);
}

function readFlow(view: DataView): FastpathFlow | null {
  const end = view.getUint8(5);
  if (view.getUint32(0) !== MAGIC || (end !== INITIATOR && end !== RESPONDER)) return null;
  return {
    end,
    protocol: view.getUint8(6),
    source: getAddress(view, 8),
    sourcePort: view.getUint16(40),
    destination: getAddress(view, 24),
    destinationPort: view.getUint16(42),
  };
}

function setAddress(view: DataView, at: number, words: AddressWords): void {
  for (let word = 0; word < 4; word++) view.setInt32(at + word * 4, words[word]!); // four
}

const getAddress = (view: DataView, at: number): AddressWords => [
  view.getInt32(at),
  view.getInt32(at + 4),
  view.getInt32(at + 8),
  view.getInt32(at + 12),
];
