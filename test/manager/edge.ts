/**
 * The edges of one replica (streams and calls) over a state machine in the test's hand: what an edge submits is applied
 * at once, through its bytes, as in the real log.
 */
import { nodeId, type LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { CallContext, MessageStream, StreamListener } from "../../runtime/env.js";
import { managerConfig } from "../../manager/config.js";
import { Acknowledgements } from "../../manager/projection/acknowledgements.js";
import { AgentStreams } from "../../manager/projection/agent-streams.js";
import { EffectLog } from "../../manager/projection/effect-log.js";
import { MuxSafeIndex } from "../../manager/projection/mux-safe-index.js";
import { MuxStreams } from "../../manager/projection/mux-streams.js";
import type { ReplicaView } from "../../manager/replica-view.js";
import { refusal } from "../../manager/stages/submission.js";
import type { SubmittedCommand } from "../../manager/state/commands/commands.js";
import type { CommandResult } from "../../manager/state/commands/results.js";
import { silentLog } from "../kit/silent-log.js";
import { virtualTime } from "../kit/virtual-time.js";
import { Site } from "./state/fixture.js";

export const CLUSTER_ID = "c1".padEnd(32, "0");
export const CALL: CallContext = { peer: "test", deadlineMs: 5_000, signal: new AbortController().signal };

const hex = (text: string): string => Buffer.from(text).toString("hex").padEnd(32, "0").slice(0, 32);
export const bootIdOf = hex;

/** One end of a stream: what was sent, how it ended, and a window that the test opens and closes. */
export class FakeStream<Out, In> implements MessageStream<Out, In> {
  readonly peer = "test:1";
  readonly sent: Out[] = [];
  ended: AnantaError | null | undefined;
  reading = true;
  #listener: StreamListener<In> | null = null;

  send(message: Out): boolean {
    if (this.ended !== undefined) return true;
    this.sent.push(message);
    return this.reading;
  }

  listen(listener: StreamListener<In>): void {
    this.#listener = listener;
  }

  end(error?: AnantaError): void {
    this.ended ??= error ?? null;
  }

  deliver(message: In): void {
    this.#listener?.message(message);
  }

  close(): void {
    this.#listener?.closed(null);
  }

  drain(): void {
    this.reading = true;
    this.#listener?.drained?.();
  }

  take(): readonly Out[] {
    return this.sent.splice(0);
  }
}

export function edge() {
  const { time, clock } = virtualTime();
  const site = new Site();
  const effects = new EffectLog(0 as LogIndex);
  const muxSafeIndex = new MuxSafeIndex();
  const submitted: SubmittedCommand[] = [];
  const poisoned: string[] = [];
  let readPoints = 0;
  let atReadPoint = (): void => undefined;
  let role: "leader" | "follower" = "leader";
  const term = 1;

  const submit = ({ origin, command }: SubmittedCommand): CommandResult => {
    submitted.push({ origin, command });
    try {
      const result = site.apply(command, origin);
      if (site.last !== null) effects.append(site.last);
      muxSafeIndex.advance(site.machine.appliedIndex);
      return result;
    } catch (caught) {
      poisoned.push(AnantaError.from(caught).message);
      return refusal(AnantaError.from(caught));
    }
  };
  const raft = {
    status: () => ({ role, term }),
    readIndex: () => {
      readPoints += 1;
      atReadPoint();
      return Promise.resolve(site.machine.appliedIndex);
    },
  };
  const replica = {
    env: { clock, log: silentLog },
    config: managerConfig({ nodeId: nodeId(1), clusterId: CLUSTER_ID, dataFolder: "/data", replicas: [] }),
    bootId: hex("replica"),
    incarnation: () => 1,
    state: site.machine,
    effects,
    muxSafeIndex,
    raft: () => raft,
    submit: (command: SubmittedCommand) => Promise.resolve(submit(command)),
    whenApplied: () => Promise.resolve(),
    whenCaughtUp: () => Promise.resolve(),
    appliedIndex: () => site.machine.appliedIndex,
    quorumAgeMs: () => 0,
  } as unknown as ReplicaView;

  const reports: string[] = [];
  const acknowledgements = new Acknowledgements({
    muxReported: ({ name, bootId, index }) =>
      reports.push(`${name}/${Buffer.from(bootId, "hex").toString().replaceAll("\0", "")} ${index}`),
    hostReported: (host, index) => reports.push(`host ${host} ${index}`),
  });
  const agents = new AgentStreams({ replica, acknowledgements });
  const muxes = new MuxStreams({
    replica,
    acknowledgements,
    confirmedRenewal: () => 0,
    overloadReported: ({ mux, topTalkers }) => reports.push(`overload ${mux} ${topTalkers.length}`),
    leaderInOfficeMs: () => 0,
  });
  submit({
    origin: null,
    command: { kind: "bootstrap", clusterId: CLUSTER_ID, clusterEpoch: 1, hashKey: "0123456789abcdef" },
  });

  return {
    time,
    site,
    replica,
    effects,
    submit,
    submitted,
    poisoned,
    acknowledgements,
    reports,
    agents,
    muxes,
    identity: (node: string, boot: string) => ({ clusterId: CLUSTER_ID, clusterEpoch: 1, node, bootId: hex(boot) }),
    get readPoints() {
      return readPoints;
    },
    /** What this replica learns when it asks the leader how far the log is. */
    onReadPoint: (learn: () => void) => {
      atReadPoint = learn;
    },
    setRole: (to: typeof role) => {
      role = to;
    },
  };
}

/** Requests of one client, each new. */
export function origins(session: string): () => { session: string; sequence: number } {
  let sequence = 0;
  return () => ({ session: hex(session), sequence: ++sequence });
}
