/**
 * The leader's ear for overloaded MUXes, and its hand: reports come in, `Isolation` decides, the withdrawal goes through the log
 * like an operator's. It ends by its deadline there, so that no leader is needed to bring a VIP back.
 */
import type { VipId } from "../../core/brands.js";
import type { Clock, Log } from "../../runtime/env.js";
import type { WithdrawVipCommand } from "../state/commands/commands.js";
import type { StateMachine } from "../state/state-machine.js";
import { Isolation, type OverloadReport, type Withdraw } from "./isolation.js";

/** An overloaded MUX reports every 500 ms: without a word for three of them it says nothing any more. */
const FRESH_MS = 1_500;
const STEP_MS = 500;

interface Heard {
  readonly report: OverloadReport;
  readonly heardAtMs: number;
}

type OverloadFacts = Pick<
  StateMachine,
  "muxes" | "overloadBackoff" | "vip" | "vipCount" | "withdrawal" | "withdrawnVips"
>;

export class OverloadManagement {
  /** Withdrawals by this process that were committed. */
  withdrawals = 0;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #state: OverloadFacts;
  readonly #withdraw: (command: WithdrawVipCommand, answered: (isCommitted: boolean) => void) => void;
  #heard = new Map<string, Heard>();
  #isolation = new Isolation();
  #nextStepMs = 0;

  constructor(options: {
    readonly clock: Clock;
    readonly log: Log;
    readonly state: OverloadFacts;
    /** `answered` is called once. */
    readonly withdraw: (command: WithdrawVipCommand, answered: (isCommitted: boolean) => void) => void;
  }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#state = options.state;
    this.#withdraw = options.withdraw;
  }

  takeOffice(): void {
    this.#heard.clear();
    this.#isolation = new Isolation();
  }

  report(report: OverloadReport): void {
    this.#heard.set(report.mux, { report, heardAtMs: this.#clock.nowMs() });
  }

  /** MUXes that are overloaded, as far as this leader has heard lately. */
  get overloadedMuxes(): number {
    return this.#fresh().filter(({ isOverloaded }) => isOverloaded).length;
  }

  /** Call about every 100 ms while in office. */
  check(): void {
    const nowMs = this.#clock.nowMs();
    if (this.#heard.size === 0 || nowMs < this.#nextStepMs) return;
    this.#nextStepMs = nowMs + STEP_MS;
    const reports = this.#fresh();
    // When the last one is forgotten, the step below has seen none: nothing of an earlier flood counts for a later one.
    for (const [name, { heardAtMs }] of this.#heard) if (nowMs - heardAtMs > FRESH_MS) this.#heard.delete(name);
    const decision = this.#isolation.step(
      reports,
      {
        mayGo: (vipId) => this.#mayGo(vipId),
        vips: this.#state.vipCount,
        withdrawn: this.#state.withdrawnVips,
      },
      nowMs,
    );
    if (decision !== null) this.#isolate(decision);
  }

  /** As `IsolationFacts` says. */
  #mayGo(vipId: VipId): boolean {
    const vip = this.#state.vip(vipId);
    if (vip === null || vip.deleting || this.#state.withdrawal(vipId) !== null) return false;
    return vip.spec.overload.action !== "none";
  }

  #isolate({ vipId, muxes, packetsPerSecond, share, arriving, capacity }: Withdraw): void {
    const { tenant, name } = this.#state.vip(vipId)!.ref; // it was just decided about
    this.#log.warn("a VIP overloads MUXes: withdrawing it", {
      tenant,
      vip: name,
      muxes: muxes.length,
      packetsPerSecond,
      share,
      arriving,
      capacity,
    });
    const room = capacity === 0 ? "" : ` of ${capacity} that they can forward`;
    const reason = `overload: ${packetsPerSecond} packets/s on ${muxes.length} overloaded MUXes, where ${arriving} arrive and its share is ${share}${room}`;
    const isolation = this.#isolation;
    // 0: the log knows how often it was before, and so for how long it is now.
    this.#withdraw({ kind: "withdraw-vip", tenant, name, reason, forSeconds: 0, isOverload: true }, (isCommitted) => {
      const nowMs = this.#clock.nowMs();
      if (!isCommitted) {
        isolation.refused(nowMs);
        return;
      }
      this.withdrawals++;
      const backoff = this.#state.overloadBackoff(vipId);
      if (backoff !== null)
        this.#log.warn("the VIP is withdrawn", {
          tenant,
          vip: name,
          forSeconds: backoff.forSeconds,
          times: backoff.times,
        });
      isolation.committed(nowMs);
    });
  }

  /** Of live MUXes only: an earlier process of a MUX, or one that was declared lost, has no say. */
  #fresh(): readonly OverloadReport[] {
    const nowMs = this.#clock.nowMs();
    const live = new Map(
      this.#state.muxes().flatMap((mux) => (mux.state === "live" ? [[mux.name, mux.bootId] as const] : [])),
    );
    return [...this.#heard.values()].flatMap(({ report, heardAtMs }) =>
      live.get(report.mux) === report.bootId && nowMs - heardAtMs <= FRESH_MS ? [report] : [],
    );
  }
}
