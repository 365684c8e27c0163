/**
 * One Host Agent without its process: its data plane, and the part of control that asks for ports and gives them back
 * (`agent/control/port-requests` without streams and disk), on virtual time.
 *
 *     machines' packets --> data plane --> packets to the world
 *                             | demand         ^ ranges
 *                             v                |
 *                           policy --ask--> virtual Manager
 */
import { createAgentDataplane, type AgentDataplane } from "../../agent/dataplane/agent-dataplane.js";
import type { RangeRef } from "../../agent/dataplane/snat/snat-ports.js";
import { AGENT_TIMINGS } from "../../agent/config.js";
import type { ReserveAction } from "../../agent/control/port-reserve.js";
import { assert } from "../../core/assert.js";
import type { DipId, LogIndex } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import type { HostChange } from "../../dataplane/host-items.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import type { Agenda } from "./agenda.js";
import type { PortPolicy } from "./policies.js";
import type { Answer, RegisteredHost, VirtualManager } from "./virtual-manager.js";

/** As `agent.ts` has them. */
const TICK_MS = 20;
const RELEASE_MS = 1_000;
const LAYOUT = { dips: 64, vips: 16, endpoints: 64, outbounds: 64, flows: 32_768, lastWords: 64 };

export class VirtualHost {
  readonly dataplane: AgentDataplane;
  /** First packets that found no port. */
  waited = 0;
  readonly #agenda: Agenda;
  readonly #manager: VirtualManager;
  readonly #policy: PortPolicy;
  readonly #registered: RegisteredHost;
  readonly #sent: (packet: Uint8Array) => void;
  readonly #in = new PacketBatch({ packets: 1 });
  readonly #out = new PacketBatch({ packets: 1_024 });
  #index = 1;
  #isLooking = false;
  #lastReleaseMs = 0;

  constructor(options: {
    readonly agenda: Agenda;
    readonly manager: VirtualManager;
    readonly policy: PortPolicy;
    readonly registered: RegisteredHost;
    readonly random: Random;
    /** A packet leaves, to the world or to a machine. It is valid during the call. */
    readonly sent: (packet: Uint8Array) => void;
  }) {
    this.#agenda = options.agenda;
    this.#manager = options.manager;
    this.#policy = options.policy;
    this.#registered = options.registered;
    this.#sent = options.sent;
    this.dataplane = createAgentDataplane({ random: options.random, layout: LAYOUT });
    const items = this.#manager.view(this.#registered.hostId);
    const result = this.dataplane.tables.apply({ kind: "snapshot", items }, this.#index as LogIndex);
    assert(result === "in-force", "the host's view is in force");
    this.#everyTick();
    this.#everyReserve();
  }

  get dips(): readonly DipId[] {
    return this.#registered.dips;
  }

  /** A packet from a machine, or from the wire. */
  pass(packet: Uint8Array, link: number): void {
    this.#in.clear();
    this.#in.append(packet, link);
    this.dataplane.process(this.#in, this.#agenda.nowMs, this.#out);
    this.#finish();
  }

  #finish(): void {
    for (let at = 0; at < this.#out.count; at++) this.#sent(this.#out.packet(at));
    this.#out.clear();
    for (const event of this.dataplane.telemetry.drainEvents(1_024).events) {
      if (event.kind !== "snat-miss") continue;
      this.waited++;
      this.#lookSoon();
    }
  }

  #everyTick(): void {
    this.#agenda.after(TICK_MS, () => {
      this.#everyTick();
      this.#tick();
    });
  }

  #tick(): void {
    this.dataplane.tick(this.#agenda.nowMs, this.#out);
    this.#finish();
  }

  #everyReserve(): void {
    this.#agenda.after(AGENT_TIMINGS.reserveMs, () => {
      this.#everyReserve();
      this.#look();
    });
  }

  #lookSoon(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#agenda.after(0, () => {
      this.#isLooking = false;
      this.#look();
    });
  }

  #look(): void {
    const { nowMs } = this.#agenda;
    const isReleaseDue = nowMs - this.#lastReleaseMs >= RELEASE_MS;
    if (isReleaseDue) this.#lastReleaseMs = nowMs;
    const idle = isReleaseDue ? this.dataplane.releasableRanges(nowMs, AGENT_TIMINGS.idleReleaseMs) : [];
    for (const action of this.#policy.step(this.dataplane.snatDemand(nowMs), idle, nowMs)) this.#act(action);
  }

  #act(action: ReserveAction<RangeRef>): void {
    const { dipId, protocol } = action;
    const { hostId } = this.#registered;
    if (action.kind === "allocate") {
      this.#manager.allocate(hostId, dipId, protocol, action.ports, (answer) => this.#answered(action, answer));
      return;
    }
    const stopped = action.ranges.filter(({ vip, range }) => this.dataplane.stopRange(vip, protocol, range));
    if (stopped.length === 0) {
      this.#policy.abandoned(dipId, protocol);
      return;
    }
    const blocks = stopped.map(({ vip, range }) => ({ vip, protocol, range, count: 1 }));
    this.#manager.release(hostId, dipId, blocks, (answer) => this.#answered(action, answer));
  }

  #answered(
    { kind, dipId, protocol }: Pick<ReserveAction<RangeRef>, "kind" | "dipId" | "protocol">,
    answer: Answer,
  ): void {
    const { result, changes } = answer;
    const { nowMs } = this.#agenda;
    if (!result.ok) {
      const hint = result.facts["retryAfterMs"];
      this.#policy.refused(dipId, protocol, kind, { retryAfterMs: typeof hint === "number" ? hint : 0, nowMs });
      return;
    }
    this.#put(changes, answer.index);
    this.#policy.granted(dipId, protocol, kind);
    this.#tick(); // first packets that wait leave now
    this.#look();
  }

  #put(changes: readonly HostChange[], index: LogIndex): void {
    this.#index = Math.max(this.#index, index); // answers may overtake each other
    const result = this.dataplane.tables.apply({ kind: "changes", changes }, this.#index as LogIndex);
    assert(result === "in-force", "granted ranges are in force");
  }
}
