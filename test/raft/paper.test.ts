/**
 * The claims of "In Search of an Understandable Consensus Algorithm" (Ongaro and Ousterhout 2014), section 5, one test per
 * claim, on a single core fed with hand-made messages. Each title ends with the section.
 */
import { describe, expect, test } from "vitest";
import { nodeId } from "../../core/brands.js";
import { append, entry, index, ME, One, OTHER, term, THIRD, voteRequest } from "./one-core.js";

describe("terms", () => {
  test("a server that sees a larger term takes it and follows (§5.1)", () => {
    const one = new One({ term: 3 });
    one.lead();
    one.step({ kind: "append-response", from: OTHER, term: term(9), matchIndex: index(0), counts: true });
    expect(one.core.state).toMatchObject({ term: 9, leader: null, role: { kind: "follower" } });
  });

  test("a request with a stale term changes nothing, and its sender learns the present one (§5.1)", () => {
    const one = new One({ terms: [1, 1], term: 5 });
    const [answer] = one.step(append(4, [2, 1], [entry(3, 4)], 2));
    expect(answer?.message).toMatchObject({ kind: "heartbeat-response", term: 5, round: 0 });
    expect(one.core.state.log.lastIndex).toBe(2);
  });

  test("terms are durable before anybody hears of them (§5.1, Figure 2)", () => {
    const one = new One({ term: 1 });
    expect(
      one.step({
        kind: "heartbeat",
        from: OTHER,
        term: term(7),
        round: 3,
        commitIndex: index(0),
        quorumAgeTicks: null,
      }),
    ).toEqual([]);
    one.sync();
    expect(one.sent[0]?.message).toMatchObject({ kind: "heartbeat-response", term: 7, round: 3 });
  });
});

describe("elections", () => {
  test("a server starts as a follower, and stays one while it hears a leader (§5.2)", () => {
    const one = new One();
    for (let at = 0; at < 100; at++) {
      one.tick(10);
      one.step({
        kind: "heartbeat",
        from: OTHER,
        term: term(1),
        round: at + 1,
        commitIndex: index(0),
        quorumAgeTicks: null,
      });
      one.sync();
    }
    expect(one.core.state.role.kind).toBe("follower");
  });

  test("a follower that hears nothing asks, and raises its term only when a quorum would vote for it (§5.2, dissertation §9.6)", () => {
    const one = new One({ size: 5, term: 2 });
    one.timeOut();
    expect(one.kinds).toEqual(Array(4).fill("pre-vote-request"));
    expect(one.core.state.term).toBe(2);
    one.step({ kind: "pre-vote-response", from: OTHER, term: term(3), granted: true });
    expect(one.core.state.term).toBe(2);
    one.step({ kind: "pre-vote-response", from: THIRD, term: term(3), granted: true });
    expect(one.core.state).toMatchObject({ term: 3, votedFor: ME, role: { kind: "candidate" } });
  });

  test("vote requests leave only after the candidate's own vote is durable (§5.2)", () => {
    const one = new One();
    one.timeOut();
    one.step({ kind: "pre-vote-response", from: OTHER, term: term(1), granted: true });
    expect(one.kinds).not.toContain("vote-request");
    one.sync();
    expect(one.kinds.filter((kind) => kind === "vote-request")).toHaveLength(2);
  });

  test.each([
    [1, 0, "leader"],
    [3, 1, "leader"],
    [3, 0, "candidate"],
    [5, 2, "leader"],
    [5, 1, "candidate"],
  ] as const)("of %i servers a candidate with %i votes besides its own becomes %s (§5.2)", (size, granted, role) => {
    const one = new One({ size });
    one.timeOut();
    for (let voter = 2; voter <= size; voter++)
      one.step({ kind: "pre-vote-response", from: nodeId(voter), term: term(1), granted: true });
    one.sync();
    for (let voter = 2; voter < 2 + granted; voter++)
      one.step({ kind: "vote-response", from: nodeId(voter), term: term(1), granted: true });
    expect(one.core.state.role.kind).toBe(role);
  });

  test("a vote counted twice counts once (§5.2)", () => {
    const one = new One({ size: 5 });
    one.timeOut();
    for (const voter of [OTHER, THIRD])
      one.step({ kind: "pre-vote-response", from: voter, term: term(1), granted: true });
    one.sync();
    for (let at = 0; at < 3; at++) one.step({ kind: "vote-response", from: OTHER, term: term(1), granted: true });
    expect(one.core.state.role.kind).toBe("candidate");
  });

  test("a server votes for one candidate a term, first come first served, and says so only when it is durable (§5.2)", () => {
    const one = new One();
    expect(one.step(voteRequest(1, [0, 0], OTHER))).toEqual([]);
    one.step(voteRequest(1, [0, 0], THIRD));
    one.sync();
    expect(one.sent.map(({ to, message }) => [to, message.kind === "vote-response" && message.granted])).toEqual([
      [2, true],
      [3, false],
    ]);
    // The same candidate again: the same answer.
    one.step(voteRequest(1, [0, 0], OTHER));
    one.sync();
    expect(one.sent.at(-1)?.message).toMatchObject({ granted: true });
  });

  test("a vote is remembered across a restart (§5.2)", () => {
    const one = new One({ term: 4, votedFor: THIRD });
    const answers = one.step(voteRequest(4, [9, 4], OTHER));
    one.sync();
    expect([...answers, ...one.sent].at(-1)?.message).toMatchObject({ kind: "vote-response", granted: false });
  });

  test("a candidate that hears this term's leader follows it (§5.2)", () => {
    const one = new One();
    one.timeOut();
    one.step({ kind: "pre-vote-response", from: OTHER, term: term(1), granted: true });
    one.sync();
    one.step(append(1, [0, 0], []));
    expect(one.core.state).toMatchObject({ role: { kind: "follower" }, leader: OTHER, term: 1 });
  });

  test("election timeouts are drawn anew each time, over the whole range (§5.2)", () => {
    const drawn = new Set<number>();
    const one = new One();
    for (let at = 0; at < 200; at++) {
      drawn.add(one.core.state.electionTimeoutTicks);
      one.timeOut();
    }
    expect([...drawn].sort((a, b) => a - b)).toEqual([15, 16, 17, 18, 19, 20, 21, 22, 23, 24]);
  });

  test("a leader sends heartbeats in every interval (§5.2)", () => {
    const one = new One();
    one.lead();
    one.tick(3);
    expect(one.sent.filter(({ message }) => message.kind === "heartbeat" && message.round > 0)).toHaveLength(2);
  });
});

describe("replication", () => {
  test("a leader appends in its log and sends to all, in parallel with its own disk (§5.3, dissertation §10.2.1)", () => {
    const one = new One();
    one.lead();
    one.core.propose(Buffer.from("a"));
    one.work();
    // The leader's no-op has not been acknowledged, so the followers are probed one append at a time.
    one.step({ kind: "append-response", from: OTHER, term: term(1), matchIndex: index(1), counts: true });
    const requests = one.sent.flatMap(({ message }) => (message.kind === "append-request" ? [message] : []));
    expect(requests.at(-1)).toMatchObject({ prevIndex: 1, prevTerm: 1, commitIndex: 1 });
    expect(requests.at(-1)?.entries.map((one) => one.index)).toEqual([2]);
  });

  test.each([
    { size: 3, acks: 1, committed: true },
    { size: 5, acks: 1, committed: false },
    { size: 5, acks: 2, committed: true },
  ])(
    "of $size servers, $acks acknowledgements besides the leader's disk commit: $committed (§5.3)",
    ({ size, acks, committed }) => {
      const one = new One({ size });
      one.lead();
      one.core.propose(Buffer.from("a"));
      one.sync();
      for (let peer = 2; peer < 2 + acks; peer++)
        one.step({ kind: "append-response", from: nodeId(peer), term: term(1), matchIndex: index(2), counts: true });
      expect(one.core.state.log.commitIndex).toBe(committed ? 2 : 0);
      expect(one.applied.includes("a")).toBe(committed);
    },
  );

  test("the leader does not count itself before its own disk has the entry (dissertation §10.2.1)", () => {
    const one = new One();
    one.lead();
    one.core.propose(Buffer.from("a"));
    one.work();
    one.step({ kind: "append-response", from: OTHER, term: term(1), matchIndex: index(2), counts: true });
    expect(one.core.state.log.commitIndex).toBe(1);
    one.sync();
    expect(one.core.state.log.commitIndex).toBe(2);
  });

  test("an entry of the leader's term commits all before it, whoever made them (§5.3)", () => {
    const one = new One({ terms: [1, 2, 2] });
    one.lead();
    one.step({ kind: "append-response", from: OTHER, term: term(3), matchIndex: index(4), counts: true });
    expect(one.core.state.log.commitIndex).toBe(4);
  });

  test("entries of earlier terms are never committed by counting (§5.4.2, Figure 8)", () => {
    const one = new One({ terms: [1, 2, 2] });
    one.lead(); // term 3; the no-op is entry 4
    for (const peer of [OTHER, THIRD])
      one.step({ kind: "append-response", from: peer, term: term(3), matchIndex: index(3), counts: true });
    expect(one.core.state.log.commitIndex).toBe(0);
  });

  test("a follower learns the commit index and applies in order (§5.3)", () => {
    const one = new One();
    one.step(append(1, [0, 0], [entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")], 2));
    expect(one.applied).toEqual(["a", "b"]);
    one.step({ kind: "heartbeat", from: OTHER, term: term(1), round: 0, commitIndex: index(3), quorumAgeTicks: null });
    expect(one.applied).toEqual(["a", "b", "c"]);
  });

  test("a follower's commit index never passes the end of what was just checked (Figure 2)", () => {
    const one = new One({ terms: [1, 1, 1] });
    one.step(append(2, [1, 1], [], 3));
    expect(one.core.state.log.commitIndex).toBe(1);
  });

  test.each([
    { terms: [1, 1], prev: [3, 1], hint: [2, 1], what: "a missing entry" },
    { terms: [1, 2, 2, 2], prev: [4, 3], hint: [4, 2], what: "another term" },
    { terms: [1, 4, 4, 4], prev: [4, 3], hint: [1, 1], what: "a later term" },
  ] as const)(
    "a follower refuses an append after $what, with a hint where the logs may agree (§5.3)",
    ({ terms, prev, hint }) => {
      const one = new One({ terms, term: 5 });
      const [answer] = one.step(append(5, prev, [entry(prev[0] + 1, 5)]));
      expect(answer?.message).toMatchObject({
        kind: "append-rejection",
        rejectedIndex: prev[0],
        hintIndex: hint[0],
        hintTerm: hint[1],
      });
    },
  );

  test("an acknowledgement waits until the entries are durable (§5.3, Figure 2)", () => {
    const one = new One();
    expect(one.step(append(1, [0, 0], [entry(1, 1)])).map(({ message }) => message.kind)).toEqual([]);
    one.sync();
    expect(one.sent.at(-1)?.message).toMatchObject({ kind: "append-response", matchIndex: 1 });
  });

  test.each([
    { terms: [1, 1, 1], sent: [[2, 2]], becomes: [1, 2] },
    {
      terms: [1, 1, 1],
      sent: [
        [2, 1],
        [3, 1],
      ],
      becomes: [1, 1, 1],
    },
    { terms: [1, 1, 1], sent: [[2, 1]], becomes: [1, 1, 1] },
    {
      terms: [1],
      sent: [
        [2, 2],
        [3, 2],
      ],
      becomes: [1, 2, 2],
    },
    {
      terms: [1, 2, 2, 2],
      sent: [
        [2, 2],
        [3, 3],
      ],
      becomes: [1, 2, 3],
    },
  ] as const)(
    "a follower with terms $terms that is sent $sent ends with $becomes: only conflicts are cut off (§5.3, Figure 7)",
    ({ terms, sent, becomes }) => {
      const one = new One({ terms, term: 4 });
      one.step(
        append(
          4,
          [1, 1],
          sent.map(([at, of]) => entry(at, of)),
        ),
      );
      const { log } = one.core.state;
      expect(Array.from({ length: log.lastIndex }, (_, at) => log.termAt(at + 1))).toEqual(becomes);
    },
  );

  test("a leader never overwrites its own log (§5.3)", () => {
    const one = new One({ terms: [1, 1] });
    one.lead();
    expect(() => one.step(append(2, [0, 0], [entry(1, 2)]))).toThrow("one leader per term");
  });

  test("proposals beyond the bytes allowed are refused, and taken again once some are committed (back-pressure)", () => {
    const one = new One();
    one.lead();
    one.step({ kind: "append-response", from: OTHER, term: term(1), matchIndex: index(1), counts: true });
    expect(one.core.propose(new Uint8Array(900)).kind).toBe("accepted");
    expect(one.core.propose(new Uint8Array(900)).kind).toBe("overloaded");
    one.sync();
    one.step({ kind: "append-response", from: OTHER, term: term(1), matchIndex: index(2), counts: true });
    expect(one.core.propose(new Uint8Array(900)).kind).toBe("accepted");
  });
});

describe("safety", () => {
  test.each([
    { terms: [1], last: [1, 1], granted: true, why: "equal" },
    { terms: [1], last: [2, 1], granted: true, why: "longer" },
    { terms: [1, 1], last: [1, 1], granted: false, why: "shorter" },
    { terms: [1, 1], last: [1, 2], granted: true, why: "shorter but of a later term" },
    { terms: [1, 2], last: [9, 1], granted: false, why: "longer but of an earlier term" },
  ] as const)("a candidate whose log is $why gets the vote: $granted (§5.4.1)", ({ terms, last, granted }) => {
    const one = new One({ terms });
    one.step(voteRequest(3, last));
    one.sync();
    expect(one.sent.at(-1)?.message).toMatchObject({ kind: "vote-response", granted });
  });

  test("a completion of another life of the log makes nothing durable (asynchronous storage)", () => {
    const one = new One();
    one.core.step(append(1, [0, 0], [entry(1, 1), entry(2, 1)]));
    const first = one.core.ready().persist!;
    one.core.step(append(2, [0, 0], [entry(1, 2)]));
    one.core.appended(first.token);
    expect(one.core.state.log.stableIndex).toBe(0);
    const second = one.core.ready().persist!;
    one.core.appended({ ...second.token, sequence: 99 });
    expect(one.core.state.persisting).toBe(second);
    one.core.appended(second.token);
    expect(one.core.state.log.stableIndex).toBe(1);
  });

  test("an answer to a read question that was given up is not taken for its repetition (dissertation §6.4)", () => {
    const one = new One();
    one.step({ kind: "heartbeat", from: OTHER, term: term(1), round: 1, commitIndex: index(0), quorumAgeTicks: null });
    one.sync();
    one.core.readIndex();
    one.work();
    const asked = one.sent.flatMap(({ message }) => (message.kind === "read-request" ? [message.id] : []));
    for (let at = 0; at < 8; at++) {
      one.tick(2);
      one.step({
        kind: "heartbeat",
        from: OTHER,
        term: term(1),
        round: at + 2,
        commitIndex: index(0),
        quorumAgeTicks: null,
      });
    }
    one.core.step({ kind: "read-response", from: OTHER, term: term(1), id: asked[0]!, index: index(0) });
    one.work();
    expect(one.reads).toEqual([]);
    expect(one.core.state.reads.asked?.id).not.toEqual(asked[0]);
    one.core.step({
      kind: "read-response",
      from: OTHER,
      term: term(1),
      id: one.core.state.reads.asked!.id,
      index: index(0),
    });
    one.work();
    expect(one.reads).toEqual([0]);
  });

  test("a stale request to take over is ignored in a later term (dissertation §3.10)", () => {
    const one = new One({ term: 5 });
    one.step({ kind: "timeout-now", from: OTHER, term: term(4) });
    expect(one.core.state).toMatchObject({ term: 5, role: { kind: "follower" } });
  });
});
