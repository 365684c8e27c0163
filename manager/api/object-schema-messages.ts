/**
 * What is said of a document that is not right: what was found, and what would be right. Where it was found is the
 * problem's `path`, so that an edge with a file can add line and column.
 */

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

/**
 * The name that was probably meant, or null when none is near: at most two edits, and fewer than half of the letters. The
 * beginning of a name, "prot", is as near as one edit.
 */
export function nearest(word: string, names: readonly string[]): string | null {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[-_ ]/g, "");
  let best: string | null = null;
  let bestEdits = Math.min(3, Math.ceil(plain(word).length / 2));
  for (const name of names) {
    const isBeginning = word.length >= 3 && plain(name).startsWith(plain(word));
    const edits = Math.min(isBeginning ? 1 : Infinity, editDistance(plain(word), plain(name)));
    if (edits < bestEdits) {
      best = name;
      bestEdits = edits;
    }
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1];
      let edits = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (isSame ? 0 : 1)); // filled above
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        edits = Math.min(edits, beforeLast[column - 2]! + 1);
      }
      current.push(edits);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}

/** `"prot" is not a field here; did you mean "protocol"?` */
export function unknownField(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  const hint = meant === null ? `the fields are ${known.join(", ")}` : `did you mean "${meant}"?`;
  return `"${name}" is not a field here; ${hint}`;
}
