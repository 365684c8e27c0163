/**
 * An agent that asks the leader, whoever that is (docs/decisions/0021): a little after it hears of another one it opens a stream
 * there, asks over that, and closes the old one once everything asked over it is answered.
 */
import { progress } from "../measure/benchmark.js";
import { pause } from "../measure/manager-site.js";
import { AgentStream, type AgentStreamOptions, type Block } from "../snat/agent-stream.js";
import type { Channel } from "../../runtime/env.js";

/** Not all agents at once. */
const MOVE_WITHIN_MS = 5_000;
/** Managers that just elected somebody, on a machine that is busy, may let a registration pass its deadline. */
const START_WITHIN_MS = 120_000;
const AGAIN_MS = 500;
const OLD_STREAM_MS = 10_000;

export interface FollowingAgentOptions extends Omit<AgentStreamOptions, "channel" | "leaderIs"> {
  readonly channelTo: (address: string) => Channel;
  readonly leader: string;
}

export class FollowingAgent {
  readonly #options: FollowingAgentOptions;
  #address: string;
  #stream: AgentStream | null = null;
  /** Where it is to go, and whether it is on its way. */
  #wanted: string;
  #isMoving = false;
  #isClosed = false;

  static async start(options: FollowingAgentOptions): Promise<FollowingAgent> {
    const agent = new FollowingAgent(options);
    agent.#stream = await agent.#open(options.leader);
    return agent;
  }

  private constructor(options: FollowingAgentOptions) {
    this.#options = options;
    [this.#address, this.#wanted] = [options.leader, options.leader];
  }

  get requesters(): number {
    return this.#present.requesters.length;
  }

  get isOver(): boolean {
    return this.#present.isOver;
  }

  allocate(at: number, protocol: number, ports: number): Promise<readonly Block[]> {
    return this.#present.allocate(at, protocol, ports);
  }

  close(): void {
    this.#isClosed = true;
    this.#present.close();
  }

  get #present(): AgentStream {
    if (this.#stream === null) throw new Error("an agent has a stream once it has started");
    return this.#stream;
  }

  /** Tries again until it is registered, as an agent does. */
  async #open(address: string): Promise<AgentStream> {
    const { channelTo, leader: _, ...options } = this.#options;
    const untilMs = performance.now() + START_WITHIN_MS;
    for (;;) {
      try {
        const leaderIs = (leader: string): void => this.#leaderIs(leader);
        return await AgentStream.start({ ...options, channel: channelTo(address), leaderIs });
      } catch (caught) {
        if (this.#isClosed || performance.now() >= untilMs) throw caught;
        await pause(AGAIN_MS * (1 + Math.random()));
      }
    }
  }

  #leaderIs(address: string): void {
    if (address === "") return;
    this.#wanted = address;
    if (!this.#isMoving && address !== this.#address) void this.#move();
  }

  async #move(): Promise<void> {
    this.#isMoving = true;
    await pause(MOVE_WITHIN_MS * Math.random());
    try {
      while (!this.#isClosed && this.#address !== this.#wanted) {
        const address = this.#wanted;
        const stream = await this.#open(address);
        const old = this.#present;
        [this.#stream, this.#address] = [stream, address];
        void retire(old);
      }
    } catch (caught) {
      progress(`${this.#options.host} does not reach the leader: ${String(caught)}`);
    }
    this.#isMoving = false;
  }
}

async function retire(stream: AgentStream): Promise<void> {
  const untilMs = performance.now() + OLD_STREAM_MS;
  while (stream.openCount > 0 && performance.now() < untilMs) await pause(AGAIN_MS);
  stream.close();
}
