/** `ananta explain`, the JSON Schema for editors, and the examples: all from the schema that checks what is applied. */
import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { checkManifests, parseManifest, type ManifestObject } from "../../cli/objects/manifests.js";
import { describeField, type Field } from "../../manager/api/objects/schema-fields.js";
import { KINDS, SCHEMAS } from "../../manager/api/objects/schema.js";
import { FakeSite } from "./fake-site.js";

const here = (path: string): URL => new URL(`../../${path}`, import.meta.url);
const run = async (words: string) => (await new FakeSite(`explain ${words}`).start()).run(words);

type Schema = Readonly<Record<string, unknown>>;
const at = (schema: unknown, ...path: readonly string[]): unknown =>
  path.reduce<unknown>((inside, key) => (inside as Schema | undefined)?.[key], schema);

describe("explain", () => {
  test("without a type lists all of them", async () => {
    const { out } = await run("explain");
    for (const kind of KINDS) expect(out).toContain(kind);
  });

  test("takes vip.rules for vip.spec.rules, and a position in a list for any", async () => {
    const { out } = await run("explain vip.spec.rules");
    expect(out).toContain("distribution");
    expect((await run("explain vip.rules")).out).toBe(out);
  });

  test("names the field that a misspelt one may mean, also where spec is left out", async () => {
    expect((await run("explain vip.rulez")).err).toContain('vip has no field "rulez"; did you mean "rules"?');
    expect((await run("explain vip.xyzzy")).err).toContain("outbound");
    expect((await run("explain vip.rules.prot")).err).toContain("did you mean");
  });

  test("goes into objects that have a default of their own", async () => {
    expect((await run("explain vip.overload")).out).toContain("restoreAfterSeconds");
  });

  test("every field of every kind says what it means", () => {
    const silent: string[] = [];
    const visit = (path: string, { fields, description }: Field): void => {
      if (description === "") silent.push(path);
      for (const field of fields) visit(`${path}.${field.name}`, field);
    };
    for (const kind of KINDS) {
      const root = describeField(SCHEMAS[kind], "");
      if (root !== null) visit(kind, root);
    }
    expect(silent).toEqual([]);
  });
});

describe("the JSON Schema", () => {
  test("in schema/ is what `ananta explain --json-schema` prints", async () => {
    const { out } = await run("explain --json-schema");
    expect(readFileSync(here("schema/ananta-v1.schema.json"), "utf8")).toBe(out);
  });

  test("carries required fields, bounds, defaults, words and meanings", async () => {
    const schema = JSON.parse((await run("explain vip --json-schema")).out) as Schema;
    expect(schema).toMatchObject({ type: "object", required: ["apiVersion", "kind", "metadata", "spec"] });
    const rule = at(schema, "properties", "spec", "properties", "rules", "items");
    expect(rule).toMatchObject({ additionalProperties: false, required: ["name", "protocol", "pool"] });
    expect(at(rule, "properties", "port")).toMatchObject({ type: "integer", maximum: 65_535 });
    expect(at(rule, "properties", "protocol")).toMatchObject({ enum: ["tcp", "udp", "tcp_udp", "all"] });
    expect(at(rule, "properties", "idleReset")).toMatchObject({ default: true });
  });

  test("is of whole types only", async () => {
    expect((await run("explain vip.rules --json-schema")).code).toBe(2);
  });
});

describe("examples", () => {
  const files = readdirSync(here("examples")).filter((name) => name.endsWith(".yaml"));
  const objects: ManifestObject[] = [];
  const problems: string[] = [];
  for (const file of files) parseManifest(file, readFileSync(here(`examples/${file}`), "utf8"), objects, problems);

  test("are right", () => {
    expect([...problems, ...checkManifests(objects, null).problems]).toEqual([]);
  });

  test("show every kind, and between them every field that there is", () => {
    const shown = new Set<string>();
    const look = (path: string, value: unknown): void => {
      shown.add(path);
      if (Array.isArray(value)) for (const item of value) look(path, item);
      else if (typeof value === "object" && value !== null)
        for (const [name, item] of Object.entries(value)) look(`${path}.${name}`, item);
    };
    for (const { value } of objects) look(String((value as Schema)["kind"]), value);
    const missing: string[] = [];
    const visit = (path: string, { fields }: Field): void => {
      if (!shown.has(path)) missing.push(path);
      for (const field of fields) visit(`${path}.${field.name}`, field);
    };
    for (const kind of KINDS)
      for (const field of describeField(SCHEMAS[kind], "spec")?.fields ?? [])
        visit(`${kind}.spec.${field.name}`, field);
    expect(missing).toEqual([]);
  });
});
