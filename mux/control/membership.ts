/**
 * [pure] From a process that knows nothing to a live MUX that announces VIPs, and back.
 *
 *     catching-up --caught up--> joining --sees itself--> joined --lease held--> announcing
 *          ^                                                 |                       |
 *          |                                                 +---- lease lost -------+--> withdrawn
 *          |                                                                                 | withdrawMs
 *          +----- gone from the projection: lost, left -----------------------------------  leaving
 *
 *     announcing <--drained by an operator, undrained--> drained
 *     announcing <--left behind by its peers, caught up--> stale
 *     any state --another boot id under our name, after we had joined--> replaced: never announces again
 *     any state --stop--> withdrawn, leaving --gone--> stopped
 *
 *  (M1) Routes are announced only in `announcing`: joinedIndex is in force here, and the lease is held.
 *  (M2) Each life as a member is an incarnation of its own. After a lost lease the MUX leaves and joins anew, so that no
 *       proposal of its loss that is still under way can hit it while it announces.
 *  (M3) A request is repeated with the same origin until its effect shows or it is refused for good; then never again.
 *  (M4) Drained, a MUX announces nothing and is a member all the same: it renews its lease, and forwards what still comes.
 *  (M5) Stale, likewise; it comes back also when its lease is over and not lost: nobody else may be left (L2).
 */
import type { LogIndex } from "../../core/brands.js";
import type { MuxPeerItem } from "../../dataplane/mux-items.js";
import type { LeaseState } from "./lease.js";

export interface Origin {
  readonly session: string;
  readonly sequence: number;
}

export type MembershipState =
  | { readonly kind: "catching-up" }
  | { readonly kind: "joining"; readonly origin: Origin; readonly askAtMs: number }
  | { readonly kind: "joined"; readonly incarnation: number; readonly joinedIndex: LogIndex }
  | { readonly kind: "announcing"; readonly incarnation: number }
  | { readonly kind: "drained" | "stale"; readonly incarnation: number }
  | { readonly kind: "withdrawn"; readonly untilMs: number }
  | { readonly kind: "leaving"; readonly origin: Origin; readonly askAtMs: number }
  | { readonly kind: "replaced"; readonly by: string }
  | { readonly kind: "stopped" };

export type MembershipAction = { readonly kind: "join" | "leave"; readonly origin: Origin };

/** What the rest of the MUX knows now. */
export interface MembershipFacts {
  /** In force here; 0: nothing. */
  readonly inForce: LogIndex;
  /** In force reaches what the active replica had applied when it welcomed us. */
  readonly caughtUp: boolean;
  /** The member of our name in the projection in force, or null. */
  readonly self: MuxPeerItem | null;
  readonly lease: LeaseState;
  /** The other MUXes of the pool have left this one behind (peers/staleness.ts). */
  readonly isStale: boolean;
}

export interface MembershipTimings {
  /** From withdrawing routes until nobody sends packets by them any more. */
  readonly withdrawMs: number;
  /** Between repetitions of a join or leave. */
  readonly repeatMs: number;
}

export class Membership {
  state: MembershipState = { kind: "catching-up" };
  private readonly bootId: string;
  private readonly timings: MembershipTimings;
  private readonly nextOrigin: () => Origin;
  private stopping = false;

  constructor(bootId: string, timings: MembershipTimings, nextOrigin: () => Origin) {
    this.bootId = bootId;
    this.timings = timings;
    this.nextOrigin = nextOrigin;
  }

  get announces(): boolean {
    return this.state.kind === "announcing"; // (M1)
  }

  /** Call after every change of the facts and at least every 100 ms. Answers what to send, or null. */
  step(facts: MembershipFacts, nowMs: number): MembershipAction | null {
    // Several transitions may be due at once; none leads back to where this began.
    for (let before: MembershipState | null = null; before !== this.state;) {
      before = this.state;
      this.state = this.next(before, facts, nowMs);
    }
    return this.due(nowMs);
  }

  /** Withdraws now, leaves after `graceMs`, and does not join again. */
  stop(nowMs: number, graceMs: number): void {
    this.stopping = true;
    const { kind } = this.state;
    if (kind === "joined" || kind === "announcing" || kind === "drained" || kind === "stale")
      this.state = { kind: "withdrawn", untilMs: nowMs + graceMs };
    else if (kind === "catching-up" || kind === "joining") this.state = { kind: "stopped" };
  }

  /** A join or leave was refused for good: what comes next is a new request (M3). */
  refused(retryAtMs: number): void {
    const { state } = this;
    if (state.kind === "joining" || state.kind === "leaving")
      this.state = { ...state, origin: this.nextOrigin(), askAtMs: retryAtMs };
  }

  /** The stream has changed: what is under way is asked for again at once. */
  streamChanged(nowMs: number): void {
    const { state } = this;
    if (state.kind === "joining" || state.kind === "leaving")
      this.state = { ...state, askAtMs: Math.min(state.askAtMs, nowMs) };
  }

  private next(state: MembershipState, facts: MembershipFacts, nowMs: number): MembershipState {
    const { self, lease } = facts;
    const isOurs = self !== null && self.bootId === this.bootId;
    switch (state.kind) {
      case "catching-up":
        return facts.caughtUp ? { kind: "joining", origin: this.nextOrigin(), askAtMs: nowMs } : state;
      case "joining":
        return isOurs ? { kind: "joined", incarnation: self.incarnation, joinedIndex: self.joinedIndex } : state;
      case "joined":
        if (!isOurs) return this.gone(self);
        if (lease === "lost") return { kind: "withdrawn", untilMs: nowMs + this.timings.withdrawMs };
        if (lease !== "held" || facts.inForce < state.joinedIndex) return state;
        return { kind: standing(self, facts), incarnation: state.incarnation };
      case "announcing":
      case "drained":
      case "stale": {
        if (!isOurs) return this.gone(self);
        if (lease === "lost") return { kind: "withdrawn", untilMs: nowMs + this.timings.withdrawMs };
        const kind = standing(self, facts);
        return kind === state.kind ? state : { kind, incarnation: state.incarnation };
      }
      case "withdrawn":
        if (!isOurs) return this.gone(self);
        return nowMs >= state.untilMs ? { kind: "leaving", origin: this.nextOrigin(), askAtMs: nowMs } : state; // (M2)
      case "leaving":
        return isOurs ? state : this.gone(self);
      case "replaced":
      case "stopped":
        return state;
    }
  }

  /** We were a member and are none any more. */
  private gone(self: MuxPeerItem | null): MembershipState {
    if (this.stopping) return { kind: "stopped" };
    return self === null ? { kind: "catching-up" } : { kind: "replaced", by: self.bootId };
  }

  private due(nowMs: number): MembershipAction | null {
    const { state } = this;
    if ((state.kind !== "joining" && state.kind !== "leaving") || nowMs < state.askAtMs) return null;
    this.state = { ...state, askAtMs: nowMs + this.timings.repeatMs };
    return { kind: state.kind === "joining" ? "join" : "leave", origin: state.origin };
  }
}

/** Of a member whose lease is not lost. */
function standing(self: MuxPeerItem, { isStale }: MembershipFacts): "announcing" | "drained" | "stale" {
  if (self.drained === true) return "drained"; // (M4)
  return isStale ? "stale" : "announcing"; // (M5)
}
