/**
 * The documents that operators write, as a schema: the one place that knows which fields exist, what they mean, their
 * bounds and defaults. Both edges use it: the CLI for YAML, the Manager for what arrives over the wire.
 *
 *   apiVersion: ananta/v1
 *   kind: Vip                # or BackendPool
 *   metadata: {name, tenant, labels, generation}
 *   spec: ...
 *
 * (S1) Unknown fields are errors: a misspelt field must not be ignored in silence.
 * (S2) All problems of a document are told at once.
 * (S3) What depends on other objects (does the pool exist?) is not known here; `state/apply` checks it.
 */
import { z } from "zod";
import type { IpAddress, Port } from "../../core/brands.js";
import type { ApplyObject } from "../state/commands.js";
import type { ObjectKind, ObjectSpec } from "../state/objects.js";
import { fieldNames } from "./object-schema-fields.js";
import { formatPath, nearest, show, unknownField, type Problem } from "./object-schema-messages.js";
import {
  always,
  error,
  fieldOf,
  findTwins,
  integer,
  ipv4Address,
  isMapping,
  isNamed,
  labels,
  list,
  mapping,
  name,
  port,
} from "./object-schema-values.js";

export const API_VERSION = "ananta/v1";
export const DEFAULT_TENANT = "default";

const RULES_MAX = 1_500;
const MAX_MEMBERS_MAX = 655;
const MAX_MEMBERS_DEFAULT = 100;
const WEIGHT_MAX = 1_000;
const WEIGHT_DEFAULT = 100;
const MAX_PORTS_MAX = 64_512;
const MAX_PORTS_DEFAULT = 1_024;

// ---- Vip ----

const PROTOCOL_RIGHT = "use tcp or udp";
const protocol = z.enum(
  ["tcp", "udp"],
  error((input) => {
    const lower = typeof input === "string" ? input.toLowerCase() : "";
    return lower === "tcp" || lower === "udp"
      ? `${show(input)} is not a protocol; write ${lower} in lower case`
      : `${show(input)} is not a protocol; ${PROTOCOL_RIGHT}`;
  }, PROTOCOL_RIGHT),
);

const rule = z.strictObject(
  {
    name: name("give the rule a name that is unique in this Vip").describe("Name of the rule, unique in the Vip."),
    protocol: protocol.describe("Transport protocol of the flows."),
    port: port().describe("Port of the Vip that clients connect to, 1 to 65535; (protocol, port) belongs to one rule."),
    pool: name("name the BackendPool that serves this rule").describe(
      "BackendPool of the same tenant that serves the flows.",
    ),
    backendPort: port().optional().describe("Port on the DIPs, 1 to 65535. Left out: the same as port."),
  },
  mapping("a rule with name, protocol, port and pool"),
);

const rules = z
  .array(rule, list("rules"))
  .max(RULES_MAX, {
    error: ({ input }) => `${Array.isArray(input) ? input.length : 0} rules; use at most ${RULES_MAX}`,
  })
  .superRefine((value: unknown, context) => {
    findTwins(
      value,
      (item) => fieldOf(item, "name"),
      ({ at, first, identity }) => {
        context.addIssue({
          code: "custom",
          path: [at, "name"],
          message: `"${identity}" is the name of spec.rules[${first}] already; names are unique in a Vip`,
        });
      },
    );
    findTwins(
      value,
      (item) => {
        const wanted = fieldOf(item, "port");
        const transport = fieldOf(item, "protocol");
        return wanted === null || transport === null ? null : `${transport} port ${wanted}`;
      },
      ({ at, first, identity }) => {
        const message = `${identity} is taken by spec.rules[${first}] already; a protocol and port belong to one rule`;
        context.addIssue({ code: "custom", path: [at, "port"], message });
      },
    );
  }, always());

const maxPortsOption = error(
  (input) => `${show(input)} is not a number of SNAT ports; use a multiple of 8 from 8 to ${MAX_PORTS_MAX}`,
  `use a multiple of 8 from 8 to ${MAX_PORTS_MAX}`,
);

const outbound = z.strictObject(
  {
    pools: z
      .array(name("name a BackendPool"), list("pool names"))
      .min(1, { error: () => "empty; name at least one BackendPool, or leave outbound out" })
      .superRefine((value: unknown, context) => {
        findTwins(
          value,
          (item) => (isNamed(item) ? item : null),
          ({ at, first, identity }) => {
            context.addIssue({
              code: "custom",
              path: [at],
              message: `pool "${identity}" is spec.outbound.pools[${first}] already; name each pool once`,
            });
          },
        );
      }, always())
      .describe("BackendPools of the same tenant whose members reach the outside through this Vip; at least one."),
    maxPorts: z
      .int(maxPortsOption)
      .min(8, maxPortsOption)
      .max(MAX_PORTS_MAX, maxPortsOption)
      .multipleOf(8, maxPortsOption)
      .default(MAX_PORTS_DEFAULT)
      .describe(`Most SNAT ports that one DIP may own here, per protocol: a multiple of 8 from 8 to ${MAX_PORTS_MAX}.`),
  },
  mapping("a mapping with pools and maxPorts"),
);

const vipSpec = z.strictObject(
  {
    address: ipv4Address("203.0.113.10").describe("Public IPv4 address, unique in the site. Fixed at creation."),
    rules: rules.default([]).describe(`What the address serves; at most ${RULES_MAX} rules.`),
    outbound: outbound.optional().describe("Source NAT for flows that members of these pools open. Left out: none."),
  },
  mapping("a mapping with address, rules and outbound"),
);

// ---- BackendPool ----

const member = z.strictObject(
  {
    dip: ipv4Address("10.1.0.4").describe("Address of a machine behind the VIPs (its DIP), unique in the pool."),
    port: port().optional().describe("Port on this DIP, 1 to 65535. Left out: the rule's backend port."),
    weight: integer("a weight", `use 0 to ${WEIGHT_MAX}`, 0, WEIGHT_MAX)
      .default(WEIGHT_DEFAULT)
      .describe(`Share of new flows, 0 to ${WEIGHT_MAX}; 0 gets none.`),
  },
  mapping("a member with a dip"),
);

const poolSpec = z
  .strictObject(
    {
      members: z
        .array(member, list("members"))
        .superRefine((value: unknown, context) => {
          findTwins(
            value,
            (item) => fieldOf(item, "dip"),
            ({ at, first, identity }) => {
              context.addIssue({
                code: "custom",
                path: [at, "dip"],
                message: `${identity} is spec.members[${first}] already; list each DIP once`,
              });
            },
          );
        }, always())
        .default([])
        .describe("The DIPs that share the load."),
      maxMembers: integer("a number of members", `use 1 to ${MAX_MEMBERS_MAX}`, 1, MAX_MEMBERS_MAX)
        .default(MAX_MEMBERS_DEFAULT)
        .describe(
          `Most members the pool will ever have, 1 to ${MAX_MEMBERS_MAX}. Sizes the hash table; fixed at creation.`,
        ),
    },
    mapping("a mapping with members and maxMembers"),
  )
  .superRefine((value: unknown, context) => {
    const members = isMapping(value) && Array.isArray(value["members"]) ? value["members"].length : 0;
    const wanted = isMapping(value) ? value["maxMembers"] : undefined;
    const most = typeof wanted === "number" && wanted >= 1 && wanted <= MAX_MEMBERS_MAX ? wanted : MAX_MEMBERS_DEFAULT;
    if (members <= most) return;
    const right =
      members <= MAX_MEMBERS_MAX
        ? `set spec.maxMembers to ${members} or more`
        : `a pool has at most ${MAX_MEMBERS_MAX}`;
    context.addIssue({
      code: "custom",
      path: ["members"],
      message: `${members} members exceed maxMembers ${most}; ${right}`,
    });
  }, always());

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

export type VipDocument = z.output<typeof VIP_SCHEMA>;
export type BackendPoolDocument = z.output<typeof BACKEND_POOL_SCHEMA>;
/** With all defaults filled in. */
export type ObjectDocument = VipDocument | BackendPoolDocument;

export const KINDS: readonly ObjectKind[] = ["Vip", "BackendPool"];

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
  if (kind !== "Vip" && kind !== "BackendPool")
    return { problems: [...versionProblem(value["apiVersion"]), { path: "kind", message: wrongKind(kind) }] };
  const cleaned = withoutNulls(value);
  const parsed = kind === "Vip" ? VIP_SCHEMA.safeParse(cleaned) : BACKEND_POOL_SCHEMA.safeParse(cleaned);
  if (parsed.success) return { ok: applyObject(parsed.data) };
  return { problems: problemsOf(parsed.error.issues, kind === "Vip" ? VIP_SCHEMA : BACKEND_POOL_SCHEMA, value) };
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
  if (kind === undefined || kind === null) return `missing; use ${KINDS.join(" or ")}`;
  const meant = typeof kind === "string" ? nearest(kind, KINDS) : null;
  return `${show(kind)} is not a kind; ${meant === null ? `use ${KINDS.join(" or ")}` : `did you mean ${meant}?`}`;
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

// The schema has checked formats and ranges, so the brands below are earned.
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
  if (parsed.kind === "BackendPool") {
    const { members, maxMembers } = parsed.spec;
    return {
      kind: "BackendPool",
      spec: {
        members: members.map(({ dip, port: memberPort, weight }) => ({
          dip: dip as IpAddress,
          port: (memberPort ?? 0) as Port,
          weight,
        })),
        maxMembers,
      },
    };
  }
  const { address, rules: wanted, outbound: source } = parsed.spec;
  return {
    kind: "Vip",
    spec: {
      address: address as IpAddress,
      rules: wanted.map((one) => ({
        name: one.name,
        protocol: one.protocol,
        port: one.port as Port,
        pool: one.pool,
        backendPort: (one.backendPort ?? one.port) as Port,
      })),
      outbound: source === undefined ? null : { pools: source.pools, maxPorts: source.maxPorts },
    },
  };
}
