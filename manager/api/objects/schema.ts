/**
 * The documents that operators write, as a schema: the one place that knows which fields exist, what they mean, their
 * bounds and defaults. Both edges use it: the CLI for YAML, the Manager for what arrives over the wire.
 *
 *   apiVersion: ananta/v1
 *   kind: Vip                # or BackendPool, Tenant, SecurityGroup
 *   metadata: {name, tenant, labels, generation}
 *   spec: ...
 *
 * (S1) Unknown fields are errors: a misspelt field must not be ignored in silence.
 * (S2) All problems of a document are told at once.
 * (S3) What depends on other objects (does the pool exist?) is not known here; `state/apply` checks it.
 */
import { nearest } from "../../../core/nearest.js";
import { z } from "zod";
import type { ApplyObject } from "../../state/commands/commands.js";
import type { ObjectKind, ObjectSpec } from "../../state/objects.js";
import { fieldNames } from "./schema-fields.js";
import { formatPath, show, unknownField, type Problem } from "./schema-messages.js";
import { poolSpec, poolSpecOf } from "./schema-pool.js";
import { groupSpec, tenantSpec } from "./schema-tenant.js";
import { error, integer, isMapping, labels, mapping, name } from "./schema-values.js";
import { vipSpec, vipSpecOf } from "./schema-vip.js";

export const API_VERSION = "ananta/v1";
export const DEFAULT_TENANT = "default";

// ---- the document ----

const metadata = z.strictObject(
  {
    name: name("name the object").describe("Name of the object, unique per kind and tenant: an RFC 1123 label."),
    tenant: name("name the tenant").default(DEFAULT_TENANT).describe("Tenant that owns the object."),
    labels: labels.default({}).describe("At most 64 labels, as in Kubernetes."),
    generation: integer("a generation", "use the one that get shows, or leave it out", 1, Number.MAX_SAFE_INTEGER)
      .optional()
      .describe("Counts changes of the object. On input: apply is refused when it differs from what is stored."),
  },
  mapping("a mapping with name"),
);

function document<Kind extends ObjectKind, Spec extends z.ZodType>(kind: Kind, spec: Spec) {
  return z.strictObject(
    {
      apiVersion: z
        .literal(
          API_VERSION,
          error((input) => `${show(input)} is not known; use ${API_VERSION}`, `use ${API_VERSION}`),
        )
        .describe(`Version of the document format: ${API_VERSION}.`),
      kind: z.literal(kind).describe("Kind of the object."),
      metadata: metadata.describe("Name, tenant and labels of the object."),
      spec: spec.describe("What the operator wants."),
      status: z.unknown().optional().describe("How the object stands. Output only: ignored on input."),
    },
    mapping("a mapping"),
  );
}

export const VIP_SCHEMA = document("Vip", vipSpec).describe(
  "A virtual address: what it serves, and who may use it outbound.",
);
export const BACKEND_POOL_SCHEMA = document("BackendPool", poolSpec).describe(
  "The machines (DIPs) that share the load of a rule.",
);
export const TENANT_SCHEMA = document("Tenant", tenantSpec).describe(
  "Whose objects they are: share of the site, address spaces, limits. One that is not written has the defaults.",
);
export const SECURITY_GROUP_SCHEMA = document("SecurityGroup", groupSpec).describe(
  "A stateful firewall on the hosts, for the flows through VIPs and for the DIPs of pools that name it.",
);

export const SCHEMAS = {
  Vip: VIP_SCHEMA,
  BackendPool: BACKEND_POOL_SCHEMA,
  Tenant: TENANT_SCHEMA,
  SecurityGroup: SECURITY_GROUP_SCHEMA,
} as const satisfies Readonly<Record<ObjectKind, z.ZodType>>;

/** With all defaults filled in. */
export type ObjectDocument = z.output<(typeof SCHEMAS)[ObjectKind]>;

export const KINDS: readonly ObjectKind[] = ["Vip", "BackendPool", "Tenant", "SecurityGroup"];

export const isKind = (word: unknown): word is ObjectKind => KINDS.some((kind) => kind === word);
/** "Vip, BackendPool, Tenant or SecurityGroup" */
export const KIND_WORDS = "Vip, BackendPool, Tenant or SecurityGroup";

export type Validated = { readonly ok: ApplyObject } | { readonly problems: readonly Problem[] };

/** `value` as a parser gave it: plain objects, arrays and scalars. All problems in document order (S2). */
export function validateDocument(value: unknown): Validated {
  if (!isMapping(value)) {
    return {
      problems: [
        {
          path: "",
          message:
            value === null || value === undefined
              ? "empty; write an object with apiVersion, kind, metadata and spec"
              : `${show(value)} is not an object; write apiVersion, kind, metadata and spec`,
        },
      ],
    };
  }
  const kind = value["kind"];
  if (!isKind(kind))
    return { problems: [...versionProblem(value["apiVersion"]), { path: "kind", message: wrongKind(kind) }] };
  const cleaned = withoutNulls(value);
  const schema = SCHEMAS[kind];
  const parsed = schema.safeParse(kind === "Tenant" ? ofItself(cleaned) : cleaned);
  if (parsed.success) return { ok: applyObject(parsed.data) };
  return { problems: problemsOf(parsed.error.issues, schema, value) };
}

/** A Tenant belongs to itself: another tenant in its metadata is a mistake, which `apply` tells. */
function ofItself(value: unknown): unknown {
  if (!isMapping(value) || !isMapping(value["metadata"])) return value;
  const metadata = value["metadata"];
  return metadata["tenant"] === undefined ? { ...value, metadata: { ...metadata, tenant: metadata["name"] } } : value;
}

function versionProblem(version: unknown): readonly Problem[] {
  if (version === API_VERSION) return [];
  const message =
    version === undefined || version === null
      ? `missing; use ${API_VERSION}`
      : `${show(version)} is not known; use ${API_VERSION}`;
  return [{ path: "apiVersion", message }];
}

function wrongKind(kind: unknown): string {
  if (kind === undefined || kind === null) return `missing; use ${KIND_WORDS}`;
  const meant = typeof kind === "string" ? nearest(kind, KINDS) : null;
  return `${show(kind)} is not a kind; ${meant === null ? `use ${KIND_WORDS}` : `did you mean ${meant}?`}`;
}

/** "labels:" with nothing after it is null in YAML and means: left out. Elements of lists keep their place. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isMapping(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== null)
      .map(([key, item]) => [key, withoutNulls(item)]),
  );
}

function problemsOf(
  issues: readonly z.core.$ZodIssue[],
  schema: z.ZodType,
  value: Record<string, unknown>,
): readonly Problem[] {
  const found = new Map<string, { readonly keys: readonly PropertyKey[]; readonly problem: Problem }>();
  const add = (keys: readonly PropertyKey[], message: string, isName = false): void => {
    const path = formatPath(keys);
    if (found.has(path)) return; // the first one found at a place says enough
    found.set(path, { keys, problem: { path, message, ...(isName ? { isName } : {}) } });
  };
  const misspelt = new Set<string>(); // no need to call these missing too
  for (const issue of issues) {
    if (issue.code !== "unrecognized_keys") {
      add(issue.path, issue.message);
      continue;
    }
    const known = fieldNames(schema, issue.path);
    for (const key of issue.keys) {
      add([...issue.path, key], unknownField(key, known), true);
      const meant = nearest(key, known);
      if (meant !== null) misspelt.add(formatPath([...issue.path, meant]));
    }
  }
  return [...found]
    .filter(([path, { problem }]) => !(misspelt.has(path) && problem.message.startsWith("missing")))
    .map(([, { keys, problem }]) => ({ problem, place: placeOf(value, keys) }))
    .sort((a, b) => comparePlaces(a.place, b.place))
    .map(({ problem }) => problem);
}

/** Position of each key in its parent; what is missing comes after what is there. */
function placeOf(value: unknown, keys: readonly PropertyKey[]): readonly number[] {
  let current = value;
  return keys.map((key) => {
    if (typeof key === "number") {
      current = Array.isArray(current) ? current[key] : undefined;
      return key;
    }
    const position = isMapping(current) ? Object.keys(current).indexOf(String(key)) : -1;
    current = isMapping(current) ? current[String(key)] : undefined;
    return position < 0 ? Number.MAX_SAFE_INTEGER : position;
  });
}

function comparePlaces(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < Math.min(a.length, b.length); at++) {
    if (a[at] !== b[at]) return (a[at] ?? 0) - (b[at] ?? 0);
  }
  return a.length - b.length;
}

// ---- documents and the state machine's objects ----

function applyObject(parsed: ObjectDocument): ApplyObject {
  const { name: objectName, tenant, labels: labelled, generation } = parsed.metadata;
  return {
    ref: { kind: parsed.kind, tenant, name: objectName },
    labels: labelled,
    object: specOf(parsed),
    expectedGeneration: generation ?? null,
  };
}

function specOf(parsed: ObjectDocument): ObjectSpec {
  switch (parsed.kind) {
    case "Vip":
      return { kind: parsed.kind, spec: vipSpecOf(parsed.spec) };
    case "BackendPool":
      return { kind: parsed.kind, spec: poolSpecOf(parsed.spec) };
    case "Tenant":
      return { kind: parsed.kind, spec: parsed.spec };
    case "SecurityGroup":
      return { kind: parsed.kind, spec: parsed.spec };
  }
}
