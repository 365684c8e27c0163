/** The specs of a Tenant and of a SecurityGroup; see `schema`. */
import { z } from "zod";
import { show } from "./schema-messages.js";
import {
  always,
  choice,
  error,
  fieldOf,
  findTwins,
  integer,
  isMapping,
  isPrefix,
  list,
  mapping,
  ports,
  prefix,
} from "./schema-values.js";

const SPACES_MAX = 64;
const GROUP_RULES_MAX = 256;

export const tenantSpec = z.strictObject(
  {
    weight: integer("a weight", "use 1 to 1000", 1, 1_000)
      .default(1)
      .describe(
        "Share against other tenants' weights, 1 to 1000. An overloaded MUX shares the packets it can take by weighted max-min between VIPs, each with its tenant's weight, and drops what exceeds the share. The last sixteenth of the MUXes' SNAT tables is shared by weighted max-min between tenants, minPorts first. SNAT requests per second, where the Managers limit them, are the setting times the weight.",
      ),
    addressSpaces: z
      .array(prefix("10.0.0.0/8"), list("prefixes"))
      .max(SPACES_MAX, {
        error: ({ input }) => `${Array.isArray(input) ? input.length : 0} prefixes; use at most ${SPACES_MAX}`,
      })
      .default([])
      .describe(
        "Prefixes that the tenant's DIPs lie in; flows between them keep their source. May overlap with other tenants'. Left out: any address, and no prefix is internal.",
      ),
    maxVips: integer("a number of Vips", "use 0 to 32768", 0, 32_768)
      .default(0)
      .describe("Most Vips that the tenant may have; 0: no limit."),
    maxRulesPerVip: integer("a number of rules", "use 1 to 1500", 1, 1_500)
      .default(1_500)
      .describe("Most rules, and ports of inbound NAT, in one Vip, 1 to 1500."),
  },
  mapping("a mapping with weight, addressSpaces, maxVips and maxRulesPerVip"),
);

const NAMED_GROUP = /^sg:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const PEER_RIGHT = 'use a prefix as in 203.0.113.0/24, "sg:NAME" or "probe"';
const peerOption = error((input) => `${show(input)} is not a peer; ${PEER_RIGHT}`, PEER_RIGHT);

const securityRule = z
  .strictObject(
    {
      direction: choice(["in", "out"], "a direction").describe("in: flows to the DIP; out: flows that it opens."),
      protocol: choice(["tcp", "udp", "icmp", "all"], "a protocol").describe("Protocol of the flows."),
      ports: z
        .array(ports(), list("ports"))
        .max(32, { error: () => "more than 32 ports; use ranges" })
        .default([])
        .describe('Ports of the DIP that the rule is about, for tcp and udp: 8080 or "9000-9010". Left out: all.'),
      peer: z
        .string(peerOption)
        .refine((text) => text === "probe" || NAMED_GROUP.test(text) || isPrefix(text), peerOption)
        .describe(
          'The other end: a prefix, "sg:NAME" for what comes through a Vip with that group, or "probe" for the host\'s own probes.',
        ),
      action: choice(["allow", "deny"], "an action").describe("What happens to a new flow; replies to it always pass."),
      priority: integer("a priority", "use 1 to 4096", 1, 4_096).describe(
        "The lowest number that matches decides, 1 to 4096; unique per direction. No match: denied.",
      ),
    },
    mapping("a rule with direction, protocol, peer, action and priority"),
  )
  .superRefine((value: unknown, context) => {
    if (!isMapping(value) || !Array.isArray(value["ports"]) || value["ports"].length === 0) return;
    if (value["protocol"] !== "icmp" && value["protocol"] !== "all") return;
    const message = `${value["protocol"]} has no ports; leave them out, or use tcp or udp`;
    context.addIssue({ code: "custom", path: ["ports"], message });
  }, always());

export const groupSpec = z.strictObject(
  {
    rules: z
      .array(securityRule, list("rules"))
      .max(GROUP_RULES_MAX, {
        error: ({ input }) => `${Array.isArray(input) ? input.length : 0} rules; use at most ${GROUP_RULES_MAX}`,
      })
      .superRefine((value: unknown, context) => {
        findTwins(
          value,
          (item) => {
            const priority = fieldOf(item, "priority");
            const direction = fieldOf(item, "direction");
            return priority === null || direction === null ? null : `${direction} priority ${priority}`;
          },
          ({ at, first, identity }) => {
            const message = `${identity} is that of spec.rules[${first}] already; priorities are unique per direction`;
            context.addIssue({ code: "custom", path: [at, "priority"], message });
          },
        );
      }, always())
      .describe(`What is let through; at most ${GROUP_RULES_MAX} rules. Stateful; what no rule allows is denied.`),
  },
  mapping("a mapping with rules"),
);
