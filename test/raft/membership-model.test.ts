/** Membership against the plainest model of it: sets of ids, changed in any order by anybody. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, type NodeId } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import {
  changedMembership,
  isJoint,
  LEARNERS_MAX,
  leftJoint,
  membersOf,
  simpleMembership,
  VOTERS_MAX,
  type MembershipChange,
} from "../../manager/raft/core/membership.js";
import { voteOutcome } from "../../manager/raft/core/quorum.js";
import type { Member, Membership } from "../../manager/raft/core/types.js";
import { testSeed } from "../kit/virtual-world.js";

const seed = testSeed("membership") | 0;
const at = (id: number, host = id): Omit<Member, "folder"> => ({
  id: nodeId(id),
  address: `m${host}:7001`,
  service: `m${host}:7002`,
});
const founders = (...ids: number[]): Membership =>
  simpleMembership(
    ids.map(nodeId),
    [],
    ids.map((id) => ({ ...at(id), folder: "" })),
  );
/** What must be true of every membership that was ever in force. */
function checkShape(membership: Membership): void {
  const { voters, outgoing, learners, members, removed } = membership;
  for (const list of [voters, outgoing, learners, removed]) {
    expect([...list]).toEqual([...new Set(list)].sort((a, b) => a - b));
  }
  expect(voters.length).toBeGreaterThan(0);
  expect(learners.filter((id) => voters.includes(id))).toEqual([]);
  expect(members.map(({ id }) => id)).toEqual(membersOf(membership));
  expect(removed.filter((id) => membersOf(membership).includes(id))).toEqual([]);
  expect(new Set(members.map(({ address }) => address)).size).toBe(members.length);
}

describe("changes", () => {
  test("in any order lead where plain sets would, and an id that left never comes back", () => {
    const random = createRandom(seed);
    const outcomes = new Map<string, number>();
    for (let world = 0; world < 60; world++) {
      let membership = founders(1, 2, 3);
      const voters = new Set([1, 2, 3]);
      const learners = new Set<number>();
      const gone = new Set<number>();
      const folders = new Map<number, string>();
      for (let step = 0; step < 120; step++) {
        const id = 1 + random.below(24);
        const kind = (["add-learner", "promote", "remove", "name-folder"] as const)[random.below(4)]!;
        const replacing = random.below(3) === 0 ? nodeId(1 + random.below(24)) : null;
        const folder = `folder ${random.below(3)}`;
        const change: MembershipChange =
          kind === "add-learner"
            ? { kind, member: at(id) }
            : kind === "promote"
              ? { kind, id: nodeId(id), replacing }
              : kind === "remove"
                ? { kind, id: nodeId(id) }
                : { kind, id: nodeId(id), folder };
        const expected = ((): "next" | "done" | "refused" => {
          switch (kind) {
            case "add-learner":
              if (learners.has(id)) return "done";
              if (voters.has(id) || gone.has(id) || learners.size >= LEARNERS_MAX) return "refused";
              learners.add(id);
              return "next";
            case "promote": {
              if (voters.has(id)) return replacing !== null && voters.has(replacing) ? "refused" : "done";
              if (!learners.has(id) || (replacing !== null && !voters.has(replacing))) return "refused";
              if (replacing === null && voters.size >= VOTERS_MAX) return "refused";
              learners.delete(id);
              voters.add(id);
              if (replacing !== null) {
                voters.delete(replacing);
                gone.add(replacing);
              }
              return "next";
            }
            case "remove":
              if (gone.has(id)) return "done";
              if (!learners.has(id) && (!voters.has(id) || voters.size === 1)) return "refused";
              learners.delete(id);
              voters.delete(id);
              gone.add(id);
              return "next";
            case "name-folder":
              if (!learners.has(id)) return "refused";
              if (folders.has(id)) return folders.get(id) === folder ? "done" : "refused";
              folders.set(id, folder);
              return "next";
          }
        })();
        const before = membership;
        const changed = changedMembership(before, change);
        expect(changed.kind, `${kind} ${id} of ${JSON.stringify(before)}`).toBe(expected);
        outcomes.set(`${kind} ${expected}`, (outcomes.get(`${kind} ${expected}`) ?? 0) + 1);
        if (changed.kind !== "next") continue;
        checkShape(changed.membership);
        if (isJoint(changed.membership)) {
          expect(changed.membership.outgoing).toEqual(before.voters);
          membership = leftJoint(changed.membership);
        } else {
          expect(changed.membership.voters).toEqual(before.voters); // only voters need the joint way
          membership = changed.membership;
        }
        checkShape(membership);
        expect(new Set<number>(membership.voters)).toEqual(voters);
        expect(new Set<number>(membership.learners)).toEqual(learners);
        expect(new Set<number>(membership.removed)).toEqual(gone);
        for (const [of, named] of folders) {
          const found = membership.members.find((member) => member.id === nodeId(of));
          if (found !== undefined) expect(found.folder).toBe(named);
        }
      }
    }
    for (const kind of ["add-learner", "promote", "remove", "name-folder"])
      for (const outcome of ["next", "done", "refused"])
        expect(outcomes.get(`${kind} ${outcome}`) ?? 0, `${kind} ${outcome}`).toBeGreaterThan(5);
  });

  test("a joint membership shares a voter with every quorum of the one before and of the one after it", () => {
    const sides = fc.array(fc.boolean(), { minLength: 12, maxLength: 12 });
    const before = founders(1, 2, 3, 4);
    const learning = changedMembership(before, { kind: "add-learner", member: at(5) });
    if (learning.kind !== "next") throw new Error("a learner was refused");
    const joints = [
      changedMembership(learning.membership, { kind: "promote", id: nodeId(5), replacing: null }),
      changedMembership(learning.membership, { kind: "promote", id: nodeId(5), replacing: nodeId(2) }),
      changedMembership(learning.membership, { kind: "remove", id: nodeId(3) }),
    ].map((changed) => (changed.kind === "next" ? changed.membership : before));
    fc.assert(
      fc.property(fc.constantFrom(...joints), sides, (joint, side) => {
        const wins = (membership: Membership, wanted: boolean): boolean =>
          voteOutcome(
            membership,
            new Map(membersOf(joint).map((id): [NodeId, boolean] => [id, side[id] === wanted])),
          ) === "won";
        for (const neighbour of [learning.membership, joint, leftJoint(joint)]) {
          expect(wins(joint, true) && wins(neighbour, false)).toBe(false);
        }
      }),
      { seed, numRuns: 2_000 },
    );
  });
});
