/** One core, fed with messages made by hand; its disk works only when told to. */
import { expect } from "vitest";
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import type { Message } from "../../manager/raft/core/messages.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import { RaftCore } from "../../manager/raft/core/raft.js";
import type { SendNow } from "../../manager/raft/core/ready.js";
import type { CoreConfig, Entry } from "../../manager/raft/core/types.js";

export const ME = nodeId(1);
export const OTHER = nodeId(2);
export const THIRD = nodeId(3);
export const index = (value: number): LogIndex => value as LogIndex;
export const term = (value: number): Term => value as Term;
export const entry = (at: number, of: number, text = "x"): Entry => ({
  index: index(at),
  term: term(of),
  payload: Buffer.from(text),
});

interface Setup {
  readonly size?: number;
  readonly terms?: readonly number[];
  readonly term?: number;
  readonly votedFor?: NodeId;
  readonly seed?: number;
  readonly config?: Partial<CoreConfig>;
}

export class One {
  readonly core: RaftCore;
  readonly sent: SendNow[] = [];
  readonly applied: string[] = [];
  reads: number[] = [];
  #token: Parameters<RaftCore["appended"]>[0] | null = null;

  constructor({ size = 3, terms = [], term: hardTerm, votedFor, seed = 1, config }: Setup = {}) {
    this.core = new RaftCore(
      {
        id: ME,
        membership: simpleMembership(Array.from({ length: size }, (_, at) => nodeId(at + 1))),
        electionTimeoutMinTicks: 15,
        electionTimeoutMaxTicks: 25,
        heartbeatTicks: 3,
        unreachableDelayMaxTicks: 5,
        inflightAppendsMax: 8,
        inflightBytesMax: 1 << 20,
        appendBytesMax: 1 << 16,
        storageStallTicks: 100,
        leaseMarginTicks: null,
        uncommittedBytesMax: 1_000,
        random: createRandom(seed),
        readNonce: 7,
        voting: { kind: "full" },
        observe: null,
        ...config,
      },
      {
        hardState: { term: term(hardTerm ?? terms.at(-1) ?? 0), votedFor: votedFor ?? null },
        snapshot: null,
        entries: terms.map((of, at) => entry(at + 1, of)),
        commitIndex: index(0),
      },
    );
    this.work();
  }

  /** Takes what is ready; storage is left under way. */
  work(): void {
    while (this.core.hasReady()) {
      const ready = this.core.ready();
      if (ready.persist !== null) this.#token = ready.persist.token;
      this.sent.push(...ready.sendNow);
      this.applied.push(...ready.committed.map((one) => Buffer.from(one.payload).toString()));
      this.reads.push(...ready.reads.map((read) => read.index));
    }
  }

  /** What was under way, and what follows it, is durable. */
  sync(): void {
    this.work();
    while (this.#token !== null) {
      const token = this.#token;
      this.#token = null;
      this.core.appended(token);
      this.work();
    }
  }

  step(message: Message): readonly SendNow[] {
    this.sent.length = 0;
    this.core.step(message);
    this.work();
    return [...this.sent];
  }

  tick(count: number): void {
    for (let at = 0; at < count; at++) {
      this.core.tick();
      this.work();
    }
  }

  timeOut(): void {
    this.tick(this.core.state.electionTimeoutTicks - this.core.state.electionElapsed);
  }

  /** Campaigns and gets everybody's votes. */
  lead(): void {
    this.timeOut();
    for (const voter of this.#others())
      this.core.step({ kind: "pre-vote-response", from: voter, term: term(this.core.state.term + 1), granted: true });
    this.sync();
    for (const voter of this.#others())
      this.core.step({ kind: "vote-response", from: voter, term: this.core.state.term, granted: true });
    this.sync();
    expect(this.core.state.role.kind).toBe("leader");
    this.sent.length = 0;
  }

  #others(): readonly NodeId[] {
    return this.core.state.membership.voters.filter((id) => id !== ME);
  }

  get kinds(): readonly string[] {
    return this.sent.map(({ message }) => message.kind);
  }
}

export const append = (
  of: number,
  prev: readonly [at: number, of: number],
  entries: readonly Entry[],
  commit = 0,
): Message => ({
  kind: "append-request",
  from: OTHER,
  term: term(of),
  prevIndex: index(prev[0]),
  prevTerm: term(prev[1]),
  entries,
  commitIndex: index(commit),
  quorumAgeTicks: null,
});

export const voteRequest = (of: number, last: readonly [at: number, of: number], from = OTHER): Message => ({
  kind: "vote-request",
  from,
  term: term(of),
  lastIndex: index(last[0]),
  lastTerm: term(last[1]),
  force: false,
});
