/**
 * 2,000 Host Agents as the Managers see them, light: each registers its DIPs, follows its projection and acknowledges every
 * step, asks for ports, and when its stream ends opens another at another replica with the index that it has in force.
 */
import { assert } from "../../core/assert.js";
import { AnantaError } from "../../core/errors.js";
import { hex } from "../../core/hex.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Channel, Env } from "../../runtime/env.js";
import { LIGHT_FOLLOW } from "./light-codec.js";

type Answer = ananta.v1.SnatAnswer.$Properties;
type Message = ananta.v1.ManagerToAgent.$Properties;

const TCP = 6;
/** Requests of a host that are open at once: within the window of its session (64). */
const OPEN_PER_HOST = 16;
/** Before a stream is opened anew: this, and up to as much again by chance. */
const REOPEN_MS = 200;
/** Refused for a reason that passes: no leader yet, say. */
const RETRY_MS = 100;
/** Our own word for an answer that will not come: its stream has ended. */
const LOST = "lost";
/** It may have been done: asked again under the same origin, it is not done twice. */
const UNKNOWN: ReadonlySet<string> = new Set([LOST, "DEADLINE_EXCEEDED", "LEADERSHIP_LOST", "CANCELLED", "INTERNAL"]);

export interface AgentOptions {
  readonly env: Env;
  readonly channels: readonly Channel[];
  readonly clusterId: string;
  readonly host: string;
  /** The replica to begin with. */
  readonly first: number;
  readonly dips: readonly { readonly tenant: string; readonly address: string }[];
}

const open = (channel: Channel) => channel.open(LIGHT_FOLLOW);

export class LightAgent {
  readonly #options: AgentOptions;
  readonly #bootId: string;
  readonly #session: string;
  #sequence = 1;
  #stream: ReturnType<typeof open> | null = null;
  #replica: number;
  #dipIds = new Map<string, number>();
  #epoch = 1;
  #index = 0;
  #follows = false;
  #stopped = false;
  /** Whole views received; streams opened after the first. */
  views = 0;
  reopened = 0;
  /** Ms from each opening of a stream, or from the end of the one before, until it followed. */
  readonly followedMs: number[] = [];
  #withoutSinceMs = performance.now();
  /** Why the last stream ended. */
  lastEnd = "";
  readonly #waiting = new Map<number, (answer: Answer) => void>();

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#replica = options.first;
    this.#bootId = hex(options.env.entropy(16));
    this.#session = hex(options.env.entropy(16));
    this.#connect();
  }

  /** The log index that its view has; 0 while its present stream has told nothing yet. */
  get index(): number {
    return this.#follows ? this.#index : 0;
  }

  get isRegistered(): boolean {
    return this.#dipIds.size > 0 && this.#stream !== null;
  }

  /** Ports for each DIP, by position, `OPEN_PER_HOST` at a time. */
  async allocateAll(ports: number, got: (dip: number, answer: Answer) => void): Promise<void> {
    const { dips } = this.#options;
    for (let first = 0; first < dips.length; first += OPEN_PER_HOST) {
      const batch = dips.slice(first, first + OPEN_PER_HOST).map((_, at) => first + at);
      await Promise.all(batch.map(async (dip) => got(dip, await this.allocate(dip, ports))));
    }
  }

  allocate(dip: number, ports: number): Promise<Answer> {
    return this.#insist(dip, { allocate: { protocol: TCP, ports } });
  }

  async release(dip: number, blocks: Answer["blocks"]): Promise<void> {
    await this.#insist(dip, { release: { blocks: blocks ?? [] } });
  }

  /** Asks until it is done; under the same origin where nobody knows whether it was. */
  async #insist(dip: number, what: ananta.v1.SnatRequest.$Properties): Promise<Answer> {
    for (let sequence = ++this.#sequence; ;) {
      const answer = await this.#ask(sequence, dip, what);
      const code = answer.code ?? "";
      if (code === "") return answer;
      if (code === "SNAT_PORTS_EXHAUSTED" || code === "SNAT_LIMIT_REACHED" || code === "INVALID_ARGUMENT")
        throw new AnantaError(code, answer.reason ?? "");
      if (!UNKNOWN.has(code)) sequence = ++this.#sequence;
      await pause(RETRY_MS);
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#stream?.end();
  }

  #ask(sequence: number, dip: number, what: ananta.v1.SnatRequest.$Properties): Promise<Answer> {
    return new Promise((done) => {
      if (this.#stream === null) {
        done({ code: LOST });
        return;
      }
      this.#waiting.set(sequence, done);
      this.#stream.send({
        requests: { requests: [{ origin: this.#origin(sequence), dipId: this.#dipId(dip), ...what }] },
      });
    });
  }

  #origin(sequence: number) {
    return { session: this.#session, sequence };
  }

  #dipId(dip: number): number {
    const id = this.#dipIds.get(this.#options.dips[dip]?.address ?? "");
    assert(id !== undefined, "an agent asks for its own DIPs");
    return id;
  }

  #connect(): void {
    const { channels, clusterId, host, dips } = this.#options;
    const stream = open(channels[this.#replica % channels.length]!); // in range
    this.#stream = null;
    this.#follows = false;
    stream.listen({
      message: (message) => this.#receive(stream, message),
      closed: (error) => this.#reopen(error),
    });
    stream.send({
      hello: {
        identity: { clusterId, clusterEpoch: this.#epoch, node: host, incarnation: 0, bootId: this.#bootId },
        dips: dips.map(({ tenant, address }) => ({ tenant, address, locator: "" })),
        heldRanges: [],
        origin: this.#origin(++this.#sequence),
      },
    });
  }

  #reopen(error: Error | null): void {
    if (this.#stopped) return;
    this.lastEnd = error?.message ?? "";
    this.#stream = null;
    if (this.#follows) this.#withoutSinceMs = performance.now();
    this.#follows = false;
    // Any of the others: those of one replica do not all come to the same one.
    this.#replica += 1 + Math.floor(Math.random() * (this.#options.channels.length - 1));
    this.reopened++;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const done of waiting) done({ code: LOST });
    setTimeout(() => this.#connect(), REOPEN_MS * (1 + Math.random()));
  }

  #receive(stream: ReturnType<typeof open>, message: Message): void {
    if (message.welcome) {
      this.#dipIds = new Map((message.welcome.dips ?? []).map(({ address, dipId }) => [address ?? "", dipId ?? 0]));
      this.#stream = stream;
      stream.send({ activate: { clusterEpoch: this.#epoch, index: this.#index } });
    } else if (message.projection) {
      const { snapshot, last, index, clusterEpoch } = message.projection;
      if (last !== true) return;
      if (snapshot === true) this.views++;
      if (!this.#follows) this.followedMs.push(performance.now() - this.#withoutSinceMs);
      this.#follows = true;
      this.#epoch = clusterEpoch ?? this.#epoch;
      this.#index = index ?? 0;
      stream.send({ ack: { clusterEpoch: this.#epoch, index: this.#index } });
    } else if (message.answers) {
      for (const answer of message.answers.answers ?? []) {
        const waiting = this.#waiting.get(answer.sequence ?? 0);
        this.#waiting.delete(answer.sequence ?? 0);
        waiting?.(answer);
      }
    }
  }
}

const pause = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));
