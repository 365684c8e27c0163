/**
 * Raft nodes on simulated machines: real storage over the fake disk, real transport over the fake network. The replicated
 * state is a list of texts, which "clear" empties; every node's list must be a prefix of the longest (checked by `assertAgreement`).
 */
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import {
  createRaftNode,
  type CommittedEntry,
  type RaftNode,
  type RaftNodeConfig,
  type ReplicatedStateMachine,
} from "../../manager/raft/index.js";
import { VirtualWorld, type CrashOptions, type WorldOptions } from "../kit/virtual-world.js";

export class TextList implements ReplicatedStateMachine {
  texts: string[] = [];
  restoredAt = 0;
  applyCalls = 0;
  /** When it has room for more entries; null: at once. */
  room: Promise<void> | null = null;

  apply(entries: readonly CommittedEntry[]): void | Promise<void> {
    this.applyCalls++;
    for (const entry of entries) {
      const text = new TextDecoder().decode(entry.payload);
      if (text === "clear") this.texts = [];
      else this.texts.push(text);
    }
    if (this.room !== null) return this.room;
  }

  *snapshot(): Iterable<Uint8Array> {
    const bytes = new TextEncoder().encode(JSON.stringify(this.texts));
    for (let at = 0; at < bytes.length; at += 4_096) yield bytes.subarray(at, at + 4_096);
  }

  restore(chunks: Iterable<Uint8Array>, index: LogIndex): void {
    this.restoredAt = index;
    this.texts = JSON.parse(Buffer.concat([...chunks]).toString()) as string[];
  }
}

export interface Replica {
  readonly id: NodeId;
  readonly machine: string;
  node: RaftNode;
  state: TextList;
  established: Term[];
  failures: Error[];
}

export type ConfigChanges = Partial<Omit<RaftNodeConfig, "id" | "voters">>;

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

export class RaftCluster {
  readonly world: VirtualWorld;
  readonly replicas = new Map<NodeId, Replica>();
  readonly #voters: ReadonlyMap<NodeId, string>;
  readonly #changes: ConfigChanges;

  constructor(world: WorldOptions, options: { readonly size?: number; readonly config?: ConfigChanges } = {}) {
    this.world = new VirtualWorld(world);
    this.#changes = options.config ?? {};
    const ids = Array.from({ length: options.size ?? 5 }, (_, at) => nodeId(at + 1));
    this.#voters = new Map(ids.map((id) => [id, `m${id}:7001`]));
  }

  async start(): Promise<this> {
    for (const id of this.#voters.keys()) await this.boot(id);
    return this;
  }

  /** Starts the node, on its machine's present disk. */
  async boot(id: NodeId, changes: ConfigChanges = {}): Promise<Replica> {
    const machine = `m${id}`;
    const env = this.world.env(machine);
    const state = new TextList();
    const replica: Replica = { id, machine, state, established: [], failures: [], node: null as never };
    replica.node = createRaftNode({
      env,
      config: {
        id,
        voters: this.#voters,
        clusterId: "test",
        clusterEpoch: 1,
        dataFolder: "/raft",
        bootstrap: true,
        tickMs: 10,
        heartbeatMs: 30,
        electionTimeoutMinMs: 150,
        electionTimeoutMaxMs: 250,
        snapshotEveryEntries: 10_000,
        trailingEntries: 5_000,
        uncommittedBytesMax: 16 * 1024 * 1024,
        ...this.#changes,
        ...changes,
      },
      stateMachine: state,
      events: {
        leadershipEstablished: (term) => replica.established.push(term),
        failed: (error) => replica.failures.push(error),
      },
    });
    this.replicas.set(id, replica);
    await this.world.run(replica.node.start());
    return replica;
  }

  replica(id: number): Replica {
    const replica = this.replicas.get(nodeId(id));
    if (replica === undefined) throw new Error(`there is no replica ${id}`);
    return replica;
  }

  crash(id: number, options: CrashOptions = {}): void {
    this.world.crash(`m${id}`, options);
  }

  async restart(id: number, changes: ConfigChanges = {}, options: CrashOptions = {}): Promise<Replica> {
    this.world.restart(`m${id}`, options);
    return this.boot(nodeId(id), changes);
  }

  get live(): readonly Replica[] {
    return [...this.replicas.values()].filter((replica) => !this.world.process(replica.machine).crashed);
  }

  /** The leader of the highest term among those that run, if it may serve. */
  get leader(): Replica | null {
    const leaders = this.live.filter((replica) => replica.node.status().role === "leader");
    leaders.sort((a, b) => b.node.status().term - a.node.status().term);
    const leader = leaders[0];
    return leader?.established.at(-1) === leader?.node.status().term ? (leader ?? null) : null;
  }

  async awaitLeader(limitMs = 2_000): Promise<Replica> {
    await this.world.runUntil(() => this.leader !== null, limitMs, "a leader");
    return this.leader!;
  }

  /** Proposes at the leader and waits until it is applied there. */
  async write(text: string): Promise<void> {
    const leader = await this.awaitLeader();
    await this.world.run(leader.node.propose(bytes(text)).applied);
  }

  /** Every running replica has applied all that the leader has. */
  async converge(limitMs = 5_000): Promise<void> {
    await this.world.runUntil(
      () => {
        const leader = this.leader;
        if (leader === null) return false;
        const { lastIndex } = leader.node.status();
        return this.live.every((replica) => replica.node.status().appliedIndex === lastIndex);
      },
      limitMs,
      "all replicas having applied everything",
    );
    this.assertAgreement();
  }

  /** State Machine Safety, as a client sees it. */
  assertAgreement(): void {
    const longest = [...this.replicas.values()]
      .map((replica) => replica.state.texts)
      .reduce((a, b) => (a.length >= b.length ? a : b));
    for (const { id, state } of this.replicas.values()) {
      state.texts.forEach((text, at) => {
        if (text !== longest[at])
          throw new Error(`replica ${id} has ${text} at ${at}, another has ${longest[at] ?? "nothing"}`);
      });
    }
  }

  async stop(): Promise<void> {
    for (const replica of this.live) await this.world.run(replica.node.stop());
  }
}
