/** What the disks of the replicas would still hold if the power went now: an entry is committed once a quorum holds it so. */
import { TAIL_KEY } from "../../manager/raft/storage/keys.js";
import { unsealFacts } from "../../manager/raft/storage/records.js";
import type { RaftStatus } from "../../manager/raft/index.js";
import type { ManagerProcess, SimSite } from "./site.js";
import { mustHold } from "./violation.js";

/** The last entry that is surely on the replica's disk. */
function durableLastIndex(site: SimSite, { name }: ManagerProcess): number {
  const record = site.world.disk(name).durableRecord(`/data/${name}/log`, TAIL_KEY);
  return record === undefined ? 0 : unsealFacts<{ readonly lastIndex: number }>(record).lastIndex;
}

/** `status`: of a replica that is about to apply the entry, which nobody has applied before. */
export function mustBeDurableOnAQuorum(site: SimSite, index: number, { voters, changing }: RaftStatus): void {
  if (changing) return; // which of two memberships it was committed by is not to be seen from here
  const holders = voters.filter((id) => {
    const process = site.managers.find((one) => one.id === id);
    // Whoever lost its disk since may have held it.
    return process !== undefined && (process.damaged !== null || durableLastIndex(site, process) >= index);
  });
  mustHold(
    holders.length > voters.length / 2,
    "a committed entry is durable on a quorum",
    () => `entry ${index} is applied; on disk it is at ${holders.join(", ") || "none"} of voters ${voters.join(", ")}`,
  );
}
