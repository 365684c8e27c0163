/**
 * Stage 4, SNAT management: grants and returns of port ranges (Ananta §3.5.1).
 *
 * (I1) One open request per DIP and protocol; a retry of the open one (same origin) joins it.
 * (I2) A grant is answered only when every live MUX has its index in force, a remembered answer too. Until then the
 *      return traffic of the new ports could meet a MUX that does not know them.
 * (I3) Who asks too often is refused before it costs a write (`request-buckets`). A refusal says that nothing was done, so a
 *      retry of what was executed is never refused, for that or any other reason: it gets its answer from here, without
 *      another write, also while the DIP has another request open or the queue is full.
 */
import { assertNever } from "../../core/assert.js";
import type { LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Clock } from "../../runtime/env.js";
import type { SubmittedCommand } from "../state/commands/commands.js";
import type { CommandResult } from "../state/commands/results.js";
import { expiredText } from "../state/sessions.js";
import type { StateMachine } from "../state/state-machine.js";
import { BatchPace } from "../seda/batch-pace.js";
import { SNAT_MANAGEMENT } from "./policy.js";
import type { Proposer } from "./proposer.js";
import { type RateExceeded, RequestBuckets, type RequestRates } from "./request-buckets.js";
import { refusal, type Submission } from "./submission.js";

/** What a DIP that asks twice at once is told to wait. */
const OPEN_REQUEST_RETRY_MS = 50;

/** Buckets that are full again are forgotten this often. */
const SWEEP_MS = 10_000;

type SnatState = Pick<StateMachine, "dip" | "verdictOn" | "tenantWeight">;

interface Held {
  readonly index: LogIndex;
  readonly submission: Submission;
  readonly result: CommandResult;
}

export class SnatManagement {
  readonly #proposer: Pick<Proposer, "propose">;
  readonly #muxSafeIndex: () => LogIndex;
  readonly #state: SnatState;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #buckets: RequestBuckets;
  readonly #pace = new BatchPace(SNAT_MANAGEMENT.batchMax);
  readonly #refusedByRate = { dip: 0, tenant: 0 };
  #sweptAtMs = 0;
  readonly #open = new Map<string, { readonly origin: string; readonly others: Submission[] }>();
  /** Grants that wait for MUXes, by index ascending. */
  #held: Held[] = [];

  constructor(options: {
    readonly proposer: Pick<Proposer, "propose">;
    readonly muxSafeIndex: () => LogIndex;
    readonly state: SnatState;
    readonly clock: Pick<Clock, "nowMs">;
    readonly rates: RequestRates;
  }) {
    this.#proposer = options.proposer;
    this.#muxSafeIndex = options.muxSafeIndex;
    this.#state = options.state;
    this.#clock = options.clock;
    this.#buckets = new RequestBuckets(options.rates);
  }

  /** Requests refused because a DIP, or its tenant, asked too often; they only grow. */
  get refusedByRate(): Readonly<Record<RateExceeded["by"], number>> {
    return this.#refusedByRate;
  }

  /**
   * Takes an allocation or a release in: returns the submission to queue, or null when it was answered, has joined the open one or
   * was refused. `queueFull` is asked last of what costs nothing: it says why a new one finds no room. Whatever happens to the
   * returned one, its `reply` ends the open request.
   */
  admit(submission: Submission, queueFull: () => AnantaError | null = () => null): Submission | null {
    if (this.#answerFromMemory(submission)) return null;
    const key = openKey(submission.submitted);
    if (key === null) return submission;
    const origin = originText(submission.submitted);
    const open = this.#open.get(key);
    if (open !== undefined) {
      if (open.origin === origin) open.others.push(submission);
      else
        submission.reply(
          refusal(
            new AnantaError("STAGE_OVERLOADED", "this DIP has an open request; one at a time", {
              retryAfterMs: OPEN_REQUEST_RETRY_MS,
            }),
          ),
        );
      return null;
    }
    const refused = queueFull() ?? this.#takeToken(submission.submitted);
    if (refused !== null) {
      submission.reply(refusal(refused));
      return null;
    }
    const entry = { origin, others: [] as Submission[] };
    this.#open.set(key, entry);
    return {
      ...submission,
      reply: (result) => {
        this.#open.delete(key);
        submission.reply(result);
        for (const other of entry.others) other.reply(result);
      },
    };
  }

  /** (I3) True: it was executed, or may have been, and its sender has been told. */
  #answerFromMemory(submission: Submission): boolean {
    const { origin } = submission.submitted;
    if (origin === null) return false;
    const verdict = this.#state.verdictOn(origin);
    switch (verdict.kind) {
      case "execute":
        return false;
      case "answered":
        this.#deliver(submission, verdict.result);
        return true;
      case "expired":
        submission.reply(refusal(new AnantaError("SESSION_EXPIRED", expiredText(verdict))));
        return true;
      default:
        return assertNever(verdict);
    }
  }

  #takeToken({ command }: SubmittedCommand): AnantaError | null {
    if (command.kind !== "allocate-snat") return null;
    const dip = this.#state.dip(command.dipId);
    if (dip === null) return null; // refused for that, when it is applied
    const { dipId, tenant, address } = dip;
    const exceeded = this.#buckets.take(
      { dipId, tenant, weight: this.#state.tenantWeight(tenant) },
      this.#clock.nowMs(),
    );
    if (exceeded === null) return null;
    const { by, rate, retryAfterMs } = exceeded;
    this.#refusedByRate[by] += 1;
    const who = by === "dip" ? `DIP ${tenant}/${address}` : `tenant ${tenant}`;
    const limit = `${rate.perSecond} requests for SNAT ports per second (${rate.burst} at once)`;
    return new AnantaError(
      "STAGE_OVERLOADED",
      `${who} asks too often: it may make ${limit}; again in ${retryAfterMs} ms`,
      {
        reason: "request-rate",
        ...(by === "dip" ? { dip: address } : {}),
        tenant,
        requestsPerSecond: rate.perSecond,
        burst: rate.burst,
        retryAfterMs,
      },
    );
  }

  /** Requests that one batch may hold at present. */
  get batchMax(): number {
    return this.#pace.limit;
  }

  handle(batch: readonly Submission[]): void {
    const sinceMs = this.#clock.nowMs();
    let isThrough = false;
    this.#proposer.propose(batch, (submission, result) => {
      if (!isThrough && result.index > 0) this.#pace.took(batch.length, this.#clock.nowMs() - sinceMs);
      isThrough = true;
      this.#deliver(submission, result);
    });
  }

  #deliver(submission: Submission, result: CommandResult): void {
    const grantsPorts = result.ok && result.value.kind === "snat-allocated";
    if (!grantsPorts || result.index <= this.#muxSafeIndex()) {
      submission.reply(result);
      return;
    }
    const held = { index: result.index, submission, result };
    const last = this.#held.at(-1);
    if (last === undefined || last.index <= held.index) this.#held.push(held);
    else {
      // A remembered answer is older than what was granted since: rare, and near the end.
      let position = this.#held.length;
      while (position > 0 && (this.#held[position - 1]?.index ?? 0) > held.index) position--;
      this.#held.splice(position, 0, held);
    }
  }

  /** muxSafeIndex has advanced: releases what waited for it. */
  muxesAdvanced(): void {
    const safe = this.#muxSafeIndex();
    let count = 0;
    while (count < this.#held.length && (this.#held[count]?.index ?? 0) <= safe) count++;
    if (count === 0) return;
    const released = this.#held.slice(0, count);
    this.#held = this.#held.slice(count);
    for (const { submission, result } of released) submission.reply(result);
  }

  /** Answers grants that nobody waits for any more: they stand, but the caller must ask again (same origin). */
  expire(nowMs: number): void {
    if (nowMs - this.#sweptAtMs >= SWEEP_MS) {
      this.#sweptAtMs = nowMs;
      this.#buckets.sweep(nowMs);
    }
    const late = this.#held.filter(({ submission }) => submission.deadlineAtMs < nowMs);
    if (late.length === 0) return;
    this.#held = this.#held.filter(({ submission }) => submission.deadlineAtMs >= nowMs);
    for (const { submission } of late) {
      submission.reply(
        refusal(
          new AnantaError(
            "DEADLINE_EXCEEDED",
            "granted, but not every live MUX has it in force yet; ask again with the same origin",
            { reason: "NO_LIVE_MUX" },
          ),
        ),
      );
    }
  }

  /** Leadership is over: what was granted stands, and a retry at the next leader gets the same answer. */
  stepDown(): void {
    const held = this.#held;
    this.#held = [];
    this.#buckets.clear();
    for (const { submission } of held) {
      submission.reply(
        refusal(new AnantaError("LEADERSHIP_LOST", "leadership changed while the grant waited for the MUXes")),
      );
    }
  }

  get waitingForMuxes(): number {
    return this.#held.length;
  }
}

function openKey({ command }: SubmittedCommand): string | null {
  return command.kind === "allocate-snat" ? `${command.dipId}/${command.protocol}` : null;
}

function originText({ origin }: SubmittedCommand): string {
  return origin === null ? "" : `${origin.session}/${origin.sequence}`;
}
