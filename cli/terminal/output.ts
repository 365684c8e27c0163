/** `-o`: how data is written. JSON and YAML carry apiVersion and kind, and objects in them can be applied again. */
import { Option } from "commander";
import { stringify } from "yaml";
import { API_VERSION } from "../../manager/api/objects/schema.js";

export type Format = "table" | "wide" | "json" | "yaml" | "name";
export const FORMATS: readonly Format[] = ["table", "wide", "json", "yaml", "name"];

export function formatOption(formats: readonly Format[] = FORMATS): Option {
  return new Option("-o, --output <format>", "output format").choices(formats).default("table");
}

/** Where an answer stands in the log, and how old it is. */
export interface ReadAt {
  readonly index: number;
  readonly ageMs: number;
}

export type Document = Readonly<Record<string, unknown>>;

export function listDocument(items: readonly Document[], read: ReadAt | null, stale: boolean): Document {
  const metadata = read === null ? {} : { index: read.index, ...(stale ? { stale: true, ageMs: read.ageMs } : {}) };
  return { apiVersion: API_VERSION, kind: "List", metadata, items };
}

export function serialize(document: Document, format: "json" | "yaml"): string {
  if (format === "json") return `${JSON.stringify(document, null, 2)}\n`;
  return stringify(document, { lineWidth: 0, aliasDuplicateObjects: false });
}

export const isStructured = (format: Format): format is "json" | "yaml" => format === "json" || format === "yaml";
