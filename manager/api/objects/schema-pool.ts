/** The spec of a BackendPool; see `schema`. */
import { z } from "zod";
import type { IpAddress, Port } from "../../../core/brands.js";
import type { BackendPoolSpec } from "../../state/objects.js";
import {
  always,
  choice,
  fieldOf,
  findTwins,
  integer,
  ipAddress,
  isMapping,
  list,
  mapping,
  port,
  shortText,
} from "./schema-values.js";
import { GROUPS_MAX, groupNames } from "./schema-vip.js";

const MAX_MEMBERS_MAX = 655;
const MAX_MEMBERS_DEFAULT = 100;
const WEIGHT_MAX = 1_000;
const DRAIN_TIMEOUT_SECONDS_MAX = 3_600;
const WEIGHT_DEFAULT = 100;

const member = z.strictObject(
  {
    dip: ipAddress("10.1.0.4").describe("Address of a machine behind the VIPs (its DIP), unique in the pool."),
    port: port().optional().describe("Port on this DIP, 1 to 65535. Left out: the rule's backend port."),
    weight: integer("a weight", `use 0 to ${WEIGHT_MAX}`, 0, WEIGHT_MAX)
      .default(WEIGHT_DEFAULT)
      .describe(`Share of new flows, 0 to ${WEIGHT_MAX}; 0 gets none: the member drains.`),
    role: choice(["primary", "backup"], "a role")
      .default("primary")
      .describe("A backup serves only when too few primaries are up, see failoverPercent."),
    adminState: choice(["none", "up", "down"], "a state")
      .default("none")
      .describe("up or down: what the probe says does not count; none: it decides."),
  },
  mapping("a member with a dip"),
);

const status = shortText(
  "a status or a range of them",
  7,
  /^[1-5][0-9]{2}(-[1-5][0-9]{2})?$/,
  'use 100 to 599, as in "200" or "200-299"',
);
const hex = (what: string) =>
  shortText(what, 512, /^([0-9a-f]{2})*$/, "write bytes as pairs of hex digits, at most 256 bytes").default("");

const probe = z
  .strictObject(
    {
      protocol: choice(["tcp", "http", "https", "udp"], "a probe protocol").describe(
        "How the DIP is asked: a connection, a GET, or a datagram that must be answered.",
      ),
      port: integer("a port", "use 1 to 65535, or 0 for the port that the member serves on", 0, 65_535)
        .default(0)
        .describe("Port that is probed, 1 to 65535; 0: the port that the member serves on."),
      intervalSeconds: integer("a time in seconds", "use 1 to 300", 1, 300)
        .default(5)
        .describe("Time between probes, 1 to 300 seconds."),
      timeoutSeconds: integer("a time in seconds", "use 1 to 120", 1, 120)
        .default(3)
        .describe("A probe that takes longer has failed, 1 to 120 seconds; at most the interval."),
      healthyThreshold: integer("a count", "use 1 to 10", 1, 10)
        .default(2)
        .describe("Successes in a row after which a DIP is up, 1 to 10."),
      unhealthyThreshold: integer("a count", "use 1 to 10", 1, 10)
        .default(2)
        .describe("Failures in a row after which a DIP is down, 1 to 10."),
      path: shortText("a path", 256, /^\/[\x21-\x7e]*$/, 'begin it with "/", at most 256 characters')
        .default("/")
        .describe("http, https: what is asked for."),
      host: shortText("a host name", 253, /^[A-Za-z0-9.:-]*$/, "use letters, digits, dots and hyphens")
        .default("")
        .describe("http, https: the Host header. Left out: the DIP's address."),
      expectedStatus: z
        .array(z.union([z.string(), z.number()]).transform(String).pipe(status), list("statuses"))
        .min(1, { error: () => 'empty; list at least one, as in "200-299"' })
        .max(8, { error: () => "more than 8 statuses; use ranges" })
        .default(["200-299"])
        .describe("http, https: answers that count as success; at most 8 statuses or ranges."),
      send: hex("a payload").describe("udp: what is sent, as hex digits."),
      expect: hex("a payload").describe("udp: what the answer must begin with, as hex digits. Left out: any answer."),
    },
    mapping("a mapping with protocol"),
  )
  .superRefine((value: unknown, context) => {
    if (!isMapping(value)) return;
    const interval = value["intervalSeconds"] ?? 5;
    const timeout = value["timeoutSeconds"] ?? 3;
    if (typeof interval !== "number" || typeof timeout !== "number" || timeout <= interval) return;
    const message = `${timeout} is longer than intervalSeconds, ${interval}; use at most that`;
    context.addIssue({ code: "custom", path: ["timeoutSeconds"], message });
  }, always());

export const poolSpec = z
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
      failoverPercent: integer("a share in percent", "use 0 to 100", 0, 100)
        .default(0)
        .describe("Backups serve when fewer than this share of the primaries is up, in percent; 0: when none is."),
      allDown: choice(["failOpen", "drop"], "an action")
        .default("failOpen")
        .describe("When no member is up: new flows go to all of them all the same, or are dropped."),
      tcpOnDown: choice(["persist", "reset"], "an action")
        .default("persist")
        .describe("TCP flows of a member that goes down: left alone, or reset. UDP flows move to another member."),
      drainTimeoutSeconds: integer(
        "a time in seconds",
        `use 1 to ${DRAIN_TIMEOUT_SECONDS_MAX}, or 0 to let flows end by themselves`,
        0,
        DRAIN_TIMEOUT_SECONDS_MAX,
      )
        .default(0)
        .describe(
          `How long a member of weight 0, or one that has left the pool, keeps its flows, 1 to ${DRAIN_TIMEOUT_SECONDS_MAX} seconds; then both ends of them are reset. 0: until they end by themselves.`,
        ),
      probe: probe.optional().describe("How hosts find out whether their DIPs can serve. Left out: a DIP is up."),
      securityGroups: groupNames.describe(
        `SecurityGroups of the same tenant that guard the DIPs, at most ${GROUPS_MAX}; changeable at any time.`,
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

/** What the log carries. The schema has checked formats and ranges, so the brands are earned. */
export function poolSpecOf(parsed: z.output<typeof poolSpec>): BackendPoolSpec {
  return {
    ...parsed,
    members: parsed.members.map((one) => ({ ...one, dip: one.dip as IpAddress, port: (one.port ?? 0) as Port })),
    probe: parsed.probe === undefined ? null : { ...parsed.probe, port: parsed.probe.port as Port },
  };
}
