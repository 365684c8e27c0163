/**
 * Manifests: YAML or JSON files with any number of documents, and the way back from a path in a document to the line and
 * column where a person wrote it.
 */
import {
  LineCounter,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  parseAllDocuments,
  type Document,
  type Node,
  type Pair,
} from "yaml";
import {
  formatProblem,
  parsePath,
  show,
  type PathKey,
  type Problem,
} from "../../manager/api/objects/schema-messages.js";
import { API_VERSION, DEFAULT_TENANT, validateDocument } from "../../manager/api/objects/schema.js";
import type { ApplyObject } from "../../manager/state/commands/commands.js";
import { UsageError } from "../terminal/exit-codes.js";
import type { Files } from "../terminal/shell.js";

/** Where a document came from, and how to point into it. */
export interface Source {
  /** Position of `path` within the document; as near as there is something written. */
  position(path: string, isName?: boolean): Position;
}

export interface Position {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

export interface ManifestObject {
  /** As parsed, unchecked. */
  readonly value: unknown;
  readonly source: Source;
}

/** "web.yaml:12:13: spec.rules[0].port: 70000 is not a port; use 1 to 65535" */
export type ProblemLine = string;

export const formatPosition = ({ file, line, column }: Position): string => `${file}:${line}:${column}`;

export function problemLine(source: Source, problem: Problem): ProblemLine {
  return `${formatPosition(source.position(problem.path, problem.isName === true))}: ${formatProblem(problem)}`;
}

export interface Manifests {
  readonly objects: readonly ManifestObject[];
  /** Files that are no YAML, and lists that are none. */
  readonly problems: readonly ProblemLine[];
  readonly fileCount: number;
}

/** Reads `-f` arguments: files, folders, "-" for standard input. */
export async function readManifests(paths: readonly string[], files: Files): Promise<Manifests> {
  const objects: ManifestObject[] = [];
  const problems: ProblemLine[] = [];
  let fileCount = 0;
  for (const path of paths) {
    const inFolder = path === "-" ? null : await files.manifestsIn(path);
    if (inFolder?.length === 0) throw new UsageError(`${path}: no .yaml, .yml or .json files in this folder`);
    for (const file of inFolder ?? [path]) {
      const text = await files.read(file).catch((caught: unknown) => {
        throw new UsageError(`${file}: ${readFailure(caught)}`);
      });
      fileCount++;
      parseManifest(file === "-" ? "<stdin>" : file, text, objects, problems);
    }
  }
  return { objects, problems, fileCount };
}

function readFailure(caught: unknown): string {
  const code = caught instanceof Error && "code" in caught ? String(caught.code) : "";
  if (code === "ENOENT") return "no such file";
  if (code === "EACCES") return "permission denied";
  return caught instanceof Error ? caught.message : String(caught);
}

/** Appends what is found in one file. */
export function parseManifest(file: string, text: string, objects: ManifestObject[], problems: ProblemLine[]): void {
  const lineCounter = new LineCounter();
  const at = (offset: number): Position => {
    const { line, col } = lineCounter.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const documents = parseAllDocuments(text, { lineCounter, prettyErrors: false });
  if ("empty" in documents) return;
  for (const document of documents) {
    // After the first mistake in the form of a document, further ones are mostly its echoes.
    const [first] = document.errors;
    for (const error of document.errors) {
      if (error !== first && error.code !== "DUPLICATE_KEY") continue;
      const message = isJson(file, text) ? plainJsonError(error.message) : plainYamlError(error.code, error.message);
      problems.push(`${formatPosition(at(error.pos[0]))}: ${message}`);
    }
    if (document.errors.length > 0 || document.contents === null) continue;
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: 100 });
    } catch (caught) {
      problems.push(
        `${formatPosition(at(document.range[0]))}: ${caught instanceof Error ? caught.message : String(caught)}`,
      );
      continue;
    }
    if (value === null) continue; // only comments
    const source = (prefix: readonly PathKey[]): Source => ({
      position: (path, isName) => at(offsetOf(document, [...prefix, ...parsePath(path)], isName === true)),
    });
    if (!isList(value)) {
      objects.push({ value, source: source([]) });
      continue;
    }
    if (Array.isArray(value["items"]))
      value["items"].forEach((item: unknown, position) =>
        objects.push({ value: item, source: source(["items", position]) }),
      );
    else
      problems.push(
        problemLine(source([]), { path: "items", message: `${show(value["items"])} is not a list of objects` }),
      );
  }
}

function isList(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    "kind" in value &&
    value.kind === "List" &&
    "apiVersion" in value &&
    value.apiVersion === API_VERSION
  );
}

/** JSON is YAML, too; but whoever wrote JSON shall be told of JSON. */
const isJson = (file: string, text: string): boolean => file.endsWith(".json") || /^\s*[{[]/.test(text);

function plainJsonError(message: string): string {
  const unclosed = /end with a ([\]}])/.exec(message)?.[1];
  return `not JSON: ${unclosed === undefined ? message : `a ${unclosed} is missing; is the file cut off?`}`;
}

function plainYamlError(code: string, message: string): string {
  if (code === "DUPLICATE_KEY") return "this field is written twice in one mapping; keep one";
  if (code === "TAB_AS_INDENT") return "a tab at the start of a line; YAML is indented with spaces";
  return `not YAML: ${message}`;
}

/** Walks as far along `keys` as there are nodes; where something is missing, points to the mapping that lacks it. */
function offsetOf(document: Document.Parsed, keys: readonly PathKey[], wantsName: boolean): number {
  let node: Node | null = document.contents;
  let offset = startOf(node) ?? document.range[0];
  for (const [depth, key] of keys.entries()) {
    if (isAlias(node)) node = node.resolve(document) ?? null;
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find(
        (item) => (isScalar(item.key) ? String(item.key.value) : String(item.key)) === String(key),
      );
      if (pair === undefined) return offset;
      const value = pair.value as Node | null;
      const nameAt = startOf(pair.key as Node | null) ?? offset;
      // A mapping or list below its key: the key is where its reader looks.
      const isBlock = isCollection(value) && value.flow !== true;
      offset = isBlock || (wantsName && depth === keys.length - 1) ? nameAt : (startOf(value) ?? nameAt);
      node = value;
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(key)];
      if (item === undefined) return offset;
      node = item as Node;
      offset = startOf(node) ?? offset;
    } else return offset;
  }
  return offset;
}

const startOf = (node: Node | null | undefined): number | null => node?.range?.[0] ?? null;

export interface CheckedManifests {
  readonly objects: readonly { readonly object: ApplyObject; readonly source: Source }[];
  readonly problems: readonly ProblemLine[];
}

/** Everything that can be known without asking: all problems of all documents, in the order written. */
export function checkManifests(objects: readonly ManifestObject[], tenant: string | null): CheckedManifests {
  const checked: { readonly object: ApplyObject; readonly source: Source }[] = [];
  const problems: ProblemLine[] = [];
  const seen = new Map<string, Source>();
  for (const { value, source } of objects) {
    const result = validateDocument(inTenant(value, tenant));
    if ("problems" in result) {
      problems.push(...result.problems.map((problem) => problemLine(source, problem)));
      continue;
    }
    const { ref } = result.ok;
    if (tenant !== null && ref.tenant !== tenant) {
      problems.push(
        problemLine(source, {
          path: "metadata.tenant",
          message: `"${ref.tenant}" is not the tenant given with --tenant, "${tenant}"`,
        }),
      );
    }
    const key = `${ref.kind}/${ref.tenant}/${ref.name}`;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, source);
    else {
      const message = `${ref.kind} "${ref.name}" is written at ${formatPosition(first.position("metadata.name"))} already; write each object once`;
      problems.push(problemLine(source, { path: "metadata.name", message }));
    }
    checked.push({ object: result.ok, source });
  }
  return { objects: checked, problems };
}

/** --tenant stands in where a document names none. */
export function inTenant(value: unknown, tenant: string | null): unknown {
  if (tenant === null || tenant === DEFAULT_TENANT || !isRecord(value) || !isRecord(value["metadata"])) return value;
  return { ...value, metadata: { tenant, ...value["metadata"] } };
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** "3 problems in 2 files", "1 problem in web.yaml". */
export function countProblems(problems: readonly ProblemLine[], paths: readonly string[], fileCount: number): string {
  const many = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const [path] = paths;
  return fileCount === 1 && path !== undefined
    ? `${many} in ${path === "-" ? "<stdin>" : path}`
    : `${many} in ${fileCount} files`;
}
