/**
 * A new replica's data folder with a snapshot file's state in it: how a cluster that lost its quorum, or was moved, begins
 * anew. Every replica is restored from the same file, with the same members and the same new epoch.
 *
 *   1. the folder must be empty: no replica's promises are thrown away;
 *   2. term and vote (the snapshot's term, no vote), then the chunks, then all of it read back;
 *   3. one batch that makes it a replica's folder.
 *
 * (F1) The epoch rises, so nothing of the old cluster, wherever it still runs, is taken for one of the new.
 * (F2) Ids that were removed before stay removed, and so do members that are not restored.
 * (F3) Interrupted before step 3 it is a folder with term and vote and a log that lost its first record: no votes from it.
 */
import type { NodeId } from "../../../core/brands.js";
import { CLUSTER_EPOCH_MAX, isClusterEpoch } from "../../../core/cluster-epoch.js";
import { AnantaError } from "../../../core/errors.js";
import type { Disk } from "../../../runtime/env.js";
import { membersOf, simpleMembership, VOTERS_MAX } from "../core/membership.js";
import type { Member, Membership } from "../core/types.js";
import type { SnapshotFile } from "../snapshot-file.js";
import { chunkSetOf, STORAGE_FORMAT, type Meta, type SnapshotRecord, type Tail } from "./facts.js";
import { HardStateFile, type StoredHardState } from "./hard-state-file.js";
import { HARD_STATE_KEY, META_KEY, SNAPSHOT_KEY, TAIL_KEY } from "./keys.js";
import type { LevelStorageOptions } from "./level-storage.js";
import { sealFacts } from "./records.js";
import { verifySnapshot, writeChunk } from "./snapshot-chunks.js";
import { SYNCED } from "./synced.js";

export interface RestoreOptions {
  readonly disk: Disk;
  readonly folder: string;
  /** Of the restored cluster and this replica in it. The id is the file's, the epoch greater than the file's. */
  readonly owner: LevelStorageOptions["owner"];
  /** All voters of the restored cluster, this replica among them. */
  readonly voters: readonly Omit<Member, "folder">[];
  readonly file: SnapshotFile;
}

/**
 * Rejects with FAILED_PRECONDITION (the folder holds a replica's data), WRONG_CLUSTER (the file is another cluster's),
 * INVALID_ARGUMENT (epoch or voters), STORAGE_LOCKED, STORAGE_FAILED, STORAGE_DAMAGED.
 */
export async function restoreDataFolder({ disk, folder, owner, voters, file }: RestoreOptions): Promise<void> {
  const membership = restoredMembership(file, owner, voters);
  const present = await disk.list(folder);
  const foreign = present.find((name) => name === "log" || name === "hard-state");
  if (foreign !== undefined) {
    throw new AnantaError(
      "FAILED_PRECONDITION",
      `The folder ${folder} holds a replica's data already ("${foreign}"); restore into an empty one.`,
      { folder },
    );
  }
  await disk.makeFolder(folder);
  const { snapshot } = file.facts;
  const { index, term } = snapshot.meta;
  const record: SnapshotRecord = { ...snapshot, meta: { index, term, membership }, origin: "received" };
  const hardState: StoredHardState = { generation: 1, term, votedFor: null };
  const tail: Tail = { sequence: 1, lastIndex: index, chain: 0, snapshotIndex: index };
  const meta: Meta = { format: STORAGE_FORMAT, ...owner, lost: null, damage: null, folder: "" };
  const hardStateFile = await HardStateFile.open(disk, `${folder}/hard-state`);
  try {
    await hardStateFile.write(hardState);
    const store = await disk.openStore(`${folder}/log`);
    try {
      let number = 0;
      for await (const chunk of file.chunks()) await writeChunk(store, chunkSetOf(record), number++, chunk);
      await verifySnapshot(store, record);
      await store.batch(
        [
          { type: "put", key: META_KEY, value: sealFacts(meta) },
          { type: "put", key: HARD_STATE_KEY, value: sealFacts(hardState) },
          { type: "put", key: SNAPSHOT_KEY, value: sealFacts(record) },
          { type: "put", key: TAIL_KEY, value: sealFacts(tail) },
        ],
        SYNCED,
      ); // (F3)
      await hardStateFile.writeMark(tail);
    } finally {
      await store.close();
    }
  } finally {
    await hardStateFile.close();
  }
}

/** (F1), (F2) */
function restoredMembership(
  { facts }: SnapshotFile,
  owner: RestoreOptions["owner"],
  voters: RestoreOptions["voters"],
): Membership {
  const wrong = (why: string): AnantaError => new AnantaError("INVALID_ARGUMENT", `Nothing was restored: ${why}.`);
  if (facts.clusterId !== owner.clusterId) {
    throw new AnantaError(
      "WRONG_CLUSTER",
      `The snapshot file is of cluster ${facts.clusterId}, not of ${owner.clusterId}; nothing was restored.`,
    );
  }
  if (!isClusterEpoch(owner.clusterEpoch))
    throw wrong(`a cluster epoch is an integer from 1 to ${CLUSTER_EPOCH_MAX}, not ${owner.clusterEpoch}`);
  if (owner.clusterEpoch <= facts.clusterEpoch)
    throw wrong(`the new cluster epoch must be greater than ${facts.clusterEpoch}, the snapshot's`);
  const ids: readonly NodeId[] = voters.map(({ id }) => id);
  if (ids.length === 0 || ids.length > VOTERS_MAX) throw wrong(`a cluster has 1 to ${VOTERS_MAX} voters`);
  if (new Set(ids).size !== ids.length) throw wrong("two voters have the same node id");
  if (new Set(voters.map(({ address }) => address)).size !== ids.length)
    throw wrong("two voters have the same address");
  if (!ids.some((id) => id === owner.nodeId)) throw wrong(`node ${owner.nodeId} is not among the voters`);
  const before = facts.snapshot.meta.membership;
  const gone = ids.find((id) => before.removed.includes(id));
  if (gone !== undefined) throw wrong(`node id ${gone} was removed from the cluster; ids are not used again`);
  const members = voters.map(({ id, address, service }) => ({ id, address, service, folder: "" }));
  const removed = [...before.removed, ...membersOf(before).filter((id) => !ids.includes(id))];
  return { ...simpleMembership(ids, [], members), removed: removed.sort((a, b) => a - b) };
}
