/**
 * Serves the streams of Host Agents (proto/ananta/v1/agent.proto), on any replica, from its applied state.
 *
 *   hello(DIPs, held ranges) -> register-host committed -> welcome (standby)
 *   activate(index in force) -> whole view or deltas up to muxSafeIndex (active); acknowledgements come back
 *   requests -> the leader's SNAT stage -> answers, once every live MUX has the grant in force
 */
import type { HostId, LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { HostChange, HostItem } from "../../dataplane/host-items.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { MessageStream, Timer } from "../../runtime/env.js";
import type { ReplicaView } from "../replica-view.js";
import type { HeldRange, RegisterHostCommand } from "../state/commands/commands.js";
import type { CommandResult } from "../state/commands/results.js";
import type { Acknowledgements } from "./acknowledgements.js";
import { checkAddress } from "./address-wire.js";
import { checkIdentity, isName, newEpoch, ownIdentity, type PeerIdentity } from "./identity.js";
import { LeaderNews } from "./leader-news.js";
import { ManagerListNews } from "./manager-list.js";
import { PortReports } from "./port-reports.js";
import { Questions } from "./questions.js";
import { checkOrigin } from "./origin.js";
import { healthCommand } from "./health-report.js";
import { HOST_SCOPE } from "./projection-wire.js";
import { ScopeFeed, type ScopeSource } from "./scope-feed.js";
import { checkCount, snatCommand } from "./snat-requests.js";
import { Turns, type Step } from "./turns.js";
import { checkBlock, wireBlock } from "./range-wire.js";

type FromAgent = ananta.v1.AgentToManager.$Properties;
type ToAgent = ananta.v1.ManagerToAgent.$Properties;
export type AgentStream = MessageStream<ToAgent, FromAgent>;

/** Thousands of agents: a beat every 3 s; an unanswered request finds a paused replica sooner. */
const BEAT_MS = 3_000;
const REGISTER_DEADLINE_MS = 10_000;
/** A connection that waits for a port bears about this much (the first packet is held for 3 s). */
const REQUEST_DEADLINE_MS = 5_000;
/** Of one commit's news, some ms; the other agents concerned are told in turns of the event loop. */
const PUMPS_AT_ONCE = 64;
/** And for as long: a host whose pools changed is told hundreds of rows. */
const PUMP_MS = 5;
/** A host with all of its flows to walk takes some ms. */
const RESET_DEADLINE_MS = 500;
const DIPS_MAX = 1_024;
/** All ranges of two VIPs and protocols, one by one: more than a host of 1,024 DIPs ever holds; about 1 MB of the log. */
const HELD_BLOCKS_MAX = 16_384;
const REQUESTS_PER_MESSAGE_MAX = 4_096;

export interface AgentStreamsOptions {
  readonly replica: ReplicaView;
  readonly acknowledgements: Acknowledgements;
}

export class AgentStreams {
  readonly portReports: PortReports;
  readonly #options: SessionOptions;
  readonly #sessions = new Set<AgentSession>();
  #pumpedTo = 0 as LogIndex;
  #epoch = 0;

  constructor(options: AgentStreamsOptions) {
    const { clock } = options.replica.env;
    const views = new Turns(clock);
    const answers = new Turns(clock); // not behind a large view
    this.portReports = new PortReports(clock);
    this.#options = {
      ...options,
      portReports: this.portReports,
      later: (step) => views.add(step),
      answerSoon: (step) => answers.add(step),
    };
  }

  open(stream: AgentStream): void {
    const session = new AgentSession(stream, this.#options, () => this.#sessions.delete(session));
    this.#sessions.add(session);
  }

  /** The applied index or muxSafeIndex has advanced: hosts whose view changed are told at once, the rest with a beat. */
  advanced(): void {
    const { effects, state } = this.#options.replica;
    if (state.clusterEpoch !== this.#epoch) {
      if (this.#epoch !== 0) for (const session of [...this.#sessions]) session.end(newEpoch(state.clusterEpoch));
      this.#epoch = state.clusterEpoch;
    }
    const limit = agentLimit(this.#options.replica);
    if (limit <= this.#pumpedTo) return;
    const changed = effects.covers(this.#pumpedTo) ? effects.hostsChanged(this.#pumpedTo, limit) : null;
    this.#pumpedTo = limit;
    // A change waits for these hosts' acknowledgement, also where it changes nothing in their view.
    for (const host of state.pendingActivation()?.hosts ?? []) changed?.add(host);
    let atOnce = 0;
    const { clock } = this.#options.replica.env;
    const endMs = clock.nowMs() + PUMP_MS;
    for (const session of [...this.#sessions]) {
      if (session.endIfReplaced()) continue;
      const isConcerned = changed === null || (session.hostId !== null && changed.has(session.hostId));
      if (!isConcerned && !session.waitsForView) continue;
      if (atOnce++ < PUMPS_AT_ONCE && clock.nowMs() < endMs) session.pump();
      else session.pumpLater();
    }
  }

  connectedHosts(): ReadonlySet<HostId> {
    const hosts = new Set<HostId>();
    for (const { hostId } of this.#sessions) if (hostId !== null) hosts.add(hostId);
    return hosts;
  }

  /** Lets every host with a stream here end flows; how many of each that answered in time. */
  async resetFlows(filter: ananta.v1.FlowReset.$Properties): Promise<ReadonlyMap<HostId, number>> {
    const counts = new Map<HostId, number>();
    await Promise.all(
      [...this.#sessions].map(async (session) => {
        const flows = await session.resetFlows(filter);
        if (flows !== null && session.hostId !== null) counts.set(session.hostId, flows);
      }),
    );
    return counts;
  }

  get count(): number {
    return this.#sessions.size;
  }
}

/** Nothing beyond muxSafeIndex is told to an agent: it might be a port that some MUX does not know yet. */
function agentLimit(replica: ReplicaView): LogIndex {
  return Math.min(replica.state.appliedIndex, replica.muxSafeIndex.value) as LogIndex;
}

interface SessionOptions extends AgentStreamsOptions {
  readonly portReports: PortReports;
  readonly later: (step: Step) => void;
  readonly answerSoon: (step: Step) => void;
}

class AgentSession {
  readonly #stream: AgentStream;
  readonly #options: SessionOptions;
  readonly #closed: () => void;
  #hello: PeerIdentity | null = null;
  #registered: { readonly hostId: HostId; readonly incarnation: number } | null = null;
  #feed: ScopeFeed<HostItem, HostChange> | null = null;
  #beat: Timer | null = null;
  #answers: ananta.v1.SnatAnswer.$Properties[] = [];
  /** They leave in the next turn of the event loop, or when those of many other hosts have left. */
  #willAnswer = false;
  #over = false;
  #pumpsLater = false;
  readonly #managers: ManagerListNews;
  readonly #leader: LeaderNews;
  readonly #flowResets: Questions<number>;

  constructor(stream: AgentStream, options: SessionOptions, closed: () => void) {
    this.#stream = stream;
    this.#options = options;
    this.#managers = new ManagerListNews(options.replica);
    this.#leader = new LeaderNews(options.replica);
    this.#flowResets = new Questions(options.replica.env.clock, RESET_DEADLINE_MS);
    this.#closed = closed;
    stream.listen({
      message: (message) => this.#guarded(() => this.#receive(message)),
      closed: () => this.#close(),
      drained: () => this.#feed?.resume(),
    });
  }

  get hostId(): HostId | null {
    return this.#registered?.hostId ?? null;
  }

  get waitsForView(): boolean {
    return this.#feed !== null && this.#feed.sentIndex === 0;
  }

  pump(): void {
    this.#feed?.pump();
  }

  resetFlows(filter: ananta.v1.FlowReset.$Properties): Promise<number | null> {
    if (this.#registered === null) return Promise.resolve(null);
    return this.#flowResets.ask((id) => this.#stream.send({ flowReset: { ...filter, id } }));
  }

  /** True when a later process of the host has registered: this one must not be told, asked or answered any more. */
  endIfReplaced(): boolean {
    if (this.#registered === null) return false;
    const host = this.#options.replica.state.host(this.#registered.hostId);
    if (host === null || host.incarnation <= this.#registered.incarnation) return false;
    this.end(
      new AnantaError(
        "STALE_INCARNATION",
        `start ${this.#registered.incarnation} of host "${host.name}" was followed by start ${host.incarnation}`,
      ),
    );
    return true;
  }

  end(error: AnantaError): void {
    this.#stream.end(error);
    this.#close();
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (caught) {
      this.end(AnantaError.from(caught));
    }
  }

  #receive(message: FromAgent): void {
    if (message.hello) void this.#greet(message.hello);
    else if (this.#registered === null)
      throw new AnantaError("INVALID_ARGUMENT", "the first message of a stream is hello, and welcome answers it");
    else if (this.endIfReplaced()) return;
    else if (message.activate) this.#activate(this.#registered.hostId, message.activate);
    else if (message.ack) this.#acknowledge(this.#registered.hostId, message.ack);
    else if (message.requests) this.#request(this.#registered, message.requests);
    else if (message.health) this.#reportHealth(this.#registered, message.health);
    else if (message.ports) this.#options.portReports.take(this, this.#registered.hostId, message.ports);
    else if (message.flowsReset) this.#flowResets.answered(message.flowsReset.id ?? 0, message.flowsReset.flows ?? 0);
  }

  /** A report that is refused or lost needs no answer: the next whole one tells the same again. */
  #reportHealth(
    host: { readonly hostId: HostId; readonly incarnation: number },
    report: ananta.v1.HealthReport.$Properties,
  ): void {
    const { replica } = this.#options;
    const command = healthCommand(replica.state, host, report);
    if (command === null) return;
    void replica.submit({ origin: null, command }, REQUEST_DEADLINE_MS).then((result) => {
      if (result.ok) return;
      const { code, message } = result;
      replica.env.log.warn("health report not committed", { host: host.hostId, code, message });
    });
  }

  async #greet(hello: ananta.v1.AgentHello.$Properties): Promise<void> {
    const { replica } = this.#options;
    let command: RegisterHostCommand;
    let origin;
    try {
      this.#hello = checkIdentity(hello.identity, replica);
      origin = checkOrigin(hello.origin);
      command = registration(this.#hello, hello.dips ?? [], hello.heldRanges ?? []);
    } catch (caught) {
      this.end(AnantaError.from(caught));
      return;
    }
    const result = await replica.submit({ origin, command }, REGISTER_DEADLINE_MS, () => !this.#over);
    if (this.#over) return;
    const problem = result.ok ? null : new AnantaError(result.code, result.message, result.facts);
    try {
      if (problem !== null) throw problem;
      await replica.whenApplied(result.index, REGISTER_DEADLINE_MS);
    } catch (caught) {
      this.end(AnantaError.from(caught));
      return;
    }
    if (this.#over || !result.ok) return;
    if (result.value.kind !== "host-registered") {
      this.end(new AnantaError("INVALID_ARGUMENT", "origin: it belongs to an earlier request of another kind"));
      return;
    }
    const { hostId, incarnation, dips, refusedRanges } = result.value;
    this.#registered = { hostId, incarnation };
    if (this.endIfReplaced()) return; // a remembered answer, say
    this.#stream.send({
      welcome: {
        identity: ownIdentity(replica),
        hostId,
        incarnation,
        dips: dips.map((dip) => ({ tenant: dip.tenant, address: dip.address, dipId: dip.dipId })),
        refusedRanges: refusedRanges.map((block) => ({ block: wireBlock(block) })),
        index: result.index,
      },
    });
    this.#beat ??= replica.env.clock.setTimer(BEAT_MS, () => this.#sendBeat());
  }

  #sendBeat(): void {
    const { replica } = this.#options;
    this.#beat = replica.env.clock.setTimer(BEAT_MS, () => this.#sendBeat());
    this.#feed?.askForDigest(); // hashes what changed since the last time, or all of the view
    this.pumpLater(); // progress, so that acknowledgements of an idle host advance
    this.#stream.send({
      beat: { appliedIndex: replica.state.appliedIndex, ...this.#managers.take(), ...this.#leader.take() },
    });
  }

  #activate(host: HostId, activate: ananta.v1.AgentActivate.$Properties): void {
    const { replica } = this.#options;
    const { state, effects } = replica;
    const epoch = state.site?.clusterEpoch ?? 0;
    const held = (activate.clusterEpoch ?? 0) === epoch ? ((activate.index ?? 0) as LogIndex) : (0 as LogIndex);
    const source: ScopeSource<HostItem, HostChange> = {
      codec: HOST_SCOPE,
      clusterEpoch: () => epoch,
      appliedIndex: () => state.appliedIndex,
      limit: () => agentLimit(replica),
      covers: (index) => effects.covers(index),
      changes: (after, upTo, most) => effects.hostChanges(host, after, upTo, most),
      view: () => (state.isWhole ? state.captureHostView(host) : null),
      digest: () => (state.isWhole ? state.hostDigest(host) : null),
    };
    this.#feed?.stop();
    this.#feed = new ScopeFeed(
      source,
      held,
      (update) => this.#stream.send({ projection: update }),
      this.#options.later,
    );
    this.pumpLater();
  }

  /** In its turn: hundreds of agents come back in the same moment when a replica has died. */
  pumpLater(): void {
    if (this.#pumpsLater) return;
    this.#pumpsLater = true;
    this.#options.later(() => {
      this.#pumpsLater = false;
      this.#feed?.pump();
      return true;
    });
  }

  #acknowledge(host: HostId, ack: ananta.v1.AgentAck.$Properties): void {
    if (this.#feed === null || (ack.clusterEpoch ?? 0) !== this.#options.replica.state.site?.clusterEpoch) return;
    this.#options.acknowledgements.host(this, host, this.#feed.acknowledged((ack.index ?? 0) as LogIndex));
  }

  #request(
    host: { readonly hostId: HostId; readonly incarnation: number },
    batch: ananta.v1.SnatRequests.$Properties,
  ): void {
    const requests = batch.requests ?? [];
    checkCount(requests, REQUESTS_PER_MESSAGE_MAX, "requests");
    const own = new Set(this.#options.replica.state.host(host.hostId)?.dips);
    for (const request of requests) {
      const sequence = request.origin?.sequence ?? 0;
      try {
        const origin = checkOrigin(request.origin);
        const command = snatCommand(host, request);
        // Before the leader queues it: requests wait there by DIP, and a foreign one would hold up the DIP's own.
        if (!own.has(command.dipId))
          throw new AnantaError("PERMISSION_DENIED", `dip_id: ${command.dipId} is not a DIP of this host`);
        void this.#options.replica
          .submit({ origin, command }, REQUEST_DEADLINE_MS)
          .then((result) => this.#answer(sequence, result));
      } catch (caught) {
        const error = AnantaError.from(caught);
        this.#answer(sequence, {
          ok: false,
          code: error.code,
          message: error.message,
          facts: error.facts,
          index: 0 as LogIndex,
        });
      }
    }
  }

  /** Answers of one turn of the event loop leave as one message; those to many hosts at once hold nothing up. */
  #answer(sequence: number, result: CommandResult): void {
    if (this.#over) return;
    this.#answers.push(
      result.ok
        ? {
            sequence,
            index: result.index,
            blocks: result.value.kind === "snat-allocated" ? result.value.blocks.map(wireBlock) : [],
          }
        : {
            sequence,
            index: result.index,
            code: result.code,
            reason: result.message,
            retryAfterMs: Number(result.facts["retryAfterMs"] ?? 0),
          },
    );
    if (this.#willAnswer) return;
    this.#willAnswer = true;
    this.#options.answerSoon(() => {
      this.#willAnswer = false;
      const answers = this.#answers;
      this.#answers = [];
      if (!this.#over) this.#stream.send({ answers: { answers } });
      return true;
    });
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#beat?.cancel();
    this.#options.acknowledgements.gone(this);
    this.#options.portReports.gone(this);
    this.#feed?.stop();
    this.#feed = null;
    this.#closed();
  }
}

/** The command that makes a process of a host known. Throws INVALID_ARGUMENT. Shared with the unary Register. */
export function registration(
  host: { readonly name: string; readonly bootId: string },
  dips: readonly ananta.v1.HostDip.$Properties[],
  held: readonly ananta.v1.OwnedBlock.$Properties[],
): RegisterHostCommand {
  checkCount(dips, DIPS_MAX, "dips");
  checkCount(held, HELD_BLOCKS_MAX, "held_ranges");
  return {
    kind: "register-host",
    name: host.name,
    bootId: host.bootId,
    dips: dips.map((dip, position) => {
      const address = checkAddress(dip.address, `dips[${position}].address`);
      const locator = (dip.locator ?? "") === "" ? address : checkAddress(dip.locator, `dips[${position}].locator`);
      return { tenant: tenantOf(dip.tenant, `dips[${position}].tenant`), address, locator };
    }),
    heldRanges: held.map((owned, position): HeldRange => {
      const where = `held_ranges[${position}]`;
      return {
        ...checkBlock(owned.block, `${where}.block`),
        tenant: tenantOf(owned.tenant, `${where}.tenant`),
        dip: checkAddress(owned.dip, `${where}.dip`),
      };
    }),
  };
}

/** "" is the tenant "default". Throws INVALID_ARGUMENT for what is no name: it must not reach the log. */
export function tenantOf(tenant: string | null | undefined, where: string): string {
  if (tenant === undefined || tenant === null || tenant === "") return "default";
  return checkName(tenant, where);
}

export function checkName(text: string | null | undefined, where: string): string {
  const name = text ?? "";
  if (isName(name)) return name;
  throw new AnantaError("INVALID_ARGUMENT", `${where}: "${name}" is not a name; use 1 to 63 of a-z, 0-9 and "-"`);
}
