/**
 * Who takes part in the Manager, and what operators change about it (proto/ananta/v1/cluster.proto). Only the leader can;
 * another replica passes the call on to it, once.
 */
import { nodeId, type NodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { CallContext, MessageStream, Method } from "../../runtime/env.js";
import { snapshotFileParts, type MembershipChange } from "../raft/index.js";
import type { ReplicaView } from "../replica-view.js";
import {
  CLUSTER_ADD_REPLICA,
  CLUSTER_PROMOTE_REPLICA,
  CLUSTER_REMOVE_REPLICA,
  CLUSTER_TRANSFER_LEADERSHIP,
} from "./methods.js";
import { readPoint } from "./read-state.js";

type SnapshotStream = MessageStream<ananta.v1.SnapshotFilePart.$Properties, never>;
type Members = ananta.v1.MembersResponse.$Properties;

/** Part of the caller's deadline kept back, so that the answer still reaches it. */
const ANSWER_RESERVE_MS = 200;
/** To find out how much the snapshot must hold. */
const SNAPSHOT_READ_MS = 5_000;
/** Host name or address, IPv6 in brackets, and a port. */
const HOST_PORT = /^(\[[0-9a-fA-F:]+\]|[^\s:[\]]+):([0-9]{1,5})$/;
const ADDRESS_LENGTH_MAX = 255;

export class ClusterService {
  readonly #replica: ReplicaView;

  constructor(replica: ReplicaView) {
    this.#replica = replica;
  }

  async members(request: ananta.v1.MembersRequest.$Properties, call: CallContext): Promise<Members> {
    await readPoint(this.#replica, request.stale === true, budget(call));
    return this.#shown();
  }

  addReplica(request: ananta.v1.AddReplicaRequest.$Properties, call: CallContext): Promise<Members> {
    const member = {
      id: checkNode(request.nodeId, "node_id"),
      address: checkAddress(request.raftAddress, "raft_address"),
      service: checkAddress(request.apiAddress, "api_address"),
    };
    if (member.address === member.service)
      throw new AnantaError("INVALID_ARGUMENT", `raft_address and api_address are both ${member.address}`);
    return this.#atLeader(CLUSTER_ADD_REPLICA, request, call, () => this.#change({ kind: "add-learner", member }));
  }

  promoteReplica(request: ananta.v1.PromoteReplicaRequest.$Properties, call: CallContext): Promise<Members> {
    const id = checkNode(request.nodeId, "node_id");
    const replacing = (request.replacing ?? 0) === 0 ? null : checkNode(request.replacing, "replacing");
    if (replacing === id) throw new AnantaError("INVALID_ARGUMENT", `replacing: node ${id} cannot replace itself`);
    return this.#atLeader(CLUSTER_PROMOTE_REPLICA, request, call, () =>
      this.#change({ kind: "promote", id, replacing }),
    );
  }

  removeReplica(request: ananta.v1.RemoveReplicaRequest.$Properties, call: CallContext): Promise<Members> {
    const id = checkNode(request.nodeId, "node_id");
    return this.#atLeader(CLUSTER_REMOVE_REPLICA, request, call, () => this.#change({ kind: "remove", id }));
  }

  transferLeadership(
    request: ananta.v1.TransferLeadershipRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.TransferLeadershipResponse.$Properties> {
    const target = (request.nodeId ?? 0) === 0 ? null : checkNode(request.nodeId, "node_id");
    return this.#atLeader(CLUSTER_TRANSFER_LEADERSHIP, request, call, async () => {
      const raft = this.#replica.raft();
      const before = raft.status().leader ?? 0;
      await raft.transferLeadership(target);
      return { leader: raft.status().leader ?? 0, before };
    });
  }

  /** The file's bytes, as fast as the caller takes them; the state is no older than the call. */
  saveSnapshot(stream: SnapshotStream): void {
    const sender = new PartSender(stream);
    this.#sendSnapshot(sender).then(
      () => stream.end(),
      (error: unknown) => stream.end(AnantaError.from(error)),
    );
  }

  async #sendSnapshot(sender: PartSender): Promise<void> {
    const { config } = this.#replica;
    const raft = this.#replica.raft();
    await raft.readIndex(SNAPSHOT_READ_MS);
    const { snapshot, chunks } = await raft.exportSnapshot();
    const facts = {
      clusterId: config.clusterId,
      // After a restore the state is of the epoch before until the new one has begun.
      clusterEpoch: Math.max(this.#replica.state.site?.clusterEpoch ?? 0, config.clusterEpoch),
      snapshot,
    };
    for await (const data of snapshotFileParts(facts, chunks)) if (!(await sender.send(data))) return;
  }

  async #change(change: MembershipChange): Promise<Members> {
    await this.#replica.raft().changeMembership(change);
    return this.#shown();
  }

  #shown(): Members {
    const { leader, membershipIndex, changing } = this.#replica.raft().status();
    return { members: [...this.#replica.members()], membershipIndex, changing, leader: leader ?? 0 };
  }

  async #atLeader<Request extends { passedOn?: boolean | null }, Response>(
    method: Method<Request, Response>,
    request: Request,
    call: CallContext,
    work: () => Promise<Response>,
  ): Promise<Response> {
    const { role, leader } = this.#replica.raft().status();
    if (role === "leader") return work();
    const at = this.#replica.members().find((member) => member.nodeId === leader)?.apiAddress ?? "";
    if (at === "" || request.passedOn === true)
      throw new AnantaError("NOT_LEADER", "this replica does not lead", { leaderHint: leader ?? undefined });
    const channel = this.#replica.env.network.connect(at);
    try {
      return await channel.call(method, { ...request, passedOn: true }, { deadlineMs: budget(call) });
    } finally {
      channel.close();
    }
  }
}

/** Waits while the caller reads slowly. */
class PartSender {
  readonly #stream: SnapshotStream;
  #over = false;
  #resume: (() => void) | null = null;

  constructor(stream: SnapshotStream) {
    this.#stream = stream;
    const goOn = (): void => {
      this.#resume?.();
      this.#resume = null;
    };
    stream.listen({
      message: () => undefined,
      closed: () => {
        this.#over = true;
        goOn();
      },
      drained: goOn,
    });
  }

  /** False when nobody takes it any more. */
  async send(data: Uint8Array): Promise<boolean> {
    if (!this.#over && !this.#stream.send({ data })) {
      await new Promise<void>((resolve) => {
        this.#resume = resolve;
      });
    }
    return !this.#over;
  }
}

const budget = (call: CallContext): number => Math.max(1, call.deadlineMs - ANSWER_RESERVE_MS);

function checkNode(value: number | null | undefined, field: string): NodeId {
  const id = value ?? 0;
  if (id < 1 || id > 65_535) throw new AnantaError("INVALID_ARGUMENT", `${field}: ${id} is not a node id, 1 to 65535`);
  return nodeId(id);
}

function checkAddress(value: string | null | undefined, field: string): string {
  const text = value ?? "";
  const port = Number(HOST_PORT.exec(text)?.[2] ?? 0);
  if (port < 1 || port > 65_535 || text.length > ADDRESS_LENGTH_MAX)
    throw new AnantaError("INVALID_ARGUMENT", `${field}: "${text.slice(0, 64)}" is not of the form host:port`);
  return text;
}
