/**
 * A follower's link to the leader: requests go up, answers and muxSafeIndex come down (proto/ananta/v1/replica.proto).
 * One link at a time, to the replica that Raft says leads; reopened while it does.
 *
 * Requests for SNAT ports wait here in a stage like the leader's, some hundred of them under way: tenants take turns before the
 * link, and everything else has its own way past them.
 */
import type { HostId, LogIndex, NodeId, Term } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { ananta } from "../../../proto/gen/wire.js";
import type { Channel, MessageStream, Timer } from "../../../runtime/env.js";
import { type Acknowledgements, muxKey } from "../../projection/acknowledgements.js";
import { ownIdentity } from "../../projection/identity.js";
import { overloadToWire } from "../../projection/overload-wire.js";
import type { ReplicaView } from "../../replica-view.js";
import type { OverloadReport } from "../../stages/isolation.js";
import { Executor } from "../../seda/executor.js";
import { Stage, type StageEvent } from "../../seda/stage.js";
import type { MuxReport } from "../../stages/mux-pool-management.js";
import type { StageReading } from "../../stages/pipeline.js";
import { SNAT_FORWARDING } from "../../stages/policy.js";
import { refusal, type Submission } from "../../stages/submission.js";
import { decodeResult, encodeCommand } from "./forwarded-command.js";
import type { Route } from "./leader-forwarding.js";
import { REPLICA_FORWARD } from "../methods.js";

type Up = ananta.v1.FollowerToLeader.$Properties;
type Down = ananta.v1.LeaderToFollower.$Properties;

/** A new leader needs some ms between its election and its first committed entry; until then it refuses links. */
const REOPEN_MS = 10;
/** The leader beats every 50 ms; a connection that is silent for ten beats is dead, even where nobody closed it. */
const SILENCE_MAX_MS = 500;
/** How often connections to the other replicas, any of which may lead next, are looked after: a handshake then waits for nobody. */
const WARM_MS = 1_000;
/** Of what one message between replicas holds, so that none nears the 4 MB limit. */
const ITEMS_PER_MESSAGE = 1_024;
const BYTES_PER_MESSAGE = 1_048_576;
/** SNAT requests on their way to the leader and back: its next two batches, were they all from here. */
const SNAT_UNDER_WAY_MAX = 2_048;
/** Everything else: hosts that register, reports of health, configuration. */
const OTHERS_UNDER_WAY_MAX = 16_384;
const OTHERS_RETRY_MS = 500;

export interface ReplicaLinkOptions {
  readonly replica: ReplicaView;
  readonly acknowledgements: Acknowledgements;
  /** The leader can be reached (a route), or no longer (null). */
  readonly routeChanged: (route: Route | null) => void;
  /** A defect of ours. */
  readonly failed: (error: unknown) => void;
}

interface QueuedSubmission extends StageEvent {
  readonly submission: Submission;
}

export class ReplicaLink implements Route {
  readonly #options: ReplicaLinkOptions;
  readonly #channels = new Map<NodeId, Channel>();
  #leader: { readonly node: NodeId; readonly term: Term } | null = null;
  #stream: MessageStream<Up, Down> | null = null;
  #up = false;
  #reopen: Timer | null = null;
  #silence: Timer | null = null;
  #warm: Timer | null = null;
  #heardAtMs = 0;
  #nextId = 1;
  readonly #awaiting = new Map<number, Submission>();
  readonly #executor: Executor;
  readonly #snat: Stage<"allocate", QueuedSubmission>;
  /** Of what is awaited, what went through the stage. */
  readonly #staged = new Set<number>();
  #outbox: ananta.v1.ForwardedCommand.$Properties[] = [];
  #muxReports = new Map<string, MuxReport>();
  #hostReports = new Map<HostId, LogIndex>();
  #flush: Timer | null = null;
  readonly #confirmed = new Map<string, number>();
  /** As the leader's newest full beat said, and when that came. */
  #inOffice: { readonly ms: number; readonly heardAtMs: number } | null = null;

  constructor(options: ReplicaLinkOptions) {
    this.#options = options;
    this.#executor = new Executor(options.failed);
    this.#snat = new Stage({
      policy: SNAT_FORWARDING,
      executor: this.#executor,
      clock: options.replica.env.clock,
      hasRoom: () => this.#up && this.#staged.size < SNAT_UNDER_WAY_MAX,
      handle: (batch) => {
        for (const { submission } of batch)
          this.#staged.add(this.#post(submission, encodeCommand(submission.submitted)));
      },
    });
  }

  /** Of what waits for the link: priority and counters, kind by kind. */
  get forwarding(): StageReading {
    const { policy, counters } = this.#snat;
    return { name: policy.name, priority: policy.priority, events: counters };
  }

  /** Raft knows another leader, or none (null). This replica itself counts as none. */
  follow(leader: { readonly node: NodeId; readonly term: Term } | null): void {
    if (leader?.node === this.#leader?.node && leader?.term === this.#leader?.term) return;
    this.#leader = leader;
    this.#drop();
    if (leader !== null) this.#open();
    this.#warm ??= this.#options.replica.env.clock.setTimer(WARM_MS, () => this.#keepWarm());
  }

  #keepWarm(): void {
    const { env, config } = this.#options.replica;
    this.#warm = env.clock.setTimer(WARM_MS, () => this.#keepWarm());
    for (const { nodeId } of this.#options.replica.members())
      if (nodeId !== config.nodeId) this.#channel(nodeId)?.connect();
  }

  stop(): void {
    this.follow(null);
    this.#warm?.cancel();
    this.#executor.stop();
    for (const channel of this.#channels.values()) channel.close();
  }

  submit(submission: Submission): void {
    if (!this.#up) {
      submission.reply(refusal(new AnantaError("NOT_LEADER", "no link to the leader")));
      return;
    }
    const refused = this.#take(submission);
    if (refused !== null) submission.reply(refusal(refused));
  }

  /** Null: it waits for its turn, or is under way. Else why not. */
  #take(submission: Submission): AnantaError | null {
    const { origin, command } = submission.submitted;
    if (command.kind !== "allocate-snat") return this.#pass(submission); // returns of ports wait for no MUX, and make room
    const { state } = this.#options.replica;
    // A refusal says that nothing was done: what was executed, as far as this replica knows, gets its answer from the leader.
    if (origin !== null && state.verdictOn(origin).kind !== "execute") return this.#pass(submission);
    const fairnessKey = state.dip(command.dipId)?.tenant ?? "unknown";
    const full = this.#snat.refusal("allocate", fairnessKey);
    if (full !== null) return full;
    this.#snat.offer("allocate", {
      submission,
      fairnessKey,
      deadlineAtMs: submission.deadlineAtMs,
      refused: (error) => submission.reply(refusal(error)),
    });
    return null;
  }

  /** Past what waits for SNAT ports. */
  #pass(submission: Submission): AnantaError | null {
    if (this.#awaiting.size - this.#staged.size >= OTHERS_UNDER_WAY_MAX) {
      const facts = { retryAfterMs: OTHERS_RETRY_MS };
      return new AnantaError("STAGE_OVERLOADED", `${OTHERS_UNDER_WAY_MAX} requests are under way to the leader`, facts);
    }
    const command = encodeCommand(submission.submitted);
    if (command.length > BYTES_PER_MESSAGE) {
      const message = `the request takes ${command.length} bytes of the log; at most ${BYTES_PER_MESSAGE}`;
      return new AnantaError("INVALID_ARGUMENT", message);
    }
    this.#post(submission, command);
    return null;
  }

  #post(submission: Submission, command: Uint8Array): number {
    const id = this.#nextId++;
    this.#awaiting.set(id, submission);
    const deadlineMs = Math.max(1, Math.round(submission.deadlineAtMs - this.#options.replica.env.clock.nowMs()));
    this.#outbox.push({ id, command, deadlineMs });
    this.#scheduleFlush();
    return id;
  }

  muxReported(report: MuxReport): void {
    if (!this.#up) return; // told in full when the link is up
    this.#muxReports.set(muxKey(report), report);
    this.#scheduleFlush();
  }

  hostReported(host: HostId, index: LogIndex): void {
    if (!this.#up) return;
    this.#hostReports.set(host, index);
    this.#scheduleFlush();
  }

  /** Not kept: a MUX that is still overloaded says so again within 500 ms. */
  overloadReported(report: OverloadReport): void {
    if (!this.#up) return;
    this.#stream?.send({ overload: { name: report.mux, bootId: report.bootId, overload: overloadToWire(report) } });
  }

  /** Newest renewal of this start of the MUX that the leader has counted; 0: none known. */
  confirmedRenewal(name: string, bootId: string): number {
    return this.#confirmed.get(`${name}/${bootId}`) ?? 0;
  }

  /** How long the leader has been in office; 0 without a link to it. */
  leaderInOfficeMs(): number {
    return this.#inOffice === null
      ? 0
      : this.#inOffice.ms + this.#options.replica.env.clock.nowMs() - this.#inOffice.heardAtMs;
  }

  #open(): void {
    const leader = this.#leader;
    if (leader === null) return;
    const channel = this.#channel(leader.node);
    if (channel === null) {
      // It joined in a part of the log that is not here yet; it will be, since it leads.
      this.#reopen = this.#options.replica.env.clock.setTimer(REOPEN_MS, () => this.#open());
      return;
    }
    const stream = channel.open(REPLICA_FORWARD);
    this.#stream = stream;
    this.#heardAtMs = this.#options.replica.env.clock.nowMs();
    this.#silence = this.#options.replica.env.clock.setTimer(SILENCE_MAX_MS, () => this.#listenForSilence(stream));
    stream.listen({
      message: (message) => {
        if (this.#stream !== stream) return;
        this.#heardAtMs = this.#options.replica.env.clock.nowMs();
        this.#receive(message);
      },
      closed: () => {
        if (this.#stream !== stream) return;
        this.#drop();
        this.#reopen = this.#options.replica.env.clock.setTimer(REOPEN_MS, () => this.#open());
      },
    });
    stream.send({ hello: { identity: ownIdentity(this.#options.replica), term: leader.term } });
  }

  /** Checked once more in the next turn: if it was this process that stood still, messages are waiting to be read. */
  #listenForSilence(stream: MessageStream<Up, Down>): void {
    const { clock } = this.#options.replica.env;
    const silentMs = (): number => clock.nowMs() - this.#heardAtMs;
    const goOn = (): void => {
      if (this.#stream !== stream) return;
      if (silentMs() < SILENCE_MAX_MS) {
        this.#silence = clock.setTimer(SILENCE_MAX_MS - silentMs(), () => this.#listenForSilence(stream));
        return;
      }
      this.#drop(new AnantaError("UNAVAILABLE", `the leader was silent for ${SILENCE_MAX_MS} ms`));
      this.#forgetChannel(); // its connection may be one whose other end is gone: another stream on it would be as silent
      this.#reopen = clock.setTimer(REOPEN_MS, () => this.#open());
    };
    if (silentMs() < SILENCE_MAX_MS) goOn();
    else this.#silence = clock.nextTurn(goOn);
  }

  #forgetChannel(): void {
    const node = this.#leader?.node;
    if (node === undefined) return;
    this.#channels.get(node)?.close();
    this.#channels.delete(node);
  }

  /** Null while nobody has said where that replica is reached. */
  #channel(node: NodeId): Channel | null {
    let channel = this.#channels.get(node);
    if (channel === undefined) {
      const { env, config } = this.#options.replica;
      const { replica } = this.#options;
      // A leader that this replica's log does not know yet can only be one that was configured.
      const address = [...replica.members(), ...config.replicas].find(({ nodeId }) => nodeId === node)?.apiAddress;
      if (address === undefined || address === "") return null;
      channel = env.network.connect(address, { reconnectMaxMs: config.raft.electionTimeoutMinMs, dedicated: true });
      this.#channels.set(node, channel);
    }
    return channel;
  }

  #receive(message: Down): void {
    if (message.welcome) this.#welcomed();
    else if (message.results) {
      // First the index, so that grants in this message pass every cut on this replica.
      this.#options.replica.muxSafeIndex.advance((message.results.muxSafeIndex ?? 0) as LogIndex);
      for (const { id, result } of message.results.results ?? []) {
        const submission = this.#awaiting.get(id ?? 0);
        if (submission === undefined) continue;
        this.#awaiting.delete(id ?? 0);
        this.#staged.delete(id ?? 0);
        if (result) submission.reply(decodeResult(result));
      }
      this.#snat.poke();
    } else if (message.beat) {
      const inOfficeMs = message.beat.inOfficeMs ?? 0;
      if (inOfficeMs > 0) this.#inOffice = { ms: inOfficeMs, heardAtMs: this.#options.replica.env.clock.nowMs() };
      for (const { name, bootId, renewal } of message.beat.confirmations ?? [])
        this.#confirmed.set(`${name ?? ""}/${bootId ?? ""}`, renewal ?? 0);
      this.#options.replica.muxSafeIndex.advance((message.beat.muxSafeIndex ?? 0) as LogIndex);
    }
  }

  #welcomed(): void {
    this.#up = true;
    this.#confirmed.clear();
    for (const report of this.#options.acknowledgements.muxes()) this.#muxReports.set(muxKey(report), report);
    for (const [host, index] of this.#options.acknowledgements.hosts()) this.#hostReports.set(host, index);
    this.#scheduleFlush();
    this.#options.routeChanged(this);
  }

  /** Commands and reports of one turn of the event loop leave together. */
  #scheduleFlush(): void {
    this.#flush ??= this.#options.replica.env.clock.nextTurn(() => {
      this.#flush = null;
      this.#sendAll();
    });
  }

  #sendAll(): void {
    const stream = this.#stream;
    if (stream === null || !this.#up) return;
    if (this.#muxReports.size > 0 || this.#hostReports.size > 0) {
      const muxReports = [...this.#muxReports.values()];
      const hostReports = [...this.#hostReports].map(([hostId, index]) => ({ hostId, index }));
      this.#muxReports.clear();
      this.#hostReports.clear();
      for (const muxes of inMessages(muxReports, () => 0)) stream.send({ report: { muxes } });
      for (const hosts of inMessages(hostReports, () => 0)) stream.send({ report: { hosts } });
    }
    const outbox = this.#outbox;
    this.#outbox = [];
    for (const commands of inMessages(outbox, ({ command }) => command?.length ?? 0))
      stream.send({ commands: { commands } });
  }

  /** The link is gone: what was sent on it may have been done (I2 of leader-forwarding). */
  #drop(error?: AnantaError): void {
    this.#reopen?.cancel();
    this.#reopen = null;
    this.#silence?.cancel();
    this.#silence = null;
    const stream = this.#stream;
    this.#stream = null;
    stream?.end(error);
    if (this.#up) this.#options.routeChanged(null);
    this.#up = false;
    this.#inOffice = null;
    const unsent = new Set(this.#outbox.map(({ id }) => id));
    this.#outbox = [];
    const awaiting = [...this.#awaiting];
    this.#awaiting.clear();
    this.#staged.clear();
    const notSent = refusal(new AnantaError("NOT_LEADER", "the link to the leader closed before the request was sent"));
    const unknown = refusal(new AnantaError("LEADERSHIP_LOST", "the link to the leader closed before it answered"));
    for (const [id, submission] of awaiting) submission.reply(unsent.has(id) ? notSent : unknown);
    this.#snat.refuseAll(new AnantaError("NOT_LEADER", "the link to the leader closed before the request was sent"));
  }
}

/** The items in their order, as messages of at most 1,024 items and, if of more than one, 1 MiB. */
export function* inMessages<Item>(items: readonly Item[], bytesOf: (item: Item) => number): Iterable<Item[]> {
  let message: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    const itemBytes = bytesOf(item);
    if (message.length === ITEMS_PER_MESSAGE || (message.length > 0 && bytes + itemBytes > BYTES_PER_MESSAGE)) {
      yield message;
      message = [];
      bytes = 0;
    }
    message.push(item);
    bytes += itemBytes;
  }
  if (message.length > 0) yield message;
}
