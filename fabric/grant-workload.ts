/**
 * A third-party client of SnatService, as somebody would write it from the `.proto` files: it registers as a host with DIPs
 * of its own, asks for ports all the time, and gives old ones back. What it was promised goes into a ledger.
 *
 * Each DIP is one requester with one open request and a session of its own, and starts at another replica, so that all five
 * serve. A request is repeated with the same origin until it is answered: the longest time without an answered grant is
 * what a client notices of a dead leader. DIPs ask at moments of their own, evenly spread over the period: if each paused after
 * its answer, those that waited for the same new leader would ask in step from then on, and their pause would look like a gap.
 */
import { AnantaError } from "../core/errors.js";
import type { Env } from "../runtime/env.js";
import { hex } from "../core/hex.js";
import { type ManagerApi, type PortBlock, type TransportProtocol } from "./control/manager-api.js";
import { GrantLedger } from "./ownership.js";
import { Turns } from "./turns.js";

export interface GrantPlan {
  readonly host: string;
  readonly dips: readonly string[];
  /** From one request of a DIP to its next; a DIP that still waits for an answer misses its turns. 0: without a pause. */
  readonly periodMs: number;
  /** Blocks that a requester keeps; older ones are given back. */
  readonly blocksKept: number;
}

const PORTS_PER_GRANT = 8;
/** A released range rests this long (RFC 6888). */
const QUARANTINE_MS = 120_000;
/** Silence after which a second replica is asked too; an election is over by then. */
const HEDGE_MS = 150;
const DEADLINE_MS = 20_000;

export class GrantWorkload {
  readonly ledger = new GrantLedger(QUARANTINE_MS);
  /** When grants were answered, ascending. */
  readonly answeredMs: number[] = [];
  /** Requests that were refused, by code. */
  readonly refusals = new Map<string, number>();
  private readonly env: Env;
  private readonly api: ManagerApi;
  private readonly plan: GrantPlan;
  private incarnation = 0;
  private running: readonly Promise<void>[] = [];
  private stopping = false;

  constructor(env: Env, api: ManagerApi, plan: GrantPlan) {
    this.env = env;
    this.api = api;
    this.plan = plan;
  }

  async start(): Promise<void> {
    this.incarnation = await this.api.registerHost(this.api.newSession(), {
      name: this.plan.host,
      bootId: hex(this.env.entropy(16)),
      dips: this.plan.dips,
    });
    this.running = this.plan.dips.map((dip, index) => this.request(dip, index));
  }

  /** Resolves when no request is open any more. */
  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.running);
  }

  private async request(dip: string, index: number): Promise<void> {
    const session = this.api.newSession();
    const { clock } = this.env;
    const held: PortBlock[] = [];
    const limits = { deadlineMs: DEADLINE_MS, hedgeMs: HEDGE_MS, first: index % this.api.endpoints.length };
    const owner = { host: this.plan.host, incarnation: this.incarnation, dip };
    const turns = new Turns(clock.nowMs() + (this.plan.periodMs * index) / this.plan.dips.length, this.plan.periodMs);
    await this.pause(turns.untilNextMs(clock.nowMs()));
    for (let round = index; !this.stopping; round++) {
      const protocol: TransportProtocol = round % 2 === 0 ? "tcp" : "udp";
      try {
        const blocks = await this.api.allocate(session, { ...owner, protocol, ports: PORTS_PER_GRANT }, limits);
        this.answeredMs.push(clock.nowMs());
        this.ledger.granted(dip, blocks, clock.nowMs());
        held.push(...blocks);
        if (held.length > this.plan.blocksKept) {
          const returned = held.splice(0, 1);
          const sentMs = clock.nowMs();
          this.ledger.releasing(returned);
          await this.api.release(session, { ...owner, blocks: returned }, limits);
          this.ledger.released(dip, returned, sentMs);
        }
      } catch (caught) {
        const { code, message } = AnantaError.from(caught);
        this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
        this.env.log.warn("grant refused", { dip, code, message });
      }
      await this.pause(turns.untilNextMs(clock.nowMs()));
    }
  }

  private pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.env.clock.setTimer(delayMs, resolve);
    });
  }
}
