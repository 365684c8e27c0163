import { nearest } from "../../../core/nearest.js";
import { describe, expect, it } from "vitest";
import { describeField } from "../../../manager/api/objects/schema-fields.js";
import { formatPath, formatProblem, parsePath } from "../../../manager/api/objects/schema-messages.js";
import { BACKEND_POOL_SCHEMA, VIP_SCHEMA, validateDocument } from "../../../manager/api/objects/schema.js";

type Fields = Record<string, unknown>;

const document = (kind: string, spec: unknown, metadata: unknown = { name: "web" }): Fields => ({
  apiVersion: "ananta/v1",
  kind,
  metadata,
  spec,
});
const vip = (spec: unknown, metadata?: unknown): Fields => document("Vip", spec, metadata);
const pool = (spec: unknown, metadata?: unknown): Fields => document("BackendPool", spec, metadata);
const rule = (change: Fields = {}): Fields => ({ name: "http", protocol: "tcp", port: 80, pool: "web", ...change });
const withRules = (...rules: unknown[]): Fields => vip({ address: "203.0.113.10", rules });

function problems(value: unknown): readonly string[] {
  const result = validateDocument(value);
  return "problems" in result ? result.problems.map(formatProblem) : [];
}

const NAME_RIGHT = 'use 1 to 63 of a-z, 0-9 and "-", with a letter or digit at both ends';

describe("a document that is not right", () => {
  const rows: readonly { readonly title: string; readonly given: unknown; readonly then: readonly string[] }[] = [
    {
      title: "nothing at all is told what to write",
      given: null,
      then: ["empty; write an object with apiVersion, kind, metadata and spec"],
    },
    {
      title: "a number is not an object",
      given: 3,
      then: ["3 is not an object; write apiVersion, kind, metadata and spec"],
    },
    {
      title: "a kind of another system is refused with the kinds there are",
      given: { apiVersion: "v1", kind: "Service" },
      then: [
        'apiVersion: "v1" is not known; use ananta/v1',
        'kind: "Service" is not a kind; use Vip, BackendPool, Tenant or SecurityGroup',
      ],
    },
    {
      title: "a misspelt kind is told which one was meant",
      given: { apiVersion: "ananta/v1", kind: "backendpools" },
      then: ['kind: "backendpools" is not a kind; did you mean BackendPool?'],
    },
    {
      title: "a missing kind is told the kinds there are",
      given: { metadata: {} },
      then: ["apiVersion: missing; use ananta/v1", "kind: missing; use Vip, BackendPool, Tenant or SecurityGroup"],
    },
    {
      title: "a port beyond 65535 is refused with the range",
      given: withRules(rule({ port: 70_000 })),
      then: ["spec.rules[0].port: 70000 is not a port; use 1 to 65535"],
    },
    {
      title: "port 0 and half a port are not ports",
      given: withRules(rule({ port: 0 }), rule({ name: "b", port: 80.5 })),
      then: [
        "spec.rules[0].port: 0 is not a port; use 1 to 65535, or protocol all",
        "spec.rules[1].port: 80.5 is not a port; use 1 to 65535",
      ],
    },
    {
      title: "a port in quotes is told to lose them",
      given: withRules(rule({ port: "80" })),
      then: ['spec.rules[0].port: "80" is text; write 80 without quotes'],
    },
    {
      title: "a port in quotes that would be wrong anyway is told the range",
      given: withRules(rule({ port: "70000" })),
      then: ['spec.rules[0].port: "70000" is not a port; use 1 to 65535'],
    },
    {
      title: "an unknown field is told the nearest one",
      given: withRules(rule({ backendport: 8080 })),
      then: ['spec.rules[0].backendport: "backendport" is not a field here; did you mean "backendPort"?'],
    },
    {
      title: "an unknown field that resembles none is told all there are",
      given: withRules(rule({ sessionAffinity: true })),
      then: [
        'spec.rules[0].sessionAffinity: "sessionAffinity" is not a field here; the fields are name, protocol, port, pool, backendPort, distribution, floatingIp, idleSeconds, idleReset, fastpath',
      ],
    },
    {
      title: "a misspelt field is not called missing as well",
      given: vip({ adress: "203.0.113.10" }),
      then: ['spec.adress: "adress" is not a field here; did you mean "address"?'],
    },
    {
      title: "unknown fields at the top and in metadata are found",
      given: { ...vip({ address: "203.0.113.10" }, { name: "web", namespace: "x" }), sepc: {} },
      then: [
        'metadata.namespace: "namespace" is not a field here; the fields are name, tenant, labels, generation',
        'sepc: "sepc" is not a field here; did you mean "spec"?',
      ],
    },
    {
      title: "missing fields are told after those that are there",
      given: withRules({ port: 70_000 }),
      then: [
        "spec.rules[0].port: 70000 is not a port; use 1 to 65535",
        "spec.rules[0].name: missing; give the rule a name that is unique in this Vip",
        "spec.rules[0].protocol: missing; use tcp, udp, tcp_udp or all",
        "spec.rules[0].pool: missing; name the BackendPool that serves this rule",
      ],
    },
    {
      title: "two rules of one name are told which came first",
      given: withRules(rule(), rule({ port: 443 })),
      then: ['spec.rules[1].name: "http" is the name of spec.rules[0] already; names are unique in a Vip'],
    },
    {
      title: "two rules for one protocol and port are told which came first",
      given: withRules(rule(), rule({ name: "web" }), rule({ name: "dns", protocol: "udp" })),
      then: [
        "spec.rules[1].port: tcp port 80 is taken by spec.rules[0] already; a protocol and port belong to one rule",
      ],
    },
    {
      title: "duplicates are found beside other mistakes",
      given: withRules(rule({ port: 70_000 }), rule({ port: 443 })),
      then: [
        "spec.rules[0].port: 70000 is not a port; use 1 to 65535",
        'spec.rules[1].name: "http" is the name of spec.rules[0] already; names are unique in a Vip',
      ],
    },
    {
      title: "a protocol in capitals is told to write it small",
      given: withRules(rule({ protocol: "TCP" })),
      then: ['spec.rules[0].protocol: "TCP" is not a protocol; write tcp in lower case'],
    },
    {
      title: "a protocol that is not carried is refused",
      given: withRules(rule({ protocol: "sctp" })),
      then: ['spec.rules[0].protocol: "sctp" is not a protocol; use tcp, udp, tcp_udp or all'],
    },
    {
      title: "rules written as a mapping are shown how a list looks",
      given: vip({ address: "203.0.113.10", rules: { http: rule() } }),
      then: ['spec.rules: a mapping is not a list of rules; write each below the other, with "- " before it'],
    },
    {
      title: "more rules than a VIP may have are counted",
      given: withRules(...Array.from({ length: 1_501 }, (_, at) => rule({ name: `r${at}`, port: at + 1 }))),
      then: ["spec.rules: 1501 rules; use at most 1500"],
    },
    {
      title: "an IPv6 address has one canonical form",
      given: vip({ address: "2001:DB8:0::1" }),
      then: ['spec.address: "2001:DB8:0::1" is not in canonical form; write 2001:db8::1'],
    },
    {
      title: "half an address, a number for YAML, is not expanded",
      given: vip({ address: 10.1 }),
      then: ["spec.address: 10.1 is not an IP address; write it as in 203.0.113.10 or 2001:db8::10"],
    },
    {
      title: "an address with leading zeros is ambiguous and refused",
      given: vip({ address: "010.0.0.1" }),
      then: ['spec.address: "010.0.0.1" is not an IP address; write it as in 203.0.113.10 or 2001:db8::10'],
    },
    {
      title: "addresses that nobody can send to are refused",
      given: pool({
        members: [{ dip: "127.0.0.1" }, { dip: "224.0.0.1" }, { dip: "0.0.0.0" }, { dip: "255.255.255.255" }],
      }),
      then: [
        "spec.members[0].dip: 127.0.0.1 is a loopback address; use a unicast address, as in 10.1.0.4",
        "spec.members[1].dip: 224.0.0.1 is a multicast address; use a unicast address, as in 10.1.0.4",
        'spec.members[2].dip: 0.0.0.0 is in 0.0.0.0/8 ("this network"); use a unicast address, as in 10.1.0.4',
        "spec.members[3].dip: 255.255.255.255 is in the reserved 240.0.0.0/4; use a unicast address, as in 10.1.0.4",
      ],
    },
    {
      title: "outbound without pools says what to do",
      given: vip({ address: "203.0.113.10", outbound: { pools: [], maxPorts: 100 } }),
      then: [
        "spec.outbound.pools: empty; name at least one BackendPool, or leave outbound out",
        "spec.outbound.maxPorts: 100 is not a number of SNAT ports; use a multiple of 8 from 8 to 64512",
      ],
    },
    {
      title: "a pool named twice is told where it was",
      given: vip({ address: "203.0.113.10", outbound: { pools: ["web", "web"] } }),
      then: ['spec.outbound.pools[1]: pool "web" is spec.outbound.pools[0] already; name each pool once'],
    },
    {
      title: "a DIP listed twice is told where it was",
      given: pool({ members: [{ dip: "10.1.0.4" }, { dip: "10.1.0.5" }, { dip: "10.1.0.4", port: 8080 }] }),
      then: ["spec.members[2].dip: 10.1.0.4 is spec.members[0] already; list each DIP once"],
    },
    {
      title: "weights and sizes out of bounds are told the bounds",
      given: pool({ members: [{ dip: "10.1.0.4", weight: 2_000, port: 0 }], maxMembers: 656 }),
      then: [
        "spec.members[0].weight: 2000 is not a weight; use 0 to 1000",
        "spec.members[0].port: 0 is not a port; use 1 to 65535",
        "spec.maxMembers: 656 is not a number of members; use 1 to 655",
      ],
    },
    {
      title: "more members than maxMembers are told the way out",
      given: pool({ members: [{ dip: "10.1.0.4" }, { dip: "10.1.0.5" }], maxMembers: 1 }),
      then: ["spec.members: 2 members exceed maxMembers 1; set spec.maxMembers to 2 or more"],
    },
    {
      title: "names that are no RFC 1123 labels are refused",
      given: vip({ address: "203.0.113.10" }, { name: "Web_1", tenant: 7 }),
      then: [
        `metadata.name: "Web_1" is not a name; ${NAME_RIGHT}`,
        'metadata.tenant: 7 is a number; write "7" in quotes',
      ],
    },
    {
      title: "label values that YAML reads as numbers are told to be quoted",
      given: vip({ address: "203.0.113.10" }, { name: "web", labels: { version: 1, canary: true, "-x": "a" } }),
      then: [
        'metadata.labels.version: 1 is a number, and labels are text; write "1" in quotes',
        'metadata.labels.canary: true is a boolean, and labels are text; write "true" in quotes',
        'metadata.labels["-x"]: "-x" is not a label key; use at most 63 of A-Z, a-z, 0-9, "-", "_", ".", as in app or example.com/app',
      ],
    },
    {
      title: "a generation that cannot be is refused",
      given: vip({ address: "203.0.113.10" }, { name: "web", generation: 0 }),
      then: ["metadata.generation: 0 is not a generation; use the one that get shows, or leave it out"],
    },
    {
      title: "empty metadata and spec are missing",
      given: vip(null, null),
      then: [
        "metadata: missing; use a mapping with name",
        "spec: missing; use a mapping with address, rules and outbound",
      ],
    },
    {
      title: "an empty element of a list is missing",
      given: withRules(null, rule()),
      then: ["spec.rules[0]: missing; use a rule with name, protocol, port and pool"],
    },
  ];
  it.each(rows)("$title", ({ given, then }) => {
    expect(problems(given)).toEqual(then);
  });
});

describe("a document that is right", () => {
  it("gets its defaults: tenant, backend port, weight, sizes", () => {
    const checked = validateDocument(vip({ address: "203.0.113.10", rules: [rule()], outbound: { pools: ["web"] } }));
    expect(checked).toMatchObject({
      ok: {
        ref: { kind: "Vip", tenant: "default", name: "web" },
        labels: {},
        object: {
          kind: "Vip",
          spec: {
            address: "203.0.113.10",
            rules: [{ name: "http", protocol: "tcp", port: 80, pool: "web", backendPort: 80 }],
            outbound: { pools: ["web"], maxPorts: 1024 },
          },
        },
        expectedGeneration: null,
      },
    });
    expect(validateDocument(pool({ members: [{ dip: "10.1.0.4" }] }))).toMatchObject({
      ok: { object: { spec: { members: [{ dip: "10.1.0.4", port: 0, weight: 100 }], maxMembers: 100 } } },
    });
  });

  it("may leave fields empty, as YAML does with nothing after the colon", () => {
    const checked = validateDocument(
      vip({ address: "203.0.113.10", rules: null, outbound: null }, { name: "web", labels: null }),
    );
    expect(checked).toMatchObject({ ok: { labels: {}, object: { spec: { rules: [], outbound: null } } } });
  });

  it("may carry a status, which is ignored, and a generation, which is checked", () => {
    const given = { ...vip({ address: "203.0.113.10" }, { name: "web", generation: 4 }), status: { phase: "Ready" } };
    expect(validateDocument(given)).toMatchObject({ ok: { expectedGeneration: 4 } });
  });

  it("may use one port number for both protocols", () => {
    expect(problems(withRules(rule(), rule({ name: "quic", protocol: "udp" })))).toEqual([]);
  });
});

describe("paths and names", () => {
  it("paths are written so that they can be read back", () => {
    const keys = ["metadata", "labels", 'a.b/c"d', "x", 3, "y"];
    expect(formatPath(keys)).toBe('metadata.labels["a.b/c\\"d"].x[3].y');
    expect(parsePath(formatPath(keys))).toEqual(keys);
    expect(parsePath("")).toEqual([]);
  });

  it("the nearest name is at most two edits away, and none is better than a far one", () => {
    expect(nearest("prot", ["port", "pool"])).toBe("port");
    expect(nearest("max_ports", ["pools", "maxPorts"])).toBe("maxPorts");
    expect(nearest("foo", ["name", "protocol", "port", "pool"])).toBeNull();
  });

  it("a field is described with what is below it, with or without positions", () => {
    const rules = describeField(VIP_SCHEMA, "spec.rules[3]");
    expect(rules).toEqual(describeField(VIP_SCHEMA, "spec.rules"));
    expect(rules).toMatchObject({ type: "[]Object", isRequired: false });
    expect(rules?.fields.slice(0, 5).map(({ name }) => name)).toEqual([
      "name",
      "protocol",
      "port",
      "pool",
      "backendPort",
    ]);
    expect(describeField(BACKEND_POOL_SCHEMA, "spec.maxMembers")).toMatchObject({
      type: "integer",
      defaultValue: "100",
    });
    expect(describeField(VIP_SCHEMA, "spec.nothing")).toBeNull();
  });

  it("every field has a description", () => {
    const undescribed: string[] = [];
    const walk = (path: string, field: ReturnType<typeof describeField>): void => {
      if (field === null) return;
      if (field.description === "") undescribed.push(path);
      for (const below of field.fields) walk(`${path}.${below.name}`, below);
    };
    walk("Vip", describeField(VIP_SCHEMA, ""));
    walk("BackendPool", describeField(BACKEND_POOL_SCHEMA, ""));
    expect(undescribed).toEqual([]);
  });
});
