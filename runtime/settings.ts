/**
 * Settings of a process: flag > environment (ANANTA_*) > file (`--config FILE`, JSON) > default. Every value is checked by
 * one schema; an unknown key is an error that names the nearest known one, and all problems are told at once.
 */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { z } from "zod";
import { AnantaError } from "../core/errors.js";
import { nearest } from "../core/nearest.js";
import { parseHostPort } from "./node/address.js";

/** "host:port" as text; IPv6 in brackets. */
export const hostPort = z.string().refine((text) => hostOf(text) !== null, "is not an address of the form host:port");

/** "IP:port" as text: compared with where packets come from, so no name will do. */
export const ipPort = z
  .string()
  .refine((text) => isIP(hostOf(text) ?? "") !== 0, "is not an address of the form IP:port, with a port up to 65535");

function hostOf(address: string): string | null {
  if (/\s/.test(address)) return null;
  try {
    return parseHostPort(address).host;
  } catch {
    return null;
  }
}

export interface SettingsSource {
  /** Arguments after the program's name: `--config FILE`, `--key value`, `--key=value`. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Throws INVALID_ARGUMENT: one line per problem, each with the key, what is wrong and where it came from. */
export function readSettings<Schema extends z.ZodObject>(
  schema: Schema,
  { argv, env }: SettingsSource,
): z.infer<Schema> {
  const shape = schema.shape as Readonly<Record<string, z.core.$ZodType | undefined>>;
  const flags = parseFlags(argv);
  const file = flags.get("config") ?? env["ANANTA_CONFIG"];
  flags.delete("config");
  const origin = new Map<string, string>();
  const values: Record<string, unknown> = {};
  const put = (key: string, value: unknown, from: string): void => {
    values[key] = value;
    origin.set(key, from);
  };
  if (file !== undefined) for (const [key, value] of Object.entries(readJson(file))) put(key, value, file);
  for (const key of Object.keys(schema.shape)) {
    const name = environmentName(key);
    const text = env[name];
    if (text !== undefined) put(key, fromText(text, shape[key]), name);
  }
  for (const [key, text] of flags) put(key, fromText(text, shape[key]), `--${key}`);

  const checked = schema.strict().safeParse(values);
  if (checked.success) return checked.data as z.infer<Schema>;
  const known = Object.keys(schema.shape);
  const problems = checked.error.issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") {
      const at = issue.path.length === 0 ? "" : `${issue.path.join(".")}.`;
      return issue.keys.map(
        (key) =>
          `${at}${key}: unknown setting${at === "" ? hint(key, known) : ""} (${origin.get(key) ?? file ?? "settings"})`,
      );
    }
    const key = String(issue.path[0] ?? "");
    return [`${issue.path.join(".")}: ${issue.message} (${origin.get(key) ?? "missing"})`];
  });
  throw new AnantaError("INVALID_ARGUMENT", problems.join("\n"));
}

/** "ANANTA_DATA_FOLDER" for dataFolder. */
export const environmentName = (key: string): string =>
  `ANANTA_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

function parseFlags(argv: readonly string[]): Map<string, string> {
  const flags = new Map<string, string>();
  for (let at = 0; at < argv.length; at++) {
    const match = /^--([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?$/s.exec(argv[at] ?? "");
    if (match === null)
      throw new AnantaError("INVALID_ARGUMENT", `"${argv[at] ?? ""}" is not a flag; use --key value or --config FILE`);
    const [, dashed = "", inline] = match;
    const key = dashed.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const value = inline ?? argv[++at];
    if (value === undefined) throw new AnantaError("INVALID_ARGUMENT", `--${dashed} needs a value`);
    flags.set(key, value);
  }
  return flags;
}

/**
 * Text that is JSON (a number, true, a list) is taken as such where the setting is of that type; anything else is a string:
 * the name 7 is "7".
 */
function fromText(text: string, schema: z.core.$ZodType | undefined): unknown {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return text;
  }
  const issues = schema === undefined ? [] : (z.safeParse(schema, parsed).error?.issues ?? []);
  return issues.some(({ code, path }) => code === "invalid_type" && path.length === 0) ? text : parsed;
}

function readJson(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (caught) {
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `cannot read the settings file ${file}: ${caught instanceof Error ? caught.message : String(caught)}`,
    );
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (caught) {
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `${file} is not JSON: ${caught instanceof Error ? caught.message : String(caught)}`,
    );
  }
  throw new AnantaError("INVALID_ARGUMENT", `${file} holds no JSON object`);
}

function hint(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  return meant === null ? `; known are ${known.join(", ")}` : `; did you mean ${meant}?`;
}
