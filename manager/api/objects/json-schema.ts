/**
 * The documents that operators write as JSON Schema (draft 2020-12), for editors. Made from the schema that checks them, so
 * fields, bounds, defaults and descriptions are the same; what no JSON Schema can say (unique ports, canonical addresses) is
 * left to `apply` and `plan`.
 */
import { z } from "zod";
import type { ObjectKind } from "../../state/objects.js";
import { API_VERSION, KINDS, SCHEMAS } from "./schema.js";

type JsonSchema = Readonly<Record<string, unknown>>;

/** Of one kind. */
export function jsonSchemaOf(kind: ObjectKind): JsonSchema {
  return z.toJSONSchema(SCHEMAS[kind], { io: "input" });
}

/**
 * Of any document: an object of some kind, or a List of them. By `if kind`, not by alternatives, so that an editor tells
 * what is wrong with a Vip and not that it is no Tenant either.
 */
export function jsonSchema(): JsonSchema {
  const kinds = Object.fromEntries(
    KINDS.map((kind) => {
      const { $schema: _dialect, ...rest } = jsonSchemaOf(kind);
      return [kind, rest];
    }),
  );
  const list = {
    type: "object",
    description: "Several objects in one document, as get writes them.",
    properties: {
      apiVersion: { type: "string", const: API_VERSION },
      kind: { type: "string", const: "List" },
      metadata: { type: "object" },
      items: { type: "array", items: { $ref: "#" } },
    },
    required: ["apiVersion", "kind", "items"],
    additionalProperties: false,
  };
  const names = [...KINDS, "List"];
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: `Ananta objects (${API_VERSION})`,
    type: "object",
    properties: { kind: { enum: names } },
    required: ["kind"],
    allOf: names.map((kind) => ({
      if: { properties: { kind: { const: kind } }, required: ["kind"] },
      then: { $ref: `#/$defs/${kind}` },
    })),
    $defs: { ...kinds, List: list },
  };
}
