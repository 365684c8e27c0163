/**
 * All that the rest of the Manager may import from the consensus module.
 *
 * `createRaftNode` builds one replica: the pure core (`core/`), its storage, its transport and the one loop that drives
 * them (`node.ts`). The replicated state machine is handed in; it sees committed entries in order, exactly once per
 * process life after a restore from the newest snapshot.
 */
export type {
  RaftNode,
  RaftNodeConfig,
  RaftStatus,
  RaftMember,
  MembershipChange,
  ReplicatedStateMachine,
  CommittedEntry,
  Proposal,
  RaftEvents,
} from "./raft-node.js";
export { createRaftNode } from "./node.js";
export {
  readSnapshotFile,
  saveSnapshotFile,
  snapshotFileParts,
  writeSnapshotFile,
  type SnapshotFile,
  type SnapshotFileFacts,
} from "./snapshot-file.js";
export { restoreDataFolder, type RestoreOptions } from "./storage/restore-folder.js";
