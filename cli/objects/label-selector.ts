/**
 * [pure] Label selectors as kubectl writes them: requirements joined by commas, all of which must hold.
 *
 *   app=web   app==web   app!=web   app   !app   app in (web,api)   app notin (web,api)
 *
 * `!=` and `notin` also take objects without the label.
 */
import { UsageError } from "../terminal/exit-codes.js";

type Labels = Readonly<Record<string, string>>;
export type LabelSelector = (labels: Labels) => boolean;

const KEY = String.raw`[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?`;
const VALUE = String.raw`[A-Za-z0-9_.-]*`;
const IN_SET = new RegExp(String.raw`^(${KEY})\s+(in|notin)\s*\(([^()]*)\)$`);
const EQUALITY = new RegExp(String.raw`^(${KEY})\s*(==|=|!=)\s*(${VALUE})$`);
const EXISTS = new RegExp(String.raw`^(!?)\s*(${KEY})$`);
const ONE_VALUE = new RegExp(`^${VALUE}$`);

/** Throws UsageError that names the part that is none. */
export function parseLabelSelector(text: string): LabelSelector {
  // A comma within parentheses is between values.
  const requirements = text.split(/,(?![^()]*\))/).map((part) => requirement(part.trim(), text));
  return (labels) => requirements.every((holds) => holds(labels));
}

function requirement(part: string, whole: string): LabelSelector {
  const inSet = IN_SET.exec(part);
  if (inSet !== null) {
    const [, key = "", operator, list = ""] = inSet;
    const values = new Set(list.split(",").map((value) => value.trim()));
    if ([...values].some((value) => !ONE_VALUE.test(value))) throw malformed(part, whole);
    return (labels) => (Object.hasOwn(labels, key) && values.has(labels[key] ?? "")) === (operator === "in");
  }
  const equality = EQUALITY.exec(part);
  if (equality !== null) {
    const [, key = "", operator, value] = equality;
    return (labels) => (Object.hasOwn(labels, key) && labels[key] === value) === (operator !== "!=");
  }
  const exists = EXISTS.exec(part);
  if (exists === null) throw malformed(part, whole);
  const [, not, key = ""] = exists;
  return (labels) => Object.hasOwn(labels, key) === (not === "");
}

const malformed = (part: string, whole: string): UsageError =>
  new UsageError(
    `--selector "${whole}": "${part}" is no requirement; write app=web, app!=web, app, !app, "app in (web,api)" or "app notin (web,api)"`,
  );
