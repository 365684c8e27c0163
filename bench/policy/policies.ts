/**
 * Three ways for a host to come by SNAT ports, behind the interface of the agent's own (`agent/control/port-reserve`):
 *
 *   static        a fixed number of ports per DIP at the start, never more: cloud load balancers' default
 *   on demand     some ports at the start; more when a connection has found none, twice as many if asked for again soon
 *                 (Ananta §3.5.1)
 *   early refill  ours: more ports before the reserve is used up
 */
import {
  PortReserve,
  RESERVE_POLICY,
  type IdleRange,
  type PortDemand,
  type ReserveAction,
} from "../../agent/control/port-reserve.js";
import { AGENT_TIMINGS } from "../../agent/config.js";
import type { DipId } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import { RANGE_PORTS } from "../../dataplane/layouts.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";

export type PortPolicy = Pick<PortReserve, "step" | "granted" | "refused" | "abandoned">;

export type PolicyName = "static" | "on-demand" | "early-refill";

export const POLICIES: readonly PolicyName[] = ["static", "on-demand", "early-refill"];

/** Cloud load balancers give each of up to 50 DIPs so many. */
const STATIC_PORTS = 1_024;
/** What a DIP starts with where ports were on demand, and what one request asks for at first. */
const ON_DEMAND_START_PORTS = 160;
const ON_DEMAND_PORTS = RANGE_PORTS;
const ON_DEMAND_PORTS_MAX = 1_024;
/** "Soon" of a repeated request. */
const AGAIN_MS = 10_000;

export function createPolicy(name: PolicyName, random: Random): PortPolicy {
  if (name === "static") return new AskingPolicy(() => 0, STATIC_PORTS);
  if (name === "on-demand") return new AskingPolicy(onDemand(), ON_DEMAND_START_PORTS);
  return new PortReserve(
    { ...RESERVE_POLICY, aheadMs: AGENT_TIMINGS.reserveAheadMs, portsPerRange: RANGE_PORTS },
    random,
  );
}

/** Ports to ask for now; 0: none. */
type Asks = (demand: PortDemand, nowMs: number) => number;

function onDemand(): Asks {
  const asked = new Map<DipId, { readonly atMs: number; readonly ports: number }>();
  return ({ dipId, waiting }, nowMs) => {
    if (waiting === 0) return 0;
    const before = asked.get(dipId);
    const isSoon = before !== undefined && nowMs - before.atMs < AGAIN_MS;
    const ports = isSoon ? Math.min(ON_DEMAND_PORTS_MAX, before.ports * 2) : ON_DEMAND_PORTS;
    asked.set(dipId, { atMs: nowMs, ports });
    return ports;
  };
}

class AskingPolicy implements PortPolicy {
  readonly #asks: Asks;
  readonly #startPorts: number;
  readonly #started = new Set<DipId>();
  readonly #open = new Set<DipId>();

  constructor(asks: Asks, startPorts: number) {
    this.#asks = asks;
    this.#startPorts = startPorts;
  }

  step<Range extends IdleRange>(
    demands: readonly PortDemand[],
    _idle: readonly Range[],
    nowMs: number,
  ): readonly ReserveAction<Range>[] {
    return demands.flatMap((demand): ReserveAction<Range>[] => {
      const { dipId, protocol } = demand;
      if (protocol !== 6 || this.#open.has(dipId)) return [];
      const ports = this.#started.has(dipId) ? this.#asks(demand, nowMs) : this.#startPorts;
      if (ports === 0) return [];
      this.#started.add(dipId);
      this.#open.add(dipId);
      return [{ kind: "allocate", dipId, protocol, ports }];
    });
  }

  granted(dipId: DipId): void {
    this.#open.delete(dipId);
  }

  refused(dipId: DipId, _protocol: PortProtocol): void {
    this.#open.delete(dipId);
  }

  abandoned(dipId: DipId): void {
    this.#open.delete(dipId);
  }
}
