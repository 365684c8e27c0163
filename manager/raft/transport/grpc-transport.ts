/**
 * Replicas over gRPC streams (`env.network`). Every replica serves `RaftTransport` at its own address and dials every other
 * one with two streams, each on a connection of its own: control and bulk. Streams carry messages in one direction.
 *
 * When is a peer *gone*? A closed stream alone may be a bad moment of the network. All streams from and to it closed, and
 * a connection refused, means that its process has ended. A new boot id means the same, and that another one runs. The
 * first stream that closes sends a bare connection attempt on its way (`network.probe`), so that the answer is there when
 * the last one has closed: a gRPC channel that connects again needs many times as long to say so.
 *
 * Members come and go with the log (`setMembers`). A replica that says hello and is no member here may be one that this
 * replica has not heard of yet, so it is answered, at the address it names, for as long as it stays connected: a *visitor*.
 *
 * (G1) Nobody is listened to before a Hello of the right cluster, epoch and addressee, nor if it was removed.
 */
import type { NodeId } from "../../../core/brands.js";
import { nodeId } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { Random } from "../../../core/random.js";
import { hex } from "../../../core/hex.js";
import { ananta } from "../../../proto/gen/wire.js";
import { bidi, type Env, type Log, type MessageStream, type Server, type Timer } from "../../../runtime/env.js";
import type { SendNow } from "../core/ready.js";
import { encodeMessage, messageFromWire } from "./codec.js";
import { METHODS, type RaftFrame, type WireWelcome } from "./methods.js";
import { isUnwelcome, PeerLane } from "./peer-lane.js";
import {
  expectsAnswer,
  laneOf,
  type Lane,
  type PeerMessage,
  type RaftTransport,
  type TransferMessage,
  type TransportListener,
  type TransportMembers,
} from "./transport.js";

const PROTOCOL_VERSION = 1;
const LANES: readonly Lane[] = ["control", "bulk"];

/** (P2) Long against any election timeout, short against TCP's retransmission pauses after a cut of a minute. */
const SILENCE_MS = 2_000;

/** Room while a connection is made or the peer reads slowly. Appends are bounded by the core's window besides. */
/** Replicas whose refusal is remembered: more than can be meant by mistake. */
const REFUSALS_MAX = 64;
const OUTBOX: Readonly<Record<Lane, { readonly outboxMessagesMax: number; readonly outboxBytesMax: number }>> = {
  control: { outboxMessagesMax: 256, outboxBytesMax: 256 * 1024 },
  bulk: { outboxMessagesMax: 1_024, outboxBytesMax: 16 * 1024 * 1024 },
};

const HOST_PORT = /^.+:\d{1,5}$/;
/** Each visitor costs two connections; more than a few at once are no members that are merely news to us. */
const VISITORS_MAX = 8;

export interface GrpcTransportOptions {
  readonly env: Env;
  readonly log: Log;
  readonly id: NodeId;
  /** Where this replica listens, "host:port". */
  readonly address: string;
  readonly clusterId: string;
  readonly clusterEpoch: number;
  readonly redialMaxMs: number;
}

interface Peer {
  readonly id: NodeId;
  readonly address: string;
  /** False: a visitor. */
  member: boolean;
  readonly lanes: Record<Lane, PeerLane>;
  /** Streams it dialled, with the boot id of who dialled. */
  readonly incoming: Map<MessageStream<WireWelcome, RaftFrame>, string>;
  bootId: string | null;
  /** Who welcomed each lane last. */
  readonly laneBootIds: Record<Lane, string | null>;
  /** It refused a connection, and nobody has answered there since. */
  refused: boolean;
  /** Why it wants nothing from this replica; null while it welcomes it, or nothing is known. */
  unwelcome: string | null;
  /** How often a stream from or to it was opened. */
  contacts: number;
  /** A bare connection attempt is under way. */
  probing: boolean;
  /** `gone` was reported and nothing opened since. */
  goneTold: boolean;
  /** Since when we have sent without hearing anything; null when we have not. */
  unansweredSinceMs: number | null;
}

export class GrpcTransport implements RaftTransport {
  readonly #options: GrpcTransportOptions;
  readonly #random: Random;
  readonly #bootId: Uint8Array;
  readonly #peers = new Map<NodeId, Peer>();
  /** Who was refused last, by the id of its Hello (0: none), and why: told once, not at every attempt. */
  readonly #refusals = new Map<number, string>();
  #members: TransportMembers = { addresses: new Map(), removed: [] };
  #folder = "";
  #listener: TransportListener | null = null;
  #server: Server | null = null;
  #watch: Timer | null = null;
  #encoded: { readonly message: PeerMessage; readonly bytes: Uint8Array } | null = null;

  constructor(options: GrpcTransportOptions) {
    this.#options = options;
    this.#random = options.env.random.fork();
    this.#bootId = options.env.entropy(16);
  }

  async start(listener: TransportListener, folder: string): Promise<void> {
    this.#listener = listener;
    this.#folder = folder;
    const { env, address } = this.#options;
    this.#server = await env.network.serve(
      address,
      LANES.map((lane) => bidi(METHODS[lane], (stream) => this.#accept(stream))),
    );
    this.#meetMembers();
    this.#watchSilence();
  }

  setMembers(members: TransportMembers): void {
    this.#members = members;
    if (this.#server !== null) this.#meetMembers();
  }

  send({ to, message }: SendNow): void {
    this.#send(to, message);
  }

  sendTransfer(to: NodeId, message: TransferMessage): void {
    this.#send(to, message);
  }

  async stop(): Promise<void> {
    this.#listener = null;
    this.#watch?.cancel();
    for (const peer of this.#peers.values()) {
      for (const lane of LANES) peer.lanes[lane].stop();
      for (const stream of peer.incoming.keys()) stream.end();
      peer.incoming.clear();
    }
    this.#peers.clear();
    await this.#server?.stop(0);
    this.#server = null;
  }

  #meetMembers(): void {
    const { addresses, removed } = this.#members;
    for (const [id, address] of addresses) {
      if (id === this.#options.id) continue;
      const known = this.#peers.get(id);
      if (known?.address === address) known.member = true;
      else {
        if (known !== undefined) this.#forget(known);
        this.#addPeer(id, address, true);
      }
    }
    for (const peer of [...this.#peers.values()]) {
      if (addresses.has(peer.id)) continue;
      peer.member = false;
      if (peer.incoming.size === 0 || removed.includes(peer.id)) this.#forget(peer);
    }
  }

  #addPeer(id: NodeId, address: string, member: boolean): Peer {
    const peer = this.#createPeer(id, address, member);
    this.#peers.set(id, peer);
    for (const lane of LANES) peer.lanes[lane].start();
    return peer;
  }

  #forget(peer: Peer): void {
    this.#peers.delete(peer.id);
    for (const lane of LANES) peer.lanes[lane].stop();
    for (const stream of peer.incoming.keys()) stream.end();
    peer.incoming.clear();
  }

  #send(to: NodeId, message: PeerMessage): void {
    const peer = this.#peers.get(to);
    if (peer === undefined) return;
    const lane = peer.lanes[laneOf(message)];
    if (lane.open && expectsAnswer(message)) peer.unansweredSinceMs ??= this.#options.env.clock.nowMs();
    lane.send(this.#encode(message));
  }

  /** The core gives all followers that need the same append or heartbeat the very same message: it is encoded once. */
  #encode(message: PeerMessage): Uint8Array {
    if (this.#encoded?.message !== message) this.#encoded = { message, bytes: encodeMessage(message) };
    return this.#encoded.bytes;
  }

  #createPeer(id: NodeId, address: string, member: boolean): Peer {
    const hello = ananta.raft.v1.Frame.encode({
      hello: {
        clusterId: this.#options.clusterId,
        clusterEpoch: this.#options.clusterEpoch,
        from: this.#options.id,
        to: id,
        bootId: this.#bootId,
        version: PROTOCOL_VERSION,
        address: this.#options.address,
        folder: this.#folder,
      },
    }).finish();
    const create = (lane: Lane): PeerLane => {
      const { env, redialMaxMs } = this.#options;
      return new PeerLane({
        lane,
        clock: env.clock,
        random: this.#random.fork(),
        connect: () => env.network.connect(address, { reconnectMaxMs: redialMaxMs, dedicated: true }),
        hello,
        redialMaxMs,
        ...OUTBOX[lane],
        welcomed: (welcome) => this.#welcomed(peer, lane, welcome),
        closed: (error) => this.#laneClosed(peer, lane, error),
        dropped: () => this.#listener?.dropped(id),
      });
    };
    const peer: Peer = {
      id,
      address,
      member,
      lanes: { control: create("control"), bulk: create("bulk") },
      incoming: new Map(),
      bootId: null,
      laneBootIds: { control: null, bulk: null },
      refused: false,
      unwelcome: null,
      contacts: 0,
      probing: false,
      goneTold: false,
      unansweredSinceMs: null,
    };
    return peer;
  }

  // ---- streams we dialled ----

  #welcomed(peer: Peer, lane: Lane, welcome: WireWelcome): void {
    if (welcome.nodeId !== peer.id) {
      this.#options.log.warn("another node answers at a replica's address", {
        peer: peer.id,
        answered: welcome.nodeId ?? 0,
      });
      peer.lanes[lane].redial("another node answers here");
      return;
    }
    this.#options.log.debug("raft stream open", { peer: peer.id, lane });
    peer.refused = false;
    peer.unwelcome = null;
    peer.contacts++;
    peer.goneTold = false;
    peer.unansweredSinceMs = null;
    const bootId = hex(welcome.bootId ?? new Uint8Array(0));
    peer.laneBootIds[lane] = bootId;
    this.#learnBootId(peer, bootId);
    if (welcome.folder) this.#listener?.identified(peer.id, welcome.folder);
  }

  #laneClosed(peer: Peer, lane: Lane, error: AnantaError | null): void {
    const refused = error?.facts["refused"] === true;
    this.#options.log.debug("raft stream closed", { peer: peer.id, lane, refused });
    if (isUnwelcome(error)) {
      this.#turnedAway(peer, error);
      return; // it is there, and no probe is needed
    }
    if (refused) peer.refused = true;
    this.#considerGone(peer);
    if (!peer.refused) this.#probe(peer);
  }

  #turnedAway(peer: Peer, error: AnantaError): void {
    peer.refused = false;
    if (peer.unwelcome !== error.message)
      this.#options.log.warn("a replica refuses this one", { peer: peer.id, reason: error.message });
    peer.unwelcome = error.message;
    if (error.facts["removed"] === true) this.#listener?.removedSays(peer.id);
  }

  #probe(peer: Peer): void {
    if (peer.probing) return;
    peer.probing = true;
    const { contacts } = peer;
    void this.#options.env.network.probe(peer.address, this.#options.redialMaxMs).then((reach) => {
      peer.probing = false;
      if (reach !== "refused" || this.#peers.get(peer.id) !== peer) return;
      if (peer.contacts !== contacts) {
        // The answer is older than a stream that was opened meanwhile; if that one is gone too, it is time for another look.
        if (peer.incoming.size === 0 && !LANES.some((lane) => peer.lanes[lane].open)) this.#probe(peer);
        return;
      }
      peer.refused = true;
      this.#considerGone(peer);
    });
  }

  #considerGone(peer: Peer): void {
    if (peer.goneTold || !peer.refused || peer.incoming.size > 0 || LANES.some((lane) => peer.lanes[lane].open)) return;
    peer.goneTold = true;
    this.#listener?.gone(peer.id);
  }

  #learnBootId(peer: Peer, bootId: string): void {
    const known = peer.bootId;
    if (known === bootId) return;
    peer.bootId = bootId;
    if (known === null) return;
    this.#options.log.info("a replica was restarted", { peer: peer.id });
    this.#listener?.restarted(peer.id);
    // (T3) Should an old process's Hello have come late, the present one dials again and says who it is.
    for (const [stream, dialledBy] of [...peer.incoming]) {
      if (dialledBy === bootId) continue;
      peer.incoming.delete(stream);
      stream.end(new AnantaError("STALE_INCARNATION", "Another process of this node has said hello."));
    }
    // Streams to the old process are dead, whether or not its machine had the time to say so.
    for (const lane of LANES)
      if (peer.lanes[lane].open && peer.laneBootIds[lane] !== bootId) peer.lanes[lane].redial("the peer was restarted");
  }

  /** (P2) */
  #watchSilence(): void {
    const { clock } = this.#options.env;
    this.#watch = clock.setTimer(SILENCE_MS / 4, () => {
      for (const peer of this.#peers.values()) {
        if (peer.unansweredSinceMs === null || clock.nowMs() - peer.unansweredSinceMs < SILENCE_MS) continue;
        peer.unansweredSinceMs = null;
        for (const lane of LANES) peer.lanes[lane].redial("the peer is silent");
      }
      this.#watchSilence();
    });
  }

  // ---- streams others dialled ----

  #accept(stream: MessageStream<WireWelcome, RaftFrame>): void {
    let peer: Peer | null = null;
    let from = 0;
    const refuse = (error: AnantaError): void => {
      this.#noteRefusal(stream.peer, from, error.message);
      if (peer !== null) peer.incoming.delete(stream);
      peer = null;
      stream.end(error);
    };
    stream.listen({
      message: (frame) => {
        if (this.#listener === null || frame.kind !== "decoded") return;
        try {
          if (peer === null) {
            from = frame.frame.hello?.from ?? 0;
            peer = this.#admit(frame, stream);
            this.#refusals.delete(from);
          } else if (peer.incoming.has(stream)) {
            peer.unansweredSinceMs = null;
            this.#listener.received(messageFromWire(frame.frame, peer.id));
          } // else: given up already, see (T3)
        } catch (error) {
          if (!(error instanceof AnantaError)) throw error;
          refuse(error);
        }
      },
      closed: () => {
        if (peer === null || !peer.incoming.delete(stream)) return;
        if (!peer.member && peer.incoming.size === 0) {
          this.#forget(peer);
          return;
        }
        this.#considerGone(peer);
        if (!peer.refused) this.#probe(peer);
      },
    });
  }

  /** Once per replica and reason: it comes back every few seconds, and so would the line. */
  #noteRefusal(address: string, from: number, reason: string): void {
    if (this.#refusals.get(from) === reason) {
      this.#options.log.debug("refused a raft stream again", { from, address, reason });
      return;
    }
    if (this.#refusals.size >= REFUSALS_MAX) this.#refusals.clear();
    this.#refusals.set(from, reason);
    this.#options.log.warn("refused a raft stream", { from, address, reason });
  }

  /** (G1) */
  #admit(frame: RaftFrame & { readonly kind: "decoded" }, stream: MessageStream<WireWelcome, RaftFrame>): Peer {
    const { id, clusterId, clusterEpoch } = this.#options;
    const hello = frame.frame.hello;
    if (!hello) throw new AnantaError("FAILED_PRECONDITION", "The first frame of a raft stream is a Hello.");
    if (hello.clusterId !== clusterId || (hello.clusterEpoch ?? 0) !== clusterEpoch) {
      throw new AnantaError("WRONG_CLUSTER", `This is cluster ${clusterId}, epoch ${clusterEpoch}.`);
    }
    const from = hello.from ?? 0;
    if (hello.to !== id || from < 1 || from > 65_535 || from === id) {
      throw new AnantaError("PERMISSION_DENIED", `Node ${from} does not mean this node, ${id}.`);
    }
    if (this.#members.removed.includes(nodeId(from))) {
      throw new AnantaError("PERMISSION_DENIED", `Node ${from} was removed from this cluster.`, { removed: true });
    }
    const peer = this.#peers.get(nodeId(from)) ?? this.#addVisitor(nodeId(from), hello.address ?? "");
    if ((hello.version ?? 0) < 1) throw new AnantaError("FAILED_PRECONDITION", "The Hello names no protocol version.");
    const bootId = hex(hello.bootId ?? new Uint8Array(0));
    this.#learnBootId(peer, bootId);
    peer.refused = false;
    peer.contacts++;
    peer.goneTold = false;
    peer.incoming.set(stream, bootId);
    for (const lane of LANES) peer.lanes[lane].hurry();
    stream.send({ nodeId: id, bootId: this.#bootId, version: PROTOCOL_VERSION, folder: this.#folder });
    if (hello.folder) this.#listener?.identified(peer.id, hello.folder);
    return peer;
  }

  #addVisitor(id: NodeId, address: string): Peer {
    const visitors = [...this.#peers.values()].filter((peer) => !peer.member).length;
    if (!HOST_PORT.test(address) || visitors >= VISITORS_MAX) {
      throw new AnantaError("PERMISSION_DENIED", `Node ${id} is not known here.`);
    }
    this.#options.log.info("a replica that is no member here said hello", { peer: id, address });
    return this.#addPeer(id, address, false);
  }
}
