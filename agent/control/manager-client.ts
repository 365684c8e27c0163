/**
 * The agent's side of its streams to the Managers (proto/ananta/v1/agent.proto), over two streams of which one is active.
 *
 *     hello (DIPs, ranges on disk) --> registered, welcome --> activate --> projection --> disk, tables --> ack
 *     data plane's demand --> requests --> answers --> disk, tables                          (port-requests.ts)
 *     beats --> who leads --> one of the streams leads there, in its own time
 *
 *  (A1) What a hello declares was read from disk; a range that is not on disk is in use by nobody.
 */
import type { DipId, LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { checkProtocolVersion, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../../core/protocol-version.js";
import { hex } from "../../core/hex.js";
import type { FlowFilter, Tables } from "../../dataplane/contract.js";
import { flowFilter } from "../../dataplane/flow-filter.js";
import type { HostChange, HostItem } from "../../dataplane/host-items.js";
import { ProjectionReceiver, type Position } from "../../dataplane/projection-receiver.js";
import { ananta } from "../../proto/gen/wire.js";
import { DualStream, type ReplicaStream } from "../../runtime/dual-stream.js";
import { ManagerList } from "../../runtime/manager-list.js";
import type { Env, Log, Method, Timer } from "../../runtime/env.js";
import { methodOf } from "../../runtime/method.js";
import type { AgentConfig } from "../config.js";
import type { MemberHealth } from "../health/monitor.js";
import type { PortUse, RangeRef, SnatDemand } from "../dataplane/snat/snat-ports.js";
import type { HeldRanges } from "./held-ranges.js";
import { InForce, type RangeStops } from "./in-force.js";
import { PortReports } from "./port-reports.js";
import { PortRequests } from "./port-requests.js";
import { hostStep, rangesOf, wireOwnedBlock } from "./projection-wire.js";

type ToManager = ananta.v1.AgentToManager.$Properties;
type FromManager = ananta.v1.ManagerToAgent.$Properties;
type Stream = ReplicaStream<ToManager>;

const FOLLOW: Method<ToManager, FromManager> = methodOf(ananta.v1.AgentService, "follow", ananta.v1);

/** A whole view is asked for at most this often. */
const RESYNC_MS = 1_000;

/** What control needs of the agent's data plane. */
export interface HostSnat extends RangeStops {
  readonly tables: Tables<HostItem, HostChange>;
  snatDemand(nowMs: number): readonly SnatDemand[];
  releasableRanges(nowMs: number, idleMs: number): readonly RangeRef[];
  returnableRanges(): readonly RangeRef[];
  portsInUse(): readonly PortUse[];
}

export interface ManagerClientOptions {
  readonly env: Env;
  readonly config: AgentConfig;
  /** Random per process start, 32 hex digits. */
  readonly bootId: string;
  readonly dataplane: HostSnat;
  readonly held: HeldRanges;
  /** The DIPs of this host have ids now, or others than before. */
  readonly dipsKnown: (
    dips: readonly { readonly tenant: string; readonly address: string; readonly dipId: DipId }[],
  ) => void;
  /** Something new is in force: packets that waited for it can leave. */
  readonly tablesChanged: () => void;
  /** The durable record cannot be written: the process must end. */
  readonly failed: (error: AnantaError) => void;
  /** Another stream is the active one: what was told on the former one may be lost. */
  readonly activated: () => void;
  /** Ends flows, resetting both ends; answers how many. */
  readonly resetFlows: (filter: FlowFilter) => number;
}

export interface ManagerClientStatus {
  readonly hostId: number;
  readonly incarnation: number;
  readonly inForce: Position;
  readonly activeReplica: string | null;
  readonly standbyReplica: string | null;
  readonly switches: number;
  readonly resyncs: number;
  readonly heldRanges: number;
  readonly rangesInForce: number;
  readonly openRequests: number;
  readonly grants: number;
  readonly refusals: number;
}

export class ManagerClient {
  readonly #options: ManagerClientOptions;
  readonly #log: Log;
  readonly #streams: DualStream<ToManager, FromManager>;
  readonly #receiver = new ProjectionReceiver<HostItem>();
  readonly #inForce: InForce;
  readonly #requests: PortRequests;
  readonly #portReports: PortReports;
  #clusterEpoch = 0;
  #hostId = 0;
  #incarnation = 0;
  #resyncs = 0;
  #dipsVersion = 0;
  /** The newest word of who leads. */
  #leader = { clusterEpoch: 0, term: 0 };
  /** Which epoch's each stream is, as its welcome says: it ends when another one begins. */
  readonly #epochs = new WeakMap<Stream, number>();
  /** The tables may differ from the Managers' view: nothing is acknowledged until a whole view is in force. */
  #isOutOfStep = false;
  #lastResyncMs = Number.NEGATIVE_INFINITY;
  #ack: Timer | null = null;
  #resync: Timer | null = null;
  #isStopped = false;

  readonly #managers = new ManagerList((addresses) => this.#streams.setAddresses(addresses));

  constructor(options: ManagerClientOptions) {
    this.#options = options;
    const { env, config, dataplane, held } = options;
    const { timings } = config;
    this.#log = env.log;
    this.#portReports = new PortReports(env.clock, () => dataplane.portsInUse());
    this.#inForce = new InForce({
      tables: dataplane.tables,
      stops: dataplane,
      held,
      log: env.log,
      events: {
        inForce: (position, isWholeView) => this.#nowInForce(position, isWholeView),
        settled: () => {
          options.tablesChanged();
          this.#requests.settled();
        },
        outOfStep: (reason) => this.#askForView(reason),
        failed: options.failed,
      },
    });
    this.#streams = new DualStream({
      clock: env.clock,
      random: env.random,
      network: env.network,
      log: env.log,
      method: FOLLOW,
      addresses: config.managers,
      timings,
      user: {
        hello: () => this.#hello(),
        isWelcome: (message) => this.#isWelcome(message),
        message: (message, stream, isActive) => this.#receive(message, stream, isActive),
        activated: (stream) => this.#activated(stream),
        deactivated: () => this.#log.warn("no Manager replica can be reached; what is in force stays", {}),
        lost: () => this.#requests.streamsChanged(),
        writable: (stream) => {
          if (stream === this.#streams.active) this.#ackSoon();
        },
      },
    });
    this.#requests = new PortRequests({
      env,
      timings,
      dataplane,
      held,
      inForce: this.#inForce,
      streams: this.#streams,
      newSession: () => this.#newSession(),
    });
  }

  start(): void {
    this.#streams.start();
    this.#requests.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of [this.#ack, this.#resync]) timer?.cancel();
    this.#requests.stop();
    this.#streams.stop();
    await this.#inForce.stop();
  }

  /** A flow has found no port: looks at the reserve in this turn of the event loop. */
  reserveNow(): void {
    this.#requests.reserveNow();
  }

  /** Best effort: a report that cannot leave is made up for by the next whole one. */
  reportHealth(members: readonly MemberHealth[], whole: boolean): void {
    const { active } = this.#streams;
    if (active === null || active.isBlocked || members.length === 0) return;
    active.send({
      health: { whole, members: members.map((member) => ({ ...member, reason: member.reason.slice(0, 128) })) },
    });
  }

  status(): ManagerClientStatus {
    return {
      hostId: this.#hostId,
      incarnation: this.#incarnation,
      inForce: this.#inForce.position,
      activeReplica: this.#streams.active?.address ?? null,
      standbyReplica: this.#streams.standby?.address ?? null,
      switches: this.#streams.switches,
      resyncs: this.#resyncs,
      heldRanges: this.#options.held.size,
      rangesInForce: this.#inForce.view.rangeCount,
      openRequests: this.#requests.openCount,
      grants: this.#requests.grants,
      refusals: this.#requests.refusals,
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
        `the replica is of epoch ${clusterEpoch ?? 0}, before a restore; this agent follows ${this.#clusterEpoch}`,
      );
    }
    return true;
  }

  #receive(message: FromManager, stream: Stream, isActive: boolean): void {
    if (message.answers) {
      for (const answer of message.answers.answers ?? []) this.#requests.answered(answer, stream);
    } else if (message.projection) {
      if (isActive) this.#project(message.projection, stream);
    } else if (message.beat) {
      this.#managers.learn(message.beat.managers);
      this.#follow(message.beat.leader, stream);
      this.#portReports.beat(stream);
    } else if (message.welcome) this.#welcome(message.welcome, stream);
    else if (message.flowReset) {
      const flows = this.#options.resetFlows(flowFilter(message.flowReset));
      stream.send({ flowsReset: { id: message.flowReset.id ?? 0, flows } });
    } else if (message.refused)
      this.#log.warn("refused by the Managers", {
        code: message.refused.code ?? "",
        reason: message.refused.reason ?? "",
      });
    this.#requests.heard(stream);
  }

  /** The newest word counts, whichever replica it is from. A restored cluster counts its terms anew. */
  #follow(leader: ananta.v1.ManagerLeader.$Properties | null | undefined, stream: Stream): void {
    const term = leader?.term ?? 0;
    const address = leader?.address ?? "";
    const clusterEpoch = this.#epochs.get(stream) ?? 0;
    const known = this.#leader;
    const isNews = clusterEpoch > known.clusterEpoch || (clusterEpoch === known.clusterEpoch && term > known.term);
    if (!isNews || address === "") return;
    this.#leader = { clusterEpoch, term };
    this.#streams.prefer(address, this.#options.config.timings.preferWithinMs);
  }

  #welcome(welcome: ananta.v1.AgentWelcome.$Properties, stream: Stream): void {
    this.#epochs.set(stream, welcome.identity?.clusterEpoch ?? 0);
    this.#hostId = welcome.hostId ?? 0;
    this.#incarnation = welcome.incarnation ?? 0;
    this.#options.dipsKnown(
      (welcome.dips ?? []).map((dip) => ({
        tenant: dip.tenant ?? "",
        address: dip.address ?? "",
        dipId: (dip.dipId ?? 0) as DipId,
      })),
    );
    const refused = (welcome.refusedRanges ?? []).flatMap(({ block }) => rangesOf(block) ?? []);
    if (refused.length === 0) return;
    this.#log.warn("ranges that were held are not ours: stopped", {
      ranges: refused.length,
      index: welcome.index ?? 0,
    });
    const position = { clusterEpoch: welcome.identity?.clusterEpoch ?? 0, index: (welcome.index ?? 0) as LogIndex };
    this.#inForce.refused(refused, position);
  }

  #project(update: ananta.v1.ProjectionUpdate.$Properties, stream: Stream): void {
    let received;
    try {
      received = this.#receiver.receive(hostStep(update));
    } catch (caught) {
      this.#log.error("a projection update is wrong", {
        replica: stream.address,
        reason: AnantaError.from(caught).message,
      });
      this.#streams.replace(stream, "sent a wrong update");
      return;
    }
    if (received.kind === "delta") this.#inForce.update(received);
    else if (received.kind === "out-of-step") this.#askForView("deltas without the view they change");
    else if (received.kind === "older")
      this.#log.debug("older than what is in force: not applied", {
        index: update.index ?? 0,
        epoch: update.clusterEpoch ?? 0,
      });
  }

  #nowInForce(position: Position, isWholeView: boolean): void {
    this.#receiver.inForce(position);
    if (isWholeView) {
      this.#isOutOfStep = false;
      this.#cancelResync(); // deltas that were under way before the view asked for it once more
    }
    this.#clusterEpoch = Math.max(this.#clusterEpoch, position.clusterEpoch);
    const { view } = this.#inForce;
    if (view.dipsVersion !== this.#dipsVersion) {
      this.#dipsVersion = view.dipsVersion;
      this.#options.dipsKnown([...view.allDips()]);
    }
    this.#ackSoon();
  }

  #newSession(): string {
    return hex(this.#options.env.entropy(16));
  }

  // ---- streams ----

  #hello(): ToManager {
    const { config, bootId, held } = this.#options;
    const { name, clusterId } = config;
    return {
      hello: {
        identity: {
          clusterId,
          clusterEpoch: this.#clusterEpoch,
          node: name,
          incarnation: this.#incarnation,
          bootId,
          protocolVersion: PROTOCOL_VERSION,
          protocolVersionMin: PROTOCOL_VERSION_MIN,
        },
        dips: config.dips.map(({ tenant, address, locator }) => ({ tenant, address, locator })),
        heldRanges: held.blocks().map(wireOwnedBlock), // (A1)
        // A session of its own: a hello is harmless when repeated, and must never be too old.
        origin: { session: this.#newSession(), sequence: 1 },
      },
    };
  }

  #activated(stream: Stream): void {
    const { clusterEpoch, index } = this.#receiver.continueFrom;
    this.#log.info("following a replica", { replica: stream.address, epoch: clusterEpoch, index });
    this.#receiver.streamChanged();
    this.#cancelResync();
    stream.send({ activate: { clusterEpoch, index } });
    this.#options.activated();
    this.#requests.streamsChanged();
    if (this.#inForce.position.index > 0) this.#ackSoon();
  }

  #ackSoon(): void {
    if (this.#isStopped) return;
    this.#ack ??= this.#options.env.clock.nextTurn(() => {
      this.#ack = null;
      const { active } = this.#streams;
      const { clusterEpoch, index } = this.#receiver.inForcePosition;
      if (active !== null && !active.isBlocked && index > 0 && !this.#isOutOfStep)
        active.send({ ack: { clusterEpoch, index } });
    });
  }

  #askForView(reason: string): void {
    const { clock } = this.#options.env;
    this.#receiver.expectView();
    this.#isOutOfStep = true;
    if (this.#resync !== null || this.#isStopped) return;
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
}
