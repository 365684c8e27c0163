/** Rules that wait: their ports lie in SNAT ranges that a DIP still owns, or that rest after it. For people. */
import type { VipSpec } from "../objects.js";
import { portsIn } from "./port-text.js";
import { PORTS_PER_RANGE, type SnatProtocol, rangeOfPort } from "./port-ranges.js";
import { QUARANTINE_MS } from "./quarantine.js";
import type { Dip } from "../objects.js";
import type { PortSpace } from "./port-space.js";
import type { State } from "../state.js";
import { protocolNumber, protocolsOf } from "../vip-map.js";

export interface LentPort {
  /** `rule "dns"`, `inbound NAT "ssh"`. */
  readonly rule: string;
  readonly protocol: SnatProtocol;
  /** The rule's first port in the range. */
  readonly port: number;
  readonly range: number;
  /** Owner, or the last one while the range rests. */
  readonly dip: Dip;
  /** Where the owner runs; null: nowhere. */
  readonly host: string | null;
  /** Cluster time since when the owner is asked; null: it has not been asked, or the range rests. */
  readonly recalledSinceMs: number | null;
  /** Cluster time at which the rest may be over; null: the range is owned. */
  readonly freeAtMs: number | null;
}

/** Ports that rules wait for: how many, and the first of them. */
export interface LentPorts {
  /** One entry per rule and range. */
  readonly count: number;
  /** In order of the rules. */
  readonly first: readonly LentPort[];
}

/** `most`: of those that are described. O(ranges that the rules take + ranges at rest): a VIP may wait for thousands. */
export function lentPorts(state: State, spec: VipSpec, most: number): LentPorts {
  const first: LentPort[] = [];
  const restEnds = new Map<PortSpace, ReadonlyMap<number, number>>();
  let count = 0;
  for (const { rule, protocol, ...ports } of wants(spec)) {
    const space = state.snat.space(spec.address, protocol);
    if (space === null) continue;
    for (let range = rangeOfPort(ports.first); range <= rangeOfPort(ports.last); range++) {
      if (!space.isLent(range)) continue;
      count++;
      if (first.length >= most) continue;
      const ends = restEnds.get(space) ?? restEndsOf(space);
      restEnds.set(space, ends);
      const port = Math.max(ports.first, range * PORTS_PER_RANGE);
      first.push(describe(state, space, range, { rule, protocol, port, freeAtMs: ends.get(range) ?? null }));
    }
  }
  return { count, first };
}

function wants(spec: VipSpec): readonly {
  readonly rule: string;
  readonly protocol: SnatProtocol;
  readonly first: number;
  readonly last: number;
}[] {
  const rules = spec.rules.flatMap(({ name, protocol, port }) =>
    protocolsOf(protocol).flatMap((number) =>
      number === 0 ? [] : [{ rule: `rule "${name}"`, protocol: number, first: port, last: port }],
    ),
  );
  const nats = spec.inboundNat.map(({ name, protocol, ports }) => {
    const { first, last } = portsIn(ports);
    return { rule: `inbound NAT "${name}"`, protocol: protocolNumber(protocol), first, last };
  });
  return [...rules, ...nats];
}

function describe(
  state: State,
  space: PortSpace,
  range: number,
  want: Pick<LentPort, "rule" | "protocol" | "port" | "freeAtMs">,
): LentPort {
  const { dipId, tenant, address, hostId } = state.dips.must(space.ownerOf(range));
  return {
    ...want,
    range,
    dip: { dipId, tenant, address },
    host: hostId === null ? null : state.hosts.must(hostId).name,
    recalledSinceMs: state.snat.recalls.get(space, range)?.sinceMs ?? null,
  };
}

/** Of each range that rests: cluster time at which that may be over. */
function restEndsOf(space: PortSpace): ReadonlyMap<number, number> {
  const ends = new Map<number, number>();
  for (let resting = space.firstQuarantine; resting !== null; resting = resting.nextInSpace)
    for (let range = resting.range; range < resting.range + resting.count; range++)
      ends.set(range, resting.releasedAtMs + QUARANTINE_MS);
  return ends;
}
