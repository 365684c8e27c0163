/** A short life of a storage that touches every call, and what a reader must find after each of its steps. */
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import type { OpenedStorage, RaftStorage } from "../../manager/raft/storage/storage.js";
import { batch, entries, meta, stored, texts } from "./storage-contract.js";

/** `pass` lets time run, so that what follows a batch a moment later happens. */
export type Step = (storage: RaftStorage, pass: () => Promise<void>) => Promise<unknown>;

const hardState = (term: number, vote: number | null): { term: Term; votedFor: ReturnType<typeof nodeId> | null } => ({
  term: term as Term,
  votedFor: vote === null ? null : nodeId(vote),
});
const index = (value: number): LogIndex => value as LogIndex;
const received = stored(meta(20, 4), ["received ", "state"]);

export const STORY: readonly Step[] = [
  (storage) => storage.open(),
  (storage) => storage.persist(batch({ hardState: hardState(1, 1) })),
  (storage) => storage.persist(batch({ entries: entries(1, 3, 1), commitIndex: index(1) })),
  (_, pass) => pass(),
  (storage) => storage.persist(batch({ hardState: hardState(2, null), entries: entries(4, 6, 2) })),
  (storage) => storage.persist(batch({ entries: entries(5, 5, 3), hardState: hardState(3, 2) })),
  (_, pass) => pass(),
  (storage) => storage.writeSnapshotChunk(meta(4, 2), 0, Buffer.from("own ")),
  (storage) => storage.writeSnapshotChunk(meta(4, 2), 1, Buffer.from("state")),
  (storage) => storage.completeSnapshot(stored(meta(4, 2), ["own ", "state"])),
  (storage) => storage.compactTo(index(3)),
  (storage) => storage.persist(batch({ entries: entries(6, 8, 3), commitIndex: index(5) })),
  (storage) => storage.markRepaired(),
  (_, pass) => pass(),
  (storage) => storage.persist(batch({ entries: entries(4, 9, 4), hardState: hardState(4, 3) })),
  (storage) => storage.receiveSnapshotChunk(received, 0, Buffer.from("received ")),
  (storage) => storage.receiveSnapshotChunk(received, 1, Buffer.from("state")),
  (storage) => storage.verifyReceived(),
  (storage) => storage.persist(batch({ snapshot: received, entries: entries(21, 22, 4), commitIndex: index(20) })),
  (storage) => storage.persist(batch({ hardState: hardState(6, null) })),
  (storage) => storage.persist(batch({ entries: entries(23, 24, 6), commitIndex: index(22) })),
  (_, pass) => pass(),
  (storage) => storage.receiveSnapshotChunk(stored(meta(40, 6), ["later"]), 0, Buffer.from("later")),
  (storage) => storage.close(),
];

/** What matters of an opened storage, as text. Entries that a snapshot covers may be there still. */
export interface Seen {
  readonly hardState: string;
  readonly log: string;
  readonly receiving: string;
}

export function seen({ hardState: { term, votedFor }, snapshot, entries: all, receiving }: OpenedStorage): Seen {
  const snapshotIndex = snapshot?.meta.index ?? 0;
  const beyond = texts(all.filter((entry) => entry.index > snapshotIndex));
  return {
    hardState: `${term}/${votedFor ?? "none"}`,
    log: `${snapshotIndex} ${snapshot?.digest.slice(0, 8) ?? "none"} | ${beyond.join(" ")}`,
    receiving: receiving === null ? "none" : `${receiving.snapshot.digest.slice(0, 8)} ${receiving.next}`,
  };
}
