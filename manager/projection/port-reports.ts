/**
 * What hosts say that their SNAT ports are doing: the newest report of each that has a stream to this replica. For people; no decision
 * follows from it, and it is in no log.
 */
import type { DipId, HostId, IpAddress } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Clock } from "../../runtime/env.js";
import { PORTS_PER_RANGE, RANGES_PER_SPACE } from "../state/snat/port-ranges.js";
import { checkAddress } from "./address-wire.js";
import { checkProtocol } from "./range-wire.js";
import { checkCount } from "./snat-requests.js";

const LINES_MAX = 4_096;
const PORTS_MAX = RANGES_PER_SPACE * PORTS_PER_RANGE;

/** Ports of one DIP at one VIP and protocol. */
export interface ReportedUse {
  readonly inUse: number;
  readonly onHold: number;
  readonly ageMs: number;
}

interface Report {
  /** The stream that it came on. */
  readonly source: object;
  readonly atMs: number;
  readonly lines: ReadonlyMap<string, { readonly inUse: number; readonly onHold: number }>;
}

interface Place {
  readonly vip: IpAddress;
  readonly protocol: 6 | 17;
  readonly dipId: DipId;
}

const keyOf = ({ vip, protocol, dipId }: Place): string => `${vip}/${protocol}/${dipId}`;

export class PortReports {
  readonly #clock: Clock;
  readonly #reports = new Map<HostId, Report>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws INVALID_ARGUMENT for what no agent says. */
  take(source: object, host: HostId, { ports }: ananta.v1.PortsInUse.$Properties): void {
    const lines = ports ?? [];
    checkCount(lines, LINES_MAX, "ports");
    const parsed = lines.map((line, at) => {
      const where = `ports[${at}]`;
      const vip = checkAddress(line.vip, `${where}.vip`);
      const protocol = checkProtocol(line.protocol, `${where}.protocol`);
      const inUse = line.inUse ?? 0;
      const onHold = line.onHold ?? 0;
      if (!(inUse + onHold <= PORTS_MAX))
        throw new AnantaError("INVALID_ARGUMENT", `${where}: ${inUse + onHold} ports; a VIP has ${PORTS_MAX}`);
      return [keyOf({ vip, protocol, dipId: (line.dipId ?? 0) as DipId }), { inUse, onHold }] as const;
    });
    this.#reports.set(host, { source, atMs: this.#clock.nowMs(), lines: new Map(parsed) });
  }

  /** The stream has ended. */
  gone(source: object): void {
    for (const [host, report] of this.#reports) if (report.source === source) this.#reports.delete(host);
  }

  /** Null: the host has not said. */
  find(host: HostId, place: Place): ReportedUse | null {
    const report = this.#reports.get(host);
    const line = report?.lines.get(keyOf(place));
    if (report === undefined || line === undefined) return null;
    return { ...line, ageMs: this.#clock.nowMs() - report.atMs };
  }
}
