/**
 * Two promises in a file of their own, beside LevelDB, which may drop a synced record at recovery without a word:
 *
 *   term and vote   (Raft §5.2: both survive a crash, or a replica votes twice), written before either is told to anyone;
 *   the log mark    how many batches the log's store has made durable, written a moment after they were. A store that
 *                   holds fewer at the next start has lost entries that may have been acknowledged.
 *
 * Each is a pair of slots (slot-pair.ts): term and vote at 0 and 4096, the mark at 8192 and 12288. The file has its full
 * length from the beginning, so that a full disk does not stop a write into it.
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex, NodeId, Term } from "../../../core/brands.js";
import type { Disk, DiskFile } from "../../../runtime/env.js";
import type { HardState } from "../core/types.js";
import { getUint64, setUint64 } from "../entry-block.js";
import { SLOT_DISTANCE_BYTES, SlotPair, type Generation, type SlotLayout } from "./slot-pair.js";

/** The store's copy carries the same generation. */
export type StoredHardState = HardState & Generation;

export interface LogMark {
  /** Of the newest batch known to be durable in the store; see `Tail`. */
  readonly sequence: number;
  /** Where the log ended then: for people. */
  readonly lastIndex: LogIndex;
}

const FILE_BYTES = 4 * SLOT_DISTANCE_BYTES;
const MARK_OFFSET = 2 * SLOT_DISTANCE_BYTES;

const HARD_STATE: SlotLayout<HardState> = {
  magic: 0x414e_5648, // "ANVH"
  contentBytes: 11,
  encode(view, { term, votedFor }) {
    view.setUint8(0, votedFor === null ? 0 : 1);
    setUint64(view, 1, term);
    view.setUint16(9, votedFor ?? 0);
  },
  decode: (view) => ({
    term: getUint64(view, 1) as Term,
    votedFor: view.getUint8(0) === 1 ? (view.getUint16(9) as NodeId) : null,
  }),
};

const MARK: SlotLayout<LogMark> = {
  magic: 0x414e_564d, // "ANVM"
  contentBytes: 16,
  encode(view, { sequence, lastIndex }) {
    setUint64(view, 0, sequence);
    setUint64(view, 8, lastIndex);
  },
  decode: (view) => ({ sequence: getUint64(view, 0), lastIndex: getUint64(view, 8) as LogIndex }),
};

export class HardStateFile {
  readonly #file: DiskFile;
  readonly #hardState: SlotPair<HardState>;
  readonly #mark: SlotPair<LogMark>;

  private constructor(file: DiskFile, hardState: SlotPair<HardState>, mark: SlotPair<LogMark>) {
    this.#file = file;
    this.#hardState = hardState;
    this.#mark = mark;
  }

  static async open(disk: Disk, path: string): Promise<HardStateFile> {
    const file = await disk.openFile(path);
    try {
      const size = await file.size();
      if (size < FILE_BYTES) {
        await file.writeAt(size, new Uint8Array(FILE_BYTES - size));
        await file.sync();
      }
      const hardState = await SlotPair.read(file, 0, HARD_STATE);
      return new HardStateFile(file, hardState, await SlotPair.read(file, MARK_OFFSET, MARK));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Null: nothing readable. */
  get newest(): StoredHardState | null {
    return this.#hardState.newest;
  }

  get mark(): (LogMark & Generation) | null {
    return this.#mark.newest;
  }

  /** Term and vote were never written, or their very first write was interrupted. */
  get unused(): boolean {
    return this.#hardState.unused;
  }

  /** What was found and does no harm by itself, for the log. */
  get findings(): readonly string[] {
    const findings: string[] = [];
    const why = "cannot be read (an interrupted write, or damage); the other stands";
    if (this.#hardState.unreadable > 0) findings.push(`one of two copies of term and vote ${why}`);
    if (this.#mark.unreadable > 0) findings.push(`one of two copies of the log mark ${why}`);
    return findings;
  }

  write(state: StoredHardState): Promise<void> {
    assert(state.term >= (this.newest?.term ?? 0), "a stored term never falls");
    return this.#hardState.write(state);
  }

  writeMark(mark: LogMark): Promise<void> {
    return this.#mark.write({ ...mark, generation: (this.#mark.newest?.generation ?? 0) + 1 });
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
