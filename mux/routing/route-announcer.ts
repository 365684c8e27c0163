/** How a MUX tells the routers which VIPs it is next hop for: BGP in a data centre (Ananta §3.3.1). */
import type { IpAddress } from "../../core/brands.js";

export interface RouteAnnouncer {
  start(): void;
  /** These and no others from now on. Equal lists may be announced again and again. */
  announce(vips: readonly IpAddress[]): void;
  /** None from now on; routers are told at once. Safe to call twice. */
  withdraw(): void;
  /** Withdraws and ends. */
  stop(): void;
  /** What the routers were last told. */
  readonly announced: readonly IpAddress[];
}

/** Asked before each announcement: a MUX that cannot forward attracts no packets. */
export type SelfTest = () => boolean;
