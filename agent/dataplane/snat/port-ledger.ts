/**
 * The ledger of SNAT ports by destination: how many of a DIP's ports are in use towards it, how many are only on hold, and when
 * the next one comes free. Exhaustion is a matter of one destination, so this is where it is seen.
 */
import type { DipId, IpAddress } from "../../../core/brands.js";
import { RANGE_PORTS } from "../../../dataplane/layouts.js";
import type { NatState } from "../nat-state.js";
import type { SnatPorts } from "./snat-ports.js";
import type { HostTables } from "../tables.js";

export interface DestinationPorts {
  readonly dipId: DipId;
  readonly vip: IpAddress;
  /** 6, 17, or 1 and 58 for echo identifiers, which are ports of 17. */
  readonly protocol: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  /** Of flows that live, and of closed ones whose port is not free yet. */
  readonly inUse: number;
  readonly onHold: number;
  /** Ports of the DIP on this VIP. */
  readonly owned: number;
  /** Until the first port on hold is free; null: none is on hold. */
  readonly nextFreeMs: number | null;
}

interface Parts {
  readonly tables: HostTables;
  readonly nat: NatState;
  readonly ports: SnatPorts;
}

type Counted = { -readonly [Field in keyof DestinationPorts]: DestinationPorts[Field] };

export function portLedger({ tables, nat, ports }: Parts, limit: number, nowMs: number): readonly DestinationPorts[] {
  const counted = new Map<string, Counted>();
  for (let entry = 0; entry < nat.capacity; entry++) {
    if (!nat.isLive(entry) || !nat.hasPort(entry)) continue;
    const slot = nat.dipSlot(entry);
    const key = [slot, nat.vip(entry), nat.protocol(entry), nat.remote(entry), nat.remotePort(entry)].join("/");
    let line = counted.get(key);
    if (line === undefined) counted.set(key, (line = newLine({ tables, nat, ports }, entry)));
    if (!nat.isClosed(entry)) {
      line.inUse++;
      continue;
    }
    line.onHold++;
    const holdMs = nat.queues.lifetimesMs[nat.queues.queueOf[entry]!]!;
    const leftMs = Math.max(0, holdMs - nat.queues.idleMs(entry, nowMs));
    line.nextFreeMs = Math.min(line.nextFreeMs ?? Infinity, leftMs);
  }
  return [...counted.values()].sort((a, b) => b.inUse + b.onHold - (a.inUse + a.onHold)).slice(0, limit);
}

function newLine({ tables, nat, ports }: Parts, entry: number): Counted {
  const dipId = tables.dipId(nat.dipSlot(entry));
  const protocol = nat.protocol(entry);
  return {
    dipId,
    vip: tables.addresses.format(nat.vip(entry)),
    protocol,
    remote: tables.addresses.format(nat.remote(entry)),
    remotePort: nat.remotePort(entry),
    inUse: 0,
    onHold: 0,
    owned: ports.rangesOf(dipId, nat.vip(entry), protocol === 6 ? 6 : 17) * RANGE_PORTS,
    nextFreeMs: null,
  };
}
