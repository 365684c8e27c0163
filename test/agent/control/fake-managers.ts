/**
 * A scripted cluster of Managers as Host Agents see it: one log of host items, SNAT ownership, replicas that serve them.
 * What a test wants to go wrong can be told: answers that are withheld, a projection that lags, a refusal.
 */
import type { DipId, HostId, IpAddress, MuxId, VipId } from "../../../core/brands.js";
import { digestOf, EMPTY_DIGEST, formatDigest, xorDigests } from "../../../dataplane/digest.js";
import { hostItemKey, type HostChange, type HostItem } from "../../../dataplane/host-items.js";
import { AGENT_FOLLOW } from "../../../manager/api/methods.js";
import { wireHostItem } from "../../../manager/projection/projection-wire.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { bidi, type Env, type MessageStream, type Server } from "../../../runtime/env.js";

type FromAgent = ananta.v1.AgentToManager.$Properties;
type ToAgent = ananta.v1.ManagerToAgent.$Properties;
type Request = ananta.v1.SnatRequest.$Properties;

export const CLUSTER_ID = "c".repeat(32);
export const VIP = "203.0.113.10" as IpAddress;
const VIP_ID = 1 as VipId;
const BEAT_MS = 3_000;
const FIRST_RANGE = 128;

interface Host {
  readonly hostId: HostId;
  readonly name: string;
  incarnation: number;
  bootId: string;
  readonly items: Map<string, HostItem>;
  readonly log: { index: number; changes: readonly HostChange[] }[];
}

export class FakeCluster {
  epoch = 1;
  index = 1;
  /** Requests are executed; false: they are lost on their way. */
  executes = true;
  /** Answers are sent; false: executed, but nobody is told. */
  answers = true;
  /** Given instead of executing. */
  refusal: { code: string; reason: string; retryAfterMs: number } | null = null;
  /** Declared ranges that are answered as not theirs. */
  refusedRanges: ananta.v1.OwnedBlock.$Properties[] = [];
  /** Named in a beat of each stream to which it is news. */
  leader: { readonly address: string; readonly term: number } | null = null;
  readonly replicas: FakeReplica[] = [];
  readonly hosts = new Map<string, Host>();
  /** Range -> its DIP. */
  readonly owners = new Map<string, DipId>();
  readonly hellos: ananta.v1.AgentHello.$Properties[] = [];
  /** Every request as it arrived, with the replica it came to. */
  readonly requests: { readonly request: Request; readonly replica: string; readonly atMs: number }[] = [];
  /** Executed, by origin: once each. */
  readonly executed = new Map<string, ananta.v1.SnatAnswer.$Properties>();
  readonly #dips = new Map<string, DipId>();
  #nextRange = FIRST_RANGE;

  commit(host: Host, ...changes: readonly HostChange[]): number {
    this.index++;
    for (const change of changes) {
      if (change.op === "upsert") host.items.set(hostItemKey(change.item), change.item);
      else host.items.delete(change.key);
    }
    host.log.push({ index: this.index, changes });
    for (const replica of this.replicas) replica.pump();
    return this.index;
  }

  host(name: string): Host {
    const host = this.hosts.get(name);
    if (host === undefined) throw new Error(`no host ${name}`);
    return host;
  }

  digest(host: Host): string {
    let digest = EMPTY_DIGEST;
    for (const [key, item] of host.items) digest = xorDigests(digest, digestOf(key, item));
    return formatDigest(digest);
  }

  register(hello: ananta.v1.AgentHello.$Properties): Host {
    this.hellos.push(hello);
    const name = hello.identity?.node ?? "";
    const bootId = hello.identity?.bootId ?? "";
    const known = this.hosts.get(name);
    if (known?.bootId === bootId) return known;
    const host: Host = known ?? {
      hostId: (this.hosts.size + 1) as HostId,
      name,
      incarnation: 0,
      bootId,
      items: new Map(),
      log: [],
    };
    this.hosts.set(name, host);
    host.incarnation++;
    host.bootId = bootId;
    const changes: HostChange[] = [
      { op: "upsert", item: { kind: "site", hashKey: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) } },
      { op: "upsert", item: { kind: "mux", muxId: 1 as MuxId, address: "10.255.0.1" as IpAddress } },
    ];
    for (const dip of hello.dips ?? []) {
      const dipId = this.#dips.get(dip.address ?? "") ?? ((this.#dips.size + 1) as DipId);
      this.#dips.set(dip.address ?? "", dipId);
      const address = dip.address as IpAddress;
      changes.push({
        op: "upsert",
        item: { kind: "dip", dipId, address, locator: (dip.locator ?? address) as IpAddress, tenant: dip.tenant ?? "" },
      });
      changes.push({ op: "upsert", item: { kind: "outbound", dipId, vipId: VIP_ID, vip: VIP } });
    }
    const declared = new Set((hello.heldRanges ?? []).flatMap(({ block }) => each(block)));
    for (const [key, item] of host.items)
      if (item.kind === "range" && !declared.has(`${item.protocol}/${item.range}`)) changes.push({ op: "remove", key });
    this.commit(host, ...changes);
    return host;
  }

  execute(host: Host, request: Request): ananta.v1.SnatAnswer.$Properties {
    const key = `${request.origin?.session ?? ""}/${request.origin?.sequence ?? 0}`;
    const remembered = this.executed.get(key);
    if (remembered !== undefined) return remembered;
    const sequence = request.origin?.sequence ?? 0;
    const dipId = request.dipId as DipId;
    let answer: ananta.v1.SnatAnswer.$Properties;
    if (this.refusal !== null) answer = { sequence, index: this.index, ...this.refusal };
    else if (request.allocate) {
      const protocol = request.allocate.protocol as 6 | 17;
      const count = Math.ceil((request.allocate.ports ?? 0) / 8);
      const range = this.#nextRange;
      this.#nextRange += count;
      answer = {
        sequence,
        index: this.grant(host, dipId, protocol, range, count),
        blocks: [{ vip: VIP, protocol, range, count }],
      };
    } else {
      const keys = (request.release?.blocks ?? []).flatMap((block) =>
        each(block).map((one) => `range/${VIP_ID}/${one}`),
      );
      for (const one of keys) this.owners.delete(one);
      answer = { sequence, index: this.commit(host, ...keys.map((one): HostChange => ({ op: "remove", key: one }))) };
    }
    this.executed.set(key, answer);
    return answer;
  }

  grant(host: Host, dipId: DipId, protocol: 6 | 17, range: number, count: number): number {
    const items = Array.from({ length: count }, (_, n): HostItem => ({
      kind: "range",
      vipId: VIP_ID,
      vip: VIP,
      protocol,
      range: range + n,
      dipId,
    }));
    for (const item of items) this.owners.set(hostItemKey(item), dipId);
    return this.commit(host, ...items.map((item): HostChange => ({ op: "upsert", item })));
  }

  dips(host: Host): readonly DipId[] {
    return [...host.items.values()].flatMap((item) => (item.kind === "dip" ? [item.dipId] : []));
  }
}

const each = (block: ananta.v1.RangeBlock.$Properties | null | undefined): readonly string[] =>
  Array.from({ length: block?.count ?? 0 }, (_, n) => `${block?.protocol ?? 0}/${(block?.range ?? 0) + n}`);

interface Session {
  readonly stream: MessageStream<ToAgent, FromAgent>;
  host: Host | null;
  sent: number | null;
  toldTerm: number;
}

export class FakeReplica {
  readonly address: string;
  readonly env: Env;
  readonly cluster: FakeCluster;
  /** Sends nothing at all, though its connections stand; requests are not heard either. */
  isSilent = false;
  /** Whole views are kept back until `releaseViews`. */
  keepsViews = false;
  /** The projection ends here. */
  projectsTo = Infinity;
  readonly acks: ananta.v1.AgentAck.$Properties[] = [];
  readonly #sessions = new Set<Session>();
  #server: Server | null = null;

  constructor(env: Env, address: string, cluster: FakeCluster) {
    this.env = env;
    this.address = address;
    this.cluster = cluster;
    cluster.replicas.push(this);
  }

  get machine(): string {
    return this.address.slice(0, this.address.indexOf(":"));
  }

  async start(): Promise<void> {
    this.#server = await this.env.network.serve(this.address, [bidi(AGENT_FOLLOW, (stream) => this.#open(stream))]);
  }

  stop(): Promise<void> {
    return this.#server?.stop(0) ?? Promise.resolve();
  }

  closeStreams(): void {
    for (const session of [...this.#sessions]) {
      this.#sessions.delete(session);
      session.stream.end();
    }
  }

  releaseViews(): void {
    this.keepsViews = false;
    for (const session of this.#sessions) if (session.sent === 0) this.#view(session);
  }

  say(message: ToAgent): void {
    for (const { stream } of this.#sessions) stream.send(message);
  }

  pump(): void {
    for (const session of this.#sessions) this.#feed(session);
  }

  #open(stream: MessageStream<ToAgent, FromAgent>): void {
    const session: Session = { stream, host: null, sent: null, toldTerm: 0 };
    this.#sessions.add(session);
    stream.listen({
      message: (message) => this.#receive(session, message),
      closed: () => this.#sessions.delete(session),
    });
  }

  #receive(session: Session, message: FromAgent): void {
    const { cluster } = this;
    if (this.isSilent) return;
    if (message.hello) {
      const host = cluster.register(message.hello);
      session.host = host;
      const identity = { clusterId: CLUSTER_ID, clusterEpoch: cluster.epoch, node: "1" };
      const dips = [...host.items.values()].flatMap((item) =>
        item.kind === "dip" ? [{ tenant: item.tenant, address: item.address, dipId: item.dipId }] : [],
      );
      const { hostId, incarnation } = host;
      session.stream.send({
        welcome: { identity, hostId, incarnation, dips, refusedRanges: cluster.refusedRanges, index: cluster.index },
      });
      this.#beat(session);
    } else if (message.activate) {
      session.sent = message.activate.clusterEpoch === cluster.epoch ? (message.activate.index ?? 0) : 0;
      if (session.sent === 0) this.#view(session);
      else this.#feed(session);
    } else if (message.ack) this.acks.push(message.ack);
    else if (message.requests) for (const request of message.requests.requests ?? []) this.#request(session, request);
  }

  #request(session: Session, request: Request): void {
    const { cluster } = this;
    cluster.requests.push({ request, replica: this.address, atMs: this.env.clock.nowMs() });
    if (!cluster.executes || session.host === null) return;
    const answer = cluster.execute(session.host, request);
    if (cluster.answers) session.stream.send({ answers: { answers: [answer] } });
  }

  #beat(session: Session): void {
    if (!this.#sessions.has(session)) return;
    this.env.clock.setTimer(BEAT_MS, () => this.#beat(session));
    const { index: appliedIndex, leader } = this.cluster;
    if (this.isSilent) return;
    const isNews = leader !== null && leader.term !== session.toldTerm;
    session.stream.send({ beat: { appliedIndex, ...(isNews ? { leader } : {}) } });
    if (isNews) session.toldTerm = leader.term;
  }

  #view(session: Session): void {
    const { cluster } = this;
    if (session.host === null || this.keepsViews) return;
    const hostItems = [...session.host.items.values()].map(wireHostItem);
    session.sent = cluster.index;
    session.stream.send({
      projection: {
        clusterEpoch: cluster.epoch,
        index: cluster.index,
        snapshot: true,
        last: true,
        hostItems,
        digest: cluster.digest(session.host),
      },
    });
  }

  #feed(session: Session): void {
    const { cluster } = this;
    const { host } = session;
    if (host === null || session.sent === null || session.sent === 0 || this.isSilent) return;
    for (const { index, changes } of host.log) {
      if (index <= session.sent || index > this.projectsTo) continue;
      session.sent = index;
      const hostItems = changes.flatMap((change) => (change.op === "upsert" ? [wireHostItem(change.item)] : []));
      const removedKeys = changes.flatMap((change) => (change.op === "remove" ? [change.key] : []));
      const digest = index === host.log.at(-1)?.index ? cluster.digest(host) : "";
      session.stream.send({
        projection: { clusterEpoch: cluster.epoch, index, snapshot: false, last: true, hostItems, removedKeys, digest },
      });
    }
  }
}
