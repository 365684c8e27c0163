/**
 * The leader's end of the links from followers: their requests enter the pipeline, their reports of what MUXes and hosts
 * have in force too; answers and muxSafeIndex go back, together where they belong together.
 */
import type { HostId, LogIndex } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { ananta } from "../../../proto/gen/wire.js";
import type { MessageStream, Timer } from "../../../runtime/env.js";
import { checkIdentity, ownIdentity } from "../../projection/identity.js";
import { overloadFromWire } from "../../projection/overload-wire.js";
import type { ReplicaView } from "../../replica-view.js";
import type { Pipeline } from "../../stages/pipeline.js";
import { refusal } from "../../stages/submission.js";
import type { AppliedBatch, CommandValue } from "../../state/commands/results.js";
import { decodeCommand, encodeResult } from "./forwarded-command.js";
import { inMessages } from "./replica-link.js";

type FromFollower = ananta.v1.FollowerToLeader.$Properties;
type ToFollower = ananta.v1.LeaderToFollower.$Properties;
export type FollowerStream = MessageStream<ToFollower, FromFollower>;

const BEAT_MS = 50;
/**
 * A follower that has no answer coming needs muxSafeIndex only for what its agents are told beside answers: of grants it hears
 * this much later, of many rounds at once. A change of configuration goes through two such waits, of hosts and of the operator: at once.
 */
const SAFE_INDEX_DELAY_MS = 20;
/** Of no use to anybody where no MUX is live. */
const AWAITED_MAX = 1_024;

export class ReplicaService {
  readonly #replica: ReplicaView;
  readonly #pipeline: Pipeline;
  readonly #links = new Set<FollowerLink>();
  #beat: Timer | null = null;
  /** Entries with more in them than grants that not all MUXes have in force yet; ascending. */
  #awaited: LogIndex[] = [];

  constructor(replica: ReplicaView, pipeline: Pipeline) {
    this.#replica = replica;
    this.#pipeline = pipeline;
    replica.muxSafeIndex.onAdvance(() => {
      const isAwaited = this.#safeNow();
      for (const link of this.#links) link.safeIndexAdvanced(isAwaited);
    });
  }

  /** One entry has been applied. */
  applied({ index, results }: Pick<AppliedBatch, "index" | "results">): void {
    if (results.some((result) => result.ok && !isAboutPorts(result.value))) this.#awaited.push(index);
    if (this.#awaited.length > AWAITED_MAX) this.#awaited.shift();
  }

  /** Is an awaited entry among what all MUXes have in force now? */
  #safeNow(): boolean {
    const { value } = this.#replica.muxSafeIndex;
    const left = this.#awaited.filter((index) => index > value);
    const isAwaited = left.length < this.#awaited.length;
    this.#awaited = left;
    return isAwaited;
  }

  open(stream: FollowerStream): void {
    const link = new FollowerLink(stream, this.#replica, this.#pipeline, () => this.#links.delete(link));
    this.#links.add(link);
  }

  /** Links that came before this replica was ready to lead are answered now. */
  takeOffice(): void {
    for (const link of this.#links) link.welcomeIfReady();
    this.#sendBeats();
  }

  leaveOffice(): void {
    this.#beat?.cancel();
    this.#beat = null;
    for (const link of [...this.#links]) link.end(new AnantaError("NOT_LEADER", "this replica no longer leads"));
  }

  #sendBeats(): void {
    this.#beat = this.#replica.env.clock.setTimer(BEAT_MS, () => this.#sendBeats());
    for (const link of this.#links) link.sendBeat();
  }
}

class FollowerLink {
  readonly #stream: FollowerStream;
  readonly #replica: ReplicaView;
  readonly #pipeline: Pipeline;
  readonly #closed: () => void;
  #greeted = false;
  #welcomed = false;
  #over = false;
  #results: ananta.v1.ForwardedResult.$Properties[] = [];
  #toldSafeIndex = 0 as LogIndex;
  #flush: Timer | null = null;
  #tellSafeIndex: Timer | null = null;

  constructor(stream: FollowerStream, replica: ReplicaView, pipeline: Pipeline, closed: () => void) {
    this.#stream = stream;
    this.#replica = replica;
    this.#pipeline = pipeline;
    this.#closed = closed;
    stream.listen({
      message: (message) => {
        try {
          this.#receive(message);
        } catch (caught) {
          this.end(AnantaError.from(caught));
        }
      },
      closed: () => this.#close(),
    });
  }

  #receive(message: FromFollower): void {
    if (message.hello) {
      checkIdentity(
        { ...message.hello.identity, node: `replica-${message.hello.identity?.node ?? ""}` },
        this.#replica,
      );
      const { role, term } = this.#replica.raft().status();
      if (role !== "leader") throw new AnantaError("NOT_LEADER", "this replica does not lead");
      if (message.hello.term !== term)
        throw new AnantaError("NOT_LEADER", `this replica leads in term ${term}, not ${message.hello.term ?? 0}`);
      this.#greeted = true;
      this.welcomeIfReady();
    } else if (!this.#welcomed)
      throw new AnantaError("INVALID_ARGUMENT", "the first message of a link is hello, and welcome answers it");
    else if (message.commands) for (const command of message.commands.commands ?? []) this.#submit(command);
    else if (message.report) this.#report(message.report);
    else if (message.overload) {
      const { name, bootId, overload } = message.overload;
      this.#pipeline.overloadReported(overloadFromWire({ name: name ?? "", bootId: bootId ?? "" }, overload ?? {}));
    }
  }

  /** Elected is not yet ready: the first entry of the term must be committed and applied. */
  welcomeIfReady(): void {
    if (!this.#greeted || this.#welcomed || !this.#pipeline.inOffice) return;
    this.#welcomed = true;
    this.#stream.send({ welcome: { identity: ownIdentity(this.#replica) } });
    this.sendBeat();
  }

  sendBeat(): void {
    if (!this.#welcomed) return;
    const muxSafeIndex = this.#replica.muxSafeIndex.value;
    this.#toldSafeIndex = muxSafeIndex;
    // A renewal is confirmed only while a quorum works: a leader that is cut off must not keep a MUX announcing.
    const fresh = this.#replica.quorumAgeMs() < this.#replica.config.mux.leaseMs / 4;
    const confirmations = fresh
      ? this.#pipeline.muxPool.confirmations().map(({ name, bootId, renewal }) => ({ name, bootId, renewal }))
      : [];
    const inOfficeMs = Math.floor(this.#pipeline.muxPool.inOfficeMs());
    this.#stream.send({ beat: { muxSafeIndex, confirmations, inOfficeMs } });
  }

  safeIndexAdvanced(isAwaited: boolean): void {
    if (!this.#welcomed) return;
    if (isAwaited) this.#tellSafeIndexNow();
    else this.#tellSafeIndex ??= this.#replica.env.clock.setTimer(SAFE_INDEX_DELAY_MS, () => this.#tellSafeIndexNow());
  }

  #tellSafeIndexNow(): void {
    this.#tellSafeIndex?.cancel();
    this.#tellSafeIndex = null;
    const muxSafeIndex = this.#replica.muxSafeIndex.value;
    if (muxSafeIndex <= this.#toldSafeIndex) return; // answers have said it
    this.#toldSafeIndex = muxSafeIndex;
    this.#stream.send({ beat: { muxSafeIndex } });
  }

  /** Answers of one turn of the event loop leave together. */
  #scheduleFlush(): void {
    this.#flush ??= this.#replica.env.clock.nextTurn(() => {
      this.#flush = null;
      const muxSafeIndex = this.#replica.muxSafeIndex.value;
      this.#toldSafeIndex = muxSafeIndex;
      const all = this.#results;
      this.#results = [];
      for (const results of inMessages(all, ({ result }) => result?.length ?? 0))
        this.#stream.send({ results: { results, muxSafeIndex } });
    });
  }

  end(error: AnantaError): void {
    this.#stream.end(error);
    this.#close();
  }

  #submit(forwarded: ananta.v1.ForwardedCommand.$Properties): void {
    const id = forwarded.id ?? 0;
    const reply = (result: Parameters<typeof encodeResult>[0]): void => {
      if (this.#over) return;
      this.#results.push({ id, result: encodeResult(result) });
      this.#scheduleFlush();
    };
    try {
      const submitted = decodeCommand(forwarded.command ?? new Uint8Array());
      this.#pipeline.submit({
        submitted,
        deadlineAtMs: this.#replica.env.clock.nowMs() + (forwarded.deadlineMs ?? 0),
        reply,
      });
    } catch (caught) {
      reply(refusal(AnantaError.from(caught)));
    }
  }

  #report(report: ananta.v1.AcknowledgementReport.$Properties): void {
    for (const { name, bootId, index, renewal } of report.muxes ?? []) {
      this.#pipeline.muxReported({
        name: name ?? "",
        bootId: bootId ?? "",
        index: (index ?? 0) as LogIndex,
        renewal: renewal ?? 0,
      });
    }
    for (const { hostId, index } of report.hosts ?? [])
      this.#pipeline.hostReported((hostId ?? 0) as HostId, (index ?? 0) as LogIndex);
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#flush?.cancel();
    this.#tellSafeIndex?.cancel();
    this.#closed();
  }
}

const isAboutPorts = ({ kind }: CommandValue): boolean => kind === "snat-allocated" || kind === "snat-released";
