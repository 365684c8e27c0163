/**
 * [pure] When a host asks for SNAT ports and when it gives some back, so that a connection finds a port waiting
 * and the stock is not hoarded. Per DIP and protocol:
 *
 *     need     = max(16 ports, what 4 s of the present rate use, half of what is in use but at most 128)
 *     ask      when the ports free for the busiest destination are fewer than `need`, for as many as make it 2 x need
 *     release  ranges idle for 2 minutes, longest idle first, while 2 x need ports stay free
 *
 *  (R1) One request at a time per DIP and protocol; a release counts as one.
 *  (R2) A refusal is followed by silence: as long as the Manager says and up to a quarter more, by chance, so that who was refused
 *       together does not come back together; without a hint doubling, half of it random. Asking and giving back are silent apart from each other. A refused release has cost two durable writes: its pauses double, hint or not.
 *  (R3) Every DIP with an outbound VIP has a reserve before its first connection.
 *  (R4) What the Managers want back goes back once its flows are over, whatever the reserve is, and before anything is asked for.
 */
import type { DipId } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";

/** What the data plane knows about one DIP and protocol. */
export interface PortDemand {
  readonly dipId: DipId;
  readonly protocol: PortProtocol;
  readonly portsOwned: number;
  /** Free for the destination that has the fewest left. */
  readonly portsFree: number;
  readonly newFlowsPerSecond: number;
  /** Flows that wait for a port now. */
  readonly waiting: number;
}

export interface IdleRange {
  readonly vip: string;
  readonly protocol: PortProtocol;
  readonly range: number;
  readonly dipId: DipId;
}

export type ReserveAction<Range extends IdleRange> =
  | { readonly kind: "allocate"; readonly dipId: DipId; readonly protocol: PortProtocol; readonly ports: number }
  | {
      readonly kind: "release";
      readonly dipId: DipId;
      readonly protocol: PortProtocol;
      readonly ranges: readonly Range[];
    };

export interface ReservePolicy {
  readonly aheadMs: number;
  /** Smallest need; also what the first connections of a quiet DIP find. */
  readonly basePorts: number;
  readonly portsPerRange: number;
  /**
   * A DIP at work may have a burst, and its first second is over before an answer comes: half as many ports as it uses are
   * kept free, up to so many. An idle DIP keeps `basePorts` only.
   */
  readonly burstPortsMax: number;
  /** One request never asks for more: a burst of one DIP shall not empty a VIP. */
  readonly askMax: number;
}

export const RESERVE_POLICY: Omit<ReservePolicy, "aheadMs"> = {
  basePorts: 16,
  portsPerRange: 8,
  burstPortsMax: 128,
  askMax: 4_096,
};

/** First pause after a refusal without a hint, and the longest. */
const BACKOFF_MIN_MS = 200;
const BACKOFF_MAX_MS = 30_000;
/** How much longer than told to a pause may be. */
const JITTER = 0.25;
/** Ranges given back in one request. */
const RELEASE_MAX = 64;

type RequestKind = ReserveAction<IdleRange>["kind"];

interface Pause {
  untilMs: number;
  refusals: number;
}

interface Account {
  open: boolean;
  readonly pauses: Readonly<Record<RequestKind, Pause>>;
}

export class PortReserve {
  private readonly policy: ReservePolicy;
  private readonly random: Random;
  private readonly accounts = new Map<string, Account>();

  constructor(policy: ReservePolicy, random: Random) {
    this.policy = policy;
    this.random = random;
  }

  /** Ports that the DIP should find free. */
  need(demand: PortDemand): number {
    const { basePorts, aheadMs, burstPortsMax } = this.policy;
    const ahead = Math.ceil((demand.newFlowsPerSecond * aheadMs) / 1_000);
    const burst = Math.min(burstPortsMax, Math.ceil((demand.portsOwned - demand.portsFree) / 2));
    return Math.max(basePorts, ahead, burst);
  }

  /**
   * `demands`: one per outbound DIP and protocol. `idle`: ranges that may be given back, longest idle first. `recalled`: ranges
   * that the Managers want and that have no flow, of any DIP of the host.
   */
  step<Range extends IdleRange>(
    demands: readonly PortDemand[],
    idle: readonly Range[],
    nowMs: number,
    recalled: readonly Range[] = [],
  ): readonly ReserveAction<Range>[] {
    const actions: ReserveAction<Range>[] = [...this.returnRecalled(recalled, nowMs)];
    for (const demand of demands) {
      const account = this.account(demand.dipId, demand.protocol);
      if (account.open) continue; // (R1)
      const action: ReserveAction<Range> | null =
        this.ask<Range>(demand, account, nowMs) ?? this.giveBack(demand, idle, account, nowMs);
      if (action === null) continue;
      account.open = true;
      actions.push(action);
    }
    return actions;
  }

  /** The request of this DIP and protocol is settled. */
  granted(dipId: DipId, protocol: PortProtocol, kind: RequestKind): void {
    const account = this.account(dipId, protocol);
    account.open = false;
    account.pauses[kind].untilMs = 0;
    account.pauses[kind].refusals = 0;
  }

  /** (R2) `retryAfterMs` 0: no hint. */
  refused(
    dipId: DipId,
    protocol: PortProtocol,
    kind: RequestKind,
    { retryAfterMs, nowMs }: { readonly retryAfterMs: number; readonly nowMs: number },
  ): void {
    const account = this.account(dipId, protocol);
    account.open = false;
    const pause = account.pauses[kind];
    pause.refusals++;
    const doubled = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(pause.refusals - 1, 20));
    const ownMs = doubled * (0.5 + 0.5 * this.random.nextFloat());
    const hintMs = retryAfterMs * (1 + JITTER * this.random.nextFloat());
    pause.untilMs = nowMs + (retryAfterMs > 0 && kind === "allocate" ? hintMs : Math.max(retryAfterMs, ownMs));
  }

  /** The outcome is not known: look at what the projection says, and ask again when there is still need. */
  abandoned(dipId: DipId, protocol: PortProtocol): void {
    this.account(dipId, protocol).open = false;
  }

  get openCount(): number {
    let open = 0;
    for (const account of this.accounts.values()) if (account.open) open++;
    return open;
  }

  /** (R4) */
  private *returnRecalled<Range extends IdleRange>(
    recalled: readonly Range[],
    nowMs: number,
  ): Iterable<ReserveAction<Range>> {
    for (const { dipId, protocol } of recalled) {
      const account = this.account(dipId, protocol);
      if (account.open || nowMs < account.pauses.release.untilMs) continue; // (R1)
      account.open = true;
      const ranges = recalled.filter((range) => range.dipId === dipId && range.protocol === protocol);
      yield { kind: "release", dipId, protocol, ranges: ranges.slice(0, RELEASE_MAX) };
    }
  }

  private ask<Range extends IdleRange>(
    demand: PortDemand,
    account: Account,
    nowMs: number,
  ): ReserveAction<Range> | null {
    const { portsPerRange, askMax } = this.policy;
    const { dipId, protocol, portsFree, waiting } = demand;
    const need = this.need(demand) + waiting;
    if (portsFree >= need || nowMs < account.pauses.allocate.untilMs) return null; // (R3): nothing is free at first
    const ports = Math.min(askMax, Math.ceil((2 * need - portsFree) / portsPerRange) * portsPerRange);
    return { kind: "allocate", dipId, protocol, ports };
  }

  private giveBack<Range extends IdleRange>(
    demand: PortDemand,
    idle: readonly Range[],
    account: Account,
    nowMs: number,
  ): ReserveAction<Range> | null {
    if (nowMs < account.pauses.release.untilMs) return null;
    const { portsPerRange } = this.policy;
    const { dipId, protocol, portsFree } = demand;
    const spare = Math.floor((portsFree - 2 * this.need(demand)) / portsPerRange);
    if (spare < 1) return null;
    const ranges = idle
      .filter((range) => range.dipId === dipId && range.protocol === protocol)
      .slice(0, Math.min(spare, RELEASE_MAX));
    return ranges.length === 0 ? null : { kind: "release", dipId, protocol, ranges };
  }

  private account(dipId: DipId, protocol: PortProtocol): Account {
    const key = name(dipId, protocol);
    let account = this.accounts.get(key);
    if (account === undefined) {
      account = {
        open: false,
        pauses: { allocate: { untilMs: 0, refusals: 0 }, release: { untilMs: 0, refusals: 0 } },
      };
      this.accounts.set(key, account);
    }
    return account;
  }
}

const name = (dipId: DipId, protocol: PortProtocol): string => `${dipId}/${protocol}`;
