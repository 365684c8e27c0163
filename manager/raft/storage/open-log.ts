/**
 * Reads the store and the hard-state file at start, checks everything, and says what of it may be trusted.
 *
 *   nothing there, bootstrap        a new replica's folder: full rights
 *   nothing there, join             a folder that votes once the membership names it
 *   nothing there, no bootstrap     term and vote are lost with the rest: never votes
 *   hard state unreadable           never votes
 *   hard state and its copy differ by more than one write: the store lost records
 *   a block or snapshot damaged, missing, out of order: cut off there
 *                                   -> keeps what is intact, votes only once it has caught up
 *
 * (O1) What is cut off is deleted and the damage noted, durably, before anything else is done with this folder.
 * (O2) Term and vote: the newest generation among two slots and the copy. The file and the copy are written in parallel and
 *      a promise is told only when both are durable, so a difference of one write is an interrupted one.
 */
import type { LogIndex, Term } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { Store } from "../../../runtime/env.js";
import type { Entry, VotingRight } from "../core/types.js";
import type { HardStateFile, StoredHardState } from "./hard-state-file.js";
import {
  blockKey,
  BLOCK_RANGE,
  blockKeyIndex,
  chunkKey,
  CHUNK_RANGE,
  chunkRangeOf,
  HARD_STATE_KEY,
  META_KEY,
  SNAPSHOT_KEY,
} from "./keys.js";
import type { LevelStorageOptions } from "./level-storage.js";
import { decodeBlockRecord, sealFacts, unseal, unsealFacts } from "./records.js";
import type { OpenedStorage, StoredSnapshot } from "./storage.js";
import { SYNCED } from "./synced.js";

export interface BlockInfo {
  readonly firstIndex: LogIndex;
  readonly lastIndex: LogIndex;
  readonly chain: number;
}

/** Whose folder this is, and what happened to it. */
export interface Meta {
  readonly format: 1;
  readonly clusterId: string;
  readonly clusterEpoch: number;
  readonly nodeId: number;
  /** Term and vote were lost; null when they were not. */
  readonly lost: string | null;
  /** The log was damaged and has not caught up since. */
  readonly damage: string | null;
  /** Identity of a folder that joined a running cluster; empty for a founder's. */
  readonly folder: string;
}

export interface FoundLog {
  readonly meta: Meta;
  readonly hardState: StoredHardState;
  readonly blocks: readonly BlockInfo[];
  readonly opened: OpenedStorage;
}

type Options = Pick<LevelStorageOptions, "owner" | "bootstrap" | "join">;

export async function openLog(store: Store, file: HardStateFile, options: Options): Promise<FoundLog> {
  const metaRecord = await store.get(META_KEY);
  if (metaRecord === undefined) await format(store, file, options);
  const { meta, copy, damage: factsDamage } = await readFacts(store, options);
  const judged = judgeHardState(file, copy);
  const snapshot = await readSnapshot(store);
  const log = await readBlocks(store, snapshot.present);
  const found: Meta = {
    ...meta,
    lost: meta.lost ?? judged.lost,
    damage: meta.damage ?? factsDamage ?? judged.damage ?? snapshot.damage ?? log.damage,
  };
  if (found.lost !== meta.lost || found.damage !== meta.damage || log.cut.length > 0) {
    // (O1)
    const cut = log.cut.map((key) => ({ type: "del" as const, key }));
    const dropSnapshot = snapshot.damage === null ? [] : [{ type: "del" as const, key: SNAPSHOT_KEY }];
    await store.batch([...cut, ...dropSnapshot, { type: "put", key: META_KEY, value: sealFacts(found) }], SYNCED);
  }
  await deleteStrayChunks(store, snapshot.present);
  return {
    meta: found,
    hardState: judged.hardState,
    blocks: log.blocks,
    opened: {
      hardState: { term: judged.hardState.term, votedFor: judged.hardState.votedFor },
      snapshot: snapshot.present,
      entries: log.entries,
      commitIndex: log.commitIndex,
      voting: votingRight(found),
      folder: found.folder,
    },
  };
}

function votingRight(meta: Meta): VotingRight {
  if (meta.lost !== null) return { kind: "never", reason: meta.lost };
  if (meta.damage !== null) return { kind: "until-caught-up", reason: meta.damage };
  if (meta.folder === "") return { kind: "full" };
  return { kind: "until-named", reason: "it joined and is not known to the membership yet", folder: meta.folder };
}

/** The store has no meta record: a new folder, an interrupted formatting, or a store that lost everything. */
async function format(store: Store, file: HardStateFile, { owner, bootstrap, join }: Options): Promise<void> {
  const newest = file.newest;
  const neverUsed = file.unused || newest?.term === 0;
  const anything = await store.keys({ limit: 1 }).all();
  let lost: string | null = null;
  let damage: string | null = null;
  if (neverUsed && anything.length === 0) {
    if (!bootstrap && !join)
      lost = "the data folder was empty and this replica was told neither to bootstrap nor to join";
  } else damage = "the log's store lost its first record";
  const hardState: StoredHardState = newest ?? { generation: 1, term: 0 as Term, votedFor: null };
  if (file.unused) await file.write(hardState);
  const folder = lost === null && damage === null ? (join ?? "") : "";
  const meta: Meta = { format: 1, ...owner, lost, damage, folder };
  await store.batch(
    [
      { type: "put", key: META_KEY, value: sealFacts(meta) },
      { type: "put", key: HARD_STATE_KEY, value: sealFacts(hardState) },
    ],
    SYNCED,
  );
}

async function readFacts(
  store: Store,
  { owner }: Options,
): Promise<{ readonly meta: Meta; readonly copy: StoredHardState | null; readonly damage: string | null }> {
  let meta: Meta;
  let damage: string | null = null;
  try {
    meta = unsealFacts<Meta>((await store.get(META_KEY))!); // written by `format` at the latest
    if (
      meta.clusterId !== owner.clusterId ||
      meta.clusterEpoch !== owner.clusterEpoch ||
      meta.nodeId !== owner.nodeId
    ) {
      throw new AnantaError(
        "WRONG_CLUSTER",
        `The data folder belongs to node ${meta.nodeId} of cluster ${meta.clusterId} (epoch ${meta.clusterEpoch}), ` +
          `not to node ${owner.nodeId} of ${owner.clusterId} (epoch ${owner.clusterEpoch}).`,
      );
    }
  } catch (error) {
    if (error instanceof AnantaError && error.code === "WRONG_CLUSTER") throw error;
    // It said whether term and vote were ever lost; without it the careful answer is yes.
    meta = {
      format: 1,
      ...owner,
      lost: "the record that says whose data this is cannot be read",
      damage: null,
      folder: "",
    };
    damage = meta.lost;
  }
  let copy: StoredHardState | null = null;
  try {
    const record = await store.get(HARD_STATE_KEY);
    if (record === undefined) damage ??= "the store's copy of term and vote is missing";
    else copy = unsealFacts<StoredHardState>(record);
  } catch {
    damage ??= "the store's copy of term and vote cannot be read";
  }
  return { meta, copy, damage };
}

/** (O2) */
function judgeHardState(
  file: HardStateFile,
  copy: StoredHardState | null,
): { readonly hardState: StoredHardState; readonly lost: string | null; readonly damage: string | null } {
  const own = file.newest;
  if (own === null) {
    const hardState = copy ?? { generation: 1, term: 0 as Term, votedFor: null };
    return { hardState, lost: "the file with term and vote is missing or cannot be read", damage: null };
  }
  if (copy === null) return { hardState: own, lost: null, damage: null };
  const ahead = own.generation - copy.generation;
  if (ahead === 0) {
    const same = own.term === copy.term && own.votedFor === copy.votedFor;
    return { hardState: own, lost: same ? null : "term and vote differ from their copy", damage: null };
  }
  if (ahead < -1) return { hardState: copy, lost: "the file with term and vote is older than its copy", damage: null };
  if (ahead > 1)
    return { hardState: own, lost: null, damage: "the log's store is older than the file with term and vote" };
  return { hardState: ahead > 0 ? own : copy, lost: null, damage: null };
}

async function readSnapshot(
  store: Store,
): Promise<{ readonly present: StoredSnapshot | null; readonly damage: string | null }> {
  const record = await store.get(SNAPSHOT_KEY);
  if (record === undefined) return { present: null, damage: null };
  try {
    const present = unsealFacts<StoredSnapshot>(record);
    for (let number = 0; number < present.chunkCount; number++) {
      const chunk = await store.get(chunkKey(present.meta.index, number));
      if (chunk === undefined) throw new AnantaError("STORAGE_DAMAGED", `Snapshot chunk ${number} is missing.`);
      unseal(chunk);
    }
    return { present, damage: null };
  } catch (error) {
    return { present: null, damage: `the snapshot: ${AnantaError.from(error).message}` };
  }
}

interface FoundBlocks {
  readonly entries: Entry[];
  readonly blocks: BlockInfo[];
  commitIndex: LogIndex;
  damage: string | null;
  /** Keys to delete. */
  readonly cut: Uint8Array[];
}

/** The contiguity scan: from the first block on, as far as checksums, chain and indexes hold. */
async function readBlocks(store: Store, snapshot: StoredSnapshot | null): Promise<FoundBlocks> {
  const found: FoundBlocks = {
    entries: [],
    blocks: [],
    commitIndex: snapshot?.meta.index ?? (0 as LogIndex),
    damage: null,
    cut: [],
  };
  for await (const [key, record] of store.iterator(BLOCK_RANGE)) {
    if (found.damage === null) found.damage = takeBlock(found, snapshot, key, record);
    if (found.damage !== null) found.cut.push(new Uint8Array(key));
  }
  const last = found.blocks.at(-1);
  if (snapshot !== null && last !== undefined && last.lastIndex < snapshot.meta.index) {
    // All of it is inside the snapshot, but the log between them is gone: begin at the snapshot.
    for (const block of found.blocks) found.cut.push(blockKey(block.firstIndex));
    found.blocks.length = 0;
    found.entries.length = 0;
    found.damage ??= "the log ends before its snapshot";
  }
  if (found.commitIndex > (found.blocks.at(-1)?.lastIndex ?? snapshot?.meta.index ?? 0)) {
    found.commitIndex = (found.blocks.at(-1)?.lastIndex ?? snapshot?.meta.index ?? 0) as LogIndex;
  }
  return found;
}

/** Returns why the block cannot follow those before it, or null when it does. */
function takeBlock(
  found: FoundBlocks,
  snapshot: StoredSnapshot | null,
  key: Uint8Array,
  record: Uint8Array,
): string | null {
  try {
    const block = decodeBlockRecord(new Uint8Array(record));
    const first = block.entries[0];
    const previous = found.blocks.at(-1);
    if (first === undefined || first.index !== blockKeyIndex(key)) return "a block is not where it belongs";
    if (previous === undefined) {
      if (first.index > (snapshot?.meta.index ?? 0) + 1) return "the log does not begin where its snapshot ends";
    } else if (first.index !== previous.lastIndex + 1 || block.previousChain !== previous.chain)
      return "a block is missing or out of date";
    found.blocks.push({
      firstIndex: first.index,
      lastIndex: (first.index + block.entries.length - 1) as LogIndex,
      chain: block.chain,
    });
    for (const entry of block.entries) found.entries.push(entry);
    if (block.commitIndex > found.commitIndex) found.commitIndex = block.commitIndex;
    return null;
  } catch (error) {
    return AnantaError.from(error).message;
  }
}

async function deleteStrayChunks(store: Store, present: StoredSnapshot | null): Promise<void> {
  if (present === null) return store.clear(CHUNK_RANGE);
  const { gte, lt } = chunkRangeOf(present.meta.index);
  await store.clear({ gte: CHUNK_RANGE.gte, lt: gte });
  await store.clear({ gte: lt, lt: CHUNK_RANGE.lt });
}
