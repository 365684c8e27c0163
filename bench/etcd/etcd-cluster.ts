/**
 * etcd beside us: members on loopback in a temporary folder, on the same disk as whatever it is compared with. They belong
 * to this process's group and are killed when it ends, in whichever way (measure/cleanup).
 *
 *   const etcd = await startEtcd();            null where etcd is not installed; the caller says so and goes on
 *   const client = new LeanEtcdClient(etcd.addresses);
 *   await client.put(await etcd.leader(), key, value);
 *   await etcd.stop();
 */
import { spawn, type ChildProcess } from "node:child_process";
import { accessSync, closeSync, constants, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { atExit, temporaryFolder } from "../measure/cleanup.js";
import { freePortBlock } from "../measure/ports.js";
import { LeanEtcdClient } from "./lean-client.js";

export interface EtcdOptions {
  /** Default 5. */
  readonly members?: number;
  /** Parent of the temporary folder. */
  readonly folder?: string;
  /** Where the search for free ports starts. */
  readonly portsFrom?: number;
  /** Default: etcd's own, 100 and 1,000 ms. */
  readonly heartbeatMs?: number;
  readonly electionTimeoutMs?: number;
}

const PORTS_FROM = 23_790;
const READY_MS = 30_000;
const POLL_MS = 20;
const STOP_MS = 3_000;
const NO_MEMBER = -1;

/** The path of the program, or null. ANANTA_ETCD names another one. */
export function findEtcd(): string | null {
  const named = process.env["ANANTA_ETCD"];
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/bin", "/usr/local/bin"];
  const candidates = named === undefined ? folders.map((folder) => join(folder, "etcd")) : [named];
  return candidates.find(isExecutable) ?? null;
}

export const ETCD_MISSING = "etcd is not installed (Debian: apt install etcd-server): its figures are left out (null)";

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Resolves when every member knows the leader; null where etcd is not installed. */
export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdCluster | null> {
  const program = findEtcd();
  if (program === null) return null;
  const count = options.members ?? 5;
  const base = await freePortBlock(2 * count, options.portsFrom ?? PORTS_FROM);
  const cluster = new EtcdCluster(program, base, count, options);
  try {
    await cluster.ready();
  } catch (caught) {
    await cluster.stop();
    throw caught;
  }
  return cluster;
}

interface Member {
  readonly name: string;
  readonly args: readonly string[];
  readonly logFile: string;
  process: ChildProcess | null;
}

export class EtcdCluster {
  /** "host:port" for clients, one per member. */
  readonly addresses: readonly string[];
  /** "3.4.23" */
  version = "";
  readonly #program: string;
  readonly #folder: ReturnType<typeof temporaryFolder>;
  readonly #members: readonly Member[];
  readonly #client: LeanEtcdClient;
  readonly #forget: () => void;

  constructor(program: string, portBase: number, count: number, options: EtcdOptions) {
    this.#program = program;
    this.#folder = temporaryFolder("etcd", options.folder);
    const names = Array.from({ length: count }, (_, at) => `member-${at}`);
    const client = (at: number): string => `127.0.0.1:${portBase + at}`;
    const peer = (at: number): string => `http://127.0.0.1:${portBase + count + at}`;
    const initial = names.map((name, at) => `${name}=${peer(at)}`).join(",");
    this.addresses = names.map((_, at) => client(at));
    this.#members = names.map((name, at) => ({
      name,
      logFile: join(this.#folder.path, `${name}.log`),
      process: null,
      args: [
        ...["--name", name, "--data-dir", join(this.#folder.path, name)],
        ...["--listen-client-urls", `http://${client(at)}`, "--advertise-client-urls", `http://${client(at)}`],
        ...["--listen-peer-urls", peer(at), "--initial-advertise-peer-urls", peer(at)],
        ...["--initial-cluster", initial, "--initial-cluster-state", "new"],
        ...["--logger", "zap", "--log-level", "error", "--log-outputs", "stderr"],
        ...(options.heartbeatMs === undefined ? [] : ["--heartbeat-interval", String(options.heartbeatMs)]),
        ...(options.electionTimeoutMs === undefined ? [] : ["--election-timeout", String(options.electionTimeoutMs)]),
      ],
    }));
    this.#client = new LeanEtcdClient(this.addresses);
    this.#forget = atExit(() => {
      for (const member of this.#members) member.process?.kill("SIGKILL");
    });
    for (const member of this.#members) this.#spawn(member);
  }

  /** Position of the member that leads according to a majority's view, -1 when there is none. */
  async leader(): Promise<number> {
    const answers = await Promise.all(this.#members.map((_, at) => this.#client.status(at, 1_000).catch(() => null)));
    const votes = new Map<bigint, number>();
    for (const answer of answers)
      if (answer !== null && answer.leader !== 0n) votes.set(answer.leader, (votes.get(answer.leader) ?? 0) + 1);
    for (const [leader, count] of votes)
      if (count > this.#members.length / 2) return answers.findIndex((answer) => answer?.member === leader);
    return NO_MEMBER;
  }

  /** Resolves with the next leader once a majority follows it. */
  async leaderOtherThan(member: number): Promise<number> {
    const endMs = performance.now() + READY_MS;
    for (;;) {
      const leader = await this.leader();
      if (leader !== NO_MEMBER && leader !== member) return leader;
      if (performance.now() > endMs) throw new Error(`etcd elected nobody within ${READY_MS / 1_000} s`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  pid(member: number): number | null {
    return this.#member(member).process?.pid ?? null;
  }

  /** SIGKILL; resolves when the process has gone. */
  async kill(member: number): Promise<void> {
    await this.#end(this.#member(member), "SIGKILL");
  }

  /** SIGSTOP and SIGCONT. */
  pause(member: number): void {
    this.#member(member).process?.kill("SIGSTOP");
  }

  resume(member: number): void {
    this.#member(member).process?.kill("SIGCONT");
  }

  /** Starts a dead member again on its own data. */
  restart(member: number): void {
    const dead = this.#member(member);
    if (dead.process === null) this.#spawn(dead);
  }

  /** Resolves when every member answers and knows the same leader. */
  async ready(): Promise<void> {
    const endMs = performance.now() + READY_MS;
    for (;;) {
      const answers = await Promise.all(this.#members.map((_, at) => this.#client.status(at, 1_000).catch(() => null)));
      const leader = answers[0]?.leader ?? 0n;
      if (leader !== 0n && answers.every((answer) => answer?.leader === leader)) {
        this.version = answers[0]?.version ?? "";
        return;
      }
      const dead = this.#members.find(({ process: child }) => child === null);
      if (dead !== undefined) throw new Error(`etcd ${dead.name} ended: ${readFileSync(dead.logFile, "utf8").trim()}`);
      if (performance.now() > endMs) throw new Error(`etcd was not ready within ${READY_MS / 1_000} s`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Ends all members and removes their data. Safe to call twice. */
  async stop(): Promise<void> {
    this.#client.close();
    await Promise.all(this.#members.map((member) => this.#end(member, "SIGTERM")));
    this.#forget();
    this.#folder.remove();
  }

  #member(at: number): Member {
    const member = this.#members[at];
    if (member === undefined) throw new RangeError(`there is no member ${at}`);
    return member;
  }

  #spawn(member: Member): void {
    const log = openSync(member.logFile, "a");
    const child = spawn(this.#program, member.args, { stdio: ["ignore", log, log] });
    closeSync(log);
    member.process = child;
    const gone = (): void => {
      if (member.process === child) member.process = null;
    };
    child.once("exit", gone);
    child.once("error", gone);
  }

  #end(member: Member, signal: NodeJS.Signals): Promise<void> {
    const child = member.process;
    if (child === null) return Promise.resolve();
    return new Promise((resolve) => {
      const hard = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
      child.once("exit", () => {
        clearTimeout(hard);
        resolve();
      });
      child.kill("SIGCONT"); // a paused one would not hear of it
      child.kill(signal);
    });
  }
}
