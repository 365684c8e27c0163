/**
 * The replicated state machine as all Managers have it, behind a latency: what is asked is applied half-way, and answered at
 * the end. One VIP, one pool, as many hosts as the scenario has.
 *
 * Latency as the paper's Managers had it under load (Ananta §5.2.1): 10 % up to 50 ms, 70 % up to 200 ms, 99 % up to 2 s,
 * the rest up to 5 s; even in between.
 */
import { assert } from "../../core/assert.js";
import { AnantaError } from "../../core/errors.js";
import type { DipId, HostId, IpAddress, LogIndex, Port } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import type { HostChange, HostItem } from "../../dataplane/host-items.js";
import { COMMAND_FORMAT_VERSION, type Command, type RangeBlock } from "../../manager/state/commands/commands.js";
import { createStateMachine } from "../../manager/state/index.js";
import type { AppliedBatch, CommandResult, CommandValue } from "../../manager/state/commands/results.js";
import type { Agenda } from "./agenda.js";

const LATENCY = [
  { share: 0.1, fromMs: 5, toMs: 50 },
  { share: 0.6, fromMs: 50, toMs: 200 },
  { share: 0.29, fromMs: 200, toMs: 2_000 },
  { share: 0.01, fromMs: 2_000, toMs: 5_000 },
] as const;

export const VIP = "198.51.100.1" as IpAddress;
export const dipAddress = (number: number): IpAddress => `10.0.${number >> 8}.${number & 255}` as IpAddress;

/** Enough for a DIP that opens a hundred connections a second for half a minute. */
const PORTS_PER_DIP_MAX = 8_192;

export interface Answer {
  readonly result: CommandResult;
  /** What the host's view becomes by it. */
  readonly changes: readonly HostChange[];
  readonly index: LogIndex;
}

export interface RegisteredHost {
  readonly hostId: HostId;
  readonly dips: readonly DipId[];
}

export class VirtualManager {
  allocations = 0;
  readonly #state = createStateMachine();
  readonly #agenda: Agenda;
  readonly #random: Random;
  #index = 0;

  constructor(agenda: Agenda, random: Random, dips: number) {
    this.#agenda = agenda;
    this.#random = random;
    this.#must({ kind: "bootstrap", clusterId: "bench", clusterEpoch: 1, hashKey: "0123456789abcdef" });
    const capacity = { rules: 1_000, snatRanges: 200_000 };
    this.#must({ kind: "join-mux", name: "mux-1", bootId: "a", address: "192.0.2.1" as IpAddress, capacity });
    this.#must({ kind: "apply-objects", objects: [poolOf(dips), VIP_OBJECT] });
    this.#must({ kind: "activate", upToIndex: this.#index as LogIndex });
  }

  register(name: string, dips: readonly IpAddress[]): RegisteredHost {
    const value = this.#must({
      kind: "register-host",
      name,
      bootId: name,
      dips: dips.map((address) => ({ tenant: "default", address, locator: address })),
      heldRanges: [],
    });
    assert(value.kind === "host-registered", "a host is registered");
    return { hostId: value.hostId, dips: value.dips.map(({ dipId }) => dipId) };
  }

  view(host: HostId): Iterable<HostItem> {
    return this.#state.hostItems(host);
  }

  allocate(host: HostId, dipId: DipId, protocol: 6 | 17, ports: number, answered: (answer: Answer) => void): void {
    this.allocations++;
    this.#ask(host, { kind: "allocate-snat", hostId: host, incarnation: 1, dipId, protocol, ports }, answered);
  }

  release(host: HostId, dipId: DipId, blocks: readonly RangeBlock[], answered: (answer: Answer) => void): void {
    this.#ask(host, { kind: "release-snat", hostId: host, incarnation: 1, dipId, blocks }, answered);
  }

  /** Ranges owned by TCP. */
  get ownedRanges(): number {
    return this.#state.snatUsage().find(({ protocol }) => protocol === 6)?.owned ?? 0;
  }

  #ask(host: HostId, command: Command, answered: (answer: Answer) => void): void {
    const latencyMs = this.#latencyMs();
    this.#agenda.after(latencyMs / 2, () => {
      const { results, hostChanges } = this.#apply(command);
      const [result] = results;
      assert(result !== undefined, "one answer per command");
      const answer = { result, changes: hostChanges.get(host) ?? [], index: this.#index as LogIndex };
      this.#agenda.after(latencyMs / 2, () => answered(answer));
    });
  }

  #apply(command: Command): AppliedBatch {
    this.#index++;
    const batch = {
      formatVersion: COMMAND_FORMAT_VERSION,
      clusterTimeMs: Math.floor(this.#agenda.nowMs),
      wallMs: 0,
      muxSafeIndex: (this.#index - 1) as LogIndex,
      commands: [{ origin: null, command }],
    };
    return this.#state.apply(batch, this.#index as LogIndex);
  }

  #must(command: Command): CommandValue {
    const [result] = this.#apply(command).results;
    if (result?.ok === true) return result.value;
    throw new AnantaError("INTERNAL", `${command.kind} was refused: ${result?.message ?? "no answer"}`);
  }

  #latencyMs(): number {
    let share = this.#random.nextFloat();
    for (const step of LATENCY) {
      if (share < step.share) return step.fromMs + (share / step.share) * (step.toMs - step.fromMs);
      share -= step.share;
    }
    return LATENCY[LATENCY.length - 1]!.toMs; // not empty
  }
}

type ObjectToApply = Extract<Command, { readonly kind: "apply-objects" }>["objects"][number];

const poolOf = (dips: number): ObjectToApply => ({
  ref: { kind: "BackendPool", tenant: "default", name: "machines" },
  labels: {},
  expectedGeneration: null,
  object: {
    kind: "BackendPool",
    spec: {
      members: Array.from({ length: dips }, (_, at) => ({
        dip: dipAddress(at + 1),
        port: 0 as Port,
        weight: 100,
        role: "primary" as const,
        adminState: "none" as const,
      })),
      maxMembers: 100,
      failoverPercent: 0,
      allDown: "failOpen",
      tcpOnDown: "persist",
      drainTimeoutSeconds: 0,
      probe: null,
      securityGroups: [],
    },
  },
});

const VIP_OBJECT: ObjectToApply = {
  ref: { kind: "Vip", tenant: "default", name: "way-out" },
  labels: {},
  expectedGeneration: null,
  object: {
    kind: "Vip",
    spec: {
      address: VIP,
      scope: "public",
      adminState: "up",
      hairpin: "snat",
      securityGroups: [],
      overload: { action: "none", restoreAfterSeconds: 300 },
      rules: [],
      inboundNat: [],
      outbound: {
        pools: ["machines"],
        maxPorts: PORTS_PER_DIP_MAX,
        minPorts: 0,
        selection: "spread",
        udpMapping: "addressPortDependent",
        tcpIdleSeconds: 0,
        udpIdleSeconds: 0,
        idleReset: true,
        onExhaustion: "reset",
        queueSeconds: 3,
      },
    },
  },
};
