/**
 * The MUXes, every one that ever joined. A MUX is known by name; each join of a new process is a new incarnation that
 * replaces the earlier ones. Live MUXes gate every answer that grants ports, and the smallest of them bounds what may be
 * configured and granted, since all hold the same tables.
 */
import { assert } from "../../core/assert.js";
import type { IpAddress, MuxId } from "../../core/brands.js";
import type { MuxCapacity } from "./commands/commands.js";
import type { Mux } from "./state-machine.js";

/** No live MUX, no bound. */
const UNBOUNDED: MuxCapacity = { rules: Infinity, snatRanges: Infinity };

export class MuxPool {
  /** Position is muxId - 1; MUXes are never removed. */
  private readonly muxes: Mux[] = [];
  private readonly byName = new Map<string, MuxId>();
  private smallest: MuxCapacity = UNBOUNDED;
  private live = 0;

  get(id: MuxId): Mux | null {
    return this.muxes[id - 1] ?? null;
  }

  named(name: string): Mux | null {
    const id = this.byName.get(name);
    return id === undefined ? null : this.get(id);
  }

  get nextId(): MuxId {
    return (this.muxes.length + 1) as MuxId;
  }

  get liveCount(): number {
    return this.live;
  }

  get everJoined(): boolean {
    return this.muxes.length > 0;
  }

  /** Of each table, the size on the live MUX that has least; infinite when none is live. */
  get smallestCapacity(): MuxCapacity {
    return this.smallest;
  }

  /** The live MUX that has this outer address, of either family. */
  liveAt(address: IpAddress): Mux | null {
    const has = (mux: Mux): boolean => mux.address === address || mux.addressIpv6 === address;
    return this.muxes.find((mux) => mux.state === "live" && has(mux)) ?? null;
  }

  /** A live MUX that reaches no IPv6 locator, or null. */
  liveWithoutIpv6(): Mux | null {
    return this.muxes.find((mux) => mux.state === "live" && mux.addressIpv6 === undefined) ?? null;
  }

  /** Inserts the MUX, whose id is then `nextId`, or replaces what is stored under its id. */
  put(mux: Mux): void {
    assert(mux.muxId >= 1 && mux.muxId <= this.nextId, "MUX ids are dense");
    this.muxes[mux.muxId - 1] = mux;
    this.byName.set(mux.name, mux.muxId);
    const live = this.muxes.filter((other) => other.state === "live");
    this.live = live.length;
    this.smallest = {
      rules: Math.min(...live.map((other) => other.capacity.rules)),
      snatRanges: Math.min(...live.map((other) => other.capacity.snatRanges)),
    };
  }

  /** In order of id. */
  all(): readonly Mux[] {
    return this.muxes;
  }
}
