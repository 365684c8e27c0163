/** Five replica processes on loopback, in a temporary folder, and what a client does with them. */
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assert } from "../../core/assert.js";
import type { Channel } from "../../runtime/env.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { atExit, temporaryFolder } from "../measure/cleanup.js";
import type { LoopResult } from "../measure/closed-loop.js";
import { freePortBlock } from "../measure/ports.js";
import type { ReplicaSettings } from "./main.js";
import { DRIVE, INSPECT, PUT, PUTS, type DriveRequest, type Inspection, type NumberedPut } from "./wire.js";

const REPLICAS = 5;
const READY_MS = 30_000;
const POLL_MS = 20;
const DEADLINE_MS = 20_000;
const program = fileURLToPath(new URL("main.js", import.meta.url));

export class ReplicaCluster {
  readonly #folder = temporaryFolder("replicas");
  readonly #children: ChildProcess[] = [];
  readonly #env = createNodeEnv({ name: "benchmark", logLevel: "warn", logTo: this.#log("client") });
  readonly #channels: readonly Channel[];
  readonly #forget: () => void;
  #stopping = false;

  /** Resolves when one leads. */
  static async start(portsFrom: number): Promise<ReplicaCluster> {
    const cluster = new ReplicaCluster(await freePortBlock(2 * REPLICAS, portsFrom));
    await cluster.leader();
    return cluster;
  }

  private constructor(portBase: number) {
    const ordinals = Array.from({ length: REPLICAS }, (_, at) => at);
    const raftAddresses = ordinals.map((at) => `127.0.0.1:${portBase + at}`);
    const clientAddresses = ordinals.map((at) => `127.0.0.1:${portBase + REPLICAS + at}`);
    this.#forget = atExit(() => this.#killAll());
    for (const at of ordinals) {
      const settings: ReplicaSettings = {
        id: at + 1,
        folder: join(this.#folder.path, `replica-${at + 1}`),
        raftAddresses,
        clientAddress: clientAddresses[at]!, // same length
      };
      this.#spawn(settings);
    }
    this.#channels = clientAddresses.map((address) => this.#env.network.connect(address, { reconnectMaxMs: 50 }));
  }

  /** Position of the leader that all follow; waits for one. */
  async leader(): Promise<number> {
    const endMs = performance.now() + READY_MS;
    for (;;) {
      const found = (await this.#inspections()).findIndex((replica) => replica?.role === "leader");
      if (found >= 0) return found;
      assert(performance.now() < endMs, `no leader within ${READY_MS} ms`);
      await pause(POLL_MS);
    }
  }

  inspect(replica: number): Promise<Inspection> {
    return this.#channel(replica).call(INSPECT, null, { deadlineMs: DEADLINE_MS });
  }

  /** Puts from inside the replica's own process. */
  drive(replica: number, loop: DriveRequest): Promise<LoopResult> {
    return this.#channel(replica).call(DRIVE, loop, { deadlineMs: loop.warmUpMs + loop.measureMs + DEADLINE_MS });
  }

  async put(replica: number, payload: Uint8Array): Promise<void> {
    await this.#channel(replica).call(PUT, payload, { deadlineMs: DEADLINE_MS });
  }

  puts(replica: number): PutStream {
    return new PutStream(this.#channel(replica));
  }

  /** Until all replicas have applied the same entries; answers how many. Throws when they differ. */
  async agreed(): Promise<number> {
    const endMs = performance.now() + READY_MS;
    for (;;) {
      const [first, ...others] = await this.#inspections();
      if (first && others.every((other) => other?.applied === first.applied)) {
        assert(
          others.every((other) => other?.digest === first.digest),
          "replicas that applied equally many entries applied the same",
        );
        return first.applied;
      }
      assert(performance.now() < endMs, "all replicas catch up");
      await pause(POLL_MS);
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const channel of this.#channels) channel.close();
    const gone = this.#children.map((child) =>
      child.exitCode === null && child.signalCode === null
        ? new Promise((resolve) => child.once("exit", resolve))
        : Promise.resolve(),
    );
    this.#killAll();
    await Promise.all(gone);
    this.#forget();
    this.#folder.remove();
  }

  #inspections(): Promise<readonly (Inspection | null)[]> {
    return Promise.all(
      this.#channels.map((channel) => channel.call(INSPECT, null, { deadlineMs: 1_000 }).catch(() => null)),
    );
  }

  #channel(replica: number): Channel {
    const channel = this.#channels[replica];
    if (channel === undefined) throw new RangeError(`there is no replica ${replica}`);
    return channel;
  }

  #log(name: string): string {
    return join(this.#folder.path, `${name}.log`);
  }

  #spawn(settings: ReplicaSettings): void {
    const path = this.#log(`replica-${settings.id}`);
    const log = openSync(path, "a");
    const child = spawn(process.execPath, ["--enable-source-maps", program, JSON.stringify(settings)], {
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.#children.push(child);
    child.once("exit", () => {
      if (this.#stopping) return;
      process.stderr.write(`replica ${settings.id} ended:\n${readFileSync(path, "utf8")}\n`);
      process.exit(1); // nothing that is measured without it means anything
    });
  }

  #killAll(): void {
    for (const child of this.#children) child.kill("SIGKILL");
  }
}

/** One stream for all requesters: what they ask in one turn of the event loop is one message. */
export class PutStream {
  readonly #stream: ReturnType<typeof openPuts>;
  readonly #waiting = new Map<number, { readonly resolve: () => void; readonly reject: (error: Error) => void }>();
  #batch: NumberedPut[] = [];
  #nextId = 0;

  constructor(channel: Channel) {
    this.#stream = openPuts(channel);
    this.#stream.listen({
      message: (ids) => {
        for (const id of ids) {
          this.#waiting.get(id)?.resolve();
          this.#waiting.delete(id);
        }
      },
      closed: (error) => {
        for (const { reject } of this.#waiting.values()) reject(error ?? new Error("the stream ended"));
        this.#waiting.clear();
      },
    });
  }

  put(payload: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const id = (this.#nextId = (this.#nextId + 1) >>> 0);
      this.#waiting.set(id, { resolve, reject });
      if (this.#batch.length === 0)
        setImmediate(() => {
          this.#stream.send(this.#batch);
          this.#batch = [];
        });
      this.#batch.push({ id, payload });
    });
  }

  close(): void {
    this.#stream.end();
  }
}

const openPuts = (channel: Channel) => channel.open(PUTS);

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
