/** Messages listed in docs/configuration.md, by section: the first column of its tables. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const text = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8");

const messagesIn = (body: string): readonly string[] =>
  [...body.matchAll(/^\| `(.+?)` \|/gm)].map(([, message]) => message ?? "");

function documented(section: string): readonly string[] {
  const [, after = ""] = text.split(`### ${section}\n`);
  const [body = ""] = after.split(/^#/m);
  return messagesIn(body);
}

/** Of all sections of "What can be wrong". */
export const documentedMessages = (): readonly string[] => messagesIn(text.split("## What can be wrong\n")[1] ?? "");

/** One test per message: the document lists exactly what is provoked, and what is said is what stands there. */
export function provokeAll<Provoke>(
  section: string,
  provocations: Readonly<Record<string, Provoke>>,
  said: (provoke: Provoke) => Promise<readonly string[]> | readonly string[],
): void {
  test(`${section}: the document lists what is provoked here, and nothing else`, () => {
    expect([...documented(section)].sort()).toEqual(Object.keys(provocations).sort());
  });
  test.each(Object.entries(provocations))("%s", async (message, provoke) => {
    expect(await said(provoke)).toContain(message);
  });
}
