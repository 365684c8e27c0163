/**
 * docs/configuration.md shows each message that a person's mistake leads to. Here the sources are read for the places that make such
 * messages; each must be one that the document shows, with other names and numbers, or stand in `OTHERS` with a reason.
 * That what the document shows is really said is seen in `test/manager/messages` and `test/cli/messages`.
 */
import { readdirSync, readFileSync } from "node:fs";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { documentedMessages } from "../manager/messages/document.js";
import { OTHERS } from "./refusals-of-others.js";

const ROOT = new URL("../../", import.meta.url);
/** Where mistakes of people are answered; folders end with "/". */
const SOURCES = [
  "cli/",
  "manager/api/",
  "manager/api/flows/",
  "manager/api/objects/",
  "manager/projection/address-wire.ts",
  "manager/projection/agent-streams.ts",
  "manager/projection/origin.ts",
  "manager/projection/range-wire.ts",
  "manager/projection/snat-requests.ts",
  "manager/stages/snat-management.ts",
  "manager/state/apply/",
];
/** Codes that say "this is wrong", not "not now, not here". */
const MISTAKES: ReadonlySet<string> = new Set([
  "INVALID_ARGUMENT",
  "FAILED_PRECONDITION",
  "NOT_FOUND",
  "GENERATION_CONFLICT",
  "PERMISSION_DENIED",
  "SESSION_EXPIRED",
  "SNAT_NOT_CONFIGURED",
]);
/** What is not known before it happens: names, numbers, texts of others. */
const ANY = "\u0000";
/** A message of fewer letters of its own passes on somebody else's. */
const OWN_CHARACTERS_MIN = 6;

interface Made {
  readonly file: string;
  readonly line: number;
  /** With `ANY` where a value stands. */
  readonly text: string;
}

function* filesOf(source: string): Iterable<string> {
  if (!source.endsWith("/")) {
    yield source;
    return;
  }
  for (const { name, parentPath } of readdirSync(new URL(source, ROOT), {
    withFileTypes: true,
    recursive: source === "cli/",
  }))
    if (name.endsWith(".ts")) yield `${parentPath.slice(ROOT.pathname.length).replace(/\/?$/, "/")}${name}`;
}

function messagesOf(file: string): readonly Made[] {
  const source = ts.createSourceFile(file, readFileSync(new URL(file, ROOT), "utf8"), ts.ScriptTarget.ES2022, true);
  const made: Made[] = [];
  const note = (node: ts.Expression | undefined): void => {
    if (node === undefined) return;
    const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    for (const text of textsOf(node)) made.push({ file, line, text });
  };
  const isMistake = (code: ts.Expression | undefined): boolean =>
    code !== undefined && ts.isStringLiteral(code) && MISTAKES.has(code.text);
  const visit = (node: ts.Node): void => {
    if (ts.isNewExpression(node)) {
      const [first, second] = node.arguments ?? [];
      if (node.expression.getText() === "AnantaError" && isMistake(first)) note(second);
      if (node.expression.getText() === "UsageError") note(first);
    } else if (ts.isCallExpression(node)) {
      const called = node.expression.getText();
      const { arguments: given } = node;
      if (called === "refuse" && isMistake(given[1])) note(given[2]);
      if (called.endsWith(".add") && given.length === 4 && isMistake(given[1])) note(given[3]);
      if (called === "complain") note(given[1]);
      if (called === "error" && given.length === 2) note(given[0]);
    } else if (ts.isPropertyAssignment(node)) {
      const name = node.name.getText();
      if (name === "message" || (name === "error" && ts.isArrowFunction(node.initializer))) note(node.initializer);
    } else if (ts.isShorthandPropertyAssignment(node) && node.name.text === "message") note(node.name);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return made.filter(({ text }) => text.replaceAll(ANY, "").trim().length >= OWN_CHARACTERS_MIN);
}

/** What an expression may come to. */
function textsOf(node: ts.Expression, depth = 0): readonly string[] {
  if (depth > 6) return [ANY];
  const go = (inner: ts.Expression): readonly string[] => textsOf(inner, depth + 1);
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isParenthesizedExpression(node)) return go(node.expression);
  if (ts.isTemplateExpression(node))
    return [node.head.text + node.templateSpans.map(({ literal }) => ANY + literal.text).join("")];
  if (ts.isConditionalExpression(node)) return [...go(node.whenTrue), ...go(node.whenFalse)];
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken)
    return go(node.left).flatMap((left) => go(node.right).map((right) => left + right));
  if (ts.isArrowFunction(node)) return ts.isBlock(node.body) ? returned(node.body).flatMap(go) : go(node.body);
  if (ts.isIdentifier(node)) {
    const value = valueOf(node);
    return value === null ? [ANY] : go(value);
  }
  return [ANY];
}

function returned(block: ts.Block): readonly ts.Expression[] {
  const found: ts.Expression[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isReturnStatement(node) && node.expression !== undefined) found.push(node.expression);
    if (!ts.isFunctionLike(node)) ts.forEachChild(node, visit);
  };
  ts.forEachChild(block, visit);
  return found;
}

/** What the constant of this name was set to, in the nearest block around its use. */
function valueOf(name: ts.Identifier): ts.Expression | null {
  for (let around: ts.Node = name.parent; ; around = around.parent) {
    if (ts.isBlock(around) || ts.isSourceFile(around)) {
      for (const statement of around.statements) {
        if (!ts.isVariableStatement(statement)) continue;
        for (const { name: declared, initializer } of statement.declarationList.declarations)
          if (ts.isIdentifier(declared) && declared.text === name.text && initializer !== undefined) return initializer;
      }
    }
    if (ts.isSourceFile(around)) return null;
  }
}

const pattern = ({ text }: Pick<Made, "text">): RegExp =>
  new RegExp(
    `${text
      .split(ANY)
      .map((part) => part.replaceAll(/[$()*+.?[\\\]^{|}]/g, "\\$&"))
      .join(".*")}$`,
    "s",
  );

const made = SOURCES.flatMap((source) => [...filesOf(source)].flatMap(messagesOf));
const shown = ({ file, line, text }: Made): string => `${file}:${line}: ${text.replaceAll(ANY, "...")}`;
const isOther = ({ text }: Made): boolean =>
  OTHERS.some(({ begins }) => text.replaceAll(ANY, "...").startsWith(begins));

describe("messages about mistakes", () => {
  test("are found in the sources", () => {
    expect(made.length).toBeGreaterThan(150);
  });

  test("stand in docs/configuration.md, each of them", () => {
    const documented = documentedMessages();
    const missing = made.filter((one) => !isOther(one) && !documented.some((message) => pattern(one).test(message)));
    expect([...new Set(missing.map(shown))]).toEqual([]);
  });

  test("that are excused are made somewhere, and are not documented after all", () => {
    const documented = documentedMessages();
    for (const { begins, why } of OTHERS) {
      expect(why).not.toBe("");
      const excused = made.filter(({ text }) => text.replaceAll(ANY, "...").startsWith(begins));
      expect(excused.length, `nothing says "${begins}"`).toBeGreaterThan(0);
      const needless = excused.every((one) => documented.some((message) => pattern(one).test(message)));
      expect(needless, `"${begins}" is documented`).toBe(false);
    }
  });
});
