/** MUXes by name, and what their joining and ending answers. */
import type { IpAddress } from "../../../../core/brands.js";
import type { JoinMuxCommand, LeaveMuxCommand, LoseMuxCommand } from "../../../../manager/state/commands.js";

export interface NaiveMux {
  readonly id: number;
  readonly name: string;
  readonly incarnation: number;
  readonly bootId: string;
  readonly formerBoots: readonly string[];
  readonly address: IpAddress;
  readonly rules: number;
  readonly snatRanges: number;
  state: "live" | "lost" | "left";
}

/** Of a host or a MUX: its boot ids once another process has followed, newest first. */
export const former = (before: {
  readonly bootId: string;
  readonly formerBoots: readonly string[];
}): readonly string[] => [...new Set([before.bootId, ...before.formerBoots])].slice(0, 8);

export class NaiveMuxes {
  readonly all = new Map<string, NaiveMux>();

  live(): readonly NaiveMux[] {
    return [...this.all.values()].filter(({ state }) => state === "live");
  }

  /** The MUX as it is then, or the code of the refusal. `inUse`: what its tables must hold, and whether its address is a VIP. */
  join(
    { name, bootId, address, capacity }: JoinMuxCommand,
    inUse: { readonly isVip: boolean; readonly rules: number; readonly ranges: number },
  ): NaiveMux | string {
    const before = this.all.get(name);
    if (before?.state === "live" && before.bootId === bootId) return before;
    if (before?.formerBoots.includes(bootId) === true) return "STALE_INCARNATION";
    const isTaken = this.live().some((mux) => mux.name !== name && mux.address === address);
    if (isTaken || inUse.isVip || capacity.rules < inUse.rules || capacity.snatRanges < inUse.ranges)
      return "FAILED_PRECONDITION";
    const mux: NaiveMux = {
      id: before?.id ?? this.all.size + 1,
      name,
      incarnation: (before?.incarnation ?? 0) + 1,
      bootId,
      formerBoots: before === undefined ? [] : before.bootId === bootId ? before.formerBoots : former(before),
      address,
      rules: capacity.rules,
      snatRanges: capacity.snatRanges,
      state: "live",
    };
    this.all.set(name, mux);
    return mux;
  }

  /** Null, or the code of the refusal. */
  end({ kind, muxId, incarnation }: LeaveMuxCommand | LoseMuxCommand): string | null {
    const mux = [...this.all.values()][muxId - 1];
    if (mux === undefined) return "NOT_FOUND";
    if (mux.state !== "live" || mux.incarnation !== incarnation) return null;
    if (kind === "lose-mux" && this.live().length === 1) return "FAILED_PRECONDITION";
    mux.state = kind === "lose-mux" ? "lost" : "left";
    return null;
  }
}
