import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { planted, type Mutant } from "./mutant.js";
import { RAFT_MUTANTS } from "./raft-mutants.js";
import { SYSTEM_MUTANTS } from "./system-mutants.js";

const mutants = [...RAFT_MUTANTS, ...SYSTEM_MUTANTS];
const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

describe("planted mistakes", () => {
  test.each(mutants)("$name still finds its place", (mutant: Mutant) => {
    expect(planted(mutant, readFileSync(at(mutant.file), "utf8"))).toContain(mutant.replace);
  });

  test("there are at least forty, each with a name of its own and somebody to find it", () => {
    expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
    expect(mutants.length).toBeGreaterThanOrEqual(40);
    for (const { killers } of mutants) {
      expect(killers.length).toBeGreaterThan(0);
      for (const killer of killers) expect(killer === "sim" || existsSync(at(killer))).toBe(true);
    }
  });

  test("the manual names every one", () => {
    const manual = readFileSync(at("docs/testing.md"), "utf8");
    expect(mutants.filter(({ name }) => !manual.includes(`\`${name}\``)).map(({ name }) => name)).toEqual([]);
  });

  test("one whose place is gone, or is not the only one, is refused", () => {
    const mutant: Mutant = { name: "x", file: "f", find: "a", replace: "b", breaks: "", killers: ["sim"] };
    expect(planted(mutant, "xay")).toBe("xby");
    expect(() => planted(mutant, "xy")).toThrow("no more");
    expect(() => planted(mutant, "aa")).toThrow("more than once");
  });
});
