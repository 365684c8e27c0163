/**
 * The leader's six stages, wired (Ananta Figure 10):
 *
 *   apply, delete   -> vip-validation -> vip-configuration ->\
 *   (agents know)   -> route-management (activate)         -> \
 *   allocate, release            -> snat-management        -->  proposer -> log -> apply -> reply
 *   register-host                -> host-agent-management  -> /
 *   join, leave, lose MUX, tick  -> mux-pool-management    ->/
 *
 * Lives on every replica; works only between `takeOffice` and `leaveOffice`. Nothing here waits: what follows a commit
 * or an acknowledgement is another event.
 */
import { assertNever } from "../../core/assert.js";
import type { HostId, LogIndex, Term } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Clock, Env, Timer } from "../../runtime/env.js";
import type { MuxSafeIndex } from "../projection/mux-safe-index.js";
import type { RaftNode } from "../raft/index.js";
import { Executor } from "../seda/executor.js";
import { Stage, type EventCounters } from "../seda/stage.js";
import { beginEpoch, type Command } from "../state/commands/commands.js";
import type { AppliedBatch } from "../state/commands/results.js";
import type { StateMachine } from "../state/state-machine.js";
import type { OverloadReport } from "./isolation.js";
import { MuxPoolManagement, type MuxReport, type MuxTimings } from "./mux-pool-management.js";
import { OverloadManagement } from "./overload-management.js";
import {
  HOST_AGENT_MANAGEMENT,
  MUX_POOL_MANAGEMENT,
  ROUTE_MANAGEMENT,
  SNAT_MANAGEMENT,
  VIP_CONFIGURATION,
  VIP_VALIDATION,
} from "./policy.js";
import { Proposer } from "./proposer.js";
import { unreadable } from "./readable-command.js";
import type { RequestRates } from "./request-buckets.js";
import { RouteManagement } from "./route-management.js";
import { SnatManagement } from "./snat-management.js";
import { refusal, type QueuedSubmission, type Submission } from "./submission.js";
import { vipValidation } from "./vip-validation.js";

/** Leases, deadlines and cluster time are looked at this often. */
const HOUSEKEEPING_MS = 100;
/** The Managers' own commands wait for nobody. */
const INTERNAL_DEADLINE_MS = 10_000;

/** Fairness key of what nobody outside has asked for. */
const OWN = "manager";

/** A stage's counters, kind by kind, most urgent first. */
export interface StageReading {
  readonly name: string;
  /** 0 is the most urgent. */
  readonly priority: number;
  readonly events: readonly EventCounters[];
}

type PipelineStage = Stage<
  "configuration" | "activate" | "release" | "allocate" | "health" | "register" | "membership" | "housekeeping",
  QueuedSubmission
>;

export class Pipeline {
  readonly #clock: Clock;
  readonly #state: StateMachine;
  readonly #raft: () => RaftNode;
  readonly #muxSafeIndex: MuxSafeIndex;
  readonly #clusterTimeMs: () => number;
  readonly #bootstrap: () => Command;
  readonly #configuredEpoch: number;
  readonly #executor: Executor;
  readonly #proposer: Proposer;
  readonly #snat: SnatManagement;
  readonly #routes: RouteManagement;
  readonly #muxPool: MuxPoolManagement;
  readonly #overload: OverloadManagement;
  readonly #hostIndexes = new Map<HostId, LogIndex>();
  readonly #stages: {
    readonly vipValidation: Stage<"configuration", QueuedSubmission>;
    readonly vipConfiguration: Stage<"configuration", QueuedSubmission>;
    readonly routeManagement: Stage<"activate", QueuedSubmission>;
    readonly snatManagement: Stage<"release" | "allocate", QueuedSubmission>;
    readonly hostAgentManagement: Stage<"health" | "register", QueuedSubmission>;
    readonly muxPoolManagement: Stage<"membership" | "housekeeping", QueuedSubmission>;
  };
  #inOffice: Term | null = null;
  #housekeeping: Timer | null = null;
  #tickAsked = false;
  #timeBase = { clusterMs: 0, atMs: 0 };

  constructor(options: {
    readonly env: Env;
    readonly state: StateMachine;
    readonly raft: () => RaftNode;
    readonly muxSafeIndex: MuxSafeIndex;
    readonly clusterTimeMs: () => number;
    readonly muxTimings: MuxTimings;
    readonly requestRates: RequestRates;
    /** The first command of a cluster that has none yet. */
    readonly bootstrap: () => Command;
    /** Above the state's after a restore from a snapshot file: then a new epoch begins. */
    readonly configuredEpoch: number;
    readonly failed: (error: unknown) => void;
  }) {
    const { env, state } = options;
    this.#clock = env.clock;
    this.#state = state;
    this.#raft = options.raft;
    this.#muxSafeIndex = options.muxSafeIndex;
    this.#clusterTimeMs = options.clusterTimeMs;
    this.#bootstrap = options.bootstrap;
    this.#configuredEpoch = options.configuredEpoch;
    this.#executor = new Executor(options.failed);
    this.#proposer = new Proposer({
      clock: env.clock,
      raft: options.raft,
      facts: () => ({ clusterTimeMs: this.#officeTimeMs(), muxSafeIndex: options.muxSafeIndex.value }),
    });
    this.#snat = new SnatManagement({
      proposer: this.#proposer,
      muxSafeIndex: () => options.muxSafeIndex.value,
      state,
      clock: env.clock,
      rates: options.requestRates,
    });
    this.#routes = new RouteManagement({
      clock: env.clock,
      state,
      hostIndex: (host) => this.#hostIndexes.get(host) ?? (0 as LogIndex),
      muxSafeIndex: () => options.muxSafeIndex.value,
      activate: (upToIndex) => this.#internal({ kind: "activate", upToIndex }, () => this.#routes.refused()),
    });
    this.#muxPool = new MuxPoolManagement({
      clock: env.clock,
      log: env.log,
      state,
      timings: options.muxTimings,
      lose: (muxId, incarnation) =>
        this.#internal({ kind: "lose-mux", muxId, incarnation }, () => this.#muxPool.notLost(muxId, incarnation)),
    });
    this.#overload = new OverloadManagement({
      clock: env.clock,
      log: env.log,
      state,
      withdraw: (command, answered) =>
        this.#internal(
          command,
          () => answered(false),
          () => answered(true),
        ),
    });

    const shared = { executor: this.#executor, clock: env.clock, hasRoom: () => this.#proposer.hasRoom() };
    const propose = (batch: readonly QueuedSubmission[]): void =>
      this.#proposer.propose(batch.map((event) => event.submission));
    this.#stages = {
      vipValidation: new Stage({
        ...shared,
        policy: VIP_VALIDATION,
        hasRoom: () => true, // proposes nothing itself
        handle: vipValidation({ next: () => this.#stages.vipConfiguration }),
      }),
      vipConfiguration: new Stage({ ...shared, policy: VIP_CONFIGURATION, handle: propose }),
      routeManagement: new Stage({ ...shared, policy: ROUTE_MANAGEMENT, handle: propose }),
      snatManagement: new Stage({
        ...shared,
        policy: SNAT_MANAGEMENT,
        batchMax: () => this.#snat.batchMax,
        handle: (batch) => this.#snat.handle(batch.map((event) => event.submission)),
      }),
      hostAgentManagement: new Stage({ ...shared, policy: HOST_AGENT_MANAGEMENT, handle: propose }),
      muxPoolManagement: new Stage({ ...shared, policy: MUX_POOL_MANAGEMENT, handle: propose }),
    };
    this.#proposer.onRoom(() => {
      for (const stage of this.#byUrgency()) stage.poke();
    });
    this.#muxSafeIndex.onAdvance(() => {
      this.#snat.muxesAdvanced();
      if (this.#inOffice !== null) this.#routes.consider();
    });
  }

  get inOffice(): boolean {
    return this.#inOffice !== null;
  }

  /** This replica leads and has applied everything committed before: it may serve. */
  takeOffice(term: Term): void {
    this.#inOffice = term;
    this.#timeBase = { clusterMs: this.#clusterTimeMs(), atMs: this.#clock.nowMs() };
    this.#tickAsked = false;
    this.#hostIndexes.clear();
    this.#muxPool.takeOffice();
    this.#overload.takeOffice();
    if (this.#state.site === null) this.#internal(this.#bootstrap());
    else if (this.#epochIsDue) this.#internal(beginEpoch(this.#configuredEpoch));
    this.#keepHouse();
    this.#routes.consider();
  }

  leaveOffice(): void {
    if (this.#inOffice === null) return;
    this.#inOffice = null;
    this.#housekeeping?.cancel();
    this.#housekeeping = null;
    this.#routes.stop();
    this.#muxPool.leaveOffice();
    this.#snat.stepDown();
  }

  stop(): void {
    this.leaveOffice();
    this.#executor.stop();
  }

  /** The state was restored from a snapshot file and is still of the epoch before: nothing is granted in it any more. */
  get #epochIsDue(): boolean {
    return this.#state.site !== null && this.#configuredEpoch > this.#state.site.clusterEpoch;
  }

  submit(submission: Submission): void {
    if (this.#inOffice === null) {
      const leader = this.#raft().status().leader;
      submission.reply(
        refusal(
          new AnantaError("NOT_LEADER", "this replica does not lead", leader === null ? {} : { leaderHint: leader }),
        ),
      );
      return;
    }
    const { command } = submission.submitted;
    if (this.#epochIsDue && command.kind !== "begin-epoch") {
      submission.reply(refusal(new AnantaError("UNAVAILABLE", "the restored cluster is beginning a new epoch")));
      return;
    }
    // SNAT commands are numbers that the edge has checked; changes of configuration are looked at in their own stage.
    const hot = command.kind === "allocate-snat" || command.kind === "release-snat";
    const checkedLater = command.kind === "apply-objects" || command.kind === "delete-objects";
    const problem = hot || checkedLater ? null : unreadable(submission.submitted);
    if (problem !== null) {
      submission.reply(refusal(problem));
      return;
    }
    switch (command.kind) {
      case "apply-objects":
      case "delete-objects":
        this.#stages.vipValidation.offer("configuration", this.#queued(submission, tenantOf(command)));
        return;
      case "withdraw-vip":
      case "restore-vip":
        this.#stages.routeManagement.offer("activate", this.#queued(submission, command.tenant));
        return;
      case "activate":
        this.#stages.routeManagement.offer("activate", this.#queued(submission, OWN));
        return;
      case "allocate-snat": {
        const { snatManagement } = this.#stages;
        const tenant = this.#tenantOfDip(command);
        const admitted = this.#snat.admit(submission, () => snatManagement.refusal("allocate", tenant));
        if (admitted !== null) snatManagement.offer("allocate", this.#queued(admitted, tenant));
        return;
      }
      case "release-snat": {
        const admitted = this.#snat.admit(submission);
        if (admitted !== null)
          this.#stages.snatManagement.offer("release", this.#queued(admitted, this.#tenantOfDip(command)));
        return;
      }
      case "report-health":
        this.#stages.hostAgentManagement.offer("health", this.#queued(submission, String(command.hostId)));
        return;
      case "expire-hosts":
      case "renew-hosts":
        this.#stages.hostAgentManagement.offer("health", this.#queued(submission, OWN));
        return;
      case "register-host":
      case "fence-host":
        this.#stages.hostAgentManagement.offer("register", this.#queued(submission, command.name));
        return;
      case "begin-epoch":
      case "join-mux":
      case "leave-mux":
      case "lose-mux":
      case "drain-mux":
      case "undrain-mux":
        this.#stages.muxPoolManagement.offer("membership", this.#queued(submission, OWN));
        return;
      case "bootstrap":
      case "start-replica":
      case "tick":
        this.#stages.muxPoolManagement.offer("housekeeping", this.#queued(submission, OWN));
        return;
      default:
        assertNever(command);
    }
  }

  /** Every replica, after each applied entry. */
  applied(term: Term, batch: AppliedBatch): void {
    this.#proposer.applied(term, batch);
  }

  /** After all newly committed entries have been applied. */
  caughtUp(): void {
    if (this.#inOffice === null) return;
    this.#routes.consider();
    this.#advanceMuxSafeIndex();
  }

  /** What a MUX has in force, told by its stream here or by a follower. */
  muxReported(report: MuxReport): void {
    if (this.#inOffice === null) return;
    this.#muxPool.report(report);
    this.#advanceMuxSafeIndex();
  }

  /** What an overloaded MUX says of its load, told by its stream here or by a follower. */
  overloadReported(report: OverloadReport): void {
    if (this.#inOffice !== null) this.#overload.report(report);
  }

  get overload(): OverloadManagement {
    return this.#overload;
  }

  hostReported(host: HostId, index: LogIndex): void {
    if (this.#inOffice === null) return;
    if ((this.#hostIndexes.get(host) ?? 0) >= index) return;
    this.#hostIndexes.set(host, index);
    this.#routes.consider();
  }

  /** Committed, and not in force on every live MUX yet. */
  get grantsWaiting(): number {
    return this.#snat.waitingForMuxes;
  }

  /** By whose rate. */
  get grantsRefusedByRate(): SnatManagement["refusedByRate"] {
    return this.#snat.refusedByRate;
  }

  get muxPool(): MuxPoolManagement {
    return this.#muxPool;
  }

  /** How many events wait, stage by stage. */
  queued(): readonly { readonly name: string; readonly queued: number }[] {
    return Object.values(this.#stages).map(({ policy: { name }, queued }) => ({ name, queued }));
  }

  counters(): readonly StageReading[] {
    return Object.values(this.#stages).map(({ policy, counters }) => {
      return { name: policy.name, priority: policy.priority, events: counters };
    });
  }

  /**
   * Cluster time as a leader counts it: what was applied when it took office, and its own clock since. The entries it
   * proposes do not set it back: each of them carries the time of its proposal, which is older than that of its commit.
   */
  #officeTimeMs(): number {
    return Math.floor(this.#timeBase.clusterMs + this.#clock.nowMs() - this.#timeBase.atMs);
  }

  #advanceMuxSafeIndex(): void {
    const safe = this.#muxPool.safeIndex();
    if (safe !== null) this.#muxSafeIndex.advance(safe);
  }

  #byUrgency(): readonly Pick<PipelineStage, "poke">[] {
    const { muxPoolManagement, routeManagement, hostAgentManagement, vipConfiguration, snatManagement } = this.#stages;
    return [muxPoolManagement, routeManagement, hostAgentManagement, vipConfiguration, snatManagement];
  }

  #queued(submission: Submission, fairnessKey: string): QueuedSubmission {
    return {
      submission,
      fairnessKey,
      deadlineAtMs: submission.deadlineAtMs,
      refused: (error) => submission.reply(refusal(error)),
    };
  }

  #tenantOfDip(command: Command & { readonly kind: "allocate-snat" | "release-snat" }): string {
    return this.#state.dip(command.dipId)?.tenant ?? "unknown";
  }

  /** A command of the Manager's own. */
  #internal(command: Command, whenRefused?: () => void, whenCommitted?: () => void): void {
    this.submit({
      submitted: { origin: null, command },
      deadlineAtMs: this.#clock.nowMs() + INTERNAL_DEADLINE_MS,
      reply: (result) => {
        if (result.ok) whenCommitted?.();
        else whenRefused?.();
      },
    });
  }

  #keepHouse(): void {
    if (this.#inOffice === null) return;
    this.#housekeeping = this.#clock.setTimer(HOUSEKEEPING_MS, () => this.#keepHouse());
    if (this.#epochIsDue) this.#internal(beginEpoch(this.#configuredEpoch)); // the first one may have found no quorum in time
    this.#muxPool.check(HOUSEKEEPING_MS);
    this.#overload.check();
    this.#snat.expire(this.#clock.nowMs());
    this.#routes.consider();
    const dueMs = this.#state.nextTickDueMs(this.#muxSafeIndex.value);
    if (dueMs !== null && dueMs <= this.#officeTimeMs() && !this.#tickAsked) {
      this.#tickAsked = true;
      this.submit({
        submitted: { origin: null, command: { kind: "tick" } },
        deadlineAtMs: this.#clock.nowMs() + INTERNAL_DEADLINE_MS,
        reply: () => {
          this.#tickAsked = false;
        },
      });
    }
  }
}

/** A change concerns one tenant's objects, as a rule. */
const tenantOf = (command: Command & { readonly kind: "apply-objects" | "delete-objects" }): string =>
  command.objects[0]?.ref.tenant ?? "";
