/**
 * What a host's SNAT ports are doing: how many of each DIP's ports at each VIP have a flow that lives, and how many are only on
 * hold after one. A port serves several destinations, so ports are counted, not flows. Walks all flows: 131,072 take about a ms.
 */
import { RANGE_PORTS } from "../../../dataplane/layouts.js";
import type { NatState } from "../nat-state.js";
import type { PortUse, SnatPorts } from "./snat-ports.js";

export function portsInUse(nat: NatState, ports: SnatPorts): readonly PortUse[] {
  // A bit for each port of a range, by range record.
  const live = new Uint8Array(ports.rangeCapacity);
  const closed = new Uint8Array(ports.rangeCapacity);
  for (let entry = 0; entry < nat.capacity; entry++) {
    if (!nat.isLive(entry) || !nat.hasPort(entry)) continue;
    const bits = nat.isClosed(entry) ? closed : live;
    bits[nat.range[entry]!]! |= 1 << (nat.vipPort(entry) & (RANGE_PORTS - 1));
  }
  return ports.tally(live, closed);
}
