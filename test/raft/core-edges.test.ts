/**
 * What a core does with messages and reports that no well-behaved cluster brings about at that moment: from nobody it knows,
 * from itself, too late, twice, about something else. Each is handed to one core by hand.
 */
import { describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import type { Message } from "../../manager/raft/core/messages.js";
import type { SnapshotMeta } from "../../manager/raft/core/types.js";
import { CoreCluster } from "./core-cluster.js";

const index = (value: number): LogIndex => value as LogIndex;
const term = (value: number): Term => value as Term;

/** Three nodes, 1 leads term 1 with its no-op and `entries` more, all committed. */
function led(entries = 2): { readonly cluster: CoreCluster; readonly lines: string[] } {
  const lines: string[] = [];
  const cluster = new CoreCluster({ size: 3, seed: 1, traceDebug: true, trace: (line) => lines.push(line) });
  cluster.start();
  cluster.campaign(1);
  cluster.settle();
  for (let at = 0; at < entries; at++) cluster.propose(1, `e${at}`);
  cluster.settle();
  lines.length = 0;
  return { cluster, lines };
}

/** What `id` sends because of it. */
function answersTo(cluster: CoreCluster, id: number, act: () => void): Message[] {
  const sent: Message[] = [];
  cluster.drop = (from, _to, message) => {
    if (from === nodeId(id)) sent.push(message);
    return true;
  };
  act();
  cluster.settle();
  cluster.drop = null;
  return sent;
}

const step = (cluster: CoreCluster, id: number, message: Message): void =>
  cluster.act(id, (core) => core.step(message));
const describeAll = (cluster: CoreCluster): readonly string[] => cluster.describe();

describe("nothing comes of", () => {
  test.each<[string, Message]>([
    [
      "a message from itself",
      { kind: "vote-request", from: nodeId(1), term: term(9), lastIndex: index(99), lastTerm: term(9), force: true },
    ],
    [
      "an acknowledgement of one who is no member",
      { kind: "append-response", from: nodeId(9), term: term(1), matchIndex: index(3), counts: true },
    ],
    [
      "a heartbeat's answer of one who is no member",
      { kind: "heartbeat-response", from: nodeId(9), term: term(1), round: 1, counts: true },
    ],
    [
      "an answer to a heartbeat round that was never started",
      { kind: "heartbeat-response", from: nodeId(2), term: term(1), round: 77, counts: true },
    ],
    ["the order to take over, given to the leader", { kind: "timeout-now", from: nodeId(2), term: term(1) }],
    ["a vote when nobody asks", { kind: "vote-response", from: nodeId(2), term: term(1), granted: true }],
    ["a pre-vote when nobody asks", { kind: "pre-vote-response", from: nodeId(2), term: term(1), granted: true }],
    [
      "an acknowledgement of an earlier term",
      { kind: "append-response", from: nodeId(2), term: term(0), matchIndex: index(99), counts: true },
    ],
    [
      "an answer to a read that was never asked",
      { kind: "read-response", from: nodeId(2), term: term(1), id: { nonce: 1, sequence: 1 }, index: index(99) },
    ],
  ])("%s", (_what, message) => {
    const { cluster } = led();
    const before = describeAll(cluster);
    expect(
      answersTo(cluster, 1, () => step(cluster, 1, message)).filter(({ kind }) => kind !== "append-request"),
    ).toEqual([]);
    cluster.settle();
    expect(describeAll(cluster)).toEqual(before);
  });

  test("reports about a peer, on a follower", () => {
    const { cluster } = led();
    const before = describeAll(cluster);
    cluster.act(2, (core) => {
      core.peerUnreachable(nodeId(3));
      core.snapshotFinished(nodeId(3), true);
      core.snapshotFinished(nodeId(3), false);
      core.leaderUnreachable(nodeId(3));
      core.peerRestarted(nodeId(3));
    });
    cluster.settle();
    expect(describeAll(cluster)).toEqual(before);
    expect(cluster.core(2).bestSuccessor()).toBeNull();
  });

  test("the end of a snapshot transfer to a peer that needs none", () => {
    const { cluster } = led();
    cluster.act(1, (core) => core.snapshotFinished(nodeId(2), false));
    cluster.act(1, (core) => core.peerUnreachable(nodeId(9)));
    cluster.propose(1, "goes on");
    cluster.settle();
    expect(cluster.core(2).state.log.commitIndex).toBe(4);
  });

  test("a snapshot of one's own state that is older than the present one", () => {
    const { cluster } = led(5);
    cluster.snapshot(2);
    const { membership } = cluster.core(2).state;
    const older: SnapshotMeta = { index: index(3), term: term(1), membership };
    cluster.act(2, (core) => core.snapshotTaken(older, index(3)));
    expect(cluster.core(2).state.snapshot?.index).toBe(6);
  });

  test("a read that was given up: it is neither asked again nor answered", () => {
    const { cluster } = led();
    const given: number[] = [];
    cluster.act(2, (core) => given.push(core.readIndex()));
    cluster.act(2, (core) => core.cancelRead(given[0]!)); // under way
    cluster.act(2, (core) => core.cancelRead(12_345)); // never asked
    cluster.settle();
    cluster.elapse(100);
    expect(cluster.core(2).state.reads.waiting).toEqual([]);
  });

  test("a read's answer from one who does not lead", () => {
    const { cluster } = led();
    cluster.drop = (_from, _to, message) => message.kind === "read-request";
    cluster.read(2);
    const asked = cluster.core(2).state.reads.asked!;
    step(cluster, 2, { kind: "read-response", from: nodeId(3), term: term(1), id: asked.id, index: index(1) });
    expect(cluster.member(2).reads[0]?.index).toBeNull();
    step(cluster, 2, { kind: "read-response", from: nodeId(1), term: term(1), id: asked.id, index: index(3) });
    expect(cluster.member(2).reads[0]?.index).toBe(3);
  });

  test("a late answer to a question that was asked anew since: reads that came meanwhile need the newer one", () => {
    const { cluster } = led();
    cluster.drop = (_from, _to, message) => message.kind === "read-request";
    cluster.read(2);
    const first = cluster.core(2).state.reads.asked!;
    cluster.elapse(400); // longer than a question is waited for
    const second = cluster.core(2).state.reads.asked!;
    expect(second.id).not.toEqual(first.id);
    step(cluster, 2, { kind: "read-response", from: nodeId(1), term: term(1), id: first.id, index: index(1) });
    expect(cluster.member(2).reads[0]?.index).toBeNull();
    step(cluster, 2, { kind: "read-response", from: nodeId(1), term: term(1), id: second.id, index: index(3) });
    expect(cluster.member(2).reads[0]?.index).toBe(3);
  });
});

describe("an answer comes", () => {
  test("to a candidate of an earlier term: it learns the present one", () => {
    const { cluster } = led();
    cluster.campaign(2);
    cluster.settle();
    const sent = answersTo(cluster, 2, () =>
      step(cluster, 2, {
        kind: "vote-request",
        from: nodeId(3),
        term: term(0),
        lastIndex: index(9),
        lastTerm: term(0),
        force: false,
      }),
    );
    expect(sent).toContainEqual(expect.objectContaining({ kind: "vote-response", term: 1, granted: false }));
  });

  test("to a snapshot that is held as log already: what it covers is committed, and nothing is thrown away", () => {
    const { cluster, lines } = led(0);
    cluster.drop = (_from, to, message) => to === nodeId(2) && message.kind === "heartbeat";
    cluster.drop = (from, _to, message) => message.kind === "append-response" && from !== nodeId(1);
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    cluster.settle();
    const { membership, log } = cluster.core(2).state;
    expect(log.commitIndex).toBe(1);
    expect(log.lastIndex).toBe(3);
    // Another leader would have committed them; its snapshot says so.
    const snapshot: SnapshotMeta = { index: index(2), term: term(1), membership };
    const sent = answersTo(cluster, 2, () =>
      step(cluster, 2, { kind: "install-snapshot", from: nodeId(1), term: term(1), snapshot }),
    );
    expect(sent).toContainEqual(expect.objectContaining({ kind: "append-response", matchIndex: 2 }));
    expect(lines.some((line) => line.includes("snapshot is held as log"))).toBe(true);
    expect(cluster.core(2).state.log.lastIndex).toBe(3);
    expect(cluster.core(2).state.snapshot).toBeNull();
  });
});

describe("a candidate", () => {
  test("that a majority refuses is a follower again at once, without waiting for its timer", () => {
    const { cluster, lines } = led();
    cluster.crash(1);
    cluster.act(2, (core) => core.leaderUnreachable(nodeId(1)));
    cluster.act(3, (core) => core.leaderUnreachable(nodeId(1)));
    cluster.drop = (_from, to, message) => message.kind === "vote-request" && to !== nodeId(2);
    cluster.settle();
    expect(cluster.core(2).state.role.kind).toBe("candidate");
    const present = cluster.core(2).state.term;
    for (const from of [nodeId(1), nodeId(3)])
      step(cluster, 2, { kind: "vote-response", from, term: present, granted: false });
    expect(cluster.core(2).state.role.kind).toBe("follower");
    expect(lines.some((line) => line.includes("reason=election lost"))).toBe(true);
  });

  test("is never made of one that takes a snapshot in, however it is ordered", () => {
    const { cluster } = led(6);
    cluster.crash(3);
    cluster.propose(1, "more");
    cluster.propose(1, "and more");
    cluster.settle();
    cluster.snapshot(1);
    const { membership } = cluster.core(1).state;
    cluster.boot(nodeId(3));
    cluster.stallDisk(3);
    const snapshot: SnapshotMeta = { index: index(9), term: term(1), membership };
    step(cluster, 3, { kind: "install-snapshot", from: nodeId(1), term: term(1), snapshot });
    step(cluster, 3, { kind: "timeout-now", from: nodeId(1), term: term(1) });
    expect(cluster.core(3).state.role.kind).toBe("follower");
    cluster.campaign(3);
    expect(cluster.core(3).state.role.kind).toBe("follower");
    cluster.freeDisk(3);
    cluster.settle();
    expect(cluster.core(3).state.log.commitIndex).toBe(9);
  });
});

test("the best successor is a voter that is heard, counts and holds most; a learner or one that gets a snapshot is none", () => {
  const { cluster } = led();
  cluster.elapse(100);
  expect(cluster.core(1).bestSuccessor()).toBe(2); // both hold all: the lower id
  cluster.drop = (_from, to, message) => to === nodeId(2) && message.kind === "append-request";
  cluster.propose(1, "ahead");
  cluster.settle();
  expect(cluster.core(1).bestSuccessor()).toBe(3);
  cluster.drop = null;
  const member = { id: nodeId(4), address: "m4:7001", service: "m4:7002" };
  cluster.change(1, { kind: "add-learner", member });
  cluster.settle();
  cluster.join(nodeId(4));
  cluster.elapse(200);
  cluster.drop = (_from, to, message) => to !== nodeId(4) && message.kind === "append-request";
  cluster.propose(1, "only the learner has it");
  cluster.settle();
  expect(cluster.core(4).state.log.lastIndex).toBeGreaterThan(cluster.core(2).state.log.lastIndex);
  expect(cluster.core(1).bestSuccessor()).toBe(2);
});
