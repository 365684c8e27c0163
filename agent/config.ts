/** Every setting of a Host Agent, with unit and default. */
import type { IpAddress } from "../core/brands.js";

export interface AgentConfig {
  /** The host's name, an RFC 1123 label, unique in the site. */
  readonly name: string;
  /** 32 hex digits, as on the Managers. */
  readonly clusterId: string;
  /** API addresses of the Manager replicas, "host:port". */
  readonly managers: readonly string[];
  /** Record of the port ranges held. On a local disk; losing it costs the ranges, nothing else. */
  readonly dataFolder: string;
  /** The machines behind VIPs that this host runs. */
  readonly dips: readonly DipConfig[];
  readonly io: FabricIoConfig;
  /** Metrics and health over HTTP, "host:port"; null: none. */
  readonly opsAddress: string | null;
  readonly timings: AgentTimings;
}

export interface DipConfig {
  readonly tenant: string;
  readonly address: IpAddress;
  /** Fabric address that leads to it; the DIP's own when it is unique in the site. */
  readonly locator: IpAddress;
  /** Where packets for its virtual network card go, "host:port"; packets from there are the VM's. */
  readonly nic: string;
}

/** Packets as UDP payload on loopback, see dataplane/fabric-frame.ts. */
export interface FabricIoConfig {
  readonly kind: "fabric";
  /** The wire side: where the router's packets arrive. */
  readonly listen: string;
  readonly router: string;
  /** Where the VMs' packets arrive. */
  readonly vmListen: string;
}

export interface AgentTimings {
  /** A request without an answer for so long is also sent on the second stream. */
  readonly unansweredMs: number;
  /** Replicas beat every 3 s to agents: two may be lost. */
  readonly silenceMs: number;
  /** From hello to welcome; a registration is committed in between. */
  readonly openMs: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** Within so long, at random, one stream is led to a new leader: thousands of agents hear of it together. */
  readonly preferWithinMs: number;
  /** How often demand for ports is looked at. */
  readonly reserveMs: number;
  /** Ports are asked for ahead of what this much time needs at the present rate. */
  readonly reserveAheadMs: number;
  /** Ranges without a flow for so long are given back, beyond the base reserve. */
  readonly idleReleaseMs: number;
}

export const AGENT_TIMINGS: AgentTimings = {
  unansweredMs: 300,
  silenceMs: 7_000,
  openMs: 12_000,
  retryMinMs: 100,
  retryMaxMs: 3_000,
  preferWithinMs: 5_000,
  reserveMs: 100,
  reserveAheadMs: 4_000,
  idleReleaseMs: 120_000,
};

export type AgentOptions = Omit<AgentConfig, "opsAddress" | "timings" | "dips"> & {
  readonly dips: readonly (Omit<DipConfig, "locator" | "tenant"> & {
    readonly locator?: IpAddress;
    readonly tenant?: string;
  })[];
  readonly opsAddress?: string | null;
  readonly timings?: Partial<AgentTimings>;
};

/** Fills in the defaults. */
export function agentConfig(options: AgentOptions): AgentConfig {
  return {
    ...options,
    dips: options.dips.map((dip) => ({ ...dip, tenant: dip.tenant ?? "default", locator: dip.locator ?? dip.address })),
    opsAddress: options.opsAddress ?? null,
    timings: { ...AGENT_TIMINGS, ...options.timings },
  };
}
