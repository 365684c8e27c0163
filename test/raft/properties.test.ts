/** Fast structures against naive models, and the codec there and back; fast-check prints the seed of a failure. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { Inflights } from "../../manager/raft/core/inflights.js";
import { RaftLog } from "../../manager/raft/core/log.js";
import type { Message } from "../../manager/raft/core/messages.js";
import { reachedByQuorum, voteOutcome } from "../../manager/raft/core/quorum.js";
import type { Entry, Membership } from "../../manager/raft/core/types.js";
import { decodeEntryBlock, encodeEntryBlock } from "../../manager/raft/entry-block.js";
import { encodeMessage, messageFromWire } from "../../manager/raft/transport/codec.js";
import type { PeerMessage } from "../../manager/raft/transport/transport.js";
import { ananta } from "../../proto/gen/wire.js";
import { testSeed } from "../kit/virtual-world.js";

const seed = testSeed("raft properties") | 0;
const index = (value: number): LogIndex => value as LogIndex;
const term = (value: number): Term => value as Term;

const ids = fc
  .uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 7 })
  .map((all) => all.sort((a, b) => a - b).map(nodeId));
const memberships: fc.Arbitrary<Membership> = fc.record({
  voters: ids,
  outgoing: fc.oneof(fc.constant([] as NodeId[]), ids),
  learners: fc.constant([]),
  members: fc.constant([]),
  removed: fc.constant([]),
});

describe("quorums", () => {
  const majority = (voters: readonly NodeId[], holds: (voter: NodeId) => boolean): boolean =>
    voters.length === 0 || voters.filter(holds).length * 2 > voters.length;

  test("what a quorum has reached is the largest value that a majority of each half has reached", () => {
    fc.assert(
      fc.property(memberships, fc.array(fc.nat(20), { minLength: 10, maxLength: 10 }), (membership, values) => {
        const valueOf = (voter: NodeId): number => values[voter] ?? 0;
        let naive = 0;
        for (let value = 0; value <= 20; value++) {
          const holds = (voter: NodeId): boolean => valueOf(voter) >= value;
          if (majority(membership.voters, holds) && majority(membership.outgoing, holds)) naive = value;
        }
        expect(reachedByQuorum(membership, valueOf)).toBe(naive);
      }),
      { seed, numRuns: 2_000 },
    );
  });

  test("an election is won, lost or open exactly as the votes still out allow", () => {
    fc.assert(
      fc.property(
        memberships,
        fc.array(fc.option(fc.boolean()), { minLength: 10, maxLength: 10 }),
        (membership, cast) => {
          const votes = new Map<NodeId, boolean>();
          for (const voter of new Set([...membership.voters, ...membership.outgoing])) {
            const vote = cast[voter];
            if (vote !== null && vote !== undefined) votes.set(voter, vote);
          }
          const wins = (open: boolean): boolean =>
            [membership.voters, membership.outgoing].every((half) =>
              majority(half, (voter) => votes.get(voter) ?? open),
            );
          const naive = wins(false) ? "won" : wins(true) ? "pending" : "lost";
          expect(voteOutcome(membership, votes)).toBe(naive);
        },
      ),
      { seed, numRuns: 2_000 },
    );
  });

  test("any two quorums of one membership share a voter", () => {
    fc.assert(
      fc.property(memberships, fc.array(fc.boolean(), { minLength: 10, maxLength: 10 }), (membership, side) => {
        const outcome = (wanted: boolean): string =>
          voteOutcome(
            membership,
            new Map([...membership.voters, ...membership.outgoing].map((voter) => [voter, side[voter] === wanted])),
          );
        expect(outcome(true) === "won" && outcome(false) === "won").toBe(false);
      }),
      { seed, numRuns: 1_000 },
    );
  });
});

describe("the log", () => {
  type Step =
    | { readonly kind: "append"; readonly count: number; readonly rise: number }
    | { readonly kind: "truncate" | "commit" | "compact" | "hint"; readonly at: number; readonly of: number }
    | { readonly kind: "hand-over" | "stable" }
    | { readonly kind: "apply"; readonly bytesMax: number }
    | { readonly kind: "restore"; readonly ahead: number };
  const steps: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constant("append" as const), count: fc.integer({ min: 1, max: 4 }), rise: fc.nat(2) }),
    fc.record({
      kind: fc.constantFrom("truncate" as const, "commit" as const, "compact" as const, "hint" as const),
      at: fc.nat(99),
      of: fc.nat(12),
    }),
    fc.record({ kind: fc.constantFrom("hand-over" as const, "stable" as const) }),
    fc.record({ kind: fc.constant("apply" as const), bytesMax: fc.nat(300) }),
    fc.record({ kind: fc.constant("restore" as const), ahead: fc.integer({ min: 1, max: 5 }) }),
  );

  test("behaves as a plain array of all entries with four marks", () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 60 }), (program) => {
        const log = new RaftLog({ index: index(0), term: term(0) }, []);
        /** terms[i] is the term of entry i; terms[0] stands for "before the log". */
        let terms = [0];
        const marks = { base: 0, applied: 0, commit: 0, handed: 0, stable: 0, underWay: null as number | null };
        const pick = (at: number, lo: number, hi: number): number | null =>
          hi < lo ? null : lo + (at % (hi - lo + 1));
        for (const step of program) {
          const last = terms.length - 1;
          switch (step.kind) {
            case "append": {
              const of = terms[last]! + step.rise;
              const entries = Array.from({ length: step.count }, (_, at): Entry => ({
                index: index(last + 1 + at),
                term: term(of),
                payload: new Uint8Array(3),
              }));
              log.append(entries);
              terms.push(...entries.map((entry) => entry.term));
              break;
            }
            case "truncate": {
              const at = pick(step.at, marks.commit + 1, last);
              if (at === null) break;
              log.truncateFrom(index(at));
              terms.length = at;
              for (const mark of ["handed", "stable"] as const) marks[mark] = Math.min(marks[mark], at - 1);
              if (marks.underWay !== null) marks.underWay = Math.min(marks.underWay, at - 1);
              break;
            }
            case "commit": {
              const at = pick(step.at, 0, last)!;
              log.commitTo(index(at));
              marks.commit = Math.max(marks.commit, at);
              break;
            }
            case "apply": {
              const taken = log.takeCommitted(step.bytesMax).map((entry) => entry.index);
              expect(taken).toEqual(Array.from(taken, (_, at) => marks.applied + 1 + at));
              expect(taken.length > 0, "there is progress").toBe(marks.commit > marks.applied);
              marks.applied += taken.length;
              break;
            }
            case "hand-over":
              if (marks.underWay !== null) break;
              log.handOver(index(last));
              marks.handed = last;
              marks.underWay = last;
              break;
            case "stable":
              if (marks.underWay === null) break;
              log.handedOverIsStable();
              marks.stable = Math.max(marks.stable, marks.underWay);
              marks.underWay = null;
              break;
            case "compact": {
              const at = pick(step.at, marks.base, Math.min(marks.applied, marks.stable));
              if (at === null) break;
              log.compactTo(index(at));
              marks.base = Math.max(marks.base, at);
              break;
            }
            case "restore": {
              const at = last + step.ahead;
              log.restore(index(at), term(terms[last]! + 1));
              terms = Array.from({ length: at + 1 }, (_, one) => (one === at ? terms[last]! + 1 : 0));
              Object.assign(marks, {
                base: at,
                applied: at,
                commit: at,
                handed: at,
                stable: at,
                underWay: marks.underWay === null ? null : at,
              });
              break;
            }
            case "hint": {
              const from = Math.min(step.at, terms.length - 1);
              let naive = from;
              while (naive > marks.base && terms[naive]! > step.of) naive--;
              expect(log.lastIndexWithTermAtMost(index(from), term(step.of))).toBe(Math.min(naive, from));
              break;
            }
          }
          expect([
            log.firstIndex - 1,
            log.appliedIndex,
            log.commitIndex,
            log.handedIndex,
            log.stableIndex,
            log.lastIndex,
          ]).toEqual([marks.base, marks.applied, marks.commit, marks.handed, marks.stable, terms.length - 1]);
          for (let at = marks.base; at < terms.length + 2; at++)
            if (log.termAt(at) !== (terms[at] ?? null)) throw new Error(`the term at ${at} is ${log.termAt(at)}`);
          const slice = log.slice(marks.base + 1, terms.length - 1, 60);
          expect(slice.map((entry) => entry.term)).toEqual(terms.slice(marks.base + 1, marks.base + 1 + slice.length));
          if (marks.base < terms.length - 1) expect(slice.length).toBeGreaterThan(0);
        }
      }),
      { seed, numRuns: 300 },
    );
  }, 30_000);

  test("an append window counts exactly what was added and not yet freed, over a long run", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(300), fc.nat(3)), { maxLength: 300 }), (program) => {
        const window = new Inflights(8, 1_000);
        let model: { readonly at: number; readonly bytes: number }[] = [];
        let last = 0;
        for (const [bytes, action] of program) {
          if (action === 0) {
            const upTo = model[Math.floor(model.length / 2)]?.at ?? 0;
            window.freeUpTo(upTo);
            model = model.filter((one) => one.at > upTo);
          } else if (action === 1) {
            window.freeFirst();
            model.shift();
          } else if (!window.full) {
            last += 1 + (bytes % 3);
            window.add(last, bytes);
            model.push({ at: last, bytes });
          }
          const sum = model.reduce((total, one) => total + one.bytes, 0);
          expect([window.count, window.bytes, window.full]).toEqual([
            model.length,
            sum,
            model.length === 8 || sum >= 1_000,
          ]);
        }
      }),
      { seed, numRuns: 500 },
    );
  });
});

describe("on the wire and on disk", () => {
  const safe = fc.oneof(fc.nat(), fc.integer({ min: 2 ** 31, max: Number.MAX_SAFE_INTEGER }));
  const from = nodeId(3);
  const age = fc.oneof(fc.constant(null), fc.nat(10_000));
  const entries = fc
    .tuple(
      fc.integer({ min: 1, max: 2 ** 40 }),
      fc.array(fc.tuple(safe, fc.uint8Array({ maxLength: 40 })), { maxLength: 6 }),
    )
    .map(([first, all]) =>
      all.map(([of, payload], at): Entry => ({ index: index(first + at), term: term(of), payload })),
    );
  const snapshot = fc.record({ index: safe.map(index), term: safe.map(term), membership: memberships });
  const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
  const readId = fc.record({ nonce: fc.integer({ min: 0, max: 0xffff_ffff }), sequence: safe });
  const common = { from: fc.constant(from), term: safe.map(term) };
  const kind = <Kind extends PeerMessage["kind"]>(value: Kind): fc.Arbitrary<Kind> => fc.constant(value);
  const messages: fc.Arbitrary<PeerMessage> = fc.oneof(
    fc.record({ kind: kind("pre-vote-request"), ...common, lastIndex: safe.map(index), lastTerm: safe.map(term) }),
    fc.record({ kind: kind("pre-vote-response"), ...common, granted: fc.boolean() }),
    fc.record({
      kind: kind("vote-request"),
      ...common,
      lastIndex: safe.map(index),
      lastTerm: safe.map(term),
      force: fc.boolean(),
    }),
    fc.record({ kind: kind("vote-response"), ...common, granted: fc.boolean() }),
    fc.record({
      kind: kind("append-request"),
      ...common,
      prevIndex: safe.map(index),
      prevTerm: safe.map(term),
      entries,
      commitIndex: safe.map(index),
      quorumAgeTicks: age,
    }),
    fc.record({ kind: kind("append-response"), ...common, matchIndex: safe.map(index), counts: fc.boolean() }),
    fc.record({
      kind: kind("append-rejection"),
      ...common,
      rejectedIndex: safe.map(index),
      hintIndex: safe.map(index),
      hintTerm: safe.map(term),
      counts: fc.boolean(),
    }),
    fc.record({ kind: kind("heartbeat"), ...common, round: safe, commitIndex: safe.map(index), quorumAgeTicks: age }),
    fc.record({ kind: kind("heartbeat-response"), ...common, round: safe, counts: fc.boolean() }),
    fc.record({ kind: kind("install-snapshot"), ...common, snapshot }),
    fc.record({ kind: kind("timeout-now"), ...common }),
    fc.record({ kind: kind("read-request"), ...common, id: readId }),
    fc.record({ kind: kind("read-response"), ...common, id: readId, index: safe.map(index) }),
    fc.record({
      kind: kind("snapshot-offer"),
      ...common,
      snapshot: fc.record({
        meta: snapshot,
        chunkCount: fc.integer({ min: 1, max: 2 ** 31 }),
        byteCount: safe,
        digest,
      }),
    }),
    fc.record({
      kind: kind("snapshot-chunk"),
      ...common,
      digest,
      number: fc.nat(),
      data: fc.uint8Array({ maxLength: 50 }),
    }),
    fc.record({ kind: kind("snapshot-chunk-ack"), ...common, digest, next: fc.nat(), rewind: fc.boolean() }),
  );

  test("every message comes back as it was sent, and owns its bytes", () => {
    fc.assert(
      fc.property(messages, (message) => {
        const sent = Buffer.from(encodeMessage(message)); // a copy, and a Buffer as gRPC hands it out
        const frame = ananta.raft.v1.Frame.decode(sent);
        const received = messageFromWire(frame, from);
        sent.fill(0xff);
        expect(received).toEqual(message);
      }),
      { seed, numRuns: 2_000 },
    );
  });

  test("one message is encoded once, and so is one array of entries", () => {
    const shared: readonly Entry[] = [{ index: index(1), term: term(1), payload: new Uint8Array(5) }];
    const message: Message = {
      kind: "append-request",
      from,
      term: term(1),
      prevIndex: index(0),
      prevTerm: term(0),
      entries: shared,
      commitIndex: index(0),
      quorumAgeTicks: null,
    };
    expect(encodeMessage(message)).toBe(encodeMessage(message));
    expect(encodeEntryBlock(shared)).toBe(encodeEntryBlock(shared));
  });

  test("a block of entries that is cut off anywhere is refused, never read as something else", () => {
    const block = encodeEntryBlock(
      [1, 2, 3].map((at): Entry => ({ index: index(at), term: term(at), payload: Buffer.from(`payload ${at}`) })),
    );
    for (let length = 1; length < block.length; length++)
      expect(() => decodeEntryBlock(block.subarray(0, length))).toThrow("entry block");
    expect(decodeEntryBlock(block)).toHaveLength(3);
  });
});
