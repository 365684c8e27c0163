/**
 * [pure] Histories as JSON lines: a first line that says what it is, then one operation per line. The format is described in
 * docs/testing.md, "Histories", for checkers that are not ours.
 */
import {
  blocksOf,
  rangesOfBlock,
  type Action,
  type History,
  type Operation,
  type Outcome,
  type RangeName,
  type RangeOwner,
} from "./history.js";

const FORMAT = "ananta-history";
const VERSION = 1;

/** A line that cannot be read: `message` says which one, what is wrong, and what would be right. */
export class HistoryError extends Error {
  override readonly name = "HistoryError";
}

export function encodeHistory(history: History): string {
  const { source, seed, quarantineMs, operations } = history;
  const head = JSON.stringify({ format: FORMAT, version: VERSION, source, seed, quarantineMs });
  return `${[head, ...operations.map(encodeOperation)].join("\n")}\n`;
}

export function encodeOperation({ id, client, origin, callMs, returnMs, action, outcome }: Operation): string {
  const { kind, ...wanted } = action;
  return JSON.stringify({
    op: id,
    client,
    ...(origin === null ? {} : { session: origin.session, sequence: origin.sequence }),
    call: callMs,
    return: returnMs,
    do: kind,
    ...("ranges" in wanted ? { ...wanted, ranges: blocksOf(wanted.ranges) } : wanted),
    outcome: encodeOutcome(outcome),
  });
}

function encodeOutcome(outcome: Outcome): Readonly<Record<string, unknown>> {
  if (outcome.kind === "listed") {
    const blocks = new Map<string, RangeName[]>();
    for (const [range, { dip, state }] of outcome.owners) {
      const key = `${state} ${dip}`;
      const ranges = blocks.get(key) ?? [];
      if (ranges.length === 0) blocks.set(key, ranges);
      ranges.push(range);
    }
    const owners = [...blocks].map(([key, ranges]) => {
      const [state = "", dip = ""] = key.split(" ");
      return { dip, state, ranges: blocksOf(ranges) };
    });
    return { kind: "listed", owners };
  }
  if ("ranges" in outcome && outcome.ranges !== undefined) return { ...outcome, ranges: blocksOf(outcome.ranges) };
  return { ...outcome };
}

/** Throws HistoryError. */
export function decodeHistory(text: string): History {
  const lines = text.split("\n");
  while (lines.at(-1)?.trim() === "") lines.pop();
  const head = new Fields(parse(lines[0] ?? "", 1), 1);
  if (head.values["format"] !== FORMAT || head.values["version"] !== VERSION)
    throw new HistoryError(`line 1: expected {"format":"${FORMAT}","version":${VERSION},...}, a history's first line`);
  const ids = new Set<number>();
  const operations = lines.slice(1).map((line, at) => {
    const operation = decodeOperation(new Fields(parse(line, at + 2), at + 2));
    if (ids.has(operation.id)) throw new HistoryError(`line ${at + 2}: op ${operation.id} is there twice`);
    ids.add(operation.id);
    return operation;
  });
  return {
    source: head.text("source"),
    seed: head.text("seed"),
    quarantineMs: head.number("quarantineMs"),
    operations,
  };
}

function parse(line: string, at: number): Readonly<Record<string, unknown>> {
  let value: unknown = null;
  try {
    value = JSON.parse(line);
  } catch {
    // said below
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new HistoryError(`line ${at}: expected a JSON object, found ${JSON.stringify(line.slice(0, 40))}`);
  return value as Readonly<Record<string, unknown>>;
}

function decodeOperation(line: Fields): Operation {
  const callMs = line.number("call");
  const returnMs = line.values["return"] === null ? null : line.number("return");
  if (returnMs !== null && returnMs < callMs) throw line.error(`"return" ${returnMs} is before "call" ${callMs}`);
  const outcome = decodeOutcome(line.fields("outcome"));
  if (returnMs === null && outcome.kind !== "unknown")
    throw line.error(`"return" is null: only an outcome of kind "unknown" has none`);
  const action = decodeAction(line);
  if (outcome.kind !== "unknown" && outcome.kind !== "refused" && outcome.kind !== ANSWER_TO[action.kind])
    throw line.error(`an outcome of kind "${outcome.kind}" does not answer ${action.kind}`);
  return {
    id: line.number("op"),
    client: line.text("client"),
    origin:
      line.values["session"] === undefined
        ? null
        : { session: line.text("session"), sequence: line.number("sequence") },
    callMs,
    returnMs,
    action,
    outcome,
  };
}

const ANSWER_TO: Readonly<Record<Action["kind"], Outcome["kind"]>> = {
  "snat-allocate": "granted",
  "snat-release": "released",
  "snat-list": "listed",
  "object-apply": "changed",
  "object-delete": "changed",
  "object-get": "read",
};

function decodeAction(line: Fields): Action {
  const kind = line.text("do");
  switch (kind) {
    case "snat-allocate":
      return { kind, dip: line.text("dip") };
    case "snat-release":
      return { kind, dip: line.text("dip"), ranges: line.ranges("ranges") };
    case "snat-list":
      return { kind, vips: line.texts("vips") };
    case "object-apply":
      return { kind, object: line.text("object"), value: line.text("value"), generation: line.number("generation") };
    case "object-delete":
      return { kind, object: line.text("object"), generation: line.number("generation") };
    case "object-get":
      return { kind, object: line.text("object") };
    default:
      throw line.error(`"do" is ${JSON.stringify(kind)}; known are ${Object.keys(ANSWER_TO).join(", ")}`);
  }
}

function decodeOutcome(outcome: Fields): Outcome {
  const kind = outcome.text("kind");
  switch (kind) {
    case "granted":
      return { kind, ranges: outcome.ranges("ranges") };
    case "released":
      return { kind };
    case "listed":
      return { kind, owners: decodeOwners(outcome) };
    case "changed":
      return {
        kind,
        change: outcome.oneOf("change", ["created", "configured", "unchanged", "deleted"]),
        generation: outcome.number("generation"),
      };
    case "read": {
      if (outcome.values["found"] === null) return { kind, found: null };
      const found = outcome.fields("found");
      return { kind, found: { value: found.text("value"), generation: found.number("generation") } };
    }
    case "refused":
      return { kind, code: outcome.text("code") };
    case "unknown":
      return outcome.values["ranges"] === undefined ? { kind } : { kind, ranges: outcome.ranges("ranges") };
    default:
      throw outcome.error(`an outcome of kind ${JSON.stringify(kind)} is not known`);
  }
}

function decodeOwners(outcome: Fields): ReadonlyMap<RangeName, RangeOwner> {
  const owners = new Map<RangeName, RangeOwner>();
  for (const entry of outcome.list("owners")) {
    const owner: RangeOwner = { dip: entry.text("dip"), state: entry.oneOf("state", ["owned", "quarantined"]) };
    for (const range of entry.ranges("ranges")) {
      if (owners.has(range)) throw entry.error(`${range} is listed twice`);
      owners.set(range, owner);
    }
  }
  return owners;
}

/** The fields of one JSON object, checked as they are asked for. */
class Fields {
  readonly values: Readonly<Record<string, unknown>>;
  readonly #line: number;

  constructor(values: Readonly<Record<string, unknown>>, line: number) {
    this.values = values;
    this.#line = line;
  }

  error(problem: string): HistoryError {
    return new HistoryError(`line ${this.#line}: ${problem}`);
  }

  text(name: string): string {
    const value = this.values[name];
    if (typeof value !== "string") throw this.#wrong(name, "a string");
    return value;
  }

  number(name: string): number {
    const value = this.values[name];
    if (typeof value !== "number" || value < 0) throw this.#wrong(name, "a number from 0 on");
    return value;
  }

  oneOf<Value extends string>(name: string, known: readonly Value[]): Value {
    const value = known.find((candidate) => candidate === this.values[name]);
    if (value === undefined) throw this.#wrong(name, `one of ${known.join(", ")}`);
    return value;
  }

  texts(name: string): readonly string[] {
    const value = this.values[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string"))
      throw this.#wrong(name, "a list of strings");
    return value;
  }

  ranges(name: string): readonly RangeName[] {
    return this.texts(name).flatMap((block) => {
      const ranges = rangesOfBlock(block);
      if (ranges === null) throw this.#wrong(name, `blocks such as "203.0.113.10/tcp/128+2"`);
      return ranges;
    });
  }

  fields(name: string): Fields {
    const value = this.values[name];
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.#wrong(name, "an object");
    return new Fields(value as Readonly<Record<string, unknown>>, this.#line);
  }

  list(name: string): readonly Fields[] {
    const value = this.values[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === "object" && item !== null))
      throw this.#wrong(name, "a list of objects");
    return value.map((item) => new Fields(item as Readonly<Record<string, unknown>>, this.#line));
  }

  #wrong(name: string, wanted: string): HistoryError {
    return this.error(`"${name}" is ${JSON.stringify(this.values[name]) ?? "missing"}; it has to be ${wanted}`);
  }
}
