/** `ananta cluster add | promote | remove`: what is told when a change of the members is not possible yet, or half done. */
import { describe, expect, test } from "vitest";
import { EXIT } from "../../cli/exit-codes.js";
import { AnantaError } from "../../core/errors.js";
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
