/**
 * From a stage's batch to the log and back: encodes the commands of a batch as one entry, proposes it, and tells each
 * submission what applying it answered.
 *
 * (I1) At most `BATCHES_IN_FLIGHT` batches are between proposal and application. While one is being synced the next one
 *      grows in the stages' queues, where priority still counts.
 * (I2) Every submission is answered exactly once: with its result, with a refusal when nothing was proposed, or with
 *      LEADERSHIP_LOST when the outcome is unknown.
 */
import { assert } from "../../core/assert.js";
import type { LogIndex, Term } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Clock } from "../../runtime/env.js";
import type { RaftNode } from "../raft/index.js";
import { encodeBatch } from "../state/commands/command-codec.js";
import { COMMAND_FORMAT_VERSION } from "../state/commands/commands.js";
import type { AppliedBatch, CommandResult } from "../state/commands/results.js";
import { refusal, type Submission } from "./submission.js";

const BATCHES_IN_FLIGHT = 2;
/** Well below what Raft takes in one entry; a batch of many large registrations is split. */
const PROPOSAL_BYTES_MAX = 1024 * 1024;

export type Deliver = (submission: Submission, result: CommandResult) => void;

interface InFlight {
  readonly term: Term;
  readonly submissions: readonly Submission[];
  readonly deliver: Deliver;
}

export class Proposer {
  readonly #clock: Clock;
  readonly #raft: () => RaftNode;
  readonly #facts: () => { readonly clusterTimeMs: number; readonly muxSafeIndex: LogIndex };
  readonly #inFlight = new Map<LogIndex, InFlight>();
  #roomListeners: (() => void)[] = [];

  constructor(options: {
    readonly clock: Clock;
    readonly raft: () => RaftNode;
    /** What the batch tells the state machine about the outside. */
    readonly facts: () => { readonly clusterTimeMs: number; readonly muxSafeIndex: LogIndex };
  }) {
    this.#clock = options.clock;
    this.#raft = options.raft;
    this.#facts = options.facts;
  }

  hasRoom(): boolean {
    return this.#inFlight.size < BATCHES_IN_FLIGHT;
  }

  /** Called, most urgent stage first, each time a batch leaves flight. */
  onRoom(listener: () => void): void {
    this.#roomListeners.push(listener);
  }

  propose(
    submissions: readonly Submission[],
    deliver: Deliver = (submission, result) => submission.reply(result),
  ): void {
    const facts = this.#facts();
    const bytes = encodeBatch({
      formatVersion: COMMAND_FORMAT_VERSION,
      clusterTimeMs: facts.clusterTimeMs,
      wallMs: this.#clock.wallMs(),
      muxSafeIndex: facts.muxSafeIndex,
      commands: submissions.map((submission) => submission.submitted),
    });
    if (bytes.length > PROPOSAL_BYTES_MAX && submissions.length > 1) {
      const half = submissions.length >> 1;
      this.propose(submissions.slice(0, half), deliver);
      this.propose(submissions.slice(half), deliver);
      return;
    }
    let proposal;
    try {
      proposal = this.#raft().propose(bytes);
    } catch (caught) {
      const result = refusal(AnantaError.from(caught));
      for (const submission of submissions) deliver(submission, result);
      return;
    }
    const { index, term } = proposal;
    assert(!this.#inFlight.has(index), "an index is proposed once per term of office");
    this.#inFlight.set(index, { term, submissions, deliver });
    proposal.applied.catch(() => this.#lost(index, term));
  }

  /** An entry has been applied here; answers its submissions if this node proposed it. */
  applied(term: Term, batch: AppliedBatch): void {
    const inFlight = this.#inFlight.get(batch.index);
    if (inFlight === undefined) return;
    if (inFlight.term !== term) {
      this.#lost(batch.index, inFlight.term); // another leader's entry took the place of ours
      return;
    }
    this.#inFlight.delete(batch.index);
    inFlight.submissions.forEach((submission, position) => {
      const result = batch.results[position];
      assert(result !== undefined, "a batch has one result per command");
      inFlight.deliver(submission, result);
    });
    this.#announceRoom();
  }

  #lost(index: LogIndex, term: Term): void {
    const inFlight = this.#inFlight.get(index);
    if (inFlight?.term !== term) return;
    this.#inFlight.delete(index);
    const error = new AnantaError("LEADERSHIP_LOST", "leadership changed before the entry was known to be committed", {
      index,
    });
    for (const submission of inFlight.submissions) inFlight.deliver(submission, refusal(error));
    this.#announceRoom();
  }

  #announceRoom(): void {
    for (const listener of this.#roomListeners) listener();
  }
}
