/** Membership as a value: what each change makes of it, what is refused and why, and its bytes. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import {
  changedMembership,
  isJoint,
  leftJoint,
  membersOf,
  sameMembership,
  simpleMembership,
  type MembershipChange,
} from "../../manager/raft/core/membership.js";
import { decodeMembership, encodeMembership } from "../../manager/raft/core/membership-codec.js";
import { MembershipLog } from "../../manager/raft/core/membership-log.js";
import type { Member, Membership } from "../../manager/raft/core/types.js";
import { testSeed } from "../kit/virtual-world.js";

const member = (id: number, folder = ""): Member => ({
  id: nodeId(id),
  address: `m${id}:7100`,
  service: `m${id}:7400`,
  folder,
});
const three: Membership = {
  ...simpleMembership(
    [1, 2, 3].map(nodeId),
    [nodeId(4)],
    [1, 2, 3, 4].map((id) => member(id)),
  ),
  removed: [nodeId(9)],
};
const one = simpleMembership([nodeId(1)], [], [member(1)]);
const add = (id: number, address = `m${id}:7100`, service = `m${id}:7400`): MembershipChange => ({
  kind: "add-learner",
  member: { id: nodeId(id), address, service },
});
const promote = (id: number, replacing: number | null = null): MembershipChange => ({
  kind: "promote",
  id: nodeId(id),
  replacing: replacing === null ? null : nodeId(replacing),
});
const remove = (id: number): MembershipChange => ({ kind: "remove", id: nodeId(id) });
const name = (id: number, folder: string): MembershipChange => ({ kind: "name-folder", id: nodeId(id), folder });

describe("a change", () => {
  const voters = (count: number): Membership => {
    const ids = Array.from({ length: count }, (_, at) => nodeId(at + 1));
    return simpleMembership(
      ids,
      [nodeId(20)],
      [...ids, nodeId(20)].map((id) => member(id)),
    );
  };
  const manyLearners = simpleMembership(
    [nodeId(1)],
    Array.from({ length: 9 }, (_, at) => nodeId(at + 2)),
  );

  test.each<[string, Membership, MembershipChange, RegExp]>([
    ["an id that was removed", three, add(9), /node id 9 was removed before/],
    ["a voter taken on as a learner", three, add(1), /node 1 is a member already, at m1:7100/],
    ["a learner at another address", three, add(4, "elsewhere:1"), /node 4 is a member already, at m4:7100/],
    ["a member whose address nobody noted", simpleMembership([nodeId(1)]), add(1), /node 1 is a member already$/],
    ["a raft address that is taken", three, add(5, "m2:7100"), /node 2 has the address m2:7100/],
    ["an API address that is taken", three, add(5, "m5:7100", "m3:7400"), /node 3 has the address m3:7400/],
    ["a tenth learner", manyLearners, add(12), /9 learners, the most allowed/],
    ["a stranger promoted", three, promote(7), /node 7 is no learner/],
    ["someone replaced who does not vote", three, promote(4, 8), /node 8 is no voter/],
    ["a tenth voter", voters(9), promote(20), /9 voters, the most allowed/],
    ["a voter promoted in place of another", three, promote(1, 2), /node 1 votes already; remove node 2 by itself/],
    ["the only voter removed", one, remove(1), /node 1 is the only voter/],
    ["a stranger removed", three, remove(7), /node 7 is no member/],
    ["the folder of a voter named", three, name(1, "f"), /node 1 is no learner/],
    ["the folder of a stranger named", three, name(7, "f"), /node 7 is no learner/],
  ])("is refused: %s", (_, before, change, reason) => {
    const result = changedMembership(before, change);
    expect(result.kind === "refused" ? result.reason : result.kind).toMatch(reason);
  });

  test.each<[string, Membership, MembershipChange]>([
    ["the same learner again", three, add(4)],
    ["a voter promoted", three, promote(1)],
    ["a voter promoted in place of one that is gone", three, promote(1, 9)],
    ["one removed that is removed already", three, remove(9)],
  ])("is done already: %s", (_, before, change) => {
    expect(changedMembership(before, change)).toEqual({ kind: "done" });
  });

  test("a data folder is named once, and only that name stays", () => {
    const named = changedMembership(three, name(4, "abc"));
    if (named.kind !== "next") throw new Error(named.kind);
    expect(changedMembership(named.membership, name(4, "abc"))).toEqual({ kind: "done" });
    expect(changedMembership(named.membership, name(4, "other"))).toMatchObject({ kind: "refused" });
  });

  test("a learner leaves in one step, a voter through a joint membership", () => {
    const learnerGone = changedMembership(three, remove(4));
    expect(learnerGone).toMatchObject({ kind: "next", membership: { learners: [], outgoing: [], removed: [4, 9] } });
    const joint = changedMembership(three, remove(3));
    expect(joint).toMatchObject({ kind: "next", membership: { voters: [1, 2], outgoing: [1, 2, 3], removed: [9] } });
    if (joint.kind !== "next") return;
    expect(leftJoint(joint.membership)).toMatchObject({ voters: [1, 2], outgoing: [], removed: [3, 9] });
  });

  test("any sequence of changes keeps what must hold of every membership", () => {
    const change: fc.Arbitrary<MembershipChange> = fc
      .tuple(fc.constantFrom("add", "promote", "remove", "name"), fc.integer({ min: 1, max: 12 }), fc.nat(12))
      .map(([kind, id, other]) => {
        if (kind === "add") return add(id);
        if (kind === "promote") return promote(id, other === 0 ? null : other);
        return kind === "remove" ? remove(id) : name(id, `f${other % 2}`);
      });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        let now = three;
        const everRemoved = new Set<NodeId>(now.removed);
        for (const each of changes) {
          const before = now;
          const result = changedMembership(now, each);
          if (result.kind !== "next") continue;
          const steps = isJoint(result.membership)
            ? [result.membership, leftJoint(result.membership)]
            : [result.membership];
          for (const step of steps) {
            const all = membersOf(step);
            expect(step.voters.length).toBeGreaterThan(0);
            expect(step.learners.filter((id) => step.voters.includes(id))).toEqual([]);
            expect(all.filter((id) => step.removed.includes(id))).toEqual([]);
            expect(step.members.map(({ id }) => id).filter((id) => !all.includes(id))).toEqual([]);
            if (isJoint(step)) expect(step.outgoing).toEqual(before.voters);
            for (const id of everRemoved) expect(all).not.toContain(id);
            for (const id of step.removed) everRemoved.add(id);
            // Voters differ by at most one in and one out, and whoever comes in was a learner.
            const added = step.voters.filter((id) => !before.voters.includes(id));
            expect(added.every((id) => before.learners.includes(id))).toBe(true);
            expect(added.length).toBeLessThanOrEqual(1);
          }
          now = steps[steps.length - 1]!; // one or two
        }
      }),
      { seed: testSeed("membership values") | 0, numRuns: 500 },
    );
  });
});

describe("as bytes", () => {
  test("comes back as it was, and equal memberships are equal bytes", () => {
    for (const membership of [three, one, simpleMembership([3, 1, 2].map(nodeId))]) {
      const bytes = encodeMembership(membership);
      expect(decodeMembership(bytes)).toEqual(membership);
      expect(sameMembership(decodeMembership(bytes), membership)).toBe(true);
    }
    expect(sameMembership(three, one)).toBe(false);
  });

  const text = (facts: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(facts));
  const good = { version: 1, voters: [1], outgoing: [], learners: [], members: [], removed: [] };
  test.each<[string, Uint8Array, RegExp]>([
    ["no text", Uint8Array.of(0xff, 0xfe), /it is no JSON/],
    ["no JSON", new TextEncoder().encode("{"), /it is no JSON/],
    ["a number", text(7), /it is no object/],
    ["another version", text({ ...good, version: 2 }), /its version is 2, not 1/],
    ["no list of voters", text({ ...good, voters: 1 }), /voters is no list/],
    ["nobody", text({ ...good, voters: [] }), /it has no voter/],
    ["an id out of range", text({ ...good, voters: [0] }), /a node id is no integer in 1..65535/],
    ["an id that is no number", text({ ...good, learners: ["2"] }), /a node id is no integer/],
    ["a list out of order", text({ ...good, voters: [2, 1] }), /voters does not ascend/],
    ["a member that is no object", text({ ...good, members: [null] }), /a member is no object/],
    ["a member without an address", text({ ...good, members: [{ id: 1 }] }), /a member's address is no text/],
  ])("is refused: %s", (_, bytes, reason) => {
    expect(() => decodeMembership(bytes)).toThrow(reason);
  });
});

test("the log of memberships behaves as the list of all that were appended and not cut off", () => {
  const step = fc.record({
    kind: fc.constantFrom("append", "truncate", "compact", "restore"),
    at: fc.nat(9),
    hasMembership: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (program) => {
      const log = new MembershipLog(0 as LogIndex, one);
      let naive = [{ index: 0, membership: one }];
      let base = 0;
      let last = 0;
      let serial = 1;
      for (const { kind, at, hasMembership } of program) {
        if (kind === "append") {
          last++;
          const membership = simpleMembership([nodeId(++serial)]);
          const entry = { index: last as LogIndex, term: 1 as Term, payload: new Uint8Array(0) };
          expect(log.append([hasMembership ? { ...entry, membership } : entry])).toBe(hasMembership);
          if (hasMembership) naive.push({ index: last, membership });
        } else if (kind === "truncate" && last > base) {
          const from = base + 1 + (at % (last - base));
          const cut = naive.some(({ index }) => index >= from);
          expect(log.truncateFrom(from as LogIndex)).toBe(cut);
          naive = naive.filter(({ index }) => index < from);
          last = from - 1;
        } else if (kind === "compact") {
          base = Math.min(last, base + at);
          log.compactTo(base as LogIndex);
        } else if (kind === "restore" && at > 6) {
          last += at;
          base = last;
          const membership = simpleMembership([nodeId(++serial)]);
          log.restore(last as LogIndex, membership);
          naive = [{ index: last, membership }];
        }
        expect(log.inForce).toBe(naive.at(-1)!.membership);
        expect(log.inForceIndex).toBe(naive.at(-1)!.index);
        for (let index = base; index <= last; index++) {
          const expected = naive.filter((held) => held.index <= index).at(-1) ?? naive[0]!;
          expect(log.at(index as LogIndex)).toBe(expected.membership);
        }
      }
    }),
    { seed: testSeed("membership log") | 0, numRuns: 1_000 },
  );
});
