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
}

/**
 * One session serves one requester, so that a slow request of another cannot fall out of its window. Answers name the sequence
 * alone: the requesters of a stream share out its numbers in turn, and the first ones are within what may begin a session (64).
 */
interface Requester {
  readonly dipId: number;
  session: string;
  round: number;
}

const CLUSTER_EPOCH = 1;

export class AgentStream {
  readonly requesters: readonly Requester[];
  readonly #stream: ReturnType<typeof open>;
  readonly #newSession: () => string;
  readonly #waiting = new Map<number, Waiting>();
  #batch: ananta.v1.SnatRequest.$Properties[] = [];
  #over: Error | null = null;

  /** Resolves when the Managers know the host and its DIPs. */
  static start(options: AgentStreamOptions): Promise<AgentStream> {
    const { clusterId, host, bootId, newSession, tenant = "default", dips, openPerDip = 1 } = options;
    return new Promise((resolve, reject) => {
      const stream = open(options.channel);
      let started: AgentStream | null = null;
      stream.listen({
        message: (message) => {
          if (message.welcome) {
            const byAddress = new Map((message.welcome.dips ?? []).map(({ address, dipId }) => [address, dipId ?? 0]));
            const ids = dips.flatMap((address) => Array<number>(openPerDip).fill(byAddress.get(address) ?? 0));
            started = new AgentStream(stream, ids, newSession);
            resolve(started);
            if (options.follows === true) stream.send({ activate: { clusterEpoch: CLUSTER_EPOCH, index: 0 } });
          } else if (message.projection?.last === true)
            stream.send({ ack: { clusterEpoch: CLUSTER_EPOCH, index: message.projection.index ?? 0 } });
          else if (message.answers) started?.answered(message.answers.answers ?? []);
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

  private constructor(stream: ReturnType<typeof open>, dipIds: readonly number[], newSession: () => string) {
    this.#stream = stream;
    this.#newSession = newSession;
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
    const sequence = requester.round++ * this.requesters.length + at + 1;
    return new Promise((resolve, reject) => {
      const renew = (error: Error): void => {
        // Its first request may not have been executed: then the session never began, and no later one begins it.
        if (AnantaError.from(error).facts["refusal"] === "SESSION_EXPIRED")
          [requester.session, requester.round] = [this.#newSession(), 0];
        reject(error);
      };
      this.#waiting.set(sequence, { resolve, reject: renew });
      if (this.#batch.length === 0) setImmediate(() => this.#flush());
      this.#batch.push({
        origin: { session: requester.session, sequence },
        dipId: requester.dipId,
        allocate: { protocol, ports },
      });
    });
  }

  /** Its stream has ended, and every request with it. */
  get isOver(): boolean {
    return this.#over !== null;
  }

  close(): void {
    this.#stream.end();
  }

  answered(answers: readonly Answer[]): void {
    for (const { sequence, blocks, code, reason, retryAfterMs } of answers) {
      const waiting = this.#waiting.get(sequence ?? 0);
      this.#waiting.delete(sequence ?? 0);
      if (waiting === undefined) continue;
      if ((code ?? "") === "") waiting.resolve(blocks ?? []);
      else {
        const facts = { refusal: code ?? "", retryAfterMs: retryAfterMs ?? 0 };
        waiting.reject(new AnantaError("UNAVAILABLE", `${code ?? ""}: ${reason ?? ""}`, facts));
      }
    }
  }

  closed(error: Error): void {
    this.#over = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #flush(): void {
    this.#stream.send({ requests: { requests: this.#batch } });
    this.#batch = [];
  }
}

const open = (channel: Channel) => channel.open(AGENT_FOLLOW);
