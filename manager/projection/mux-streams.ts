/**
 * Serves the streams of MUXes (proto/ananta/v1/mux.proto), on any replica, from its applied state.
 *
 *   hello -> welcome, then beats every 100 ms (standby)
 *   activate(index in force) -> whole view or deltas, then every commit (active); acknowledgements come back
 *   join -> committed; the MUX sees itself in its projection
 */
import { formatIpv4, formatIpv6, parseIpv4, parseIpv6, unusableIpv6 } from "../../core/address.js";
import type { IpAddress, LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { given } from "../../core/present.js";
import type { MuxChange, MuxItem } from "../../dataplane/mux-items.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { MessageStream, Timer } from "../../runtime/env.js";
import type { ReplicaView } from "../replica-view.js";
import type { OverloadReport } from "../stages/isolation.js";
import { overloadFromWire } from "./overload-wire.js";
import type { MuxCapacity } from "../state/commands/commands.js";
import type { Acknowledgements } from "./acknowledgements.js";
import { checkIdentity, newEpoch, ownIdentity, type PeerIdentity } from "./identity.js";
import { ManagerListNews } from "./manager-list.js";
import { Questions } from "./questions.js";
import { checkOrigin } from "./origin.js";
import { MUX_SCOPE } from "./projection-wire.js";
import { ScopeFeed, type ScopeSource } from "./scope-feed.js";
import { Turns, type Step } from "./turns.js";

type FromMux = ananta.v1.MuxToManager.$Properties;
type ToMux = ananta.v1.ManagerToMux.$Properties;
export type MuxStream = MessageStream<ToMux, FromMux>;

/** Tens of MUXes: a beat each 100 ms lets them notice a silent replica in 300 ms. */
const BEAT_MS = 100;
/** Views are compared by digest about every 5 s. */
const BEATS_PER_DIGEST = 50;
/** Joining retries with the same origin, so a short deadline is harmless. */
const JOIN_DEADLINE_MS = 3_000;
const FLOW_ANSWER_MS = 500;

export interface MuxStreamsOptions {
  readonly replica: ReplicaView;
  readonly acknowledgements: Acknowledgements;
  /** Newest renewal of this start of the MUX that the leader has counted; 0: none. */
  readonly confirmedRenewal: (name: string, bootId: string) => number;
  readonly overloadReported: (report: OverloadReport) => void;
  /** 0 when not known. */
  readonly leaderInOfficeMs: () => number;
}

export class MuxStreams {
  readonly #options: SessionOptions;
  readonly #turns: Turns;
  readonly #sessions = new Set<MuxSession>();
  #isCounting = false;
  #epoch = 0;

  constructor(options: MuxStreamsOptions) {
    this.#turns = new Turns(options.replica.env.clock);
    this.#options = { ...options, later: (step) => this.#turns.add(step), countDigest: () => this.#countDigest() };
  }

  /** Walks the view in turns with what is sent of it. */
  #countDigest(): null {
    if (this.#isCounting) return null;
    this.#isCounting = true;
    const view = this.#options.replica.state.captureMuxView();
    this.#turns.add(() => {
      this.#isCounting = view.next() !== null;
      return !this.#isCounting;
    });
    return null;
  }

  open(stream: MuxStream): void {
    const session = new MuxSession(stream, this.#options, () => this.#sessions.delete(session));
    this.#sessions.add(session);
  }

  /** Something was applied. */
  advanced(): void {
    const { clusterEpoch } = this.#options.replica.state;
    if (clusterEpoch !== this.#epoch) {
      if (this.#epoch !== 0) for (const session of [...this.#sessions]) session.end(newEpoch(clusterEpoch));
      this.#epoch = clusterEpoch;
    }
    for (const session of this.#sessions) session.pump();
  }

  get count(): number {
    return this.#sessions.size;
  }

  isConnected(name: string): boolean {
    for (const session of this.#sessions) if (session.name === name) return true;
    return false;
  }

  counters(name: string): ananta.v1.MuxCounters.$Properties | null {
    for (const session of this.#sessions)
      if (session.name === name && session.counters !== null) return session.counters;
    return null;
  }

  /** Lets every MUX with a stream here forget flows; how many of each that answered in time. */
  async resetFlows(filter: ananta.v1.FlowReset.$Properties): Promise<ReadonlyMap<string, number>> {
    const counts = new Map<string, number>();
    await Promise.all(
      [...this.#sessions].map(async (session) => {
        const flows = await session.resetFlows(filter);
        if (flows !== null && session.name !== null) counts.set(session.name, flows);
      }),
    );
    return counts;
  }

  /** Asks every MUX with a stream here about a flow. MUXes that do not answer in time are left out. */
  async explainFlow(
    flow: ananta.v1.FiveTuple.$Properties,
  ): Promise<ReadonlyMap<string, ananta.v1.MuxFlowAnswer.$Properties>> {
    const answers = new Map<string, ananta.v1.MuxFlowAnswer.$Properties>();
    await Promise.all(
      [...this.#sessions].map(async (session) => {
        const answer = await session.askAboutFlow(flow);
        if (answer !== null && session.name !== null) answers.set(session.name, answer);
      }),
    );
    return answers;
  }
}

interface MuxHello extends PeerIdentity {
  readonly address: IpAddress;
  readonly addressIpv6?: IpAddress;
  readonly capacity: MuxCapacity;
}

interface SessionOptions extends MuxStreamsOptions {
  readonly later: (step: Step) => void;
  /** Begins to find the digest of the MUX view out, for the next time. */
  readonly countDigest: () => null;
}

class MuxSession {
  readonly #stream: MuxStream;
  readonly #options: SessionOptions;
  readonly #closed: () => void;
  #hello: MuxHello | null = null;
  #feed: ScopeFeed<MuxItem, MuxChange> | null = null;
  #beat: Timer | null = null;
  #beats = 0;
  readonly #managers: ManagerListNews;
  #over = false;
  readonly #flowQuestions: Questions<ananta.v1.MuxFlowAnswer.$Properties>;
  readonly #flowResets: Questions<number>;
  counters: ananta.v1.MuxCounters.$Properties | null = null;

  constructor(stream: MuxStream, options: SessionOptions, closed: () => void) {
    this.#stream = stream;
    this.#options = options;
    this.#managers = new ManagerListNews(options.replica);
    this.#flowQuestions = new Questions(options.replica.env.clock, FLOW_ANSWER_MS);
    this.#flowResets = new Questions(options.replica.env.clock, FLOW_ANSWER_MS);
    this.#closed = closed;
    stream.listen({
      message: (message) => this.#guarded(() => this.#receive(message)),
      closed: () => this.#close(),
      drained: () => this.#feed?.resume(),
    });
  }

  get name(): string | null {
    return this.#hello?.name ?? null;
  }

  pump(): void {
    this.#feed?.pump();
  }

  end(error: AnantaError): void {
    this.#stream.end(error);
    this.#close();
  }

  askAboutFlow(flow: ananta.v1.FiveTuple.$Properties): Promise<ananta.v1.MuxFlowAnswer.$Properties | null> {
    if (this.#hello === null) return Promise.resolve(null);
    return this.#flowQuestions.ask((id) => this.#stream.send({ flowQuestion: { id, flow } }));
  }

  resetFlows(filter: ananta.v1.FlowReset.$Properties): Promise<number | null> {
    if (this.#hello === null) return Promise.resolve(null);
    return this.#flowResets.ask((id) => this.#stream.send({ flowReset: { ...filter, id } }));
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (caught) {
      this.end(AnantaError.from(caught));
    }
  }

  #receive(message: FromMux): void {
    if (message.hello) this.#greet(message.hello);
    else if (this.#hello === null) throw new AnantaError("INVALID_ARGUMENT", "the first message of a stream is hello");
    else if (message.activate) this.#activate(message.activate);
    else if (message.ack) this.#acknowledge(this.#hello, message.ack);
    else if (message.join) this.#join(this.#hello, message.join);
    else if (message.leave) this.#leave(this.#hello, message.leave);
    else if (message.counters) this.counters = message.counters;
    else if (message.overload) this.#options.overloadReported(overloadFromWire(this.#hello, message.overload));
    else if (message.flowAnswer) this.#flowQuestions.answered(message.flowAnswer.id ?? 0, message.flowAnswer);
    else if (message.flowsReset) this.#flowResets.answered(message.flowsReset.id ?? 0, message.flowsReset.flows ?? 0);
  }

  #greet(hello: ananta.v1.MuxHello.$Properties): void {
    const { replica } = this.#options;
    const identity = checkIdentity(hello.identity, replica);
    const address = parseIpv4(hello.address ?? "");
    if (address === null)
      throw new AnantaError("INVALID_ARGUMENT", `address: "${hello.address ?? ""}" is not an IPv4 address`);
    const capacity = {
      rules: hello.capacity?.rules ?? 0,
      snatRanges: hello.capacity?.snatRanges ?? 0,
      ...(hello.capacity?.ipv6 === true ? { ipv6: true as const } : {}),
    };
    if (capacity.rules < 1 || capacity.snatRanges < 1)
      throw new AnantaError("INVALID_ARGUMENT", "capacity: rules and snat_ranges are at least 1");
    const addressIpv6 = outerIpv6(hello.addressIpv6 ?? "");
    this.#hello = { ...identity, address: formatIpv4(address), ...given({ addressIpv6 }), capacity };
    this.#stream.send({ welcome: { identity: ownIdentity(replica), appliedIndex: replica.state.appliedIndex } });
    this.#beat ??= replica.env.clock.setTimer(BEAT_MS, () => this.#sendBeat());
  }

  #sendBeat(): void {
    const { replica, confirmedRenewal, leaderInOfficeMs } = this.#options;
    const hello = this.#hello;
    if (hello === null) return;
    this.#beat = replica.env.clock.setTimer(BEAT_MS, () => this.#sendBeat());
    if (++this.#beats % BEATS_PER_DIGEST === 0) this.#feed?.askForDigest();
    this.#stream.send({
      beat: {
        appliedIndex: replica.state.appliedIndex,
        quorumAgeMs: replica.quorumAgeMs(),
        confirmedRenewal: confirmedRenewal(hello.name, hello.bootId),
        leaderInOfficeMs: Math.floor(leaderInOfficeMs()),
        ...this.#managers.take(),
      },
    });
  }

  #activate(activate: ananta.v1.MuxActivate.$Properties): void {
    const { replica } = this.#options;
    const { state, effects } = replica;
    if (state.site === null) throw new AnantaError("UNAVAILABLE", "the cluster is not bootstrapped yet");
    const epoch = state.site.clusterEpoch;
    const held = (activate.clusterEpoch ?? 0) === epoch ? ((activate.index ?? 0) as LogIndex) : (0 as LogIndex);
    const source: ScopeSource<MuxItem, MuxChange> = {
      codec: MUX_SCOPE,
      clusterEpoch: () => epoch,
      appliedIndex: () => state.appliedIndex,
      limit: () => state.appliedIndex,
      covers: (index) => effects.covers(index),
      changes: (after, upTo, most) => effects.muxChanges(after, upTo, most),
      view: () => (state.isWhole ? state.captureMuxView() : null),
      digest: () => (state.isWhole ? (state.knownMuxDigest() ?? this.#options.countDigest()) : null),
    };
    this.#feed?.stop();
    this.#feed = new ScopeFeed(
      source,
      held,
      (update) => this.#stream.send({ projection: update }),
      this.#options.later,
    );
    this.#feed.pump();
  }

  #acknowledge(hello: PeerIdentity, ack: ananta.v1.MuxAck.$Properties): void {
    const { state } = this.#options.replica;
    if (this.#feed === null || (ack.clusterEpoch ?? 0) !== state.site?.clusterEpoch) return;
    this.#options.acknowledgements.mux(this, {
      name: hello.name,
      bootId: hello.bootId,
      index: this.#feed.acknowledged((ack.index ?? 0) as LogIndex),
      renewal: ack.renewal ?? 0,
    });
  }

  #join(hello: MuxHello, join: ananta.v1.MuxJoin.$Properties): void {
    const origin = checkOrigin(join.origin);
    const { name, bootId, address, addressIpv6, capacity } = hello;
    const command = { kind: "join-mux", name, bootId, address, ...given({ addressIpv6 }), capacity } as const;
    this.#submit({ origin, command }, () => !this.#over);
  }

  #leave(hello: PeerIdentity, leave: ananta.v1.MuxLeave.$Properties): void {
    const origin = checkOrigin(leave.origin);
    const mux = this.#options.replica.state
      .muxes()
      .find(({ name, bootId }) => name === hello.name && bootId === hello.bootId);
    if (mux === undefined) return; // it never joined, or another start has replaced it
    this.#submit({ origin, command: { kind: "leave-mux", muxId: mux.muxId, incarnation: mux.incarnation } });
  }

  #submit(submitted: Parameters<ReplicaView["submit"]>[0], wanted?: () => boolean): void {
    void this.#options.replica.submit(submitted, JOIN_DEADLINE_MS, wanted).then((result) => {
      if (!result.ok) this.#stream.send({ refused: { code: result.code, reason: result.message } });
    });
  }

  #close(): void {
    this.#over = true;
    this.#beat?.cancel();
    this.#beat = null;
    this.#options.acknowledgements.gone(this);
    this.#feed?.stop();
    this.#feed = null;
    this.#flowQuestions.close();
    this.#flowResets.close();
    this.#closed();
  }
}

/** Hosts believe what comes from it: a unicast address, in its canonical form. Absent for "". */
function outerIpv6(text: string): IpAddress | undefined {
  if (text === "") return undefined;
  const groups = parseIpv6(text);
  const why = groups === null ? "not an IPv6 address" : unusableIpv6(groups);
  if (groups === null || why !== null)
    throw new AnantaError("INVALID_ARGUMENT", `address_ipv6: "${text}" is ${why ?? ""}; use a unicast IPv6 address`);
  return formatIpv6(groups);
}
