/**
 * Term and vote at start: from the file's two slots and the store's copy.
 *
 * (O2) The newest generation among them is in force. File and copy are written in parallel and a promise is told only when
 *      both are durable, so a difference of one write is an interrupted one; they are made equal before anything else, or
 *      two interrupted writes in a row would look like a loss.
 */
import type { Term } from "../../../core/brands.js";
import type { HardStateFile, StoredHardState } from "./hard-state-file.js";

export interface JudgedHardState {
  readonly hardState: StoredHardState;
  /** Why the promises made in it are not known any more: this node id never votes again. */
  readonly lost: string | null;
  /** Why the store is known to have lost records. */
  readonly damage: string | null;
  /** Harmless, for the log. */
  readonly finding: string | null;
}

const INTERRUPTED = "was one write behind (interrupted, or lost by the disk) and is made equal";

export function judgeHardState(file: HardStateFile, copy: StoredHardState | null): JudgedHardState {
  const own = file.newest;
  if (own === null) {
    const hardState = copy ?? { generation: 1, term: 0 as Term, votedFor: null };
    return { ...harmless(hardState), lost: "the file with term and vote is missing or cannot be read" };
  }
  if (copy === null) return harmless(own);
  const ahead = own.generation - copy.generation;
  if (ahead === 0) {
    const same = own.term === copy.term && own.votedFor === copy.votedFor;
    return { ...harmless(own), lost: same ? null : "term and vote differ from their copy" };
  }
  if (ahead < -1) return { ...harmless(copy), lost: "the file with term and vote is older than its copy" };
  if (ahead > 1) return { ...harmless(own), damage: "the log's store is older than the file with term and vote" };
  return ahead > 0
    ? { ...harmless(own), finding: `the store's copy of term and vote ${INTERRUPTED}` }
    : { ...harmless(copy), finding: `the file with term and vote ${INTERRUPTED}` };
}

const harmless = (hardState: StoredHardState): JudgedHardState => ({
  hardState,
  lost: null,
  damage: null,
  finding: null,
});
