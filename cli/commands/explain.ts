/** `ananta explain TYPE[.FIELD]`: what can be written in a manifest, from the schema itself. */
import { nearest } from "../../core/nearest.js";
import { Command } from "commander";
import { describeField, type Field } from "../../manager/api/objects/schema-fields.js";
import { jsonSchema, jsonSchemaOf } from "../../manager/api/objects/json-schema.js";
import { API_VERSION, KINDS, SCHEMAS } from "../../manager/api/objects/schema.js";
import type { Context } from "../context.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { objectType, resourceType } from "../objects/resource-types.js";
import { createTable, indent, renderFields } from "../terminal/table.js";

export function explainCommand(context: Context): Command {
  return new Command("explain")
    .description("what can be written in a manifest, and what it means")
    .argument("[field]", "TYPE or TYPE.FIELD, for example vip.rules; left out: all types")
    .option("--json-schema", "print the JSON Schema of the type, or of all, for editors")
    .action(
      context.action((path: string | undefined, options: { readonly jsonSchema?: boolean }) =>
        explain(context, path, options.jsonSchema === true),
      ),
    );
}

// Asynchronous like all actions, although it asks nobody.
// eslint-disable-next-line @typescript-eslint/require-await
async function explain(context: Context, path: string | undefined, isJsonSchema: boolean) {
  const [word = "", ...keys] = (path ?? "").split(".");
  const kind = path === undefined ? null : objectType(resourceType(word), "written").kind;
  if (isJsonSchema) {
    if (keys.length > 0)
      throw new UsageError(`a JSON Schema is that of a whole type: ananta explain ${word} --json-schema`);
    context.print(`${JSON.stringify(kind === null ? jsonSchema() : jsonSchemaOf(kind), null, 2)}\n`);
    return EXIT.ok;
  }
  if (kind === null) {
    const rows = KINDS.map((one) => [one, SCHEMAS[one].description ?? ""]);
    context.print(createTable(["KIND", "MEANING"], context.paint).render(rows));
    return EXIT.ok;
  }
  const schema = SCHEMAS[kind];
  // "vip.rules" is short for "vip.spec.rules".
  const [first = ""] = keys;
  if (first !== "" && describeField(schema, first) === null && describeField(schema, `spec.${first}`) !== null)
    keys.unshift("spec");
  const field = describeField(schema, keys.join("."));
  if (field === null) throw new UsageError(unknownPath(schema, word, keys));
  context.print(fieldText(context, `${kind}${keys.map((key) => `.${key}`).join("")}`, field));
  return EXIT.ok;
}

function fieldText(context: Context, title: string, field: Field): string {
  const head = renderFields(
    [
      [title.includes(".") ? "Field" : "Kind", title],
      ...(title.includes(".") ? [] : [["Version", API_VERSION] as const]),
      ["Type", field.type],
      ...(title.includes(".") ? [["Default", defaultText(field)] as const] : []),
      ["Meaning", field.description],
    ],
    context.paint,
  );
  if (field.fields.length === 0) return head;
  const rows = field.fields.map((below) => [below.name, below.type, defaultText(below), below.description]);
  return `${head}Fields:\n${indent(createTable(["NAME", "TYPE", "DEFAULT", "MEANING"], context.paint).render(rows))}`;
}

const defaultText = ({ isRequired, defaultValue }: Field): string =>
  isRequired ? "required" : (defaultValue ?? "none");

const fieldNames = (schema: (typeof SCHEMAS)[keyof typeof SCHEMAS], path: string): readonly string[] =>
  describeField(schema, path)?.fields.map(({ name }) => name) ?? [];

function unknownPath(schema: (typeof SCHEMAS)[keyof typeof SCHEMAS], word: string, keys: readonly string[]): string {
  for (let depth = 1; depth <= keys.length; depth++) {
    if (describeField(schema, keys.slice(0, depth).join(".")) !== null) continue;
    const parent = [word, ...keys.slice(0, depth - 1)].join(".");
    const known = [
      ...fieldNames(schema, keys.slice(0, depth - 1).join(".")),
      ...(depth === 1 ? fieldNames(schema, "spec") : []),
    ];
    const key = keys[depth - 1] ?? "";
    const meant = nearest(key, known);
    const hint =
      known.length === 0
        ? "it has no fields"
        : meant === null
          ? `its fields are ${known.join(", ")}`
          : `did you mean "${meant}"?`;
    return `${parent} has no field "${key}"; ${hint}`;
  }
  return `${word} has no such field`;
}
