/**
 * The agent's side of its streams to the Managers (proto/ananta/v1/agent.proto), over two streams of which one is active.
 *
 *     hello (DIPs, ranges on disk) --> registered, welcome --> activate --> projection --> disk, tables --> ack
 *     data plane's demand --> reserve --> requests --> answers --> disk, tables
 *
 *  (A1) What a hello declares was read from disk; a range that is not on disk is in use by nobody.
 *  (A2) A request unanswered for 300 ms is also sent on the other stream; after a switch all open ones are sent again, with
 *       the same origins. Nothing is executed twice, and no answer is taken twice.
 *  (A3) When the outcome of a request cannot be known any more, the projection tells it: ranges that it shows are ours.
 */
import type { DipId, LogIndex } from "../../core/brands.js";
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import type { Tables } from "../../dataplane/contract.js";
import type { HostChange, HostItem, HostRangeItem } from "../../dataplane/host-items.js";
import { RANGE_PORTS } from "../../dataplane/layouts.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import { ProjectionReceiver, type Position } from "../../dataplane/projection-receiver.js";
import { ananta } from "../../proto/gen/wire.js";
import { DualStream, type ReplicaStream } from "../../runtime/dual-stream.js";
import type { Env, Log, Method, Timer } from "../../runtime/env.js";
import { methodOf } from "../../runtime/method.js";
import type { AgentConfig } from "../config.js";
import type { RangeRef, SnatDemand } from "../dataplane/snat-ports.js";
import type { HeldRange } from "./held-range.js";
import type { HeldRanges } from "./held-ranges.js";
import { InForce, type RangeStops } from "./in-force.js";
import { OpenRequests, type OpenRequest } from "./open-requests.js";
import { PortReserve, RESERVE_POLICY, type ReserveAction } from "./port-reserve.js";
import { hostStep, rangesOf, wireBlocks, wireOwnedBlock } from "./projection-wire.js";

type ToManager = ananta.v1.AgentToManager.$Properties;
type FromManager = ananta.v1.ManagerToAgent.$Properties;
type Stream = ReplicaStream<ToManager>;

const FOLLOW: Method<ToManager, FromManager> = methodOf(ananta.v1.AgentService, "follow", ananta.v1);

const COUNTERS_MS = 1_000;
/** Open requests are looked at this often: a copy for the second stream is at most this late. */
const REQUESTS_MS = 25;
/** A whole view is asked for at most this often. */
const RESYNC_MS = 1_000;
/** A request that both replicas leave unanswered for so long: a third one may be better off. */
const EXCHANGE_MS = 3_000;
/** Pause before a request that was "not done, or not known" is sent again. */
const AGAIN_MS = 50;

const SAME_REQUEST_AGAIN: ReadonlySet<string> = new Set<ErrorCode>([
  "UNAVAILABLE",
  "NOT_LEADER",
  "BEHIND",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "LEADERSHIP_LOST",
  "INTERNAL",
]);

/** What control needs of the agent's data plane. */
export interface HostSnat extends RangeStops {
  readonly tables: Tables<HostItem, HostChange>;
  snatDemand(nowMs: number): readonly SnatDemand[];
  releasableRanges(nowMs: number, idleMs: number): readonly RangeRef[];
}

export interface AgentCounterValues {
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly flows: number;
  readonly drops: Readonly<Record<string, number>>;
  readonly snatServedLocally: number;
  readonly snatWaited: number;
}

export interface ManagerClientOptions {
  readonly env: Env;
  readonly config: AgentConfig;
  /** Random per process start, 32 hex digits. */
  readonly bootId: string;
  readonly dataplane: HostSnat;
  readonly held: HeldRanges;
  readonly counters: () => AgentCounterValues;
  /** The DIPs of this host have ids now, or others than before. */
  readonly dipsKnown: (
    dips: readonly { readonly tenant: string; readonly address: string; readonly dipId: DipId }[],
  ) => void;
  /** Something new is in force: packets that waited for it can leave. */
  readonly tablesChanged: () => void;
  /** The durable record cannot be written: the process must end. */
  readonly failed: (error: AnantaError) => void;
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
  readonly #requests: OpenRequests;
  readonly #reserve: PortReserve;
  readonly #heardAtMs = new WeakMap<Stream, number>();
  /** Granted, and not in force yet: asked for again only after that. `index` is what the view must reach; 0: the queue suffices. */
  #granted: { readonly dipId: DipId; readonly protocol: PortProtocol; readonly index: number }[] = [];
  #clusterEpoch = 0;
  #hostId = 0;
  #incarnation = 0;
  #grants = 0;
  #refusals = 0;
  #resyncs = 0;
  /** The tables may differ from the Managers' view: nothing is acknowledged until a whole view is in force. */
  #isOutOfStep = false;
  #lastResyncMs = Number.NEGATIVE_INFINITY;
  #lastExchangeMs = 0;
  #lastCounters = "";
  #ack: Timer | null = null;
  #resync: Timer | null = null;
  #flush: Timer | null = null;
  #requestCheck: Timer | null = null;
  #reserveCheck: Timer | null = null;
  #countersTimer: Timer | null = null;
  #isStopped = false;

  constructor(options: ManagerClientOptions) {
    this.#options = options;
    const { env, config, dataplane, held } = options;
    const { timings } = config;
    this.#log = env.log;
    this.#requests = new OpenRequests(timings.unansweredMs, () => this.#newSession());
    const policy = { ...RESERVE_POLICY, aheadMs: timings.reserveAheadMs, portsPerRange: RANGE_PORTS };
    this.#reserve = new PortReserve(policy, env.random.fork());
    this.#inForce = new InForce({
      tables: dataplane.tables,
      stops: dataplane,
      held,
      log: env.log,
      events: {
        inForce: (position, isWholeView) => this.#nowInForce(position, isWholeView),
        settled: () => this.#settled(),
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
        writable: (stream) => {
          if (stream === this.#streams.active) this.#ackSoon();
        },
      },
    });
  }

  start(): void {
    this.#streams.start();
    this.#scheduleReserve();
    this.#scheduleRequests();
    this.#scheduleCounters();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of [
      this.#ack,
      this.#resync,
      this.#flush,
      this.#requestCheck,
      this.#reserveCheck,
      this.#countersTimer,
    ])
      timer?.cancel();
    this.#streams.stop();
    await this.#inForce.stop();
  }

  /** A flow has found no port: looks at the reserve in this turn of the event loop. */
  reserveNow(): void {
    if (this.#isStopped) return;
    this.#reserveCheck?.cancel();
    this.#reserveCheck = this.#options.env.clock.nextTurn(() => this.#lookAtReserve());
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
      openRequests: this.#requests.size,
      grants: this.#grants,
      refusals: this.#refusals,
    };
  }

  // ---- what arrives ----

  #isWelcome(message: FromManager): boolean {
    if (!message.welcome) return false;
    const { clusterId, clusterEpoch } = message.welcome.identity ?? {};
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
      for (const answer of message.answers.answers ?? []) this.#answered(answer, stream, isActive);
    } else if (message.projection) {
      if (isActive) this.#project(message.projection, stream);
    } else if (message.welcome) this.#welcome(message.welcome);
    else if (message.refused)
      this.#log.warn("refused by the Managers", {
        code: message.refused.code ?? "",
        reason: message.refused.reason ?? "",
      });
    this.#heardAtMs.set(stream, this.#options.env.clock.nowMs());
  }

  #welcome(welcome: ananta.v1.AgentWelcome.$Properties): void {
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
    if (isWholeView) this.#isOutOfStep = false;
    this.#clusterEpoch = Math.max(this.#clusterEpoch, position.clusterEpoch);
    this.#options.dipsKnown([...this.#inForce.view.allDips()]);
    this.#ackSoon();
  }

  #settled(): void {
    this.#options.tablesChanged();
    const { index } = this.#inForce.position;
    const waiting = this.#granted;
    this.#granted = [];
    for (const grant of waiting) {
      if (grant.index <= index) this.#reserve.granted(grant.dipId, grant.protocol);
      else this.#granted.push(grant);
    }
    if (this.#granted.length < waiting.length) this.reserveNow();
  }

  // ---- requests ----

  #answered(answer: ananta.v1.SnatAnswer.$Properties, stream: Stream, isActive: boolean): void {
    const request = this.#requests.find(answer.sequence ?? 0);
    if (request === null) return; // (A2): the same answer over the other stream was first
    if (!isActive) this.#preferWhoAnswers(request);
    const { env } = this.#options;
    const nowMs = env.clock.nowMs();
    const code = answer.code ?? "";
    if (code === "") {
      this.#requests.settle(request.sequence);
      this.#succeeded(request, answer);
    } else if (code === "SESSION_EXPIRED") this.#sessionExpired();
    else if (SAME_REQUEST_AGAIN.has(code)) {
      this.#requests.again(request.sequence, nowMs + Math.max(AGAIN_MS, answer.retryAfterMs ?? 0));
    } else {
      this.#requests.settle(request.sequence);
      this.#refusals++;
      this.#log.info("request refused", {
        kind: request.body.kind,
        dip: request.dipId,
        protocol: request.protocol,
        code,
        reason: answer.reason ?? "",
        retryAfterMs: answer.retryAfterMs ?? 0,
        replica: stream.address,
      });
      this.#reserve.refused(request.dipId, request.protocol, answer.retryAfterMs ?? 0, nowMs);
      if (request.body.kind === "release") this.#inForce.resume(request.body.ranges);
    }
  }

  #succeeded({ dipId, protocol, body }: OpenRequest, answer: ananta.v1.SnatAnswer.$Properties): void {
    if (body.kind === "release") {
      this.#reserve.granted(dipId, protocol);
      return;
    }
    this.#grants++;
    const index = (answer.index ?? 0) as LogIndex;
    const items: HostRangeItem[] = [];
    for (const block of answer.blocks ?? []) {
      const vipId = this.#inForce.view.vipId(block.vip as HostRangeItem["vip"]);
      if (vipId === null) continue; // a VIP that the view does not show yet: the projection will bring its ranges
      for (const range of rangesOf(block) ?? []) items.push({ kind: "range", vipId, ...range, dipId });
    }
    const known = this.#inForce.view.dip(dipId) !== null && items.length > 0;
    this.#granted.push({ dipId, protocol, index: known ? 0 : index });
    if (known) this.#inForce.granted(items, index);
  }

  /** The active replica has said nothing since the request was sent, and the other one has answered: it serves us better. */
  #preferWhoAnswers(request: OpenRequest): void {
    const { active } = this.#streams;
    if (active === null || request.sentAtMs === null) return;
    const heardAtMs = this.#heardAtMs.get(active) ?? Number.NEGATIVE_INFINITY;
    if (heardAtMs < request.sentAtMs && request.copiedAtMs !== null)
      this.#streams.switchOver("the active replica does not answer");
  }

  /** (A3) */
  #sessionExpired(): void {
    const unknown = this.#requests.expire();
    this.#log.warn("the session of our requests has expired: their outcome is what the projection shows", {
      requests: unknown.length,
    });
    for (const { dipId, protocol, body } of unknown) {
      this.#reserve.abandoned(dipId, protocol);
      if (body.kind === "release") this.#inForce.resume(body.ranges);
    }
    // Late answers of the old session carry sequences that the new one uses again: they must not arrive.
    const { active, standby } = this.#streams;
    if (standby !== null) this.#streams.replace(standby, "a new session of requests");
    if (active !== null) this.#streams.replace(active, "a new session of requests");
  }

  #scheduleReserve(): void {
    const { env, config } = this.#options;
    this.#reserveCheck?.cancel();
    this.#reserveCheck = env.clock.setTimer(config.timings.reserveMs, () => this.#lookAtReserve());
  }

  #lookAtReserve(): void {
    this.#scheduleReserve();
    if (this.#inForce.position.index === 0) return; // nobody knows yet what this host owns
    const { env, dataplane, config } = this.#options;
    const nowMs = env.clock.nowMs();
    const actions = this.#reserve.step(
      dataplane.snatDemand(nowMs),
      dataplane.releasableRanges(nowMs, config.timings.idleReleaseMs),
      nowMs,
    );
    for (const action of actions) this.#act(action);
    if (actions.length > 0) this.#flushSoon();
  }

  #act(action: ReserveAction<RangeRef>): void {
    const { dipId, protocol } = action;
    if (action.kind === "allocate") {
      this.#requests.add({ dipId, protocol, body: { kind: "allocate", ports: action.ports } });
      return;
    }
    const held = action.ranges
      .map((range) => this.#options.held.get(range))
      .filter((range): range is HeldRange => range !== null);
    void this.#inForce.giveUp(held).then((ranges) => {
      if (this.#isStopped) return;
      if (ranges.length === 0) this.#reserve.abandoned(dipId, protocol);
      else {
        this.#requests.add({ dipId, protocol, body: { kind: "release", ranges } });
        this.#flushSoon();
      }
    });
  }

  #scheduleRequests(): void {
    this.#requestCheck = this.#options.env.clock.setTimer(REQUESTS_MS, () => {
      this.#scheduleRequests();
      if (this.#requests.size > 0) this.#sendRequests();
    });
  }

  /** Requests of one turn of the event loop are one message. */
  #flushSoon(): void {
    this.#flush ??= this.#options.env.clock.nextTurn(() => {
      this.#flush = null;
      this.#sendRequests();
    });
  }

  #sendRequests(): void {
    const { active, standby } = this.#streams;
    if (active === null) return; // sent when one is
    const nowMs = this.#options.env.clock.nowMs();
    const { onActive, onStandby } = this.#requests.due(nowMs);
    if (onActive.length > 0) active.send({ requests: { requests: onActive.map(wireRequest) } });
    if (onStandby.length > 0 && standby !== null) standby.send({ requests: { requests: onStandby.map(wireRequest) } }); // (A2)
    if (
      standby === null ||
      this.#requests.longestOpenMs(nowMs) < EXCHANGE_MS ||
      nowMs - this.#lastExchangeMs < EXCHANGE_MS
    )
      return;
    this.#lastExchangeMs = nowMs;
    this.#streams.replace(standby, "neither replica answers");
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
        identity: { clusterId, clusterEpoch: this.#clusterEpoch, node: name, incarnation: this.#incarnation, bootId },
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
    this.#resync?.cancel();
    this.#resync = null;
    stream.send({ activate: { clusterEpoch, index } });
    this.#requests.streamChanged();
    this.#sendRequests();
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

  #scheduleCounters(): void {
    const { env, counters } = this.#options;
    this.#countersTimer = env.clock.setTimer(COUNTERS_MS, () => {
      this.#scheduleCounters();
      const { active } = this.#streams;
      if (active === null || active.isBlocked) return;
      const values = counters();
      const text = JSON.stringify(values);
      if (text === this.#lastCounters) return; // thousands of idle hosts have nothing to tell
      this.#lastCounters = text;
      active.send({ counters: values });
    });
  }
}

function wireRequest({ session, sequence, dipId, protocol, body }: OpenRequest): ananta.v1.SnatRequest.$Properties {
  const origin = { session, sequence };
  return body.kind === "allocate"
    ? { origin, dipId, allocate: { protocol, ports: body.ports } }
    : { origin, dipId, release: { blocks: wireBlocks(body.ranges) } };
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
