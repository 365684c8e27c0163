/** The spec of a Vip; see `schema`. */
import { z } from "zod";
import type { IpAddress, Port } from "../../../core/brands.js";
import type { VipSpec } from "../../state/objects.js";
import { show } from "./schema-messages.js";
import {
  always,
  choice,
  error,
  fieldOf,
  findTwins,
  flag,
  integer,
  ipAddress,
  isMapping,
  isNamed,
  list,
  mapping,
  name,
  port,
  ports,
} from "./schema-values.js";

export const GROUPS_MAX = 5;
const RULES_MAX = 1_500;
const OUTBOUND_POOLS_MAX = 64;
const MAX_PORTS_MAX = 64_512;
const MAX_PORTS_DEFAULT = 1_024;

const PROTOCOLS = ["tcp", "udp", "tcp_udp", "all"] as const;
const PROTOCOL_RIGHT = "use tcp, udp, tcp_udp or all";
const protocol = z.enum(
  PROTOCOLS,
  error((input) => {
    const lower = typeof input === "string" ? input.toLowerCase() : "";
    return PROTOCOLS.some((known) => known === lower)
      ? `${show(input)} is not a protocol; write ${lower} in lower case`
      : `${show(input)} is not a protocol; ${PROTOCOL_RIGHT}`;
  }, PROTOCOL_RIGHT),
);

const idleSeconds = (min: number, max: number, what: string) =>
  integer("a time in seconds", `use ${min} to ${max}, or 0 for the data path's own`, 0, max)
    .refine(
      (seconds) => seconds === 0 || seconds >= min,
      error((input) => `${show(input)} seconds is too short; use ${min} to ${max}`, `use ${min} to ${max}`),
    )
    .default(0)
    .describe(`Seconds without a packet after which ${what}, ${min} to ${max}; 0: the data path's own.`);

const rule = z
  .strictObject(
    {
      name: name("give the rule a name that is unique in this Vip").describe("Name of the rule, unique in the Vip."),
      protocol: protocol.describe(
        "Transport protocol of the flows; tcp_udp serves both, all serves every protocol and port that nothing else in the Vip takes.",
      ),
      port: integer("a port", "use 1 to 65535", 0, 65_535)
        .optional()
        .describe(
          "Port of the Vip that clients connect to, 1 to 65535; (protocol, port) belongs to one rule. Left out or 0 with protocol all.",
        ),
      pool: name("name the BackendPool that serves this rule").describe(
        "BackendPool of the same tenant that serves the flows.",
      ),
      backendPort: port()
        .optional()
        .describe("Port on the DIPs, 1 to 65535. Left out: the same as port; not with protocol all."),
      distribution: choice(["fiveTuple", "clientIpProtocol", "clientIp"], "a distribution")
        .default("fiveTuple")
        .describe(
          "What is hashed to choose a DIP. clientIp and clientIpProtocol keep the flows of one client on one DIP while the pool stays as it is.",
        ),
      floatingIp: flag("true leaves the Vip as destination")
        .default(false)
        .describe(
          "The Vip stays the destination of packets: the machine must hold it on its loopback. No backendPort.",
        ),
      idleSeconds: idleSeconds(10, 86_400, "a flow is over"),
      idleReset: flag("false ends idle flows in silence")
        .default(true)
        .describe("An idle TCP flow ends with a reset to both ends."),
      fastpath: flag("false keeps flows on the MUXes")
        .default(true)
        .describe("Flows between VIPs of the site may leave the MUX after the handshake."),
    },
    mapping("a rule with name, protocol, port and pool"),
  )
  .superRefine((value: unknown, context) => {
    if (!isMapping(value)) return;
    const complain = (field: string, message: string): void => {
      context.addIssue({ code: "custom", path: [field], message });
    };
    const wanted = value["port"] ?? 0;
    if (value["protocol"] === "all") {
      if (wanted !== 0) complain("port", `${show(wanted)} with protocol all; leave it out: all means every port`);
      if (value["backendPort"] !== undefined) complain("backendPort", "every port keeps its number; leave it out");
    } else if (wanted === 0) {
      const message =
        value["port"] === undefined ? "missing; use 1 to 65535" : "0 is not a port; use 1 to 65535, or protocol all";
      complain("port", message);
    }
    const backend = value["backendPort"];
    if (value["floatingIp"] === true && backend !== undefined && backend !== wanted)
      complain("backendPort", "a floating Vip keeps the port; leave it out");
  }, always());

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

const minPortsOption = error(
  (input) => `${show(input)} is not a number of SNAT ports; use 0 or a multiple of 8 up to ${MAX_PORTS_MAX}`,
  `use 0 or a multiple of 8 up to ${MAX_PORTS_MAX}`,
);

const outbound = z.strictObject(
  {
    pools: z
      .array(name("name a BackendPool"), list("pool names"))
      .min(1, { error: () => "empty; name at least one BackendPool, or leave outbound out" })
      .max(OUTBOUND_POOLS_MAX, {
        error: ({ input }) => `${Array.isArray(input) ? input.length : 0} pools; use at most ${OUTBOUND_POOLS_MAX}`,
      })
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
      .describe("BackendPools of the same tenant whose members reach the outside through this Vip; 1 to 64."),
    maxPorts: z
      .int(maxPortsOption)
      .min(8, maxPortsOption)
      .max(MAX_PORTS_MAX, maxPortsOption)
      .multipleOf(8, maxPortsOption)
      .default(MAX_PORTS_DEFAULT)
      .describe(`Most SNAT ports that one DIP may own here, per protocol: a multiple of 8 from 8 to ${MAX_PORTS_MAX}.`),
    minPorts: z
      .int(minPortsOption)
      .min(0, minPortsOption)
      .max(MAX_PORTS_MAX, minPortsOption)
      .multipleOf(8, minPortsOption)
      .default(0)
      .describe(
        "SNAT ports kept for each member the pools may have, per protocol; a multiple of 8. Refused when all minima together are more than 75 % of the Vip's ports.",
      ),
    selection: choice(["spread", "paired"], "a selection")
      .default("spread")
      .describe("With several Vips: spread flows over them by destination, or let a DIP always leave as the same one."),
    udpMapping: choice(["addressPortDependent", "endpointIndependent"], "a mapping")
      .default("addressPortDependent")
      .describe("How UDP ports are shared over destinations (RFC 4787, section 4.1)."),
    tcpIdleSeconds: idleSeconds(60, 86_400, "a TCP flow is over"),
    udpIdleSeconds: idleSeconds(10, 3_600, "a UDP flow is over"),
    idleReset: flag("false ends idle flows in silence")
      .default(true)
      .describe("An idle TCP flow ends with a reset to both ends."),
    onExhaustion: choice(["reset", "drop"], "an action")
      .default("reset")
      .describe("What a first packet meets that found no port within queueSeconds: a reset or ICMP error, or silence."),
    queueSeconds: integer("a time in seconds", "use 0 to 10", 0, 10)
      .default(3)
      .describe("How long a first packet without a port waits for one, 0 to 10 seconds."),
  },
  mapping("a mapping with pools and maxPorts"),
);

const inboundNat = z.strictObject(
  {
    name: name("give it a name that is unique in this Vip").describe(
      "Name, unique among rules and inbound NAT of the Vip.",
    ),
    protocol: choice(["tcp", "udp"], "a protocol of inbound NAT").describe("Transport protocol of the flows."),
    ports: ports().describe(
      'Ports of the Vip, one for each member, as in "50000-50099". A member keeps its port for as long as it is in the pool.',
    ),
    pool: name("name a BackendPool").describe("BackendPool of the same tenant whose members are reached."),
    backendPort: port().describe("Port on the DIPs, 1 to 65535."),
  },
  mapping("a mapping with name, protocol, ports, pool and backendPort"),
);

export const groupNames = z
  .array(name("name a SecurityGroup"), list("names of SecurityGroups"))
  .max(GROUPS_MAX, {
    error: ({ input }) => `${Array.isArray(input) ? input.length : 0} groups; use at most ${GROUPS_MAX}`,
  })
  .default([]);

const overload = z.strictObject(
  {
    action: choice(["blackhole", "none"], "an action")
      .default("blackhole")
      .describe("blackhole: the Managers withdraw the Vip from all MUXes; none: they never do."),
    restoreAfterSeconds: integer("a time in seconds", "use 30 to 86400", 30, 86_400)
      .default(300)
      .describe("After this time a withdrawn Vip is announced again, 30 to 86400 seconds."),
  },
  mapping("a mapping with action and restoreAfterSeconds"),
);

export const vipSpec = z.strictObject(
  {
    address: ipAddress("203.0.113.10").describe("IPv4 or IPv6 address, unique in the site. Fixed at creation."),
    scope: choice(["public", "internal"], "a scope")
      .default("public")
      .describe("internal: DIPs reach the Vip with their own address, without source NAT."),
    adminState: choice(["up", "down"], "a state").default("up").describe("down: the MUXes withdraw the route."),
    hairpin: choice(["snat", "drop"], "an action")
      .default("snat")
      .describe("A DIP's flow through the Vip to itself: gets another source, or is dropped."),
    securityGroups: groupNames.describe(
      `SecurityGroups of the same tenant that judge flows through the Vip, at most ${GROUPS_MAX}; changeable at any time.`,
    ),
    overload: overload
      .prefault({})
      .describe("What the Managers do when the Vip takes more than its share of the MUXes."),
    rules: rules.default([]).describe(`What the address serves; at most ${RULES_MAX} rules.`),
    inboundNat: z
      .array(inboundNat, list("inbound NAT rules"))
      .max(RULES_MAX, {
        error: ({ input }) => `${Array.isArray(input) ? input.length : 0} rules; use at most ${RULES_MAX}`,
      })
      .default([])
      .describe("Ports of the Vip that lead to one member each, whatever its health."),
    outbound: outbound.optional().describe("Source NAT for flows that members of these pools open. Left out: none."),
  },
  mapping("a mapping with address, rules and outbound"),
);

/** What the log carries. The schema has checked formats and ranges, so the brands are earned. */
export function vipSpecOf(parsed: z.output<typeof vipSpec>): VipSpec {
  const { address, rules: wanted, inboundNat: forwarded, outbound: source, ...spec } = parsed;
  return {
    ...spec,
    address: address as IpAddress,
    rules: wanted.map((one) => ({
      ...one,
      port: (one.port ?? 0) as Port,
      backendPort: (one.backendPort ?? one.port ?? 0) as Port,
    })),
    inboundNat: forwarded.map((one) => ({ ...one, backendPort: one.backendPort as Port })),
    outbound: source ?? null,
  };
}
