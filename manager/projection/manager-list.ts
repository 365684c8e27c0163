/** Tells the receiver of one stream where the Managers are, whenever their membership has changed. */
import type { ananta } from "../../proto/gen/wire.js";
import type { ReplicaView } from "../replica-view.js";

export class ManagerListNews {
  readonly #replica: Pick<ReplicaView, "raft" | "members" | "config">;
  #toldIndex = 0;

  constructor(replica: Pick<ReplicaView, "raft" | "members" | "config">) {
    this.#replica = replica;
  }

  /** To be put into the next beat; empty when it is no news. */
  take(): { readonly managers?: ananta.v1.ManagerList.$Properties } {
    const index = this.#replica.raft().membershipIndex();
    if (index === this.#toldIndex) return {};
    this.#toldIndex = index;
    // A learner that has not caught up, or never will, is nobody to follow.
    const addresses = this.#replica
      .members()
      .filter(({ role, apiAddress }) => role === "voter" && apiAddress !== "")
      .map(({ apiAddress }) => apiAddress);
    return index === 0 || addresses.length === 0
      ? {}
      : { managers: { addresses, index, clusterEpoch: this.#replica.config.clusterEpoch } };
  }
}
