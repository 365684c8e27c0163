/** A drop reason that no test brings about may count something else, or nothing. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { DROP_REASONS } from "../../dataplane/drop-reasons.js";
import { PACKET_FAULTS } from "../../packet/fault.js";
import { AGENT_CHANCE_ROWS } from "../packet/fixtures/agent-rows-second-chance.js";
import { AGENT_FIXTURES, AGENT_FIXTURES_IPV6, MUX_FIXTURES } from "../packet/fixtures/rows.js";

const ROOT = resolve(import.meta.dirname, "../..");
const textsUnder = (folder: string, ending: string): string =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending))
    .map((name) => readFileSync(join(ROOT, folder, name), "utf8"))
    .join("\n");

it("every drop reason is the verdict of a fixture, or is counted by name in a test", () => {
  const rows = [...MUX_FIXTURES, ...AGENT_FIXTURES, ...AGENT_FIXTURES_IPV6, ...AGENT_CHANCE_ROWS];
  const verdicts = new Set<string>(rows.flatMap(({ steps }) => steps.map(({ verdict }) => verdict)));
  const tests = textsUnder("test", ".test.ts");
  // As in `expect(bench.drops()).toEqual({ hairpin: 100 })`.
  const isCounted = (reason: string): boolean => new RegExp(`\\b${reason}: [1-9]`).test(tests);
  expect(DROP_REASONS.filter((reason) => !verdicts.has(reason) && !isCounted(reason))).toEqual([]);
});

it("every drop reason is given by a data plane", () => {
  const sources = ["dataplane", "mux", "agent"].map((folder) => textsUnder(folder, ".ts")).join("\n");
  const packets = textsUnder("packet", ".ts");
  const isGiven = (reason: string): boolean =>
    new RegExp(`\\bDROP\\.${reason}\\b`).test(sources) || new RegExp(`\\bFAULT\\.${reason}\\b`).test(packets);
  expect(PACKET_FAULTS.length).toBeGreaterThan(5);
  expect(DROP_REASONS.filter((reason) => !isGiven(reason))).toEqual([]);
});
