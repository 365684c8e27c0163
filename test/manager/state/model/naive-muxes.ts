/** MUXes by name, and what their joining, ending and draining answers. */
import type { IpAddress, MuxId } from "../../../../core/brands.js";
import type {
  DrainMuxCommand,
  JoinMuxCommand,
  LeaveMuxCommand,
  LoseMuxCommand,
  UndrainMuxCommand,
} from "../../../../manager/state/commands/commands.js";
import type { CommandValue } from "../../../../manager/state/commands/results.js";

export interface NaiveMux {
  readonly id: number;
  readonly name: string;
  readonly incarnation: number;
  readonly bootId: string;
  readonly formerBoots: readonly string[];
  readonly address: IpAddress;
  readonly addressIpv6: IpAddress | undefined;
  readonly rules: number;
  readonly snatRanges: number;
  state: "live" | "lost" | "left";
  drain: { readonly reason: string; readonly sinceMs: number } | undefined;
}

/** Of a host or a MUX: its boot ids once another process has followed, newest first. */
export const former = (before: {
  readonly bootId: string;
  readonly formerBoots: readonly string[];
}): readonly string[] => [...new Set([before.bootId, ...before.formerBoots])].slice(0, 8);

export const isIpv6 = (address: IpAddress): boolean => address.includes(":");

export class NaiveMuxes {
  readonly all = new Map<string, NaiveMux>();

  live(): readonly NaiveMux[] {
    return [...this.all.values()].filter(({ state }) => state === "live");
  }

  /** The outer address of a live MUX. */
  isAt(address: IpAddress, but = ""): boolean {
    return this.live().some((mux) => mux.name !== but && [mux.address, mux.addressIpv6].includes(address));
  }

  /** All live ones have an address to send to the locator from. */
  reach(locator: IpAddress): boolean {
    return !isIpv6(locator) || this.live().every(({ addressIpv6 }) => addressIpv6 !== undefined);
  }

  /** Ranges that the smallest live MUX holds; Infinity without one. */
  smallestTable(): number {
    return Math.min(...this.live().map(({ snatRanges }) => snatRanges));
  }

  /** What joining answers, or the code of the refusal. `inUse`: what its tables must hold, and which addresses are not free. */
  join(
    { name, bootId, address, addressIpv6, capacity }: JoinMuxCommand,
    inUse: {
      readonly isUsed: (address: IpAddress) => boolean;
      /** There are IPv6 locators. */
      readonly isIpv6: boolean;
      readonly rules: number;
      readonly ranges: number;
    },
  ): CommandValue | string {
    const joined = ({ id, incarnation }: NaiveMux): CommandValue => {
      return { kind: "mux-joined", muxId: id as MuxId, incarnation };
    };
    const before = this.all.get(name);
    if (before?.state === "live" && before.bootId === bootId) return joined(before);
    if (before?.formerBoots.includes(bootId) === true) return "STALE_INCARNATION";
    const addresses = addressIpv6 === undefined ? [address] : [address, addressIpv6];
    if (addresses.some((one) => this.isAt(one, name) || inUse.isUsed(one))) return "FAILED_PRECONDITION";
    if (addressIpv6 === undefined && inUse.isIpv6) return "FAILED_PRECONDITION";
    if (capacity.rules < inUse.rules || capacity.snatRanges < inUse.ranges) return "FAILED_PRECONDITION";
    const mux: NaiveMux = {
      id: before?.id ?? this.all.size + 1,
      name,
      incarnation: (before?.incarnation ?? 0) + 1,
      bootId,
      formerBoots: before === undefined ? [] : before.bootId === bootId ? before.formerBoots : former(before),
      address,
      addressIpv6,
      rules: capacity.rules,
      snatRanges: capacity.snatRanges,
      state: "live",
      drain: before?.drain,
    };
    this.all.set(name, mux);
    return joined(mux);
  }

  drain(command: DrainMuxCommand | UndrainMuxCommand, nowMs: number): CommandValue | string {
    const mux = this.all.get(command.name);
    if (mux === undefined) return "NOT_FOUND";
    const others = this.live().filter((other) => other !== mux && other.drain === undefined).length;
    const changed = (mux.drain === undefined) === (command.kind === "drain-mux");
    if (command.kind === "undrain-mux") {
      mux.drain = undefined;
      return { kind: "mux-undrained", changed, announcing: others + (mux.state === "live" ? 1 : 0) };
    }
    const isLast = mux.state === "live" && mux.drain === undefined && others === 0;
    if (isLast && !command.force) return "FAILED_PRECONDITION";
    mux.drain = { reason: command.reason, sinceMs: mux.drain?.sinceMs ?? nowMs };
    return { kind: "mux-drained", changed, announcing: others };
  }

  /** The code of the refusal, or nothing. */
  end({ kind, muxId, incarnation }: LeaveMuxCommand | LoseMuxCommand): CommandValue | string {
    const mux = [...this.all.values()][muxId - 1];
    if (mux === undefined) return "NOT_FOUND";
    if (mux.state !== "live" || mux.incarnation !== incarnation) return { kind: "none" };
    if (kind === "lose-mux" && this.live().length === 1) return "FAILED_PRECONDITION";
    mux.state = kind === "lose-mux" ? "lost" : "left";
    return { kind: "none" };
  }
}
