/** The real environment: this machine's clock, network, disk and log. */
import { randomBytes } from "node:crypto";
import type { DestinationStream } from "pino";
import { createRandom } from "../../core/random.js";
import type { Clock, Env, Timer } from "../env.js";
import { createNodeDatagrams } from "./datagrams.js";
import { createNodeDisk } from "./disk.js";
import { GrpcNetwork } from "./grpc-network.js";
import { type LogLevel, type NodeLog, createNodeLog } from "./log.js";

export interface NodeEnvOptions {
  /** Of the process, on every log line: "manager-1". */
  readonly name?: string;
  /** Relative paths of `disk` are relative to it; the current folder when absent. */
  readonly dataFolder?: string;
  readonly logLevel?: LogLevel;
  /** Where log lines go: a file or a stream; stdout when absent. */
  readonly logTo?: string | DestinationStream;
  /** Repeats the random choices of an earlier run; drawn when absent. */
  readonly seed?: number;
  /** Allows to listen beyond loopback without TLS. */
  readonly insecure?: boolean;
}

export interface NodeEnv extends Env {
  readonly log: NodeLog;
}

/** Node fires a longer timer at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

export const nodeClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer: (delayMs, callback) => {
    if (delayMs > TIMEOUT_MS_MAX) return longTimer(delayMs, callback);
    const timer = setTimeout(callback, Math.ceil(delayMs)); // Node cuts a fraction off: the timer would be early
    return { cancel: () => clearTimeout(timer) };
  },
  nextTurn: (callback) => {
    const immediate = setImmediate(callback);
    return { cancel: () => clearImmediate(immediate) };
  },
};

function longTimer(delayMs: number, callback: () => void): Timer {
  let current = nodeClock.setTimer(TIMEOUT_MS_MAX, () => {
    current = nodeClock.setTimer(delayMs - TIMEOUT_MS_MAX, callback);
  });
  return { cancel: () => current.cancel() };
}

export function createNodeEnv(options: NodeEnvOptions = {}): NodeEnv {
  const insecure = options.insecure ?? false;
  const log = createNodeLog({
    ...(options.name === undefined ? {} : { name: options.name }),
    level: options.logLevel ?? "info",
    ...(options.logTo === undefined ? {} : { to: options.logTo }),
  });
  const seed = options.seed ?? randomBytes(4).readUInt32LE();
  if (insecure) log.warn("listening beyond loopback is allowed without TLS");
  return {
    clock: nodeClock,
    random: createRandom(seed),
    entropy: (byteCount) => new Uint8Array(randomBytes(byteCount)),
    network: new GrpcNetwork({ clock: nodeClock, log, insecure }),
    datagrams: createNodeDatagrams(insecure, log),
    disk: createNodeDisk(options.dataFolder ?? ""),
    log,
  };
}
