/**
 * A scripted cluster of Managers as MUXes see it: one log of MUX items, replicas that serve it. Everything a test wants to
 * go wrong can be told: a silent replica, one that lags, a renewal that is not confirmed, a join that is lost.
 */
import type { LogIndex, MuxId } from "../../../core/brands.js";
import { digestOf, EMPTY_DIGEST, formatDigest, xorDigests } from "../../../dataplane/digest.js";
import { muxItemKey, type MuxChange, type MuxItem } from "../../../dataplane/mux-items.js";
import { MUX_FOLLOW } from "../../../manager/api/methods.js";
import { wireMuxItem } from "../../../manager/projection/projection-wire.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { bidi, type Env, type MessageStream, type Server } from "../../../runtime/env.js";

type FromMux = ananta.v1.MuxToManager.$Properties;
type ToMux = ananta.v1.ManagerToMux.$Properties;

export const CLUSTER_ID = "c".repeat(32);
const BEAT_MS = 100;

export class FakeCluster {
  epoch = 1;
  index = 0;
  /** Age of the newest proof of a quorum, as all replicas tell it. */
  quorumAgeMs = 5;
  /** Beats name the newest acknowledgement seen; false: none is confirmed any more. */
  confirms = true;
  /** Joins and leaves are committed; false: they are lost. */
  commitsRequests = true;
  /** Answered instead of committing, once per request. */
  refusal: { code: string; reason: string } | null = null;
  readonly items = new Map<string, MuxItem>();
  readonly replicas: FakeReplica[] = [];
  readonly requests: { kind: "join" | "leave"; session: string; sequence: number; replica: string }[] = [];
  readonly log: { index: number; changes: readonly MuxChange[] }[] = [];
  readonly #done = new Set<string>();
  readonly #incarnations = new Map<string, number>();

  commit(...changes: readonly MuxChange[]): number {
    this.index++;
    for (const change of changes) {
      if (change.op === "upsert") this.items.set(muxItemKey(change.item), change.item);
      else this.items.delete(change.key);
    }
    this.log.push({ index: this.index, changes });
    for (const replica of this.replicas) replica.pump();
    return this.index;
  }

  digest(): string {
    let digest = EMPTY_DIGEST;
    for (const [key, item] of this.items) digest = xorDigests(digest, digestOf(key, item));
    return formatDigest(digest);
  }

  /** A restore: another epoch, the log begins anew. */
  restore(items: readonly MuxItem[], index: number): void {
    this.epoch++;
    this.index = index;
    this.items.clear();
    this.log.length = 0;
    for (const item of items) this.items.set(muxItemKey(item), item);
  }

  join(name: string, bootId: string, address: string, origin: ananta.v1.Origin.$Properties): void {
    const key = `${origin.session ?? ""}/${origin.sequence ?? 0}`;
    if (this.#done.has(key)) return;
    this.#done.add(key);
    const incarnation = (this.#incarnations.get(name) ?? 0) + 1;
    this.#incarnations.set(name, incarnation);
    const muxId = ([...this.#incarnations.keys()].indexOf(name) + 1) as MuxId;
    const joinedIndex = (this.index + 1) as LogIndex;
    this.commit({
      op: "upsert",
      item: { kind: "mux", muxId, name, incarnation, address: address as never, bootId, joinedIndex },
    });
  }

  leave(name: string, bootId: string): void {
    for (const [key, item] of this.items)
      if (item.kind === "mux" && item.name === name && item.bootId === bootId) this.commit({ op: "remove", key });
  }
}

interface Session {
  readonly stream: MessageStream<ToMux, FromMux>;
  name: string;
  bootId: string;
  address: string;
  sent: number | null;
  renewal: number;
}

export class FakeReplica {
  readonly address: string;
  readonly env: Env;
  readonly cluster: FakeCluster;
  /** Sends nothing at all, though its connections stand. */
  isSilent = false;
  /** Tells in its beats what it has applied, but the changes themselves do not arrive. */
  holdsBack = false;
  /** Applies nothing beyond this. */
  appliedMax = Infinity;
  quorumAgeMs: number | null = null;
  clusterId = CLUSTER_ID;
  readonly received: FromMux[] = [];
  readonly #sessions = new Set<Session>();
  #server: Server | null = null;

  constructor(env: Env, address: string, cluster: FakeCluster) {
    this.env = env;
    this.address = address;
    this.cluster = cluster;
    cluster.replicas.push(this);
  }

  async start(): Promise<void> {
    this.#server = await this.env.network.serve(this.address, [bidi(MUX_FOLLOW, (stream) => this.#open(stream))]);
  }

  stop(): Promise<void> {
    return this.#server?.stop(0) ?? Promise.resolve();
  }

  get machine(): string {
    return this.address.slice(0, this.address.indexOf(":"));
  }

  get applied(): number {
    return Math.min(this.cluster.index, this.appliedMax);
  }

  get activeCount(): number {
    return [...this.#sessions].filter((session) => session.sent !== null).length;
  }

  acks(): readonly ananta.v1.MuxAck.$Properties[] {
    return this.received.flatMap((message) => (message.ack ? [message.ack] : []));
  }

  /** Sends whatever the test likes, on all streams. */
  say(message: ToMux): void {
    for (const { stream } of this.#sessions) stream.send(message);
  }

  closeStreams(): void {
    for (const session of [...this.#sessions]) {
      this.#sessions.delete(session);
      session.stream.end();
    }
  }

  pump(): void {
    for (const session of this.#sessions) this.#feed(session);
  }

  #open(stream: MessageStream<ToMux, FromMux>): void {
    const session: Session = { stream, name: "", bootId: "", address: "", sent: null, renewal: 0 };
    this.#sessions.add(session);
    stream.listen({
      message: (message) => this.#receive(session, message),
      closed: () => this.#sessions.delete(session),
    });
  }

  #receive(session: Session, message: FromMux): void {
    this.received.push(message);
    const { cluster } = this;
    if (message.hello) {
      session.name = message.hello.identity?.node ?? "";
      session.bootId = message.hello.identity?.bootId ?? "";
      session.address = message.hello.address ?? "";
      if (this.isSilent) return;
      session.stream.send({
        welcome: {
          identity: { clusterId: this.clusterId, clusterEpoch: cluster.epoch, node: "1" },
          appliedIndex: this.applied,
        },
      });
      this.#beat(session);
    } else if (message.activate) {
      const held = message.activate.clusterEpoch === cluster.epoch ? (message.activate.index ?? 0) : 0;
      session.sent = held;
      if (held === 0) this.#view(session);
      else this.#feed(session);
    } else if (message.ack) session.renewal = Math.max(session.renewal, message.ack.renewal ?? 0);
    else if (message.join ?? message.leave) this.#request(session, message);
  }

  #request(session: Session, { join, leave }: FromMux): void {
    const { cluster } = this;
    const origin = (join ?? leave)?.origin ?? {};
    cluster.requests.push({
      kind: join ? "join" : "leave",
      session: origin.session ?? "",
      sequence: origin.sequence ?? 0,
      replica: this.address,
    });
    if (cluster.refusal !== null) session.stream.send({ refused: cluster.refusal });
    else if (!cluster.commitsRequests) return;
    else if (join) cluster.join(session.name, session.bootId, session.address, origin);
    else cluster.leave(session.name, session.bootId);
  }

  #beat(session: Session): void {
    if (!this.#sessions.has(session)) return;
    this.env.clock.setTimer(BEAT_MS, () => this.#beat(session));
    if (this.isSilent) return;
    const { cluster } = this;
    session.stream.send({
      beat: {
        appliedIndex: this.applied,
        quorumAgeMs: Math.round(this.quorumAgeMs ?? cluster.quorumAgeMs),
        leaderInOfficeMs: 60_000,
        confirmedRenewal: cluster.confirms ? session.renewal : 0,
      },
    });
  }

  #view(session: Session): void {
    if (this.isSilent) return;
    const { cluster } = this;
    const items = [...cluster.items.values()].map(wireMuxItem);
    const head = { clusterEpoch: cluster.epoch, index: cluster.index, snapshot: true };
    // In two parts, as large views come.
    session.stream.send({ projection: { ...head, last: false, muxItems: items.slice(0, 1) } });
    session.stream.send({ projection: { ...head, last: true, muxItems: items.slice(1), digest: cluster.digest() } });
    session.sent = cluster.index;
  }

  #feed(session: Session): void {
    const { cluster } = this;
    if (session.sent === null || session.sent === 0 || this.isSilent || this.holdsBack) return;
    for (const { index, changes } of cluster.log) {
      if (index <= session.sent || index > this.applied) continue;
      session.sent = index;
      const muxItems = changes.flatMap((change) => (change.op === "upsert" ? [wireMuxItem(change.item)] : []));
      const removedKeys = changes.flatMap((change) => (change.op === "remove" ? [change.key] : []));
      const digest = index === cluster.index ? cluster.digest() : "";
      session.stream.send({
        projection: { clusterEpoch: cluster.epoch, index, snapshot: false, last: true, muxItems, removedKeys, digest },
      });
    }
  }
}
