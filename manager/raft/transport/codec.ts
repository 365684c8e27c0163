/**
 * Messages to and from `ananta.raft.v1.Frame`. Who sent a message is not on the wire: the stream's Hello says it.
 *
 * (C1) A message is encoded once, however many followers it goes to: encodings are remembered by identity.
 * (C2) What is decoded owns its bytes: the frame's buffer may be used again.
 * (C3) Numbers are checked at both ends: terms and indexes are safe integers, node ids fit 16 bits.
 */
import { crc32 } from "node:zlib";
import { assertNever } from "../../../core/assert.js";
import { logIndex, term, type NodeId } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import { ananta } from "../../../proto/gen/wire.js";
import { decodeMembership, encodeMembership } from "../core/membership-codec.js";
import type { ReadId, SnapshotMeta } from "../core/types.js";
import { decodeEntryBlock, encodeEntryBlock } from "../entry-block.js";
import { DIGEST_PATTERN } from "../snapshot-digest.js";
import type { PeerMessage } from "./transport.js";

const wire = ananta.raft.v1;
export type WireFrame = ananta.raft.v1.Frame.$Properties;

const remembered = new WeakMap<PeerMessage, Uint8Array>(); // (C1)

export function encodeMessage(message: PeerMessage): Uint8Array {
  const known = remembered.get(message);
  if (known !== undefined) return known;
  const bytes = wire.Frame.encode(toWire(message)).finish();
  remembered.set(message, bytes);
  return bytes;
}

const age = (ticks: number | null): number => (ticks === null ? 0 : ticks + 1);

function toWire(m: PeerMessage): WireFrame {
  switch (m.kind) {
    case "pre-vote-request":
      return { preVoteRequest: { term: m.term, lastIndex: m.lastIndex, lastTerm: m.lastTerm } };
    case "pre-vote-response":
      return { preVoteResponse: { term: m.term, granted: m.granted } };
    case "vote-request":
      return { voteRequest: { term: m.term, lastIndex: m.lastIndex, lastTerm: m.lastTerm, force: m.force } };
    case "vote-response":
      return { voteResponse: { term: m.term, granted: m.granted } };
    case "append-request":
      return {
        appendRequest: {
          term: m.term,
          prevIndex: m.prevIndex,
          prevTerm: m.prevTerm,
          commitIndex: m.commitIndex,
          quorumAgeTicksPlusOne: age(m.quorumAgeTicks),
          entryBlock: encodeEntryBlock(m.entries),
        },
      };
    case "append-response":
      return { appendResponse: { term: m.term, matchIndex: m.matchIndex, doesNotCount: !m.counts } };
    case "append-rejection":
      return {
        appendRejection: {
          term: m.term,
          rejectedIndex: m.rejectedIndex,
          hintIndex: m.hintIndex,
          hintTerm: m.hintTerm,
          doesNotCount: !m.counts,
        },
      };
    case "heartbeat":
      return {
        heartbeat: {
          term: m.term,
          round: m.round,
          commitIndex: m.commitIndex,
          quorumAgeTicksPlusOne: age(m.quorumAgeTicks),
        },
      };
    case "heartbeat-response":
      return { heartbeatResponse: { term: m.term, round: m.round, doesNotCount: !m.counts } };
    case "install-snapshot":
      return { installSnapshot: { term: m.term, snapshot: snapshotToWire(m.snapshot) } };
    case "timeout-now":
      return { timeoutNow: { term: m.term } };
    case "read-request":
      return { readRequest: { term: m.term, ...m.id } };
    case "read-response":
      return { readResponse: { term: m.term, ...m.id, index: m.index } };
    case "snapshot-offer":
      return {
        snapshotOffer: {
          term: m.term,
          snapshot: snapshotToWire(m.snapshot.meta),
          chunkCount: m.snapshot.chunkCount,
          byteCount: m.snapshot.byteCount,
          digest: digestToWire(m.snapshot.digest),
        },
      };
    case "snapshot-chunk":
      return {
        snapshotChunk: {
          term: m.term,
          digest: digestToWire(m.digest),
          number: m.number,
          data: m.data,
          crc: crc32(m.data),
        },
      };
    case "snapshot-chunk-ack":
      return {
        snapshotChunkAck: { term: m.term, digest: digestToWire(m.digest), next: m.next, rewind: m.rewind },
      };
    default:
      return assertNever(m);
  }
}

const snapshotToWire = (snapshot: SnapshotMeta): ananta.raft.v1.SnapshotMeta.$Properties => ({
  index: snapshot.index,
  term: snapshot.term,
  membership: encodeMembership(snapshot.membership),
});

function snapshotFromWire(snapshot: ananta.raft.v1.SnapshotMeta.$Properties | null | undefined): SnapshotMeta {
  if (!snapshot) throw unreadable("a snapshot's description is missing");
  return {
    index: logIndex(snapshot.index ?? 0),
    term: term(snapshot.term ?? 0),
    membership: decodeMembership(snapshot.membership ?? new Uint8Array(0)),
  };
}

const digestToWire = (digest: string): Uint8Array => Buffer.from(digest, "hex");

function digestFromWire(bytes: Uint8Array | null | undefined): string {
  const digest = Buffer.from(bytes ?? new Uint8Array(0)).toString("hex");
  if (!DIGEST_PATTERN.test(digest)) throw unreadable("a snapshot's digest has not 32 bytes");
  return digest;
}

/** Not `slice`: protobufjs hands out Buffers, and a Buffer's `slice` is a view. */
const copyOf = (bytes: Uint8Array | null | undefined): Uint8Array =>
  bytes ? new Uint8Array(bytes) : new Uint8Array(0);

const ticks = (agePlusOne: number | null | undefined): number | null => (agePlusOne ? agePlusOne - 1 : null);

const readId = (m: { nonce?: number | null; sequence?: number | null }): ReadId => ({
  nonce: m.nonce ?? 0,
  sequence: m.sequence ?? 0,
});

const unreadable = (why: string): AnantaError =>
  new AnantaError("INVALID_ARGUMENT", `A frame of a replica cannot be read: ${why}.`);

/** Throws INVALID_ARGUMENT on a frame that is no message. */
export function messageFromWire(frame: WireFrame, from: NodeId): PeerMessage {
  if (frame.appendRequest) {
    const m = frame.appendRequest;
    return {
      kind: "append-request",
      from,
      term: term(m.term ?? 0),
      prevIndex: logIndex(m.prevIndex ?? 0),
      prevTerm: term(m.prevTerm ?? 0),
      commitIndex: logIndex(m.commitIndex ?? 0),
      quorumAgeTicks: ticks(m.quorumAgeTicksPlusOne),
      entries: decodeEntryBlock(copyOf(m.entryBlock)), // (C2)
    };
  }
  if (frame.appendResponse) {
    const m = frame.appendResponse;
    return {
      kind: "append-response",
      from,
      term: term(m.term ?? 0),
      matchIndex: logIndex(m.matchIndex ?? 0),
      counts: m.doesNotCount !== true,
    };
  }
  if (frame.heartbeat) {
    const m = frame.heartbeat;
    return {
      kind: "heartbeat",
      from,
      term: term(m.term ?? 0),
      round: m.round ?? 0,
      commitIndex: logIndex(m.commitIndex ?? 0),
      quorumAgeTicks: ticks(m.quorumAgeTicksPlusOne),
    };
  }
  if (frame.heartbeatResponse) {
    const m = frame.heartbeatResponse;
    return {
      kind: "heartbeat-response",
      from,
      term: term(m.term ?? 0),
      round: m.round ?? 0,
      counts: m.doesNotCount !== true,
    };
  }
  return rareMessageFromWire(frame, from);
}

function rareMessageFromWire(frame: WireFrame, from: NodeId): PeerMessage {
  if (frame.appendRejection) {
    const m = frame.appendRejection;
    return {
      kind: "append-rejection",
      from,
      term: term(m.term ?? 0),
      rejectedIndex: logIndex(m.rejectedIndex ?? 0),
      hintIndex: logIndex(m.hintIndex ?? 0),
      hintTerm: term(m.hintTerm ?? 0),
      counts: m.doesNotCount !== true,
    };
  }
  if (frame.preVoteRequest) {
    const m = frame.preVoteRequest;
    return {
      kind: "pre-vote-request",
      from,
      term: term(m.term ?? 0),
      lastIndex: logIndex(m.lastIndex ?? 0),
      lastTerm: term(m.lastTerm ?? 0),
    };
  }
  if (frame.preVoteResponse) {
    const m = frame.preVoteResponse;
    return { kind: "pre-vote-response", from, term: term(m.term ?? 0), granted: m.granted === true };
  }
  if (frame.voteRequest) {
    const m = frame.voteRequest;
    return {
      kind: "vote-request",
      from,
      term: term(m.term ?? 0),
      lastIndex: logIndex(m.lastIndex ?? 0),
      lastTerm: term(m.lastTerm ?? 0),
      force: m.force === true,
    };
  }
  if (frame.voteResponse) {
    const m = frame.voteResponse;
    return { kind: "vote-response", from, term: term(m.term ?? 0), granted: m.granted === true };
  }
  if (frame.readRequest)
    return { kind: "read-request", from, term: term(frame.readRequest.term ?? 0), id: readId(frame.readRequest) };
  if (frame.readResponse) {
    const m = frame.readResponse;
    return { kind: "read-response", from, term: term(m.term ?? 0), id: readId(m), index: logIndex(m.index ?? 0) };
  }
  if (frame.timeoutNow) return { kind: "timeout-now", from, term: term(frame.timeoutNow.term ?? 0) };
  if (frame.installSnapshot) {
    const m = frame.installSnapshot;
    return { kind: "install-snapshot", from, term: term(m.term ?? 0), snapshot: snapshotFromWire(m.snapshot) };
  }
  if (frame.snapshotOffer) {
    const m = frame.snapshotOffer;
    if (!m.chunkCount) throw unreadable("a snapshot has at least one chunk");
    return {
      kind: "snapshot-offer",
      from,
      term: term(m.term ?? 0),
      snapshot: {
        meta: snapshotFromWire(m.snapshot),
        chunkCount: m.chunkCount,
        byteCount: m.byteCount ?? 0,
        digest: digestFromWire(m.digest),
      },
    };
  }
  if (frame.snapshotChunk) {
    const m = frame.snapshotChunk;
    const data = copyOf(m.data); // (C2)
    if (crc32(data) !== (m.crc ?? 0)) throw unreadable("a snapshot chunk was damaged on its way");
    const digest = digestFromWire(m.digest);
    return { kind: "snapshot-chunk", from, term: term(m.term ?? 0), digest, number: m.number ?? 0, data };
  }
  if (frame.snapshotChunkAck) {
    const m = frame.snapshotChunkAck;
    return {
      kind: "snapshot-chunk-ack",
      from,
      term: term(m.term ?? 0),
      digest: digestFromWire(m.digest),
      next: m.next ?? 0,
      rewind: m.rewind === true,
    };
  }
  throw unreadable("it holds no message known here");
}
