/**
 * How replicas talk. Best effort: messages may be lost, and Raft repairs that; but those of one lane that arrive, arrive in
 * order, unchanged, and from whom they say. Two implementations: `grpc-transport` and, for tests, `loopback-transport`.
 *
 * (T1) `send` never blocks and never queues without bound: what does not fit is dropped and reported.
 * (T2) Elections, heartbeats and reads are never behind appends and snapshots (two lanes).
 * (T3) A message of a peer's earlier process is not delivered after its next process was announced.
 */
import type { NodeId, Term } from "../../../core/brands.js";
import type { Message } from "../core/messages.js";
import type { SendNow } from "../core/ready.js";
import type { StoredSnapshot } from "../storage/storage.js";

/** What a leader would send to a follower that is too far behind for the log. */
export interface SnapshotOffer {
  readonly kind: "snapshot-offer";
  readonly from: NodeId;
  readonly term: Term;
  readonly snapshot: StoredSnapshot;
}

/** A piece of it on its way. */
export interface SnapshotChunk {
  readonly kind: "snapshot-chunk";
  readonly from: NodeId;
  readonly term: Term;
  /** Which snapshot: its digest. */
  readonly digest: string;
  /** From 0. */
  readonly number: number;
  readonly data: Uint8Array;
}

export interface SnapshotChunkAck {
  readonly kind: "snapshot-chunk-ack";
  readonly from: NodeId;
  readonly term: Term;
  readonly digest: string;
  /** Chunks below are durable; the count when all are there and have the digest. */
  readonly next: number;
  /** What was sent from `next` on, if anything, is to be sent again. */
  readonly rewind: boolean;
}

export type TransferMessage = SnapshotOffer | SnapshotChunk | SnapshotChunkAck;
export type PeerMessage = Message | TransferMessage;

export interface TransportListener {
  /** `message.from` is authenticated as far as the transport can. Payloads are the receiver's to keep. */
  received(message: PeerMessage): void;
  /** Something for `peer` was dropped. May be called from within `send`. */
  dropped(peer: NodeId): void;
  /** Every stream from and to `peer` is closed and connecting is refused: its process has ended. */
  gone(peer: NodeId): void;
  /** Another process than before answers for `peer`. */
  restarted(peer: NodeId): void;
  /** Which data folder `peer` has; told at every new connection, only of replicas that joined later. */
  identified(peer: NodeId, folder: string): void;
  /** `peer` says that this replica was removed from the cluster. May be told again. */
  removedSays(peer: NodeId): void;
}

/** Whom to talk to. Others are answered while they are connected: a member may be one that is not known here yet. */
export interface TransportMembers {
  /** Raft addresses, "host:port"; the own one is ignored. */
  readonly addresses: ReadonlyMap<NodeId, string>;
  /** Ids that are refused. */
  readonly removed: readonly NodeId[];
}

export interface RaftTransport {
  /** `folder`: the own data folder as others are told of it; empty for a founder. */
  start(listener: TransportListener, folder: string): Promise<void>;
  setMembers(members: TransportMembers): void;
  send(outgoing: SendNow): void;
  sendTransfer(to: NodeId, message: TransferMessage): void;
  stop(): Promise<void>;
}

export type Lane = "control" | "bulk";

/** (T2) */
export function laneOf(message: PeerMessage): Lane {
  switch (message.kind) {
    case "append-request":
    case "append-response":
    case "append-rejection":
    case "install-snapshot":
    case "snapshot-offer":
    case "snapshot-chunk":
    case "snapshot-chunk-ack":
      return "bulk";
    default:
      return "control";
  }
}

/** Will a peer that is well say something after this message? */
export function expectsAnswer(message: PeerMessage): boolean {
  switch (message.kind) {
    case "append-request":
    case "pre-vote-request":
    case "vote-request":
    case "read-request":
    case "snapshot-offer":
    case "snapshot-chunk":
      return true;
    case "heartbeat":
      return message.round !== 0;
    default:
      return false;
  }
}
