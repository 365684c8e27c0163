/** Every setting of a MUX, with unit and default. */
import { parseIpAddress } from "../core/address.js";
import type { IpAddress } from "../core/brands.js";
import { AnantaError } from "../core/errors.js";
import { MUX_LAYOUT } from "../dataplane/layouts.js";

export interface MuxConfig {
  /** Unique in the pool, an RFC 1123 label. The same name after a restart: a new incarnation of the same MUX. */
  readonly name: string;
  /** 32 hex digits, as on the Managers. */
  readonly clusterId: string;
  /** API addresses of the Manager replicas, "host:port". */
  readonly managers: readonly string[];
  /** Outer source of what this MUX encapsulates; IPv4. */
  readonly address: IpAddress;
  readonly io: FabricIoConfig;
  /** How much the tables hold; declared when the MUX joins. */
  readonly capacity: { readonly rules: number; readonly snatRanges: number };
  /** Metrics and health over HTTP, "host:port"; null: none. */
  readonly opsAddress: string | null;
  readonly timings: MuxTimings;
}

/** Packets as UDP payload on loopback, see dataplane/fabric-frame.ts. */
export interface FabricIoConfig {
  readonly kind: "fabric";
  /** Where the router's packets arrive. */
  readonly listen: string;
  readonly router: string;
}

export interface MuxTimings {
  /** As on the Managers (DESIGN §2): this MUX counts its own lease by it. */
  readonly leaseMs: number;
  /** From withdrawing the routes until no router uses them any more; at least the announcements' hold time. */
  readonly withdrawMs: number;
  /** A replica beats every 100 ms; after so long without a message the other replica takes its place. */
  readonly silenceMs: number;
  /** Renewal of the lease when nothing changes: ten times per lease, so that lost beats do not matter. */
  readonly ackIntervalMs: number;
  /** Between repetitions of a join or leave without effect. */
  readonly repeatMs: number;
  /** From opening a stream to a replica's welcome. */
  readonly openMs: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** Before a leave at an orderly stop: routers have let go by then. */
  readonly stopGraceMs: number;
  /** Longest wait for a leave to be committed at an orderly stop. */
  readonly leaveMs: number;
}

export const MUX_TIMINGS: MuxTimings = {
  leaseMs: 2_000,
  withdrawMs: 1_000,
  silenceMs: 300,
  ackIntervalMs: 200,
  repeatMs: 500,
  openMs: 2_000,
  retryMinMs: 100,
  retryMaxMs: 2_000,
  stopGraceMs: 100,
  leaveMs: 1_000,
};

export type MuxOptions = Omit<MuxConfig, "capacity" | "opsAddress" | "timings"> & {
  readonly capacity?: Partial<MuxConfig["capacity"]>;
  readonly opsAddress?: string | null;
  readonly timings?: Partial<MuxTimings>;
};

/** Fills in the defaults. */
export function muxConfig(options: MuxOptions): MuxConfig {
  return {
    ...options,
    capacity: { rules: MUX_LAYOUT.rules, snatRanges: MUX_LAYOUT.snatRanges, ...options.capacity },
    opsAddress: options.opsAddress ?? null,
    timings: { ...MUX_TIMINGS, ...options.timings },
  };
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const HEX_128 = /^[0-9a-f]{32}$/;
const HOST_PORT = /^.+:[0-9]{1,5}$/;

/** Checks what came from a file or the command line. Throws INVALID_ARGUMENT naming the setting. */
export function parseMuxConfig(raw: Readonly<Record<string, unknown>>): MuxConfig {
  const refuse = (setting: string, want: string): never => {
    throw new AnantaError("INVALID_ARGUMENT", `${setting}: ${JSON.stringify(raw[setting]) ?? "missing"}; it is ${want}`, { setting });
  };
  const text = (setting: string, form: RegExp, want: string): string => {
    const value = raw[setting];
    return typeof value === "string" && form.test(value) ? value : refuse(setting, want);
  };
  const name = text("name", NAME, `1 to 63 of a-z, 0-9 and "-"`);
  const clusterId = text("clusterId", HEX_128, "32 hex digits, as on the Managers");
  const managers = raw["managers"];
  if (!Array.isArray(managers) || managers.length === 0 || !managers.every((one) => typeof one === "string" && HOST_PORT.test(one))) {
    return refuse("managers", `a list of "host:port", the Managers' API addresses`);
  }
  const address = parseIpAddress(text("address", /./, "the outer source address, IPv4"));
  if (address === null || address.includes(":")) return refuse("address", "the outer source address, IPv4");
  const io = raw["io"] as Partial<FabricIoConfig> | undefined;
  if (io?.kind !== "fabric" || !HOST_PORT.test(io.listen ?? "") || !HOST_PORT.test(io.router ?? "")) {
    return refuse("io", `{"kind": "fabric", "listen": "host:port", "router": "host:port"}`);
  }
  const opsAddress = raw["opsAddress"] ?? null;
  if (opsAddress !== null && (typeof opsAddress !== "string" || !HOST_PORT.test(opsAddress))) return refuse("opsAddress", `"host:port"`);
  return muxConfig({
    name,
    clusterId,
    managers: managers as string[],
    address,
    io: io as FabricIoConfig,
    opsAddress,
    capacity: counts(raw["capacity"], "capacity", refuse),
    timings: counts(raw["timings"], "timings", refuse),
  });
}

function counts(value: unknown, setting: string, refuse: (setting: string, want: string) => never): Record<string, number> {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null) return refuse(setting, "an object of numbers above 0");
  for (const part of Object.values(value)) if (typeof part !== "number" || !(part > 0)) return refuse(setting, "an object of numbers above 0");
  return value as Record<string, number>;
}
