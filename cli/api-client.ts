/**
 * Talks to whichever Manager replica answers. Any replica can serve any request (followers pass writes on), so a call
 * walks round the endpoints until one gives an answer that is final.
 *
 * (A1) A change carries one origin (session, sequence) through all its tries: however many replicas get it, it is done once.
 * (A2) Once a try of a change ended without a known outcome, the whole call did: a later "nothing was done" speaks only
 *      for its own try. Only a final answer settles it.
 *      "Not yet" (`facts.retry`) is none: its cause may be this very change, half done by a try before.
 * (A3) The call ends at its overall deadline, whatever the endpoints do.
 */
import { AnantaError } from "../core/errors.js";
import type { Channel, Clock, Env, Method } from "../runtime/env.js";
import { CLUSTER_STATUS, type ReplicaAnswer } from "./methods.js";

export interface ClientOptions {
  readonly env: Pick<Env, "clock" | "entropy" | "network">;
  /** "host:port" each; at least one. */
  readonly endpoints: readonly string[];
  /** Overall time for one call in ms. */
  readonly timeoutMs: number;
  /** Told at every try and after it, for a progress line. */
  readonly trying?: (state: { readonly endpoint: string; readonly lastError: AnantaError | null } | null) => void;
}

export interface Answer<Response> {
  readonly response: Response;
  /** Who gave it. */
  readonly endpoint: string;
}

export interface Pages<Response> {
  readonly pages: readonly Response[];
  /** Who gave the last. */
  readonly endpoint: string;
  readonly index: number;
  readonly ageMs: number;
}

/** Longest wait for one replica before the next is asked as well: a paused one accepts a connection and stays silent. */
const TRY_MAX_MS = 2_000;
const TRY_MIN_MS = 250;
/** With less time than this nobody is asked once more: there would be no time for a commit, and the answer before says why. */
const LAST_TRY_MS = 50;
/** Between two walks round all endpoints. An election takes a few of these. */
const ROUND_PAUSE_MS = 100;

export class ApiClient {
  readonly #options: ClientOptions;
  readonly #channels = new Map<string, Channel>();
  readonly #session: string;
  #sequence = 0;
  /** Endpoint that answered last: asked first. */
  #preferred = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#session = Buffer.from(options.env.entropy(16)).toString("hex");
  }

  get endpoints(): readonly string[] {
    return this.#options.endpoints;
  }

  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  get clock(): Clock {
    return this.#options.env.clock;
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  /** `timeoutMs` where less time is left than usual. */
  read<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<Answer<Response>> {
    return this.#call(method, request, { isChange: false, timeoutMs: options.timeoutMs ?? this.timeoutMs });
  }

  /**
   * A listing to its last page. Each page is as it was at its own index: what changes meanwhile may show in later pages
   * and not in earlier ones. `index` and `ageMs` are those of the oldest. All pages together have `timeoutMs`.
   */
  async readPages<
    Request extends { page?: string | null },
    Response extends { readonly nextPage: string; readonly index: number; readonly ageMs: number },
  >(method: Method<Request, Response>, request: NoInfer<Request>): Promise<Pages<Response>> {
    const pages: Response[] = [];
    const endMs = this.clock.nowMs() + this.timeoutMs;
    let last: Answer<Response>;
    do {
      // A millisecond is left at least: the call itself then says that the time is over.
      const timeoutMs = Math.max(1, endMs - this.clock.nowMs());
      last = await this.read(method, { ...request, page: pages.at(-1)?.nextPage ?? "" }, { timeoutMs });
      pages.push(last.response);
    } while (last.response.nextPage !== "");
    return {
      pages,
      endpoint: last.endpoint,
      index: Math.min(...pages.map(({ index }) => index)),
      ageMs: Math.max(...pages.map(({ ageMs }) => ageMs)),
    };
  }

  /** A request that changes something, given without its origin (A1). */
  change<Request extends { origin?: unknown }, Response>(
    method: Method<Request, Response>,
    request: Omit<Request, "origin">,
  ): Promise<Answer<Response>> {
    const origin = { session: this.#session, sequence: ++this.#sequence };
    return this.#call(method, { ...request, origin } as Request, { isChange: true, timeoutMs: this.timeoutMs });
  }

  /** A change that may be made twice without harm, and therefore carries no origin. */
  changeAgain<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<Answer<Response>> {
    return this.#call(method, request, { isChange: true, timeoutMs: options.timeoutMs ?? this.timeoutMs });
  }

  /** What each replica says of itself, by endpoint; also of replicas that only the others know. Rejects never. */
  survey(): Promise<readonly Survey[]> {
    const deadlineMs = Math.min(TRY_MAX_MS, this.#options.timeoutMs);
    const found = new Map<string, Survey>();
    const asked = new Set<string>();
    return new Promise((resolve) => {
      let open = 0;
      const ask = (endpoint: string): void => {
        if (asked.has(endpoint)) return;
        asked.add(endpoint);
        open++;
        void this.channel(endpoint)
          .call(CLUSTER_STATUS, { digest: true }, { deadlineMs })
          .then(
            (answer) => {
              found.set(endpoint, { endpoint, answer, error: null });
              for (const { address } of answer.replicas) if (address) ask(address);
            },
            (caught: unknown) => {
              found.set(endpoint, { endpoint, answer: null, error: AnantaError.from(caught) });
            },
          )
          .finally(() => {
            if (--open === 0) resolve([...found.values()]);
          });
      };
      for (const endpoint of this.#options.endpoints) ask(endpoint);
    });
  }

  channel(endpoint: string): Channel {
    const known = this.#channels.get(endpoint);
    if (known !== undefined) return known;
    const channel = this.#options.env.network.connect(endpoint, { reconnectMaxMs: 500 });
    this.#channels.set(endpoint, channel);
    return channel;
  }

  async #call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    { isChange, timeoutMs }: { readonly isChange: boolean; readonly timeoutMs: number },
  ): Promise<Answer<Response>> {
    const { endpoints } = this.#options;
    const { clock } = this;
    const untilMs = clock.nowMs() + timeoutMs;
    const tryMs = Math.max(TRY_MIN_MS, Math.min(TRY_MAX_MS, timeoutMs / 2));
    const refusals = new Map<string, AnantaError>();
    let unknown: AnantaError | null = null;
    let last: AnantaError | null = null;
    try {
      for (let attempt = 0; ; attempt++) {
        const at = (this.#preferred + attempt) % endpoints.length;
        const endpoint = endpoints[at] ?? "";
        const leftMs = untilMs - clock.nowMs();
        if (leftMs <= 0) throw timeUp(last, timeoutMs);
        this.#options.trying?.({ endpoint, lastError: last });
        try {
          const response = await this.channel(endpoint).call(method, request, { deadlineMs: Math.min(leftMs, tryMs) });
          this.#preferred = at;
          return { response, endpoint };
        } catch (caught) {
          const error = AnantaError.from(caught);
          if (!isWorthAnotherTry(error)) throw error;
          last = error;
          if (isChange && error.outcomeUnknown) unknown = error; // (A2)
          if (isNotThere(error)) refusals.set(endpoint, error);
          else refusals.delete(endpoint);
        }
        if (refusals.size === endpoints.length) throw notThere([...refusals.values()], endpoints);
        const pauseMs = pauseAfter(last, (attempt + 1) % endpoints.length === 0);
        if (clock.nowMs() + pauseMs + LAST_TRY_MS > untilMs) throw timeUp(last, timeoutMs);
        if (pauseMs > 0) await sleep(clock, pauseMs);
      }
    } catch (caught) {
      const error = AnantaError.from(caught);
      // A refusal is an answer to this origin, hence final; silence and "try elsewhere" are not (A2).
      if (unknown !== null && !error.outcomeUnknown && isWorthAnotherTry(error)) throw unknown;
      throw error;
    } finally {
      this.#options.trying?.(null);
    }
  }
}

export type Survey =
  | { readonly endpoint: string; readonly answer: ReplicaAnswer; readonly error: null }
  | { readonly endpoint: string; readonly answer: null; readonly error: AnantaError };

/** Another replica, or the same one a little later, may give a better answer. */
function isWorthAnotherTry(error: AnantaError): boolean {
  if (isNotYet(error)) return true;
  switch (error.code) {
    case "UNAVAILABLE":
    case "NOT_LEADER":
    case "LEADERSHIP_LOST":
    case "DEADLINE_EXCEEDED":
    case "BEHIND":
    case "CANCELLED":
    case "STAGE_OVERLOADED":
      return true;
    default:
      return false;
  }
}

/** Refused only for now: a learner that is behind, another change of the members under way. */
const isNotYet = (error: AnantaError): boolean => error.facts["retry"] === true;

function pauseAfter(error: AnantaError, roundIsOver: boolean): number {
  if (isNotYet(error)) return ROUND_PAUSE_MS; // the leader said so, whoever was asked
  if (error.code === "STAGE_OVERLOADED") {
    const hint = error.facts["retryAfterMs"];
    return typeof hint === "number" ? Math.max(1, hint) : ROUND_PAUSE_MS;
  }
  return roundIsOver ? ROUND_PAUSE_MS : 0;
}

function timeUp(last: AnantaError | null, timeoutMs: number): AnantaError {
  const seconds = Math.round(timeoutMs / 100) / 10;
  if (last === null) return new AnantaError("UNAVAILABLE", `no time to ask: the timeout is ${seconds} s`);
  const said = isNotYet(last)
    ? `not done within ${seconds} s; the last answer was`
    : `no answer within ${seconds} s; the last one was`;
  return new AnantaError(last.code, `${said}: ${last.message}`, last.facts, { cause: last });
}

/** What to say after a survey that nobody answered. */
export function nobodyAnswers(surveys: readonly Survey[]): AnantaError {
  const endpoints = surveys.map(({ endpoint }) => endpoint);
  const errors = surveys.flatMap(({ error }) => error ?? []);
  if (errors.length === surveys.length && errors.every(isNotThere)) return notThere(errors, endpoints);
  const reasons = surveys.map(({ endpoint, error }) => `${endpoint}: ${error?.message ?? ""}`);
  return new AnantaError("UNAVAILABLE", `no replica answers; ${reasons.join("; ")}`);
}

/** Nobody listens there, or somebody else: the request cannot have done anything, and will not soon. */
const isNotThere = ({ facts }: AnantaError): boolean => facts["refused"] === true || facts["foreign"] === true;

/** `errors`: one for each of `endpoints`. */
function notThere(errors: readonly AnantaError[], endpoints: readonly string[]): AnantaError {
  const strangers = errors.filter(({ facts }) => facts["foreign"] === true).map(({ message }) => message);
  const what = strangers.length === 0 ? `nobody listens at ${endpoints.join(", ")}` : strangers.join("; ");
  const message = `${what}; is Ananta running there? (--endpoints or ANANTA_ENDPOINTS name others)`;
  return new AnantaError("UNAVAILABLE", message, { refused: true });
}

export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.setTimer(ms, resolve));
}
