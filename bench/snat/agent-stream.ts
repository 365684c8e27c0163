/**
 * One Host Agent as the Managers see it: registers its DIPs, then asks for ports for them over its stream. What its DIPs ask
 * in one turn of the event loop is one message, as a real agent does (agent/control).
 */
import { AnantaError } from "../../core/errors.js";
import { AGENT_FOLLOW } from "../../manager/api/methods.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Channel } from "../../runtime/env.js";

export type Block = ananta.v1.RangeBlock.$Properties;
type Answer = ananta.v1.SnatAnswer.$Properties;

interface Waiting {
  readonly resolve: (blocks: readonly Block[]) => void;
  readonly reject: (error: Error) => void;
}

export interface AgentStreamOptions {
  readonly channel: Channel;
  readonly clusterId: string;
  readonly host: string;
  /** 32 hex digits each. */
  readonly bootId: string;
  readonly newSession: () => string;
  readonly tenant?: string;
  readonly dips: readonly string[];
  /** Requests that a DIP may have open: 2 for one of each protocol; default 1. */
  readonly openPerDip?: 1 | 2;
  /** Follows its projection and acknowledges it: changes of its DIPs' VIPs wait for that, or for 500 ms. Default: no. */
  readonly follows?: boolean;
  /**
   * All requesters share one session, as those of a Host Agent do. Default: one session each, so that a slow request of one
   * holds up nobody else, at the price of as many sessions for the Managers to remember.
   */
  readonly oneSession?: boolean;
  /** Hears who leads, when that has changed. */
  readonly leaderIs?: (address: string) => void;
}

/**
 * Answers name the sequence alone: the requesters of a stream share out its numbers in turn, and the first ones are within what
 * may begin a session (64).
 */
interface Requester {
  readonly dipId: number;
  session: string;
  round: number;
}

/**
 * One session of all requesters: its open sequences span less than 64, which is what Managers remember, and one above 64
 * cannot begin it. Who has to wait for either waits here.
 */
interface SharedSession {
  id: string;
  next: number;
  /** Managers know it. */
  hasBegun: boolean;
  readonly blocked: (() => void)[];
}

const SESSION_WINDOW = 64;

interface Question {
  readonly requester: Requester;
  readonly protocol: number;
  readonly ports: number;
  readonly waiting: Waiting;
}

const CLUSTER_EPOCH = 1;

export class AgentStream {
  readonly requesters: readonly Requester[];
  readonly #stream: ReturnType<typeof open>;
  readonly #newSession: () => string;
  /** By sequence, ascending with `oneSession`. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #shared: SharedSession | null;
  #batch: ananta.v1.SnatRequest.$Properties[] = [];
  #over: Error | null = null;

  /** Resolves when the Managers know the host and its DIPs. */
  static start(options: AgentStreamOptions): Promise<AgentStream> {
    const {
      clusterId,
      host,
      bootId,
      newSession,
      tenant = "default",
      dips,
      openPerDip = 1,
      oneSession = false,
    } = options;
    return new Promise((resolve, reject) => {
      const stream = open(options.channel);
      let started: AgentStream | null = null;
      stream.listen({
        message: (message) => {
          if (message.welcome) {
            const byAddress = new Map((message.welcome.dips ?? []).map(({ address, dipId }) => [address, dipId ?? 0]));
            const ids = dips.flatMap((address) => Array<number>(openPerDip).fill(byAddress.get(address) ?? 0));
            started = new AgentStream(stream, ids, newSession, oneSession);
            resolve(started);
            if (options.follows === true) stream.send({ activate: { clusterEpoch: CLUSTER_EPOCH, index: 0 } });
          } else if (message.projection?.last === true)
            stream.send({ ack: { clusterEpoch: CLUSTER_EPOCH, index: message.projection.index ?? 0 } });
          else if (message.answers) started?.answered(message.answers.answers ?? []);
          else if (message.beat?.leader) options.leaderIs?.(message.beat.leader.address ?? "");
        },
        closed: (error) => {
          const reason = error ?? new AnantaError("UNAVAILABLE", "the stream ended");
          reject(reason);
          started?.closed(reason);
        },
      });
      stream.send({
        hello: {
          identity: { clusterId, clusterEpoch: CLUSTER_EPOCH, node: host, incarnation: 0, bootId },
          dips: dips.map((address) => ({ tenant, address, locator: "" })),
          heldRanges: [],
          origin: { session: newSession(), sequence: 1 },
        },
      });
    });
  }

  private constructor(
    stream: ReturnType<typeof open>,
    dipIds: readonly number[],
    newSession: () => string,
    oneSession: boolean,
  ) {
    this.#stream = stream;
    this.#newSession = newSession;
    this.#shared = oneSession ? { id: newSession(), next: 1, hasBegun: false, blocked: [] } : null;
    this.requesters = dipIds.map((dipId) => ({ dipId, session: newSession(), round: 0 }));
  }

  /**
   * Asks for ports for a requester, by position: DIP after DIP. One request at a time. Rejects when it is refused; facts
   * `refusal` and `retryAfterMs` say why, and when to ask again.
   */
  allocate(at: number, protocol: number, ports: number): Promise<readonly Block[]> {
    const requester = this.requesters[at];
    if (requester === undefined) throw new RangeError(`this agent has no requester ${at}`);
    if (this.#over !== null) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      if (this.#shared !== null) {
        this.#inTurn(this.#shared, { requester, protocol, ports, waiting: { resolve, reject } });
        return;
      }
      const sequence = requester.round++ * this.requesters.length + at + 1;
      const renew = (error: Error): void => {
        // Its first request may not have been executed: then the session never began, and no later one begins it.
        if (AnantaError.from(error).facts["refusal"] === "SESSION_EXPIRED")
          [requester.session, requester.round] = [this.#newSession(), 0];
        reject(error);
      };
      const origin = { session: requester.session, sequence };
      this.#post({ requester, protocol, ports, waiting: { resolve, reject: renew } }, origin);
    });
  }

  #inTurn(shared: SharedSession, question: Question): void {
    if (this.#over !== null) {
      question.waiting.reject(this.#over);
      return;
    }
    const [oldest] = this.#waiting.keys();
    if (!shared.hasBegun && shared.next > SESSION_WINDOW && oldest === undefined)
      [shared.id, shared.next] = [this.#newSession(), 1];
    const isBeyond = shared.next >= (oldest ?? shared.next) + SESSION_WINDOW;
    if (isBeyond || (!shared.hasBegun && shared.next > SESSION_WINDOW)) {
      shared.blocked.push(() => this.#inTurn(shared, question));
      return;
    }
    this.#post(question, { session: shared.id, sequence: shared.next++ });
  }

  #post({ requester, protocol, ports, waiting }: Question, origin: { session: string; sequence: number }): void {
    this.#waiting.set(origin.sequence, waiting);
    if (this.#batch.length === 0) setImmediate(() => this.#flush());
    this.#batch.push({ origin, dipId: requester.dipId, allocate: { protocol, ports } });
  }

  /** Its stream has ended, and every request with it. */
  get isOver(): boolean {
    return this.#over !== null;
  }

  /** Requests without an answer. */
  get openCount(): number {
    return this.#waiting.size;
  }

  close(): void {
    this.#stream.end();
  }

  answered(answers: readonly Answer[]): void {
    for (const { sequence, index, blocks, code, reason, retryAfterMs } of answers) {
      const waiting = this.#waiting.get(sequence ?? 0);
      this.#waiting.delete(sequence ?? 0);
      if (waiting === undefined) continue;
      if (this.#shared !== null && (index ?? 0) > 0) this.#shared.hasBegun = true;
      if ((code ?? "") === "") waiting.resolve(blocks ?? []);
      else {
        const facts = { refusal: code ?? "", retryAfterMs: retryAfterMs ?? 0 };
        waiting.reject(new AnantaError("UNAVAILABLE", `${code ?? ""}: ${reason ?? ""}`, facts));
      }
    }
    for (const next of this.#shared?.blocked.splice(0) ?? []) next();
  }

  closed(error: Error): void {
    this.#over = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    for (const next of this.#shared?.blocked.splice(0) ?? []) next();
  }

  #flush(): void {
    this.#stream.send({ requests: { requests: this.#batch } });
    this.#batch = [];
  }
}

const open = (channel: Channel) => channel.open(AGENT_FOLLOW);
