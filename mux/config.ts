/** Every setting of a MUX, with unit and default. */
import type { IpAddress } from "../core/brands.js";
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
  /** Outer source towards IPv6 locators; null: none can be used. */
  readonly addressIpv6: IpAddress | null;
  /** Whether it declares that it forwards VIPs of IPv6; while one of the pool does not, the site has none. */
  readonly ipv6: boolean;
  /** What this MUX can forward; beyond it tenants are held to their fair shares. 0: no limit is known. */
  readonly packetsPerSecondMax: number;
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
  /** As on the Managers: this MUX counts its own lease by it. */
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

export type MuxOptions = Omit<
  MuxConfig,
  "capacity" | "opsAddress" | "timings" | "addressIpv6" | "ipv6" | "packetsPerSecondMax"
> & {
  readonly addressIpv6?: IpAddress | null;
  readonly ipv6?: boolean;
  readonly packetsPerSecondMax?: number;
  readonly capacity?: Partial<MuxConfig["capacity"]>;
  readonly opsAddress?: string | null;
  readonly timings?: Partial<MuxTimings>;
};

/** Fills in the defaults. */
export function muxConfig(options: MuxOptions): MuxConfig {
  return {
    ...options,
    capacity: { rules: MUX_LAYOUT.rules, snatRanges: MUX_LAYOUT.snatRanges, ...options.capacity },
    addressIpv6: options.addressIpv6 ?? null,
    ipv6: options.ipv6 ?? true,
    packetsPerSecondMax: options.packetsPerSecondMax ?? 0,
    opsAddress: options.opsAddress ?? null,
    timings: { ...MUX_TIMINGS, ...options.timings },
  };
}
