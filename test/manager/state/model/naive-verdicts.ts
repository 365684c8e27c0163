/** Which members probes have found down, or were down by their spec when they left; forgotten when nobody can ask any more. */
import type { BackendPoolSpec, PoolMember } from "../../../../manager/state/objects.js";
import type { NaiveDrains } from "./naive-drains.js";
import type { NaiveDip } from "./naive-machines.js";

export class NaiveVerdicts {
  /** "pool id/dip id" */
  readonly down = new Set<string>();
  readonly #drains: NaiveDrains;

  constructor(drains: NaiveDrains) {
    this.#drains = drains;
  }

  /** The DIP has left the pool, and its flows go on for a while. */
  drains(pool: number, { address }: NaiveDip): boolean {
    return this.#drains.all.get(`${pool}/${address}`)?.hasLeft === true;
  }

  /** MUXes use the pool without some of these from now on: who leaves while it is down stays down as long as it drains. */
  left(pool: number, former: readonly PoolMember[], dipOf: (address: PoolMember["dip"]) => NaiveDip): void {
    for (const { dip: address, adminState } of former) {
      const dip = dipOf(address);
      if (!this.drains(pool, dip)) continue;
      if (adminState === "up") this.down.delete(`${pool}/${dip.id}`);
      if (adminState === "down") this.down.add(`${pool}/${dip.id}`);
    }
  }

  /** Forgets those of members that are not probed, and of others that do not drain. */
  settle(
    pool: number,
    members: ReadonlySet<number>,
    specs: readonly BackendPoolSpec[],
    dips: readonly NaiveDip[],
  ): void {
    const unprobed = specs.every(({ probe }) => probe === null);
    for (const key of this.down) {
      const [of, id = 0] = key.split("/").map(Number);
      if (of !== pool) continue;
      if (members.has(id) ? unprobed : !this.drains(pool, dips[id - 1]!)) this.down.delete(key); // ids count from 1
    }
  }
}
