/**
 * Runs `scenarios/*.txt` and compares traces. After a change that is meant: UPDATE=1 npx vitest run test/raft/scenarios,
 * then read the difference, line by line: it is the behaviour that changed.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { formatScenario, parseScenario, Scenario } from "./scenario.js";

const folder = new URL("./scenarios/", import.meta.url);
const update = process.env["UPDATE"] === "1";

for (const file of readdirSync(folder)
  .filter((name) => name.endsWith(".txt"))
  .sort()) {
  const text = readFileSync(new URL(file, folder), "utf8");
  const title = /^# (.*)/.exec(text)?.[1] ?? file;
  test(`${file.replace(/\.txt$/, "")}: ${title}`, () => {
    const scenario = new Scenario();
    const parts = parseScenario(text).map((part) => ({ ...part, actual: scenario.run(part.commands) }));
    if (update)
      writeFileSync(new URL(file, folder), formatScenario(parts.map((part) => ({ ...part, expected: part.actual }))));
    else for (const part of parts) expect(part.actual.join("\n")).toBe(part.expected.join("\n"));
  });
}
