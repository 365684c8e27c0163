/**
 * Who is where, from the log to the transport and back: addresses of members go down, data folders that peers tell of go up.
 *
 * (U1) While a membership is not committed, those whom it leaves out are still talked to: the leader may be one of them, and
 *      waits for acknowledgements.
 */
import type { LogIndex, NodeId } from "../../core/brands.js";
import { membersOf } from "./core/membership.js";
import type { RaftCore } from "./core/raft.js";
import type { RaftTransport } from "./transport/transport.js";

export class MemberDirectory {
  readonly #transport: Pick<RaftTransport, "setMembers">;
  /** Raft addresses of the members, and of those whose removal is not yet committed. */
  readonly #addresses = new Map<NodeId, string>();
  /** Data folders that peers have told of. */
  readonly #folders = new Map<NodeId, string>();
  /** Index of the membership that the transport was told of as committed. */
  #settledIndex: LogIndex | null = null;

  constructor(transport: Pick<RaftTransport, "setMembers">) {
    this.#transport = transport;
  }

  identified(peer: NodeId, folder: string): void {
    this.#folders.set(peer, folder);
  }

  /** Membership, role or what is committed may have changed. */
  tellTransport({ state }: RaftCore): void {
    const { membership, memberships, role, log } = state;
    for (const { id, address } of membership.members) this.#addresses.set(id, address);
    const committed = memberships.inForceIndex <= log.commitIndex;
    const departing = role.kind === "leader" ? role.peers.keys() : [];
    const wanted = new Set<NodeId>([...membersOf(membership), ...departing]);
    this.#transport.setMembers({
      addresses: committed ? new Map([...this.#addresses].filter(([id]) => wanted.has(id))) : new Map(this.#addresses),
      removed: committed ? membership.removed.filter((id) => !wanted.has(id)) : [],
    }); // (U1)
    if (!committed) return;
    this.#settledIndex = memberships.inForceIndex;
    for (const id of [...this.#addresses.keys()]) if (!wanted.has(id)) this.#addresses.delete(id);
  }

  /** As `tellTransport`, when the membership in force has been committed since. */
  settle(core: RaftCore): void {
    const { memberships, log } = core.state;
    if (memberships.inForceIndex === this.#settledIndex || memberships.inForceIndex > log.commitIndex) return;
    this.tellTransport(core);
  }

  /** A learner's data folder is put on record once it was heard of (`Member.folder`). */
  nameFolders(core: RaftCore): void {
    const { membership, role } = core.state;
    if (role.kind !== "leader" || membership.learners.length === 0) return;
    for (const { id, folder: named } of membership.members) {
      const folder = this.#folders.get(id);
      if (named === "" && folder !== undefined && membership.learners.includes(id))
        core.changeMembership({ kind: "name-folder", id, folder });
    }
  }
}
