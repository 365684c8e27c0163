/**
 * What is said of a document that is not right: what was found, and what would be right. Where it was found is the
 * problem's `path`, so that an edge with a file can add line and column.
 */

import { nearest } from "../../../core/nearest.js";

export interface Problem {
  /** Within the document: "spec.rules[0].port"; "" is the document itself. */
  readonly path: string;
  /** "70000 is not a port; use 1 to 65535" */
  readonly message: string;
  /** The name of the field is wrong, not its value. */
  readonly isName?: true;
}

/** "spec.rules[0].port: 70000 is not a port; use 1 to 65535" */
export const formatProblem = ({ path, message }: Problem): string => (path === "" ? message : `${path}: ${message}`);

export type PathKey = string | number;

/** ["spec", "rules", 0, "port"] -> "spec.rules[0].port". Keys with other characters are quoted: labels["a.b/c"]. */
export function formatPath(keys: readonly PropertyKey[]): string {
  let path = "";
  for (const key of keys) {
    if (typeof key === "number") path += `[${key}]`;
    else if (/^[A-Za-z_][A-Za-z0-9_-]*$/.test(String(key))) path += path === "" ? String(key) : `.${String(key)}`;
    else path += `[${JSON.stringify(String(key))}]`;
  }
  return path;
}

/** The inverse of `formatPath`; what does not parse ends the path early. */
export function parsePath(path: string): readonly PathKey[] {
  const keys: PathKey[] = [];
  const step = /\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]/y;
  while (step.lastIndex < path.length) {
    const match = step.exec(path);
    if (match === null) break;
    if (match[1] !== undefined) keys.push(match[1]);
    else if (match[2] !== undefined) keys.push(Number(match[2]));
    else keys.push(JSON.parse(match[3] ?? '""') as string);
  }
  return keys;
}

const SHOWN_CHARACTERS_MAX = 60;

/** A value as its writer would recognise it, on one line. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (value !== null && typeof value === "object") return "a mapping";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX - 4)}..."`;
}

/** `"prot" is not a field here; did you mean "protocol"?` */
export function unknownField(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  const hint = meant === null ? `the fields are ${known.join(", ")}` : `did you mean "${meant}"?`;
  return `"${name}" is not a field here; ${hint}`;
}
