/** Tells the receiver of one stream who leads, whenever that has changed. */
import type { ananta } from "../../proto/gen/wire.js";
import type { ReplicaView } from "../replica-view.js";

export class LeaderNews {
  readonly #replica: Pick<ReplicaView, "leader" | "members">;
  #toldTerm = 0;

  constructor(replica: Pick<ReplicaView, "leader" | "members">) {
    this.#replica = replica;
  }

  /** To be put into the next beat; empty when it is no news, or when nobody is known to lead. */
  take(): { readonly leader?: ananta.v1.ManagerLeader.$Properties } {
    const leader = this.#replica.leader();
    if (leader === null || leader.term === this.#toldTerm) return {};
    const address = this.#replica.members().find(({ nodeId }) => nodeId === leader.nodeId)?.apiAddress ?? "";
    if (address === "") return {}; // a member whose address has not been applied here yet
    this.#toldTerm = leader.term;
    return { leader: { address, term: leader.term } };
  }
}
