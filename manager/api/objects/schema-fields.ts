/**
 * Looks into a schema: which fields there are at a path, and what their descriptions say. Serves the messages about
 * unknown fields and `ananta explain`.
 */
import type { z } from "zod";
import { parsePath, type PathKey } from "./schema-messages.js";

export interface Field {
  readonly name: string;
  /** "string", "integer", "Object", "[]Object", "map[string]string", "tcp | udp". */
  readonly type: string;
  readonly description: string;
  readonly isRequired: boolean;
  /** As YAML would write it; null: none. */
  readonly defaultValue: string | null;
  /** Of an object, or of the objects in a list; empty otherwise. */
  readonly fields: readonly Field[];
}

interface Wrapped {
  readonly schema: z.core.$ZodType;
  readonly description: string;
  readonly isRequired: boolean;
  readonly defaultValue: string | null;
}

/** Takes optional() and default() off, and remembers what they said. */
function unwrap(schema: z.core.$ZodType): Wrapped {
  let current = schema;
  let description = "";
  let isRequired = true;
  let defaultValue: string | null = null;
  for (;;) {
    if (description === "") description = (current as z.ZodType).description ?? "";
    const { def } = (current as z.core.$ZodTypes)._zod;
    if (def.type === "optional") isRequired = false;
    else if (def.type === "default" || def.type === "prefault") {
      isRequired = false;
      defaultValue = JSON.stringify(def.defaultValue);
    } else return { schema: current, description, isRequired, defaultValue };
    current = def.innerType;
  }
}

/** Names of the fields of the object at `keys`; empty when there is no object with fixed fields. */
export function fieldNames(root: z.core.$ZodType, keys: readonly PropertyKey[]): readonly string[] {
  const schema = descend(root, keys);
  const { def } = ((schema === null ? root : unwrap(schema).schema) as z.core.$ZodTypes)._zod;
  return schema !== null && def.type === "object" ? Object.keys(def.shape) : [];
}

function descend(root: z.core.$ZodType, keys: readonly PropertyKey[]): z.core.$ZodType | null {
  let schema: z.core.$ZodType = root;
  for (const key of keys) {
    const { def } = (unwrap(schema).schema as z.core.$ZodTypes)._zod;
    const next =
      def.type === "object"
        ? def.shape[String(key)]
        : def.type === "array"
          ? def.element
          : def.type === "record"
            ? def.valueType
            : undefined;
    if (next === undefined) return null;
    schema = next;
  }
  return schema;
}

/** The field at "spec.rules.port" (positions in lists may be left out), with the fields below it; null: no such field. */
export function describeField(root: z.core.$ZodType, path: string): Field | null {
  let field = describe("", root);
  for (const key of withoutPositions(parsePath(path))) {
    const next = field.fields.find(({ name }) => name === key);
    if (next === undefined) return null;
    field = next;
  }
  return field;
}

const withoutPositions = (keys: readonly PathKey[]): readonly string[] => keys.filter((key) => typeof key === "string");

function describe(name: string, schema: z.core.$ZodType): Field {
  const { schema: inner, description, isRequired, defaultValue } = unwrap(schema);
  const { def } = (inner as z.core.$ZodTypes)._zod;
  const common = { name, description, isRequired, defaultValue };
  if (def.type === "object") {
    return { ...common, type: "Object", fields: Object.entries(def.shape).map(([key, field]) => describe(key, field)) };
  }
  if (def.type === "array") {
    const element = describe(name, def.element);
    return { ...common, type: `[]${element.type}`, fields: element.fields };
  }
  return { ...common, type: simpleType(def), fields: [] };
}

function simpleType(def: z.core.$ZodTypes["_zod"]["def"]): string {
  switch (def.type) {
    case "number":
      return "integer";
    case "record":
      return "map[string]string";
    case "enum":
      return Object.values(def.entries).join(" | ");
    case "literal":
      return def.values.map((value) => String(value)).join(" | ");
    case "unknown":
      return "any";
    default:
      return def.type;
  }
}
