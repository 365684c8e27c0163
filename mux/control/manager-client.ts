/**
 * The MUX's side of its streams to the Managers (proto/ananta/v1/mux.proto), over two streams of which one is active.
 *
 *     active replica --projection--> receiver --delta--> tables, in force --> ack (renews the lease)
 *     both replicas  --beats------> lease: which renewal the leader has counted, and when a quorum last worked
 *     membership     --> join, leave; and whether routes are announced
 *
 *  (C1) An acknowledgement is sent only after the tables of its index are in force.
 *  (C2) The projection is taken from the active stream only; what the other one sends late is not applied.
 *  (C3) Nothing here waits: every event is handled, and its consequences sent, before the next one.
 */
import type { LogIndex } from "../../core/brands.js";
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import { checkProtocolVersion, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../../core/protocol-version.js";
import { hex } from "../../core/hex.js";
import type { Tables } from "../../dataplane/contract.js";
import type { MuxChange, MuxItem } from "../../dataplane/mux-items.js";
import {
  ProjectionReceiver,
  tableIndexOf,
  type Position,
  type ReceivedDelta,
} from "../../dataplane/projection-receiver.js";
import { ananta } from "../../proto/gen/wire.js";
import { DualStream, type ReplicaStream } from "../../runtime/dual-stream.js";
import { ManagerList } from "../../runtime/manager-list.js";
import type { Env, Log, Method, Timer } from "../../runtime/env.js";
import { methodOf } from "../../runtime/method.js";
import type { RouteAnnouncer } from "../routing/route-announcer.js";
import type { MuxConfig } from "../config.js";
import type { OwnWord } from "../peers/peer-channel.js";
import type { Load } from "../fairness/fairness.js";
import { Lease, type LeaseState } from "./lease.js";
import { Membership, type MembershipAction, type MembershipState, type Origin } from "./membership.js";
import { OverloadReporter } from "./overload-reporter.js";
import { muxStep } from "./projection-wire.js";
import { ReplicaWatch } from "./replica-watch.js";
import { WatchedItems } from "./watched-items.js";

type ToManager = ananta.v1.MuxToManager.$Properties;
type FromManager = ananta.v1.ManagerToMux.$Properties;
type Stream = ReplicaStream<ToManager>;

const FOLLOW: Method<ToManager, FromManager> = methodOf(ananta.v1.MuxService, "follow", ananta.v1);

/** Lease and membership are looked at this often when nothing happens. */
const STEP_MS = 50;
const COUNTERS_MS = 1_000;
/** A whole view is asked for at most this often: it is dear, and what made it necessary may not go away. */
const RESYNC_MS = 1_000;

/** Refusals that mean "not done, or not known whether": the same request again. All others need a new request. */
const SAME_REQUEST_AGAIN: ReadonlySet<string> = new Set<ErrorCode>([
  "UNAVAILABLE",
  "NOT_LEADER",
  "BEHIND",
  "STAGE_OVERLOADED",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "LEADERSHIP_LOST",
  "INTERNAL",
]);
/** After a refusal for good (a table too small, an address taken): an operator has to act. */
const REFUSED_RETRY_MS = 2_000;

export interface MuxCounterValues {
  readonly packets: number;
  readonly bytes: number;
  readonly flows: number;
  readonly drops: Readonly<Record<string, number>>;
}

export interface FlowAnswer {
  readonly inFlowTable: boolean;
  readonly dip: string;
  readonly reason: string;
}

export interface ManagerClientOptions {
  readonly env: Env;
  readonly config: MuxConfig;
  /** Random per process start, 32 hex digits. */
  readonly bootId: string;
  /** `stage` takes the work of a large view ahead, see `MuxTables`. */
  readonly tables: Tables<MuxItem, MuxChange> & { stage(items: readonly MuxItem[]): void };
  /** As the tables really are. */
  readonly capacity: { readonly rules: number; readonly snatRanges: number };
  readonly announcer: RouteAnnouncer;
  readonly counters: () => MuxCounterValues;
  readonly overload: () => Load;
  /** Tells the pool's other MUXes how far this one is; true: they have left it behind, and it must not announce. */
  readonly tellPeers: (own: OwnWord, nowMs: number) => boolean;
  readonly explain: (flow: ananta.v1.FiveTuple.$Properties) => FlowAnswer;
  readonly resetFlows: (reset: ananta.v1.FlowReset.$Properties) => ananta.v1.FlowResetDone.$Properties;
}

export interface ManagerClientStatus {
  readonly membership: MembershipState["kind"];
  readonly incarnation: number;
  readonly inForce: Position;
  readonly lease: LeaseState;
  readonly leaseLeftMs: number;
  readonly activeReplica: string | null;
  readonly standbyReplica: string | null;
  readonly switches: number;
  readonly resyncs: number;
  readonly pool: readonly string[];
}

export class ManagerClient {
  readonly #options: ManagerClientOptions;
  readonly #log: Log;
  readonly #streams: DualStream<ToManager, FromManager>;
  readonly #receiver = new ProjectionReceiver<MuxItem>();
  readonly #watched = new WatchedItems();
  readonly #lease: Lease;
  readonly #membership: Membership;
  readonly #replicas = new ReplicaWatch<Stream>();
  /** Caught up: this is in force. */
  #catchUpTo = 0 as LogIndex;
  #appliedSomewhere = 0 as LogIndex;
  #clusterEpoch = 0;
  /** The tables may differ from the Managers' view: nothing is acknowledged until a whole view is in force. */
  #isOutOfStep = false;
  #lastAckMs = Number.NEGATIVE_INFINITY;
  #lastResyncMs = Number.NEGATIVE_INFINITY;
  #resyncs = 0;
  #ack: Timer | null = null;
  #step: Timer | null = null;
  #resync: Timer | null = null;
  #counters: Timer | null = null;
  readonly #overload: OverloadReporter;
  #onStopped: (() => void) | null = null;

  readonly #managers = new ManagerList((addresses) => this.#streams.setAddresses(addresses));

  constructor(options: ManagerClientOptions) {
    this.#options = options;
    const { env, config, bootId } = options;
    this.#log = env.log;
    this.#lease = new Lease(config.timings.leaseMs);
    this.#overload = new OverloadReporter(env.clock, options.overload, () => this.#streams.active);
    this.#membership = new Membership(bootId, config.timings, () => this.#newOrigin());
    this.#streams = new DualStream({
      clock: env.clock,
      random: env.random,
      network: env.network,
      log: env.log,
      method: FOLLOW,
      addresses: config.managers,
      timings: config.timings,
      user: {
        hello: () => this.#hello(),
        isWelcome: (message) => this.#isWelcome(message),
        message: (message, stream, isActive) => this.#receive(message, stream, isActive),
        activated: (stream) => this.#activated(stream),
        deactivated: () => this.#log.warn("no Manager replica can be reached; forwarding goes on", {}),
        writable: (stream) => {
          if (stream === this.#streams.active) this.#ackSoon();
        },
      },
    });
  }

  start(): void {
    this.#streams.start();
    this.#scheduleStep();
    this.#scheduleCounters();
    this.#overload.start();
  }

  /** Withdraws the routes, leaves the pool, and ends; at most `stopGraceMs + leaveMs`. */
  async stop(): Promise<void> {
    const { env, config } = this.#options;
    const { stopGraceMs, leaveMs } = config.timings;
    this.#membership.stop(env.clock.nowMs(), stopGraceMs);
    await new Promise<void>((resolve) => {
      const timer = env.clock.setTimer(stopGraceMs + leaveMs, resolve);
      this.#onStopped = () => {
        timer.cancel();
        resolve();
      };
      this.#stepNow();
    });
    for (const timer of [this.#ack, this.#step, this.#resync, this.#counters]) timer?.cancel();
    this.#overload.stop();
    this.#streams.stop();
  }

  status(): ManagerClientStatus {
    const nowMs = this.#options.env.clock.nowMs();
    const { state } = this.#membership;
    return {
      membership: state.kind,
      incarnation: "incarnation" in state ? state.incarnation : 0,
      inForce: this.#receiver.inForcePosition,
      lease: this.#lease.state(nowMs),
      leaseLeftMs: this.#lease.leftMs(nowMs),
      activeReplica: this.#streams.active?.address ?? null,
      standbyReplica: this.#streams.standby?.address ?? null,
      switches: this.#streams.switches,
      resyncs: this.#resyncs,
      pool: this.#watched.pool.map(({ name }) => name).sort(),
    };
  }

  // ---- what arrives ----

  #isWelcome(message: FromManager): boolean {
    if (!message.welcome) return false;
    const { clusterId, clusterEpoch } = message.welcome.identity ?? {};
    checkProtocolVersion("the replica", message.welcome.identity ?? {});
    if (clusterId !== this.#options.config.clusterId) {
      throw new AnantaError(
        "WRONG_CLUSTER",
        `the replica is of cluster "${clusterId ?? ""}", not of "${this.#options.config.clusterId}"`,
      );
    }
    if ((clusterEpoch ?? 0) < this.#clusterEpoch) {
      throw new AnantaError(
        "WRONG_CLUSTER",
        `the replica is of epoch ${clusterEpoch ?? 0}, before a restore; this MUX follows ${this.#clusterEpoch}`,
      );
    }
    return true;
  }

  #receive(message: FromManager, stream: Stream, isActive: boolean): void {
    if (message.projection) {
      if (isActive) this.#project(message.projection, stream); // (C2)
    } else if (message.beat) {
      this.#managers.learn(message.beat.managers);
      this.#beat(message.beat, stream, isActive);
    } else if (message.welcome) this.#told(stream, (message.welcome.appliedIndex ?? 0) as LogIndex, 0);
    else if (message.flowQuestion) this.#answer(message.flowQuestion, stream);
    else if (message.flowReset) stream.send({ flowsReset: this.#options.resetFlows(message.flowReset) });
    else if (message.refused) this.#refused(message.refused);
  }

  #project(update: ananta.v1.ProjectionUpdate.$Properties, stream: Stream): void {
    let received;
    try {
      received = this.#receiver.receive(muxStep(update));
    } catch (caught) {
      this.#log.error("a projection update is wrong", {
        replica: stream.address,
        reason: AnantaError.from(caught).message,
      });
      this.#streams.replace(stream, "sent a wrong update");
      return;
    }
    if (received.kind === "delta") this.#apply(received);
    else if (received.kind === "part") this.#options.tables.stage(received.items);
    else if (received.kind === "out-of-step") this.#askForView("deltas without the view they change");
    else if (received.kind === "older")
      this.#log.debug("older than what is in force: not applied", {
        index: update.index ?? 0,
        epoch: update.clusterEpoch ?? 0,
      });
  }

  #apply({ delta, position, digest }: ReceivedDelta<MuxItem>): void {
    const { tables, env } = this.#options;
    const result = tables.apply(delta, tableIndexOf(position));
    if (result !== "in-force") {
      this.#log.error("the tables cannot take an update; what was in force stays", { result, index: position.index });
      this.#askForView(`tables: ${result}`);
      return;
    }
    this.#receiver.inForce(position);
    if (delta.kind === "snapshot") {
      this.#isOutOfStep = false;
      this.#cancelResync(); // deltas that were under way before the view asked for it once more
    }
    if (position.clusterEpoch > this.#clusterEpoch) this.#newEpoch(position);
    this.#watched.follow(delta);
    if (digest !== "" && tables.digest() !== digest) {
      this.#log.error("digest differs from the Manager's", {
        index: position.index,
        ours: tables.digest(),
        theirs: digest,
      });
      this.#askForView("digest differs");
      return;
    }
    this.#lease.compare(position.index, this.#appliedSomewhere, env.clock.nowMs());
    this.#stepNow();
    this.#ackSoon();
  }

  /** After a restore the index may have gone back: what was heard before means nothing. */
  #newEpoch({ clusterEpoch, index }: Position): void {
    this.#log.info("a new cluster epoch", { epoch: clusterEpoch, index });
    this.#clusterEpoch = clusterEpoch;
    this.#appliedSomewhere = index;
    this.#catchUpTo = index;
    this.#lease.newEpoch();
  }

  #beat(beat: ananta.v1.MuxBeat.$Properties, stream: Stream, isActive: boolean): void {
    const nowMs = this.#options.env.clock.nowMs();
    const quorumAgeMs = beat.quorumAgeMs ?? 0;
    this.#told(stream, (beat.appliedIndex ?? 0) as LogIndex, quorumAgeMs);
    const { confirmedRenewal, leaderInOfficeMs } = beat;
    this.#lease.beat(
      { confirmedRenewal: confirmedRenewal ?? 0, quorumAgeMs, leaderInOfficeMs: leaderInOfficeMs ?? 0 },
      nowMs,
    );
    this.#lease.compare(this.#receiver.inForcePosition.index, this.#appliedSomewhere, nowMs);
    if (isActive) this.#watchReplicas(stream, nowMs);
    this.#stepNow();
  }

  #told(stream: Stream, applied: LogIndex, quorumAgeMs: number): void {
    this.#replicas.told(stream, { applied, quorumAgeMs });
    if (applied > this.#appliedSomewhere) this.#appliedSomewhere = applied;
  }

  #watchReplicas(active: Stream, nowMs: number): void {
    const { standby } = this.#streams;
    const advice = this.#replicas.advise(active, standby, nowMs);
    if (advice === "switch-over") this.#streams.switchOver("the active replica is behind and without a quorum");
    else if (advice === "exchange-standby" && standby !== null)
      this.#streams.replace(standby, "neither replica has a quorum");
  }

  #refused({ code, reason }: ananta.v1.MuxRefused.$Properties): void {
    const { env } = this.#options;
    this.#log.warn("refused by the Managers", { code: code ?? "", reason: reason ?? "" });
    if (!SAME_REQUEST_AGAIN.has(code ?? "")) this.#membership.refused(env.clock.nowMs() + REFUSED_RETRY_MS);
  }

  #answer({ id, flow }: ananta.v1.MuxFlowQuestion.$Properties, stream: Stream): void {
    stream.send({ flowAnswer: { id: id ?? 0, ...this.#options.explain(flow ?? {}) } });
  }

  // ---- what is sent ----

  #hello(): ToManager {
    const { config, bootId, capacity } = this.#options;
    const identity = {
      clusterId: config.clusterId,
      clusterEpoch: this.#clusterEpoch,
      node: config.name,
      incarnation: 0,
      bootId,
      protocolVersion: PROTOCOL_VERSION,
      protocolVersionMin: PROTOCOL_VERSION_MIN,
    };
    const { address, addressIpv6, ipv6 } = config;
    return { hello: { identity, address, addressIpv6: addressIpv6 ?? "", capacity: { ...capacity, ipv6 } } };
  }

  #activated(stream: Stream): void {
    const { clusterEpoch, index } = this.#receiver.continueFrom;
    this.#log.info("following a replica", { replica: stream.address, epoch: clusterEpoch, index });
    this.#receiver.streamChanged();
    this.#cancelResync();
    this.#replicas.activated();
    this.#catchUpTo = this.#replicas.appliedOf(stream);
    stream.send({ activate: { clusterEpoch, index } });
    this.#membership.streamChanged(this.#options.env.clock.nowMs());
    if (index > 0) this.#ackSoon();
    this.#stepNow();
  }

  /** Acknowledgements of one turn of the event loop are one. */
  #ackSoon(): void {
    this.#ack ??= this.#options.env.clock.nextTurn(() => {
      this.#ack = null;
      this.#sendAck();
    });
  }

  #sendAck(): void {
    const nowMs = this.#options.env.clock.nowMs();
    const { active } = this.#streams;
    const { clusterEpoch, index } = this.#receiver.inForcePosition; // (C1)
    if (active === null || active.isBlocked || index === 0 || this.#isOutOfStep) return;
    if (!this.#lease.mayRenew(nowMs)) return;
    this.#lastAckMs = nowMs;
    active.send({ ack: { clusterEpoch, index, renewal: this.#lease.renew(nowMs) } });
  }

  /** Asks for the whole view, now or when the last time is long enough ago. Until it is in force nothing is acknowledged. */
  #askForView(reason: string): void {
    const { clock } = this.#options.env;
    this.#receiver.expectView();
    this.#isOutOfStep = true;
    if (this.#resync !== null) return;
    const waitMs = Math.max(0, this.#lastResyncMs + RESYNC_MS - clock.nowMs());
    this.#resync = clock.setTimer(waitMs, () => {
      this.#resync = null;
      this.#resyncs++;
      this.#lastResyncMs = clock.nowMs();
      this.#log.info("asking for the whole view", { reason });
      this.#streams.active?.send({ activate: { clusterEpoch: 0, index: 0 } });
    });
  }

  #cancelResync(): void {
    this.#resync?.cancel();
    this.#resync = null;
  }

  #scheduleCounters(): void {
    const { env, counters, announcer } = this.#options;
    this.#counters = env.clock.setTimer(COUNTERS_MS, () => {
      this.#scheduleCounters();
      const { active } = this.#streams;
      if (active === null || active.isBlocked) return;
      active.send({ counters: { ...counters(), vipsAnnounced: announcer.announced.length } });
    });
  }

  // ---- membership ----

  #scheduleStep(): void {
    const { env, config } = this.#options;
    this.#step = env.clock.setTimer(STEP_MS, () => {
      this.#scheduleStep();
      this.#stepNow();
      // A beat may be lost with its stream: renew in good time, not at the last moment.
      if (env.clock.nowMs() - this.#lastAckMs >= config.timings.ackIntervalMs - STEP_MS / 2) this.#sendAck();
    });
  }

  #stepNow(): void {
    const { env, config, bootId, announcer, tellPeers } = this.#options;
    const nowMs = env.clock.nowMs();
    const before = this.#membership.state.kind;
    const { clusterEpoch, index: inForce } = this.#receiver.inForcePosition;
    const lease = this.#lease.state(nowMs);
    const isAnnouncing = this.#membership.announces;
    const isStale = tellPeers(
      { bootId, clusterEpoch, index: inForce, isLeased: lease === "held", isAnnouncing },
      nowMs,
    );
    const action = this.#membership.step(
      {
        inForce,
        isStale,
        caughtUp: inForce > 0 && inForce >= this.#catchUpTo && !this.#isOutOfStep,
        self: this.#watched.peerNamed(config.name),
        lease,
      },
      nowMs,
    );
    const { state } = this.#membership;
    if (state.kind !== before) this.#changed(before, state);
    if (this.#membership.announces) announcer.announce(this.#watched.announcedVips());
    else announcer.withdraw();
    if (action !== null) this.#request(action);
    if (state.kind === "stopped" || state.kind === "replaced") this.#onStopped?.();
  }

  #changed(before: MembershipState["kind"], state: MembershipState): void {
    const fields = { from: before, to: state.kind, index: this.#receiver.inForcePosition.index };
    if (state.kind === "replaced") {
      this.#log.error("another process has taken over this MUX's name: announcing nothing more", {
        ...fields,
        by: state.by,
      });
      this.#streams.stop(); // what this process acknowledges or renews would count for the other one
    } else if (state.kind === "stale")
      this.#log.warn("membership changed: its peers have left this MUX behind, routes withdrawn", fields);
    else if (state.kind === "withdrawn") this.#log.warn("membership changed: routes withdrawn", fields);
    else this.#log.info("membership changed", fields);
    if (state.kind === "catching-up") this.#catchUpTo = this.#appliedSomewhere;
  }

  #request({ kind, origin }: MembershipAction): void {
    const { active } = this.#streams;
    if (active === null) return; // asked for again on the next stream
    this.#log.debug(kind === "join" ? "asking to join" : "asking to leave", {
      session: origin.session,
      replica: active.address,
    });
    active.send(kind === "join" ? { join: { origin } } : { leave: { origin } });
  }

  /** Joins and leaves are rare: each has a session of its own, so none is ever too old. */
  #newOrigin(): Origin {
    return { session: hex(this.#options.env.entropy(16)), sequence: 1 };
  }
}
