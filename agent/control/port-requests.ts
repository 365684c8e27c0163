/**
 * Ports from the Managers: looks at the reserve, asks, repeats what is not answered, and takes the answers.
 *
 *     data plane's demand --> reserve --> requests --> first stream, after 300 ms the second one too --> answers --> in force
 *
 *  (A2) The first stream is the one to the leader, which decides; where neither leads there, the active one, whose replica
 *       takes requests to the leader. A request unanswered for 300 ms is also sent on the second one; when another stream is
 *       the first, all open ones are sent again, with the same origins. Nothing is executed twice, and no answer is taken twice.
 *  (A3) When the outcome of a request cannot be known any more, the projection tells it: ranges that it shows are ours.
 */
import type { DipId, LogIndex } from "../../core/brands.js";
import type { ErrorCode } from "../../core/errors.js";
import type { HostRangeItem } from "../../dataplane/host-items.js";
import { RANGE_PORTS } from "../../dataplane/layouts.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { DualStream, ReplicaStream } from "../../runtime/dual-stream.js";
import type { Env, Timer } from "../../runtime/env.js";
import type { AgentTimings } from "../config.js";
import type { RangeRef, SnatDemand } from "../dataplane/snat/snat-ports.js";
import type { HeldRange } from "./held-range.js";
import type { HeldRanges } from "./held-ranges.js";
import type { InForce } from "./in-force.js";
import { OpenRequests, type OpenRequest } from "./open-requests.js";
import { PortReserve, RESERVE_POLICY, type ReserveAction } from "./port-reserve.js";
import { rangesOf, wireBlocks } from "./projection-wire.js";

type ToManager = ananta.v1.AgentToManager.$Properties;
type FromManager = ananta.v1.ManagerToAgent.$Properties;
type Stream = ReplicaStream<ToManager>;

/** Open requests are looked at this often: a copy for the second stream is at most this late. */
const REQUESTS_MS = 25;
/** A request that both replicas leave unanswered for so long: a third one may be better off. */
const EXCHANGE_MS = 3_000;
/** Pause before a request that was "not done, or not known" is sent again. */
const AGAIN_MS = 50;
/** Idle ranges are looked for this often: it walks over all of them. */
const RELEASE_MS = 1_000;

const SAME_REQUEST_AGAIN: ReadonlySet<string> = new Set<ErrorCode>([
  "UNAVAILABLE",
  "NOT_LEADER",
  "BEHIND",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "LEADERSHIP_LOST",
  "INTERNAL",
]);

export interface PortRequestsOptions {
  readonly env: Env;
  readonly timings: AgentTimings;
  readonly dataplane: {
    snatDemand(nowMs: number): readonly SnatDemand[];
    releasableRanges(nowMs: number, idleMs: number): readonly RangeRef[];
    returnableRanges(): readonly RangeRef[];
  };
  readonly held: HeldRanges;
  readonly inForce: InForce;
  readonly streams: Pick<
    DualStream<ToManager, FromManager>,
    "active" | "standby" | "preferred" | "switchOver" | "replace"
  >;
  /** 32 hex digits, unpredictable. */
  readonly newSession: () => string;
}

export class PortRequests {
  grants = 0;
  refusals = 0;
  readonly #options: PortRequestsOptions;
  readonly #requests: OpenRequests;
  readonly #reserve: PortReserve;
  readonly #heardAtMs = new WeakMap<Stream, number>();
  /** Granted, and not in force yet: asked for again only after that. `index` is what the view must reach; 0: the queue suffices. */
  #granted: { readonly dipId: DipId; readonly protocol: PortProtocol; readonly index: number }[] = [];
  /** Whom requests are sent to. */
  #first: Stream | null = null;
  #lastExchangeMs = 0;
  #lastReleaseMs = 0;
  #flush: Timer | null = null;
  #requestCheck: Timer | null = null;
  #reserveCheck: Timer | null = null;
  #isStopped = false;

  constructor(options: PortRequestsOptions) {
    this.#options = options;
    const { env, timings, newSession } = options;
    this.#requests = new OpenRequests(timings.unansweredMs, newSession);
    const policy = { ...RESERVE_POLICY, aheadMs: timings.reserveAheadMs, portsPerRange: RANGE_PORTS };
    this.#reserve = new PortReserve(policy, env.random.fork());
  }

  get openCount(): number {
    return this.#requests.size;
  }

  start(): void {
    this.#scheduleReserve();
    this.#scheduleRequests();
  }

  stop(): void {
    this.#isStopped = true;
    for (const timer of [this.#flush, this.#requestCheck, this.#reserveCheck]) timer?.cancel();
  }

  /** A flow has found no port: looks at the reserve in this turn of the event loop. */
  reserveNow(): void {
    if (this.#isStopped) return;
    this.#reserveCheck?.cancel();
    this.#reserveCheck = this.#options.env.clock.nextTurn(() => this.#lookAtReserve());
  }

  /** The replica has said something. */
  heard(stream: Stream): void {
    this.#heardAtMs.set(stream, this.#options.env.clock.nowMs());
  }

  /** A stream is active, ready or over that was not before: requests may have another way (A2). */
  streamsChanged(): void {
    this.#flushSoon();
  }

  /** Everything that was answered and shown is in force. */
  settled(): void {
    const { index } = this.#options.inForce.position;
    const waiting = this.#granted;
    this.#granted = [];
    for (const grant of waiting) {
      if (grant.index <= index) this.#reserve.granted(grant.dipId, grant.protocol, "allocate");
      else this.#granted.push(grant);
    }
    if (this.#granted.length < waiting.length) this.reserveNow();
  }

  answered(answer: ananta.v1.SnatAnswer.$Properties, stream: Stream): void {
    const request = this.#requests.find(answer.sequence ?? 0);
    if (request === null) return; // (A2): the same answer over the other stream was first
    if (stream !== this.#first) this.#preferWhoAnswers(request);
    const { env } = this.#options;
    const nowMs = env.clock.nowMs();
    const code = answer.code ?? "";
    if (code === "") {
      this.#requests.settle(request.sequence);
      this.#succeeded(request, answer);
    } else if (code === "SESSION_EXPIRED") this.#sessionExpired();
    else if (SAME_REQUEST_AGAIN.has(code) || (code === "STAGE_OVERLOADED" && request.attempts > 1)) {
      // Overloaded is whom this copy met; another may be through, and its answer is remembered under the same origin.
      this.#requests.again(request.sequence, nowMs + Math.max(AGAIN_MS, answer.retryAfterMs ?? 0));
    } else {
      this.#requests.settle(request.sequence);
      this.refusals++;
      this.#options.env.log.info("request refused", {
        kind: request.body.kind,
        dip: request.dipId,
        protocol: request.protocol,
        code,
        reason: answer.reason ?? "",
        retryAfterMs: answer.retryAfterMs ?? 0,
        replica: stream.address,
      });
      const retryAfterMs = answer.retryAfterMs ?? 0;
      this.#reserve.refused(request.dipId, request.protocol, request.body.kind, { retryAfterMs, nowMs });
      if (request.body.kind === "release") this.#options.inForce.resume(request.body.ranges);
    }
  }

  #succeeded({ dipId, protocol, body }: OpenRequest, answer: ananta.v1.SnatAnswer.$Properties): void {
    if (body.kind === "release") {
      this.#reserve.granted(dipId, protocol, "release");
      return;
    }
    this.grants++;
    const index = (answer.index ?? 0) as LogIndex;
    const items: HostRangeItem[] = [];
    for (const block of answer.blocks ?? []) {
      const vipId = this.#options.inForce.view.vipId(block.vip as HostRangeItem["vip"]);
      if (vipId === null) continue; // a VIP that the view does not show yet: the projection will bring its ranges
      for (const range of rangesOf(block) ?? []) items.push({ kind: "range", vipId, ...range, dipId });
    }
    const known = this.#options.inForce.view.dip(dipId) !== null && items.length > 0;
    this.#granted.push({ dipId, protocol, index: known ? 0 : index });
    if (known) this.#options.inForce.granted(items, index);
  }

  /** The replica asked first has said nothing since, and the other one has answered: that one serves us better. */
  #preferWhoAnswers(request: OpenRequest): void {
    const { streams } = this.#options;
    const first = this.#first;
    if (first === null || request.sentAtMs === null || request.copiedAtMs === null) return;
    if ((this.#heardAtMs.get(first) ?? Number.NEGATIVE_INFINITY) >= request.sentAtMs) return;
    if (first === streams.active) streams.switchOver("the active replica does not answer");
    else streams.replace(first, "it does not answer");
  }

  /** (A3) */
  #sessionExpired(): void {
    const unknown = this.#requests.expire();
    this.#options.env.log.warn("the session of our requests has expired: their outcome is what the projection shows", {
      requests: unknown.length,
    });
    for (const { dipId, protocol, body } of unknown) {
      this.#reserve.abandoned(dipId, protocol);
      if (body.kind === "release") this.#options.inForce.resume(body.ranges);
    }
    // Late answers of the old session carry sequences that the new one uses again: they must not arrive.
    const { active, standby } = this.#options.streams;
    if (standby !== null) this.#options.streams.replace(standby, "a new session of requests");
    if (active !== null) this.#options.streams.replace(active, "a new session of requests");
  }

  #scheduleReserve(): void {
    if (this.#isStopped) return;
    const { env, timings } = this.#options;
    this.#reserveCheck?.cancel();
    this.#reserveCheck = env.clock.setTimer(timings.reserveMs, () => this.#lookAtReserve());
  }

  #lookAtReserve(): void {
    this.#scheduleReserve();
    if (this.#options.inForce.position.index === 0) return; // nobody knows yet what this host owns
    const { env, dataplane, timings } = this.#options;
    const nowMs = env.clock.nowMs();
    const isReleaseDue = nowMs - this.#lastReleaseMs >= RELEASE_MS;
    if (isReleaseDue) this.#lastReleaseMs = nowMs;
    const actions = this.#reserve.step(
      dataplane.snatDemand(nowMs),
      isReleaseDue ? dataplane.releasableRanges(nowMs, timings.idleReleaseMs) : [],
      nowMs,
      isReleaseDue ? dataplane.returnableRanges() : [],
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
    void this.#options.inForce.giveUp(held).then((ranges) => {
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
    if (this.#isStopped) return;
    this.#flush ??= this.#options.env.clock.nextTurn(() => {
      this.#flush = null;
      this.#sendRequests();
    });
  }

  #sendRequests(): void {
    const { active, standby, preferred } = this.#options.streams;
    if (active === null) return; // sent when one is
    const first = preferred ?? active; // (A2)
    const second = first === active ? standby : active;
    if (first !== this.#first) {
      this.#first = first;
      this.#requests.firstChanged();
    }
    const nowMs = this.#options.env.clock.nowMs();
    const { onFirst, onSecond } = this.#requests.due(nowMs, second);
    if (onFirst.length > 0) first.send({ requests: { requests: onFirst.map(wireRequest) } });
    if (onSecond.length > 0) second?.send({ requests: { requests: onSecond.map(wireRequest) } });
    if (
      standby === null ||
      this.#requests.longestOpenMs(nowMs) < EXCHANGE_MS ||
      nowMs - this.#lastExchangeMs < EXCHANGE_MS
    )
      return;
    this.#lastExchangeMs = nowMs;
    this.#options.streams.replace(standby, "neither replica answers");
  }
}

function wireRequest({ session, sequence, dipId, protocol, body }: OpenRequest): ananta.v1.SnatRequest.$Properties {
  const origin = { session, sequence };
  return body.kind === "allocate"
    ? { origin, dipId, allocate: { protocol, ports: body.ports } }
    : { origin, dipId, release: { blocks: wireBlocks(body.ranges) } };
}
