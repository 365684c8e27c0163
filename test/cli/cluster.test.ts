/** `ananta cluster add | promote | remove`: what is told when a change of the members is not possible yet, or half done. */
import { describe, expect, test } from "vitest";
import { EXIT } from "../../cli/terminal/exit-codes.js";
import { AnantaError } from "../../core/errors.js";
import { snapshotFileParts } from "../../manager/raft/index.js";
import { meta, stored } from "../raft/storage-contract.js";
import { FakeSite } from "./fake-site.js";

const notYet = (): AnantaError =>
  new AnantaError("FAILED_PRECONDITION", "Not yet: a change is under way.", { retry: true });

/** Every replica answers with the next of these, and when they are used up does what it is asked. */
async function siteThatSays(
  salt: string,
  errors: readonly AnantaError[],
): Promise<{ site: FakeSite; asked: string[] }> {
  const site = await new FakeSite(salt).start();
  const left = [...errors];
  const asked: string[] = [];
  for (const node of [1, 2, 3])
    site.mischief.set(node, (method) => {
      asked.push(method);
      const error = left.shift();
      if (error !== undefined) throw error;
    });
  return { site, asked };
}

const forEver = (error: AnantaError): readonly AnantaError[] => Array.from({ length: 10_000 }, () => error);

const CHANGES = [
  "cluster remove 2",
  "cluster promote 4",
  "cluster add 5 --raft-address manager-5:7400 --api-address manager-5:7401",
] as const;

describe.each(CHANGES)("ananta %s", (words) => {
  test("is tried again while it is not possible yet, and then done", async () => {
    const { site, asked } = await siteThatSays("not yet", [notYet(), notYet(), notYet(), notYet()]);
    const run = await site.run(words);
    expect(run).toMatchObject({ code: EXIT.ok });
    expect(site.memberChanges).toHaveLength(1);
    expect(asked).toHaveLength(5);
  });

  // The leader dies in the joint phase of this very change; its successor finishes it, and says "not yet" until then.
  test("whose first try ended without an outcome is done when its successor has finished it", async () => {
    const lost = new AnantaError("LEADERSHIP_LOST", "leadership changed while it was being committed");
    const { site } = await siteThatSays("half done", [lost, notYet(), notYet()]);
    expect(await site.run(words)).toMatchObject({ code: EXIT.ok });
  });

  test("whose first try ended without an outcome is never called refused at the deadline", async () => {
    const lost = new AnantaError("LEADERSHIP_LOST", "leadership changed while it was being committed");
    const { site } = await siteThatSays("unknown", [lost, ...forEver(notYet())]);
    const run = await site.run(`--timeout 3s ${words}`);
    expect(run.code).toBe(EXIT.outcomeUnknown);
    expect(run.err).toContain("outcome unknown");
    expect(site.memberChanges).toEqual([]);
  });

  test("that was never possible is refused at the deadline, with the reason", async () => {
    const { site } = await siteThatSays("never", forEver(notYet()));
    const run = await site.run(`--timeout 3s ${words}`);
    expect(run.code).toBe(EXIT.refused);
    expect(run.err).toContain("not done within 3 s; the last answer was: Not yet: a change is under way.");
  });

  test("that is refused for good is not tried again", async () => {
    const { site, asked } = await siteThatSays("refused", [
      new AnantaError("FAILED_PRECONDITION", "Refused: node 2 is the last voter."),
    ]);
    const run = await site.run(words);
    expect(run.code).toBe(EXIT.refused);
    expect(run.err).toContain("the last voter");
    expect(asked).toHaveLength(1);
  });
});

describe("ananta cluster snapshot save", () => {
  async function siteWithState(salt: string): Promise<FakeSite> {
    const site = await new FakeSite(salt).start();
    const facts = { clusterId: "c1", clusterEpoch: 1, snapshot: stored(meta(9, 2), ["the ", "state"]) };
    const parts: Uint8Array[] = [];
    for await (const part of snapshotFileParts(facts, [Buffer.from("the "), Buffer.from("state")])) parts.push(part);
    site.snapshotParts = parts;
    return site;
  }

  test("goes on to the next replica when the first is paused, within its share of --timeout", async () => {
    const site = await siteWithState("paused");
    site.world.pause("manager-1");
    const startMs = site.world.nowMs;
    const run = await site.run("--timeout 6s cluster snapshot save /backup/a.snapshot");
    expect(run.err).toBe("");
    expect(run.code).toBe(EXIT.ok);
    expect(site.world.nowMs - startMs).toBeLessThan(2_500);
  });

  test("goes on to the next replica when the first ends the stream because it is being stopped", async () => {
    const site = await siteWithState("stopping");
    site.snapshotRefusal.set(1, new AnantaError("CANCELLED", "the server is stopping"));
    expect(await site.run("cluster snapshot save /backup/a.snapshot")).toMatchObject({ code: EXIT.ok });
    expect(site.snapshotsAskedOf).toEqual([1, 2]);
  });

  test("ends at --timeout when no replica sends anything", async () => {
    const site = await siteWithState("all paused");
    for (const node of [1, 2, 3]) site.world.pause(`manager-${node}`);
    const startMs = site.world.nowMs;
    const run = await site.run("--timeout 6s cluster snapshot save /backup/a.snapshot");
    expect(run.code).toBe(EXIT.unreachable);
    expect(run.err).toContain("manager-3:7401 sent nothing of the snapshot for 2 s");
    expect(site.world.nowMs - startMs).toBeLessThan(6_500);
  });
});
