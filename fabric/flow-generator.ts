/**
 * [pure] Long-lived flows with a small request now and then, and the judgement whether each of them was carried.
 *
 * A flow is one TCP connection: it opens, asks, waits for the answer, rests, asks again, and is closed at the end. It is
 * broken, once and for good, when it is
 *   reset                       the connection was reset, also by our own side because it met no state;
 *   answered by another DIP     two answers of one connection came from different machines;
 *   seen as another source      the far end saw a different address or port than before (or, inbound, than the client's own);
 *   without progress            30 s passed with an answer outstanding;
 *   closed by its peer          the far end closed first, which the servers here never do.
 * The step of the story in which that happened is kept with it.
 */
import { endpointText, familyOf } from "../core/address.js";
import { assert } from "../core/assert.js";
import type { IpAddress, Port } from "../core/brands.js";
import type { Random } from "../core/random.js";
import type { Endpoint, TcpHandle } from "./endpoints/endpoint.js";
import { line, LineReader, parseAnswer } from "./endpoints/identity-server.js";
import { GIVE_UP_MS } from "./endpoints/mini-tcp.js";

export interface FlowPlan {
  /** Inbound: the far end must see the client's own address. Outbound: it must see one VIP and port, the same all along. */
  readonly direction: "inbound" | "outbound";
  /** How many are open at a time. */
  readonly flows: number;
  /** How many are ever opened; null: a flow that ended is replaced. */
  readonly opensMax: number | null;
  readonly opensPerSecond: number;
  readonly requestIntervalMs: number;
  /** A flow this old is closed and another opened; null: flows stay until `finish`. */
  readonly lifetimeMs: number | null;
  readonly sources: readonly Endpoint[];
  /** A source uses those of its own family; there is one at least. */
  readonly destinations: readonly { readonly address: IpAddress; readonly port: Port }[];
}

export type BrokenBecause =
  "reset" | "answered by another DIP" | "seen as another source" | "without progress" | "closed by its peer";

export interface BrokenFlow {
  readonly flow: string;
  readonly because: BrokenBecause;
  readonly step: string;
  readonly atMs: number;
}

export interface FlowStatistics {
  readonly opened: number;
  /** Connected and answered at least once. */
  readonly answeredOnce: number;
  /** Open now. */
  readonly open: number;
  /** Ended in order, after an answer. */
  readonly completed: number;
  /** Of `opened` and `completed`. */
  readonly openedIpv6: number;
  readonly completedIpv6: number;
  readonly requests: number;
  readonly answers: number;
  readonly brokenCount: number;
  /** The first 1,000 of them. */
  readonly broken: readonly BrokenFlow[];
  /** Longest wait for an answer, or for the connection, finished or not. */
  readonly longestStallMs: number;
  /** Answers by DIP or, outbound, by the VIP they left as. */
  readonly spread: ReadonlyMap<string, number>;
}

interface Flow {
  readonly id: number;
  readonly isIpv6: boolean;
  readonly openedMs: number;
  readonly reader: LineReader;
  handle: TcpHandle | null;
  /** The answer to this request is outstanding. */
  waitingSinceMs: number | null;
  sequence: number;
  nextRequestMs: number;
  by: string | null;
  saw: string | null;
  ending: boolean;
}

/** Flows that wait for their first answer: on a machine that cannot follow, more of them would only make it worse. */
const OPENING_MAX = 100;
/** Enough to see a pattern; a broken network under steady traffic must not fill the memory. */
const BROKEN_KEPT = 1_000;

export class FlowGenerator {
  /** Name of the present step of the story; a broken flow is put down to it. */
  step = "";
  private readonly plan: FlowPlan;
  private readonly random: Random;
  private readonly flows = new Set<Flow>();
  private readonly broken: BrokenFlow[] = [];
  private brokenCount = 0;
  private readonly spread = new Map<string, number>();
  private opened = 0;
  private answeredOnce = 0;
  private completed = 0;
  private openedIpv6 = 0;
  private completedIpv6 = 0;
  private requests = 0;
  private answers = 0;
  private longestStallMs = 0;
  private budget = 0;
  private lastTickMs: number | null = null;
  private nowMs = 0;
  private finishing = false;

  constructor(plan: FlowPlan, random: Random) {
    this.plan = plan;
    this.random = random;
  }

  /** Opens what is due and asks what is due. Call every few tens of milliseconds, after the endpoints' own tick. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    const elapsedMs = this.lastTickMs === null ? 0 : nowMs - this.lastTickMs;
    this.lastTickMs = nowMs;
    // At most a fifth of a second is made up for: a stall of ours must not become a burst.
    this.budget += (Math.min(elapsedMs, 200) * this.plan.opensPerSecond) / 1_000;
    const opensMax = this.plan.opensMax ?? Number.POSITIVE_INFINITY;
    while (this.budget >= 1 && !this.finishing && this.flows.size < this.plan.flows && this.opened < opensMax) {
      if (this.opened - this.answeredOnce - this.brokenCount >= OPENING_MAX) break;
      this.budget--;
      this.open();
    }
    this.budget = Math.min(this.budget, 1);
    for (const flow of this.flows) this.advance(flow);
  }

  /** No new flows; each open one asks once more and closes after the answer. Done when `open` is 0. */
  finish(): void {
    this.finishing = true;
    for (const flow of this.flows) {
      flow.ending = true;
      flow.nextRequestMs = this.nowMs + this.random.below(1_000);
    }
  }

  statistics(): FlowStatistics {
    let longestStallMs = this.longestStallMs;
    for (const flow of this.flows) {
      if (flow.waitingSinceMs !== null) longestStallMs = Math.max(longestStallMs, this.nowMs - flow.waitingSinceMs);
    }
    return {
      opened: this.opened,
      answeredOnce: this.answeredOnce,
      open: this.flows.size,
      completed: this.completed,
      openedIpv6: this.openedIpv6,
      completedIpv6: this.completedIpv6,
      requests: this.requests,
      answers: this.answers,
      brokenCount: this.brokenCount,
      broken: this.broken,
      longestStallMs,
      spread: this.spread,
    };
  }

  /** Longest wait since the last call: for a table by steps. */
  takeLongestStallMs(): number {
    const { longestStallMs } = this.statistics();
    this.longestStallMs = 0;
    return longestStallMs;
  }

  private open(): void {
    const id = ++this.opened;
    const source = this.plan.sources[id % this.plan.sources.length]!; // in range by the modulus
    const isIpv6 = familyOf(source.address) === "ipv6";
    const destinations = this.plan.destinations.filter(({ address }) => (familyOf(address) === "ipv6") === isIpv6);
    const destination = destinations[id % destinations.length];
    assert(destination !== undefined, `there is a destination for ${source.address}`);
    if (isIpv6) this.openedIpv6++;
    const flow: Flow = {
      id,
      isIpv6,
      openedMs: this.nowMs,
      reader: new LineReader(),
      handle: null,
      waitingSinceMs: this.nowMs,
      sequence: 0,
      nextRequestMs: this.nowMs,
      by: null,
      saw: null,
      ending: false,
    };
    this.flows.add(flow);
    flow.handle = source.connect(
      destination.address,
      destination.port,
      {
        connected: () => this.ask(flow),
        received: (_, payload) => this.receive(flow, payload),
        peerClosed: () => {
          if (!flow.ending) this.breakOff(flow, "closed by its peer");
        },
        ended: (_, how) => {
          if (how === "closed") this.end(flow);
          else this.breakOff(flow, how === "reset" ? "reset" : "without progress");
        },
      },
      this.nowMs,
    );
  }

  private advance(flow: Flow): void {
    if (flow.waitingSinceMs !== null) {
      if (this.nowMs - flow.waitingSinceMs >= GIVE_UP_MS) this.breakOff(flow, "without progress");
      return;
    }
    if (this.nowMs < flow.nextRequestMs) return;
    const { lifetimeMs } = this.plan;
    if (lifetimeMs !== null && this.nowMs - flow.openedMs >= lifetimeMs) flow.ending = true;
    this.ask(flow);
  }

  private ask(flow: Flow): void {
    if (flow.handle === null) return;
    flow.sequence++;
    flow.waitingSinceMs = this.nowMs;
    flow.nextRequestMs = Number.POSITIVE_INFINITY;
    this.requests++;
    flow.handle.send(line(`${this.plan.direction}-${flow.id} ${flow.sequence}`));
  }

  private receive(flow: Flow, payload: Uint8Array): void {
    if (!this.flows.has(flow) || flow.handle === null) return;
    for (const text of flow.reader.push(payload) ?? []) {
      const answer = parseAnswer(text);
      if (answer?.request !== `${this.plan.direction}-${flow.id} ${flow.sequence}`) {
        this.breakOff(flow, "answered by another DIP");
        return;
      }
      flow.by ??= answer.by;
      flow.saw ??= answer.saw;
      const { source, sourcePort } = flow.handle.tuple;
      const ownName = endpointText(source, sourcePort);
      if (answer.by !== flow.by) this.breakOff(flow, "answered by another DIP");
      else if (answer.saw !== flow.saw || (answer.saw === ownName) !== (this.plan.direction === "inbound")) {
        this.breakOff(flow, "seen as another source");
      } else this.count(flow, answer.by, answer.saw);
    }
  }

  private count(flow: Flow, by: string, saw: string): void {
    this.answers++;
    if (flow.sequence === 1) this.answeredOnce++;
    const key = this.plan.direction === "inbound" ? by : saw.slice(0, saw.lastIndexOf(":"));
    this.spread.set(key, (this.spread.get(key) ?? 0) + 1);
    this.longestStallMs = Math.max(this.longestStallMs, this.nowMs - (flow.waitingSinceMs ?? this.nowMs));
    flow.waitingSinceMs = null;
    if (flow.ending) {
      flow.waitingSinceMs = this.nowMs; // for the FIN
      flow.handle?.close();
      return;
    }
    // Spread over half an interval around it, so that flows do not march in step.
    flow.nextRequestMs = this.nowMs + this.plan.requestIntervalMs * (0.75 + this.random.nextFloat() / 2);
  }

  private end(flow: Flow): void {
    if (!this.flows.delete(flow)) return;
    if (flow.by === null) return;
    this.completed++;
    if (flow.isIpv6) this.completedIpv6++;
  }

  private breakOff(flow: Flow, because: BrokenBecause): void {
    if (!this.flows.delete(flow)) return;
    if (flow.waitingSinceMs !== null)
      this.longestStallMs = Math.max(this.longestStallMs, this.nowMs - flow.waitingSinceMs);
    const tuple = flow.handle?.tuple;
    const name =
      tuple === undefined
        ? `${this.plan.direction}-${flow.id}`
        : `tcp ${endpointText(tuple.source, tuple.sourcePort)} ${endpointText(tuple.destination, tuple.destinationPort)}`;
    this.brokenCount++;
    if (this.broken.length < BROKEN_KEPT) this.broken.push({ flow: name, because, step: this.step, atMs: this.nowMs });
    flow.handle?.abort();
  }
}
