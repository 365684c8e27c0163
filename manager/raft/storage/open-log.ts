/**
 * Reads the store and the hard-state file at start, checks everything, and says what of it may be trusted.
 *
 *   nothing there, bootstrap        a new replica's folder: full rights
 *   nothing there, join             a folder that votes once the membership names it
 *   nothing there, no bootstrap     term and vote are lost with the rest: never votes
 *   hard state unreadable           never votes
 *   hard state and its copy differ by more than one write: the store lost records
 *   the store holds fewer batches than the mark beside it: the store lost its newest records
 *   a block or snapshot damaged, missing, out of order: cut off there
 *                                   -> keeps what is intact, votes only once it has caught up
 *
 * A torn tail never gets here as a half: LevelDB applies a batch whole or not at all, and a batch that was interrupted was
 * acknowledged to nobody, marked nowhere, and is simply not there.
 *
 * (O1) What is cut off is deleted and the damage noted, durably, before anything else is done with this folder.
 */
import type { LogIndex, Term } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { Store } from "../../../runtime/env.js";
import type { VotingRight } from "../core/types.js";
import { STORAGE_FORMAT, chunkSetOf, storedSnapshotOf, type Meta, type SnapshotRecord, type Tail } from "./facts.js";
import type { HardStateFile, StoredHardState } from "./hard-state-file.js";
import { HARD_STATE_KEY, META_KEY, RECEIVING_KEY, SNAPSHOT_KEY, TAIL_KEY } from "./keys.js";
import { endsAt, readBlocks, type BlockInfo } from "./open-blocks.js";
import { judgeHardState } from "./open-hard-state.js";
import { sealFacts, unsealFacts } from "./records.js";
import { clearOtherChunks, countWholeChunks, verifySnapshot } from "./snapshot-chunks.js";
import type { OpenedStorage } from "./storage.js";
import { SYNCED } from "./synced.js";

export interface FoundLog {
  readonly meta: Meta;
  readonly hardState: StoredHardState;
  readonly tail: Tail;
  readonly blocks: readonly BlockInfo[];
  readonly snapshot: SnapshotRecord | null;
  readonly receiving: SnapshotRecord | null;
  readonly opened: OpenedStorage;
}

/** What the folder should be. */
export interface FolderOptions {
  /** Whose data this is; a folder of someone else is refused. */
  readonly owner: { readonly clusterId: string; readonly clusterEpoch: number; readonly nodeId: number };
  /** Format an empty folder as a new replica's, instead of taking it for lost state. */
  readonly bootstrap: boolean;
  /** Format an empty folder as that of a replica which joins a running cluster, under this identity. */
  readonly join?: string | null;
}

const NO_TAIL: Tail = { sequence: 0, lastIndex: 0 as LogIndex, chain: 0, snapshotIndex: 0 as LogIndex };

export async function openLog(store: Store, file: HardStateFile, options: FolderOptions): Promise<FoundLog> {
  const metaRecord = await store.get(META_KEY);
  if (metaRecord === undefined) await format(store, file, options);
  const { meta, damage: metaDamage } = await readMeta(store, options);
  const copy = await readFact<StoredHardState>(store, HARD_STATE_KEY, "the store's copy of term and vote");
  const judged = judgeHardState(file, copy.fact);
  const snapshot = await readSnapshot(store);
  const log = await readBlocks(store, snapshot.present);
  const stored = await readFact<Tail>(store, TAIL_KEY, "the record of where the log ends");
  const damage =
    metaDamage ?? copy.damage ?? judged.damage ?? snapshot.damage ?? log.damage ?? stored.damage ?? judgeTail();
  function judgeTail(): string | null {
    const { mark } = file;
    const tail = stored.fact ?? NO_TAIL;
    if (mark !== null && mark.sequence > tail.sequence)
      return `the log's store lost its newest batches: it ends at ${tail.lastIndex}, and ${mark.lastIndex} was durable`;
    return endsAt(tail, log.blocks, snapshot.present?.meta.index ?? (0 as LogIndex));
  }
  const found: Meta = { ...meta, lost: meta.lost ?? judged.lost, damage: meta.damage ?? damage };
  const tail: Tail =
    damage === null && stored.fact !== null
      ? stored.fact
      : {
          sequence: Math.max(stored.fact?.sequence ?? 0, file.mark?.sequence ?? 0) + 1,
          lastIndex: log.blocks.at(-1)?.lastIndex ?? snapshot.present?.meta.index ?? (0 as LogIndex),
          chain: log.blocks.at(-1)?.chain ?? stored.fact?.chain ?? 0,
          snapshotIndex: snapshot.present?.meta.index ?? (0 as LogIndex),
        };
  if (found.lost !== meta.lost || damage !== null || log.cut.length > 0) {
    // (O1)
    const cut = log.cut.map((key) => ({ type: "del" as const, key }));
    const dropSnapshot = snapshot.damage === null ? [] : [{ type: "del" as const, key: SNAPSHOT_KEY }];
    const facts = [
      { type: "put" as const, key: META_KEY, value: sealFacts(found) },
      { type: "put" as const, key: TAIL_KEY, value: sealFacts(tail) },
    ];
    await store.batch([...cut, ...dropSnapshot, ...facts], SYNCED);
  }
  await equalize(store, file, judged.hardState, copy.fact);
  const receiving = await readReceiving(store, snapshot.present);
  await clearOtherChunks(
    store,
    [snapshot.present, receiving.record].flatMap((record) => (record === null ? [] : [chunkSetOf(record)])),
  );
  return {
    meta: found,
    hardState: judged.hardState,
    tail,
    blocks: log.blocks,
    snapshot: snapshot.present,
    receiving: receiving.record,
    opened: {
      hardState: { term: judged.hardState.term, votedFor: judged.hardState.votedFor },
      snapshot: snapshot.present === null ? null : storedSnapshotOf(snapshot.present),
      receiving:
        receiving.record === null ? null : { snapshot: storedSnapshotOf(receiving.record), next: receiving.next },
      entries: log.entries,
      commitIndex: log.commitIndex,
      voting: votingRight(found),
      folder: found.folder,
      findings: [...file.findings, judged.finding, log.finding, receiving.finding].filter((line) => line !== null),
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
async function format(store: Store, file: HardStateFile, { owner, bootstrap, join }: FolderOptions): Promise<void> {
  const newest = file.newest;
  const neverUsed = (file.unused || newest?.term === 0) && file.mark === null;
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
  const meta: Meta = { format: STORAGE_FORMAT, ...owner, lost, damage, folder };
  const facts = [
    { type: "put" as const, key: META_KEY, value: sealFacts(meta) },
    { type: "put" as const, key: HARD_STATE_KEY, value: sealFacts(hardState) },
  ];
  if (damage === null) facts.push({ type: "put" as const, key: TAIL_KEY, value: sealFacts(NO_TAIL) });
  await store.batch(facts, SYNCED);
}

async function readMeta(
  store: Store,
  { owner }: FolderOptions,
): Promise<{ readonly meta: Meta; readonly damage: string | null }> {
  let meta: Meta;
  try {
    meta = unsealFacts<Meta>((await store.get(META_KEY))!); // written by `format` at the latest
  } catch {
    // It said whether term and vote were ever lost; without it the careful answer is yes.
    const lost = "the record that says whose data this is cannot be read";
    return { meta: { format: STORAGE_FORMAT, ...owner, lost, damage: null, folder: "" }, damage: lost };
  }
  const found: number = meta.format;
  if (found !== STORAGE_FORMAT) {
    throw new AnantaError(
      "FAILED_PRECONDITION",
      `The data folder is of format ${found}; this program reads and writes format ${STORAGE_FORMAT}.`,
      { format: found },
    );
  }
  if (meta.clusterId !== owner.clusterId || meta.clusterEpoch !== owner.clusterEpoch || meta.nodeId !== owner.nodeId) {
    throw new AnantaError(
      "WRONG_CLUSTER",
      `The data folder belongs to node ${meta.nodeId} of cluster ${meta.clusterId} (epoch ${meta.clusterEpoch}), ` +
        `not to node ${owner.nodeId} of ${owner.clusterId} (epoch ${owner.clusterEpoch}).`,
    );
  }
  return { meta, damage: null };
}

async function readFact<Fact>(
  store: Store,
  key: Uint8Array,
  what: string,
): Promise<{ readonly fact: Fact | null; readonly damage: string | null }> {
  const record = await store.get(key);
  if (record === undefined) return { fact: null, damage: `${what} is missing` };
  try {
    return { fact: unsealFacts<Fact>(record), damage: null };
  } catch {
    return { fact: null, damage: `${what} cannot be read` };
  }
}

/** (O2) of open-hard-state.ts. */
async function equalize(
  store: Store,
  file: HardStateFile,
  hardState: StoredHardState,
  copy: StoredHardState | null,
): Promise<void> {
  if (hardState.generation > (file.newest?.generation ?? 0)) await file.write(hardState);
  if (hardState.generation !== copy?.generation) await store.put(HARD_STATE_KEY, sealFacts(hardState), SYNCED);
}

async function readSnapshot(
  store: Store,
): Promise<{ readonly present: SnapshotRecord | null; readonly damage: string | null }> {
  const record = await store.get(SNAPSHOT_KEY);
  if (record === undefined) return { present: null, damage: null };
  try {
    const present = unsealFacts<SnapshotRecord>(record);
    await verifySnapshot(store, present);
    return { present, damage: null };
  } catch (error) {
    return { present: null, damage: `the snapshot: ${AnantaError.from(error).message}` };
  }
}

/** A transfer under way is worth keeping, and no loss when it cannot be read: the leader sends it again. */
async function readReceiving(
  store: Store,
  present: SnapshotRecord | null,
): Promise<{ readonly record: SnapshotRecord | null; readonly next: number; readonly finding: string | null }> {
  const none = { record: null, next: 0 };
  const sealed = await store.get(RECEIVING_KEY);
  if (sealed === undefined) return { ...none, finding: null };
  let record: SnapshotRecord;
  try {
    record = unsealFacts<SnapshotRecord>(sealed);
  } catch {
    return { ...none, finding: "the record of a snapshot transfer cannot be read; the transfer begins anew" };
  }
  if (record.meta.index <= (present?.meta.index ?? 0)) return { ...none, finding: null };
  const { whole, damaged } = await countWholeChunks(store, record);
  const finding = damaged ? `chunk ${whole} of a snapshot transfer cannot be read; it is fetched again` : null;
  return { record, next: whole, finding };
}
