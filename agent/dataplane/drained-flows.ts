/** Which flows end with a drain: inbound ones, through endpoints whose items say so. */
import type { HostEndpointItem } from "../../dataplane/host-items.js";
import type { HostParts } from "./host-parts.js";
import { INBOUND } from "./nat-state.js";

export class DrainedFlows {
  readonly #parts: Pick<HostParts, "nat" | "addresses" | "tables">;
  /** By VIP, DIP, protocol and port. */
  readonly #ended: ReadonlySet<string>;

  constructor(items: readonly HostEndpointItem[], parts: Pick<HostParts, "nat" | "addresses" | "tables">) {
    this.#parts = parts;
    this.#ended = new Set(
      items.map(({ vip, dipId, protocol, port }) => key(parts.addresses.find(vip), dipId, protocol, port)),
    );
  }

  has(entry: number): boolean {
    if (this.#ended.size === 0) return false;
    const { nat, tables } = this.#parts;
    if (nat.direction[entry] !== INBOUND || nat.isClosed(entry)) return false;
    const vip = nat.vip(entry);
    const dipId = tables.dipId(nat.dipSlot(entry));
    const protocol = nat.protocol(entry);
    const port = nat.vipPort(entry);
    if (this.#ended.has(key(vip, dipId, protocol, port))) return true;
    // Of an all-port rule, unless the port has an endpoint of its own.
    return this.#ended.has(key(vip, dipId, protocol, 0)) && !tables.endpoints.hasExact(vip, protocol, port, dipId);
  }
}

const key = (vip: number, dipId: number, protocol: number, port: number): string =>
  `${vip}/${dipId}/${protocol}/${port}`;
