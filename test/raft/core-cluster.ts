/**
 * Cores alone, without driver, disk or network: messages take 1 ms, a sync takes 1 ms, a tick is 10 ms, all exactly. What a
 * crash keeps is what was synced. Every message is copied on its way, so that shared memory cannot hide a mistake.
 *
 * After every event the invariants of Raft Figure 3 are checked over all nodes that ever lived.
 */
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import type { Message } from "../../manager/raft/core/messages.js";
import { simpleMembership, type MembershipChange } from "../../manager/raft/core/membership.js";
import { RaftCore } from "../../manager/raft/core/raft.js";
import type { PersistBatch } from "../../manager/raft/core/ready.js";
import type {
  CoreConfig,
  Entry,
  HardState,
  Membership,
  SnapshotMeta,
  VotingRight,
} from "../../manager/raft/core/types.js";

export const TICK_MS = 10;
const LINK_MS = 1;
const SYNC_MS = 1;
const REPORT_MS = 20;

interface Disk {
  hardState: HardState;
  entries: Entry[];
  snapshot: SnapshotMeta | null;
}

interface Member {
  readonly id: NodeId;
  /** The data folder it has; null for a founder. */
  folder: string | null;
  readonly disk: Disk;
  core: RaftCore | null;
  /** Crashes so far: events of an earlier life are void. */
  life: number;
  applied: string[];
  diskStalled: boolean;
  stalledBatch: (() => void) | null;
  reads: { readonly read: number; index: LogIndex | null }[];
}

export interface CoreClusterOptions {
  readonly size: number;
  readonly seed: number;
  readonly config?: Partial<CoreConfig>;
  /** Gets every line of the cores' own trace. */
  readonly trace?: (line: string) => void;
  readonly traceDebug?: boolean;
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  run(): void;
}

export class CoreCluster {
  nowMs = 0;
  readonly members = new Map<NodeId, Member>();
  /** "a>b" */
  readonly cuts = new Set<string>();
  /** Returns true for a message that is lost. */
  drop: ((from: NodeId, to: NodeId, message: Message) => boolean) | null = null;
  /** Returns after how many ms a copy of a message arrives once more; null when none does. */
  repeat: ((from: NodeId, to: NodeId, message: Message) => number | null) | null = null;
  messagesSent = 0;
  traceDebug: boolean;
  readonly #options: CoreClusterOptions;
  readonly #leaders = new Map<number, NodeId>();
  /** Index -> what was committed there first. */
  readonly #committed = new Map<number, string>();
  #events: Event[] = [];
  #order = 0;

  constructor(options: CoreClusterOptions) {
    this.#options = options;
    this.traceDebug = options.traceDebug ?? false;
    for (let at = 1; at <= options.size; at++) {
      const disk: Disk = { hardState: { term: 0 as Term, votedFor: null }, entries: [], snapshot: null };
      this.#addMember(nodeId(at), disk, null);
    }
  }

  #addMember(id: NodeId, disk: Disk, folder: string | null): Member {
    const member: Member = {
      id,
      folder,
      disk,
      core: null,
      life: 0,
      applied: [],
      diskStalled: false,
      stalledBatch: null,
      reads: [],
    };
    this.members.set(id, member);
    return member;
  }

  /** A process that joins with an empty folder: a new node, or one whose disk was wiped. */
  join(id: NodeId): void {
    const disk: Disk = { hardState: { term: 0 as Term, votedFor: null }, entries: [], snapshot: null };
    const life = this.members.get(id)?.life ?? 0;
    const member = this.#addMember(id, disk, `folder-${id}-${life + 1}`);
    member.life = life;
    this.boot(id);
  }

  change(id: number, change: MembershipChange): void {
    this.act(id, (core) => {
      const result = core.changeMembership(change);
      if (result.kind === "accepted") return;
      const why = "reason" in result ? `: ${result.reason}` : "";
      this.note(`${id} > membership change ${result.kind}${why}`);
    });
  }

  /** The leader hears which folder a learner has. */
  nameFolder(id: number): void {
    const { leader } = this;
    const { folder } = this.member(id);
    if (leader !== null && folder !== null) this.change(leader, { kind: "name-folder", id: nodeId(id), folder });
  }

  /** Boots all members that do not run. */
  start(): void {
    for (const member of this.members.values()) if (member.core === null) this.boot(member.id);
  }

  boot(id: NodeId, given?: VotingRight): void {
    const member = this.member(id);
    const joined = { kind: "until-named", reason: "it joined", folder: member.folder ?? "" } as const;
    const voting = given ?? (member.folder === null ? { kind: "full" } : joined);
    const { seed, size, config } = this.#options;
    member.life++;
    member.applied = member.disk.snapshot === null ? [] : this.#stateAt(member.disk.snapshot.index);
    member.reads = [];
    member.core = new RaftCore(
      {
        id,
        membership: simpleMembership(Array.from({ length: size }, (_, at) => nodeId(at + 1))),
        electionTimeoutMinTicks: 15,
        electionTimeoutMaxTicks: 25,
        heartbeatTicks: 3,
        unreachableDelayMaxTicks: 5,
        inflightAppendsMax: 8,
        inflightBytesMax: 1 << 20,
        appendBytesMax: 1 << 16,
        uncommittedBytesMax: 1 << 20,
        storageStallTicks: 20,
        leaseMarginTicks: null,
        random: createRandom(seed * 1_000 + id * 10 + member.life),
        readNonce: id * 100 + member.life,
        voting,
        observe: (level, event, facts) => {
          if (level === "debug" && !this.traceDebug) return;
          const text = Object.entries(facts).map(([key, value]) => `${key}=${value === null ? "none" : String(value)}`);
          this.note(`${id} > ${[event, ...text].join(" ")}`);
        },
        ...config,
      },
      {
        hardState: member.disk.hardState,
        snapshot: member.disk.snapshot,
        entries: member.disk.entries,
        commitIndex: 0 as LogIndex,
      },
    );
    this.#work(member);
  }

  /** Writes a log before the node's first start: one entry per term given. */
  prepare(id: NodeId, terms: readonly number[], hardTerm?: number): void {
    const { disk } = this.member(id);
    disk.entries = terms.map((term, at) => ({
      index: (at + 1) as LogIndex,
      term: term as Term,
      payload: Buffer.from(`t${term}i${at + 1}`),
    }));
    disk.hardState = { term: (hardTerm ?? terms.at(-1) ?? 0) as Term, votedFor: null };
  }

  member(id: number): Member {
    const member = this.members.get(nodeId(id));
    if (member === undefined) throw new Error(`there is no node ${id}`);
    return member;
  }

  core(id: number): RaftCore {
    const { core } = this.member(id);
    if (core === null) throw new Error(`node ${id} does not run`);
    return core;
  }

  get running(): readonly Member[] {
    return [...this.members.values()].filter((member) => member.core !== null);
  }

  /** The leader of the highest term, if any. */
  get leader(): NodeId | null {
    const leaders = this.running.filter((member) => member.core?.state.role.kind === "leader");
    leaders.sort((a, b) => b.core!.state.term - a.core!.state.term);
    return leaders[0]?.id ?? null;
  }

  note(line: string): void {
    this.#options.trace?.(`[${String(this.nowMs).padStart(5)}] ${line}`);
  }

  /** Does something to a core and lets it work. */
  act(id: number, action: (core: RaftCore) => void): void {
    action(this.core(id));
    this.#work(this.member(id));
  }

  /** The election timer of `id` runs out now. */
  campaign(id: number): void {
    this.act(id, (core) => {
      (core.state as { electionElapsed: number }).electionElapsed = 1_000_000;
      core.tick();
    });
  }

  propose(id: number, text: string): void {
    this.act(id, (core) => {
      const result = core.propose(Buffer.from(text));
      if (result.kind !== "accepted") this.note(`${id} > proposal refused: ${result.kind}`);
    });
  }

  read(id: number): void {
    this.act(id, (core) => this.member(id).reads.push({ read: core.readIndex(), index: null }));
  }

  crash(id: number): void {
    const member = this.member(id);
    member.core = null;
    member.life++;
    member.diskStalled = false;
    member.stalledBatch = null;
  }

  /** Everything applied is put into a snapshot, and the log before it is forgotten except `trailing` entries. */
  snapshot(id: number, trailing = 0): void {
    this.act(id, (core) => {
      const { log, memberships } = core.state;
      const meta: SnapshotMeta = {
        index: log.appliedIndex,
        term: log.termAt(log.appliedIndex)!,
        membership: memberships.at(log.appliedIndex),
      };
      const { disk } = this.member(id);
      disk.snapshot = meta;
      core.snapshotTaken(meta, (meta.index - trailing) as LogIndex);
      disk.entries = disk.entries.filter((entry) => entry.index >= log.firstIndex);
    });
  }

  stallDisk(id: number): void {
    this.member(id).diskStalled = true;
  }

  freeDisk(id: number): void {
    const member = this.member(id);
    member.diskStalled = false;
    const resume = member.stalledBatch;
    member.stalledBatch = null;
    resume?.();
  }

  partition(groups: readonly (readonly number[])[]): void {
    this.cuts.clear();
    for (const group of groups) {
      for (const other of groups) {
        if (group !== other) for (const a of group) for (const b of other) this.cuts.add(`${a}>${b}`);
      }
    }
  }

  // ---- time ----

  /** Messages and disks work until all is quiet; no clock ticks. */
  settle(limit = 100_000): void {
    for (let event = this.#next(); event !== null; event = this.#next()) {
      if (limit-- === 0) throw new Error("the cluster does not come to rest");
      this.#run(event);
    }
  }

  elapse(ms: number): void {
    const end = this.nowMs + ms;
    for (let tickAt = (Math.floor(this.nowMs / TICK_MS) + 1) * TICK_MS; tickAt <= end; tickAt += TICK_MS) {
      this.#runUntil(tickAt);
      for (const member of this.running) this.act(member.id, (core) => core.tick());
    }
    this.#runUntil(end);
  }

  #runUntil(ms: number): void {
    for (let event = this.#next(ms); event !== null; event = this.#next(ms)) this.#run(event);
    this.nowMs = ms;
  }

  #schedule(delayMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + delayMs, order: this.#order++, run };
    let at = this.#events.length;
    while (at > 0 && this.#events[at - 1]!.atMs > event.atMs) at--;
    this.#events.splice(at, 0, event);
  }

  #next(limitMs = Number.POSITIVE_INFINITY): Event | null {
    const first = this.#events[0];
    if (first === undefined || first.atMs > limitMs) return null;
    this.#events.shift();
    return first;
  }

  #run(event: Event): void {
    this.nowMs = Math.max(this.nowMs, event.atMs);
    event.run();
  }

  // ---- the driver's part ----

  #work(member: Member): void {
    const { core } = member;
    while (core !== null && member.core === core && core.hasReady()) {
      const ready = core.ready();
      if (ready.persist !== null) this.#persist(member, ready.persist);
      for (const { to, message } of ready.sendNow) this.#send(member, to, message);
      for (const entry of ready.committed) this.#apply(member, entry);
      for (const { read, index } of ready.reads) {
        const asked = member.reads.find((one) => one.read === read);
        if (asked !== undefined) asked.index = index;
        if (asked !== undefined) this.note(`${member.id} > read may be served at ${index}`);
      }
    }
    this.check();
  }

  #persist(member: Member, batch: PersistBatch): void {
    const { life } = member;
    const done = (): void => {
      if (member.life !== life || member.core === null) return;
      if (member.diskStalled) {
        member.stalledBatch = done;
        return;
      }
      const { disk } = member;
      if (batch.hardState !== null) disk.hardState = batch.hardState;
      if (batch.snapshot !== null) {
        disk.snapshot = batch.snapshot;
        disk.entries = [];
        member.applied = this.#stateAt(batch.snapshot.index);
      }
      const first = batch.entries[0];
      if (first !== undefined)
        disk.entries = [...disk.entries.filter((entry) => entry.index < first.index), ...batch.entries];
      this.act(member.id, (core) => core.appended(batch.token));
    };
    this.#schedule(SYNC_MS, done);
  }

  #send(member: Member, to: NodeId, message: Message): void {
    this.messagesSent++;
    if (this.cuts.has(`${member.id}>${to}`) || this.drop?.(member.id, to, message) === true) {
      // Whoever carries a snapshot always says what became of it; here, when no answer came.
      if (message.kind === "install-snapshot")
        this.#schedule(REPORT_MS, () => {
          if (member.core !== null) this.act(member.id, (core) => core.snapshotFinished(to, false));
        });
      return;
    }
    const again = this.repeat?.(member.id, to, message) ?? null;
    if (again !== null) {
      const late = structuredClone(message);
      this.#schedule(LINK_MS + again, () => {
        const target = this.members.get(to);
        if (target !== undefined && target.core !== null) this.act(to, (core) => core.step(late));
      });
    }
    const copy = structuredClone(message);
    this.#schedule(LINK_MS, () => {
      const target = this.members.get(to);
      if (target === undefined || target.core === null || this.cuts.has(`${member.id}>${to}`)) {
        if (message.kind === "install-snapshot" && member.core !== null)
          this.act(member.id, (core) => core.snapshotFinished(to, false));
        return;
      }
      this.act(to, (core) => core.step(copy));
      if (message.kind === "install-snapshot" && member.core !== null)
        this.act(member.id, (core) => core.snapshotFinished(to, true));
    });
  }

  // ---- invariants (Raft Figure 3) ----

  #apply(member: Member, entry: Entry): void {
    const text = `${entry.term}:${Buffer.from(entry.payload).toString()}`;
    const known = this.#committed.get(entry.index);
    if (known === undefined) this.#committed.set(entry.index, text);
    else if (known !== text)
      throw new Error(
        `State Machine Safety: at ${entry.index} node ${member.id} applies ${text}, another applied ${known}`,
      );
    if (member.applied.length !== entry.index - 1)
      throw new Error(`node ${member.id} applies ${entry.index} after ${member.applied.length}`);
    member.applied.push(text);
  }

  #stateAt(index: number): string[] {
    return Array.from({ length: index }, (_, at) => this.#committed.get(at + 1)!);
  }

  check(): void {
    for (const { id, core } of this.running) {
      const { role, term, log } = core!.state;
      if (role.kind !== "leader") continue;
      const other = this.#leaders.get(term);
      if (other !== undefined && other !== id) throw new Error(`Election Safety: ${other} and ${id} lead term ${term}`);
      if (other !== undefined) continue;
      this.#leaders.set(term, id);
      // Leader Completeness: checked when it begins to lead; afterwards its log only grows.
      for (const [index, text] of this.#committed) {
        const entry = log.entryAt(index);
        if (index < log.firstIndex) continue;
        if (entry === undefined || `${entry.term}:${Buffer.from(entry.payload).toString()}` !== text) {
          throw new Error(`Leader Completeness: ${id} leads term ${term} without committed entry ${index}`);
        }
      }
    }
  }

  /** One line per node: role, term, log as runs of terms, commit. */
  describe(): string[] {
    return [...this.members.values()].map(({ id, core }) => {
      if (core === null) return `${id} is down`;
      const { role, term, log, leader, voting, membership } = core.state;
      const runs: string[] = [];
      for (let index: number = log.firstIndex; index <= log.lastIndex;) {
        const runTerm = log.termAt(index)!;
        let end = index;
        while (end < log.lastIndex && log.termAt(end + 1) === runTerm) end++;
        runs.push(index === end ? `${index}@${runTerm}` : `${index}-${end}@${runTerm}`);
        index = end + 1;
      }
      const state = role.kind === "follower" ? `follower of ${leader ?? "none"}` : role.kind;
      return `${id} ${state}, term ${term}, log ${runs.join(" ") || "empty"}, commit ${log.commitIndex}${describeMembership(membership, this.#options.size)}${voting.kind === "full" ? "" : ", not voting"}`;
    });
  }
}

/** Shown when it is not the founders'. */
function describeMembership({ voters, outgoing, learners }: Membership, founders: number): string {
  if (voters.length === founders && voters.every((id) => id <= founders) && outgoing.length + learners.length === 0)
    return "";
  const parts = [`voters ${voters.join(" ")}`];
  if (outgoing.length > 0) parts.push(`outgoing ${outgoing.join(" ")}`);
  if (learners.length > 0) parts.push(`learners ${learners.join(" ")}`);
  return `, ${parts.join(", ")}`;
}
