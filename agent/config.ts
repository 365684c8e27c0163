/** Every setting of a Host Agent, with unit and default. */
import { parseIpAddress } from "../core/address.js";
import type { IpAddress } from "../core/brands.js";
import { AnantaError } from "../core/errors.js";

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
  /** How often demand for ports is looked at. */
  readonly reserveMs: number;
  /** Ports are asked for ahead of what this much time needs at the present rate (DESIGN §6). */
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
  reserveMs: 100,
  reserveAheadMs: 4_000,
  idleReleaseMs: 120_000,
};

export type AgentOptions = Omit<AgentConfig, "opsAddress" | "timings" | "dips"> & {
  readonly dips: readonly (Omit<DipConfig, "locator" | "tenant"> & { readonly locator?: IpAddress; readonly tenant?: string })[];
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

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const HEX_128 = /^[0-9a-f]{32}$/;
const HOST_PORT = /^.+:[0-9]{1,5}$/;
const DIPS_MAX = 1_024;

/** Checks what came from a file or the command line. Throws INVALID_ARGUMENT naming the setting. */
export function parseAgentConfig(raw: Readonly<Record<string, unknown>>): AgentConfig {
  const refuse = (setting: string, want: string, value: unknown = raw[setting]): never => {
    throw new AnantaError("INVALID_ARGUMENT", `${setting}: ${JSON.stringify(value) ?? "missing"}; it is ${want}`, { setting });
  };
  const text = (setting: string, form: RegExp, want: string): string => {
    const value = raw[setting];
    return typeof value === "string" && form.test(value) ? value : refuse(setting, want);
  };
  const name = text("name", NAME, `1 to 63 of a-z, 0-9 and "-"`);
  const clusterId = text("clusterId", HEX_128, "32 hex digits, as on the Managers");
  const dataFolder = text("dataFolder", /./, "a folder");
  const managers = raw["managers"];
  if (!Array.isArray(managers) || managers.length === 0 || !managers.every((one) => typeof one === "string" && HOST_PORT.test(one))) {
    return refuse("managers", `a list of "host:port", the Managers' API addresses`);
  }
  const listed = raw["dips"];
  if (!Array.isArray(listed) || listed.length > DIPS_MAX) return refuse("dips", `a list of at most ${DIPS_MAX} machines`);
  const dips = (listed as Record<string, unknown>[]).map((dip, position) => {
    const address = parseIpAddress(String(dip["address"]));
    const nic = dip["nic"];
    const tenant = dip["tenant"] ?? "default";
    if (address === null) return refuse(`dips[${position}].address`, "an IP address", dip["address"]);
    if (typeof nic !== "string" || !HOST_PORT.test(nic)) return refuse(`dips[${position}].nic`, `"host:port"`, nic);
    if (typeof tenant !== "string") return refuse(`dips[${position}].tenant`, "a tenant's name", tenant);
    const locator = dip["locator"] === undefined ? address : parseIpAddress(String(dip["locator"]));
    if (locator === null) return refuse(`dips[${position}].locator`, "an IP address", dip["locator"]);
    return { tenant, address, locator, nic };
  });
  const io = raw["io"] as Partial<FabricIoConfig> | undefined;
  if (io?.kind !== "fabric" || ![io.listen, io.router, io.vmListen].every((one) => HOST_PORT.test(one ?? ""))) {
    return refuse("io", `{"kind": "fabric", "listen": "host:port", "router": "host:port", "vmListen": "host:port"}`);
  }
  const opsAddress = raw["opsAddress"] ?? null;
  if (opsAddress !== null && (typeof opsAddress !== "string" || !HOST_PORT.test(opsAddress))) return refuse("opsAddress", `"host:port"`);
  const timings = raw["timings"] ?? {};
  if (typeof timings !== "object" || Object.values(timings).some((part) => typeof part !== "number" || !(part > 0))) {
    return refuse("timings", "an object of numbers above 0");
  }
  return agentConfig({
    name,
    clusterId,
    managers: managers as string[],
    dataFolder,
    dips,
    io: io as FabricIoConfig,
    opsAddress,
    timings: timings as Partial<AgentTimings>,
  });
}
