/**
 * Who uses the site: requesters of SNAT ports that speak the public API, and operators who write objects and read them
 * back. What each was told is judged at the moment it was told.
 *
 * An object has one writer, which numbers its writes. So a read is right exactly when it shows a write that had not been
 * overtaken by an answered one when the read began, and none that was not sent when it ended: that is linearizability of a
 * register with one writer, without a search.
 */
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import type { Random } from "../../core/random.js";
import { hex } from "../../core/hex.js";
import { ManagerApi, type PortBlock } from "../../fabric/control/manager-api.js";
import {
  OPERATOR_APPLY,
  OPERATOR_DELETE,
  OPERATOR_GET,
  SNAT_ALLOCATE,
  SNAT_RELEASE,
} from "../../manager/api/methods.js";
import type { Channel, Env } from "../../runtime/env.js";
import type { SimSite } from "./site.js";
import { Violation } from "./violation.js";

export interface ClientJudge {
  /** A client was told that these blocks are its own. */
  granted(dip: string, blocks: readonly PortBlock[]): void;
}

export interface ClientCounters {
  requests: number;
  answered: number;
  refused: Map<string, number>;
  reads: number;
}

/** What the objects of this workload refer to. */
export const POOL = "grant-pool";
const CALL_MS = 700;

interface Origin {
  readonly session: string;
  readonly sequence: number;
}

/** Not done, or not known whether: the same request again. */
const AGAIN: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "UNAVAILABLE",
  "NOT_LEADER",
  "BEHIND",
  "STAGE_OVERLOADED",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "LEADERSHIP_LOST",
  "STORAGE_RESERVE_REACHED",
  "NO_LIVE_MUX",
]);

abstract class Client {
  protected readonly site: SimSite;
  protected readonly env: Env;
  protected readonly api: ManagerApi;
  protected readonly counters: ClientCounters;
  protected readonly random: Random;
  protected stopping = false;
  /** Loops that have not ended. */
  running = 0;

  constructor(site: SimSite, name: string, counters: ClientCounters) {
    this.site = site;
    this.env = site.world.env(name);
    this.random = this.env.random.fork();
    this.api = new ManagerApi(this.env, site.apiAddresses);
    this.counters = counters;
  }

  /** No new request; those under way go on to their end. */
  stop(): void {
    this.stopping = true;
  }

  protected loop(work: () => Promise<void>): void {
    this.running++;
    work().then(
      () => {
        this.running--;
      },
      (caught: unknown) => {
        this.running--;
        this.site.violation ??=
          caught instanceof Violation
            ? caught
            : new Violation("no unexpected exception", `a client: ${String(caught)}`);
      },
    );
  }

  /**
   * One request, at one replica after another, always with the same origin; now and then at two at a time. Null when it
   * was refused for good.
   */
  protected async untilAnswered<T>(call: (channel: Channel) => Promise<T>): Promise<T | null> {
    this.counters.requests++;
    for (let pauseMs = 15; ; pauseMs = Math.min(200, pauseMs * 1.5)) {
      const channels = Array.from({ length: this.random.below(4) === 0 ? 2 : 1 }, () =>
        this.env.network.connect(this.anyAddress()),
      );
      try {
        const answer = await Promise.any(channels.map((channel) => call(channel)));
        this.counters.answered++;
        return answer;
      } catch (caught) {
        const errors = caught instanceof AggregateError ? (caught.errors as unknown[]) : [caught];
        for (const error of errors) this.refused(error);
        if (errors.some((error) => !AGAIN.has(AnantaError.from(error).code))) return null;
      } finally {
        for (const channel of channels) channel.close();
      }
      await this.pause(pauseMs);
    }
  }

  protected anyAddress(): string {
    return this.api.endpoints[this.random.below(this.api.endpoints.length)]!; // below length
  }

  protected pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.env.clock.setTimer(delayMs, resolve);
    });
  }

  protected refused(caught: unknown): void {
    const { code, message } = AnantaError.from(caught);
    if (caught instanceof Violation || code === "INTERNAL")
      throw caught instanceof Violation
        ? caught
        : new Violation("no unexpected exception", `a client was told: ${message}`);
    this.counters.refused.set(code, (this.counters.refused.get(code) ?? 0) + 1);
  }
}

/** A third-party client of SnatService: registers as a host with DIPs of its own, asks for ports, gives some back. */
export class SnatRequesters extends Client {
  private readonly dips: readonly string[];
  private readonly judge: ClientJudge;
  private incarnation = 0;

  constructor(site: SimSite, counters: ClientCounters, judge: ClientJudge) {
    super(site, "client", counters);
    this.dips = requesterDips(site.plan.clients.requesters);
    this.judge = judge;
  }

  start(): void {
    const { pauseMs } = this.site.plan.clients;
    this.loop(async () => {
      while (!this.stopping && this.incarnation === 0) {
        try {
          this.incarnation = await this.api.registerHost(this.api.newSession(), {
            name: "third-party",
            bootId: hex(this.env.entropy(16)),
            dips: this.dips,
          });
        } catch (caught) {
          this.refused(caught);
          await this.pause(100);
        }
      }
      this.dips.forEach((dip, at) => this.loop(() => this.request(dip, at, pauseMs)));
    });
  }

  /** So many requests at once, each of a session of its own and asked once: most are refused, all are answered. */
  overload(count: number): void {
    const session = this.api.newSession().id;
    const channels = this.api.endpoints.map((address) => this.env.network.connect(address));
    this.loop(async () => {
      await Promise.all(
        Array.from({ length: count }, async (_, n) => {
          const dip = this.dips[n % this.dips.length]!; // n modulo length
          const origin = { session: session.slice(4) + n.toString(16).padStart(4, "0"), sequence: 1 };
          await this.allocate(
            channels[n % channels.length]!,
            origin,
            { dip, protocol: n % 2 === 0 ? 6 : 17, ports: 8 },
            3_000,
          )
            .then((blocks) => this.granted(dip, blocks))
            .catch((caught: unknown) => this.refused(caught));
        }),
      );
      for (const channel of channels) channel.close();
    });
  }

  private async request(dip: string, at: number, pauseMs: number): Promise<void> {
    const session = this.api.newSession().id;
    const held: PortBlock[] = [];
    let sequence = 1;
    for (let round = at; !this.stopping; round++) {
      const wanted = {
        dip,
        protocol: round % 2 === 0 ? (6 as const) : (17 as const),
        ports: 8 * (1 + this.random.below(Math.ceil(this.site.plan.clients.portsMax / 8))),
      };
      const origin = { session, sequence: sequence++ };
      const blocks = await this.untilAnswered((channel) => this.allocate(channel, origin, wanted, CALL_MS));
      if (blocks !== null) this.granted(dip, blocks);
      held.push(...(blocks ?? []));
      if (held.length > 0 && this.random.below(3) === 0) {
        const returned = held.splice(0, 1);
        const release = { session, sequence: sequence++ };
        await this.untilAnswered((channel) => this.release(channel, release, dip, returned));
      }
      await this.pause(pauseMs * (0.5 + this.random.nextFloat()));
    }
  }

  private granted(dip: string, blocks: readonly PortBlock[]): void {
    this.judge.granted(dip, blocks);
  }

  private async allocate(
    channel: Channel,
    origin: Origin,
    wanted: { readonly dip: string; readonly protocol: 6 | 17; readonly ports: number },
    deadlineMs: number,
  ): Promise<readonly PortBlock[]> {
    const request = { origin, host: "third-party", incarnation: this.incarnation, tenant: "default", ...wanted };
    const { blocks } = await channel.call(SNAT_ALLOCATE, request, { deadlineMs });
    return (blocks ?? []).map(({ vip, protocol, range, count }) => ({
      vip: vip ?? "",
      protocol: protocol === 17 ? "udp" : "tcp",
      range: range ?? 0,
      count: count ?? 0,
    }));
  }

  private release(channel: Channel, origin: Origin, dip: string, returned: readonly PortBlock[]): Promise<unknown> {
    const blocks = returned.map(({ vip, protocol, range, count }) => ({
      vip,
      protocol: protocol === "udp" ? 17 : 6,
      range,
      count,
    }));
    const owner = { host: "third-party", incarnation: this.incarnation, tenant: "default", dip };
    return channel.call(SNAT_RELEASE, { origin, ...owner, blocks }, { deadlineMs: CALL_MS });
  }
}

export const requesterDips = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, n) => `10.9.0.${n + 1}`);

interface Register {
  readonly name: string;
  readonly session: { readonly id: string };
  /** Numbers of the newest write sent, and of the newest answered. */
  sent: number;
  answered: number;
  /** The newest that any read has shown, and when that read had ended. */
  seen: number;
}

/** Operators: each object is a VIP of its own, whose label says which write it shows. */
export class Operators extends Client {
  private readonly registers: readonly Register[];

  constructor(site: SimSite, counters: ClientCounters) {
    super(site, "operator", counters);
    this.registers = Array.from({ length: site.plan.clients.objects }, (_, n) => ({
      name: `object-${n}`,
      session: this.api.newSession(),
      sent: 0,
      answered: 0,
      seen: 0,
    }));
  }

  start(): void {
    const { operatorPauseMs } = this.site.plan.clients;
    this.registers.forEach((register, n) => {
      this.loop(() => this.write(register, n, operatorPauseMs));
      this.loop(() => this.read(register, operatorPauseMs / 2));
    });
    this.loop(() => this.churn(operatorPauseMs));
  }

  /** A write is repeated until it is answered: the next one is not sent before, so writes have one order. */
  private async write(register: Register, n: number, pauseMs: number): Promise<void> {
    for (let sequence = 1; !this.stopping; sequence++) {
      register.sent = sequence;
      const object = {
        metadata: { name: register.name, labels: { write: String(sequence) } },
        vip: { address: `203.0.113.${100 + n}`, outbound: { pools: [POOL] } },
      };
      const request = { origin: { session: register.session.id, sequence }, objects: [object] };
      const answer = await this.untilAnswered((channel) =>
        channel.call(OPERATOR_APPLY, request, { deadlineMs: CALL_MS }),
      );
      if (answer !== null) register.answered = sequence;
      await this.pause(pauseMs * (0.5 + this.random.nextFloat()));
    }
  }

  /** A VIP that comes, changes its rules and goes, with grants made on it: refusals are as good as answers here. */
  private async churn(pauseMs: number): Promise<void> {
    const session = this.api.newSession();
    for (let sequence = 1; !this.stopping; sequence++) {
      const origin = { session: session.id, sequence };
      const port = 2_000 + 8 * this.random.below(16);
      const vip = {
        address: "203.0.113.99",
        rules: [{ name: "service", protocol: 6, port, pool: POOL }],
        outbound: { pools: [POOL] },
      };
      const objects = [{ metadata: { name: "churn" }, vip }];
      if (this.random.below(4) === 0)
        await this.untilAnswered((channel) =>
          channel.call(OPERATOR_DELETE, { origin, refs: [{ kind: "Vip", name: "churn" }] }, { deadlineMs: CALL_MS }),
        );
      else
        await this.untilAnswered((channel) =>
          channel.call(OPERATOR_APPLY, { origin, objects }, { deadlineMs: CALL_MS }),
        );
      await this.pause(pauseMs * (0.5 + this.random.nextFloat()));
    }
  }

  private async read(register: Register, pauseMs: number): Promise<void> {
    while (!this.stopping) {
      const channel = this.env.network.connect(this.anyAddress());
      const [answered, seen] = [register.answered, register.seen];
      try {
        const { object } = await channel.call(
          OPERATOR_GET,
          { ref: { kind: "Vip", name: register.name } },
          { deadlineMs: 1_000 },
        );
        this.judgeRead(register, Number(object?.metadata?.labels?.["write"] ?? 0), { answered, seen });
      } catch (caught) {
        if (AnantaError.from(caught).code === "NOT_FOUND") this.judgeRead(register, 0, { answered, seen });
        else this.refused(caught);
      } finally {
        channel.close();
      }
      await this.pause(pauseMs * (0.5 + this.random.nextFloat()));
    }
  }

  /** `before`: what was answered, and what had been read, when the read began. */
  private judgeRead(
    register: Register,
    shown: number,
    before: { readonly answered: number; readonly seen: number },
  ): void {
    this.counters.reads++;
    const oldest = Math.max(before.answered, before.seen);
    if (shown < oldest || shown > register.sent)
      throw new Violation(
        "reads are linearizable",
        `${register.name}: write ${shown} was read; ${oldest} had been answered or read before, ${register.sent} sent`,
      );
    register.seen = Math.max(register.seen, shown);
  }
}
