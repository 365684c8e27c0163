/** A metric that operators cannot look up might as well not exist. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const read = (path: string): string => readFileSync(resolve(ROOT, path), "utf8");

test.each(["manager", "mux", "agent"])("docs/operations.md lists every metric of %s", (role) => {
  const documented = read("docs/operations.md");
  const declared = [...read(`${role}/metrics.ts`).matchAll(/name: "(ananta_\w+)"/g)].map(([, name = ""]) => name);
  expect(declared.length).toBeGreaterThan(5);
  expect(declared.filter((name) => !documented.includes(`\`${name}\``))).toEqual([]);
});
