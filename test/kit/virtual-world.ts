/**
 * A world of simulated machines that runs the product's own code on virtual time, from one seed.
 *
 *   const world = new VirtualWorld({ seed: testSeed() });
 *   const env = world.env("manager-1");                       // one machine, one process, one disk
 *   const server = await world.run(env.network.serve("manager-1:7001", handlers));
 *   await world.advance(150);
 *   world.partition(["manager-1", "manager-2"], ["manager-3", "manager-4", "manager-5"]);
 *   world.crash("manager-3");  const again = world.restart("manager-3");   // same disk, new env
 *   await world.runUntil(() => leader() !== null, 1_000);
 *   console.log(world.log.trace());
 *
 * A test awaits only `world.*` methods (or promises through `world.run`): time stands still otherwise, and a promise of
 * an env settles only while time runs.
 */
import { InvariantError, assert } from "../../core/assert.js";
import { createRandom } from "../../core/random.js";
import type { Env, Timer } from "../../runtime/env.js";
import { CaptureLog, type LogLevel } from "./capture-log.js";
import { FakeDatagrams } from "./fake-datagrams.js";
import { DEFAULT_DISK_OPTIONS, FakeDisk, type DiskOptions } from "./fake-disk.js";
import { DEFAULT_NETWORK_OPTIONS, FakeNetwork, type FakeNetworkOptions } from "./fake-network.js";
import { DEFAULT_LINK, type LinkOptions, Links } from "./links.js";
import { VirtualClock } from "./virtual-clock.js";
import { VirtualProcess } from "./virtual-process.js";

export interface WorldOptions {
  readonly seed: number;
  readonly link?: Partial<LinkOptions>;
  readonly disk?: Partial<DiskOptions>;
  readonly network?: Partial<FakeNetworkOptions>;
  /** Lines below it are not kept. */
  readonly logLevel?: LogLevel;
}

export interface EnvOptions {
  /** Virtual ms that pass on this machine's monotonic clock per ms of the world: 1.001 runs fast. */
  readonly clockRate?: number;
  /** Added to this machine's wall clock. */
  readonly wallOffsetMs?: number;
}

export interface CrashOptions {
  /** "power-loss": unsynced writes are lost. "process": only the process ends, as after kill -9. */
  readonly disk?: "power-loss" | "process";
  /** "close": the kernel closes the sockets. "silent": the machine is gone and says nothing. */
  readonly sockets?: "close" | "silent";
}

/** Any fixed date: nothing may depend on it. */
const WALL_START_MS = Date.UTC(2030, 0, 1); // eslint-disable-line no-restricted-globals -- a constant

/** The seed of this test run (ANANTA_TEST_SEED), mixed with the test's own number or name. */
export function testSeed(salt: number | string = 0): number {
  return mix(Number(process.env["ANANTA_TEST_SEED"] ?? 1), String(salt));
}

/** A timer that rounding leaves a hair too early must not be set again for the same instant, for ever. */
const TIMER_LEAST_MS = 0.001;

/** FNV-1a over the text, from the seed. */
function mix(seed: number, text: string): number {
  let hash = (seed ^ 0x811c9dc5) >>> 0;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return hash;
}

interface Machine {
  readonly disk: FakeDisk;
  readonly clock: { jumpedMs: number; wallJumpedMs: number };
  readonly options: EnvOptions;
  process: VirtualProcess;
  env: Env;
}

export class VirtualWorld {
  readonly clock = new VirtualClock();
  readonly log = new CaptureLog();
  readonly network: FakeNetwork;
  readonly links: Links;
  readonly seed: number;
  readonly #options: WorldOptions;
  readonly #datagrams: FakeDatagrams;
  readonly #machines = new Map<string, Machine>();

  constructor(options: WorldOptions) {
    this.#options = options;
    this.seed = options.seed;
    const random = createRandom(options.seed);
    this.links = new Links(random.fork(), { ...DEFAULT_LINK, ...options.link });
    this.network = new FakeNetwork(this.clock, this.links, { ...DEFAULT_NETWORK_OPTIONS, ...options.network });
    this.#datagrams = new FakeDatagrams(this.links);
  }

  // ---- machines ----

  /** The live env of that name; made, with an empty disk, when there is none. `options` count on the first call only. */
  env(name: string, options: EnvOptions = {}): Env {
    const machine = this.#machines.get(name);
    if (machine !== undefined) {
      assert(!machine.process.crashed, `${name} runs; it crashed and was not restarted`);
      return machine.env;
    }
    const disk = new FakeDisk(createRandom(mix(this.seed, `disk of ${name}`)), {
      ...DEFAULT_DISK_OPTIONS,
      ...this.#options.disk,
    });
    const virtualProcess = new VirtualProcess(name, 1, this.clock);
    const machineClock = { jumpedMs: 0, wallJumpedMs: 0 };
    const env = this.#build(virtualProcess, disk, machineClock, options);
    this.#machines.set(name, { disk, clock: machineClock, options, process: virtualProcess, env });
    return env;
  }

  get names(): readonly string[] {
    return [...this.#machines.keys()];
  }

  process(name: string): VirtualProcess {
    return this.#machine(name).process;
  }

  disk(name: string): FakeDisk {
    return this.#machine(name).disk;
  }

  /** The process ends now: its env never calls back again. */
  crash(name: string, options: CrashOptions = {}): void {
    const machine = this.#machine(name);
    if (machine.process.crashed) return;
    this.log.note(this.clock.nowMs, `crash ${name}`);
    this.#end(machine, options);
  }

  /** A fresh env with the same disk; crashes the old one first if it still runs. */
  restart(name: string, options: CrashOptions = {}): Env {
    const machine = this.#machine(name);
    this.crash(name, options);
    this.log.note(this.clock.nowMs, `restart ${name}`);
    machine.process = new VirtualProcess(name, machine.process.incarnation + 1, this.clock);
    machine.env = this.#build(machine.process, machine.disk, machine.clock, machine.options);
    this.network.machineBack(name);
    return machine.env;
  }

  /** SIGSTOP: nothing of it runs; its kernel still holds its sockets. */
  pause(name: string): void {
    this.log.note(this.clock.nowMs, `pause ${name}`);
    this.#machine(name).process.pause();
    this.network.linksChanged();
  }

  /** SIGCONT: what was due meanwhile happens now. */
  resume(name: string): void {
    this.log.note(this.clock.nowMs, `resume ${name}`);
    this.#machine(name).process.resume();
  }

  /**
   * The machine's clocks jump: the monotonic one forward only, as after a suspended virtual machine; the wall clock either
   * way. Timers that run keep their time.
   */
  jumpClock(name: string, { monotonicMs = 0, wallMs = 0 }: { monotonicMs?: number; wallMs?: number }): void {
    assert(monotonicMs >= 0, "a monotonic clock does not go back");
    this.log.note(this.clock.nowMs, `clock of ${name} jumps by ${monotonicMs} ms, its wall clock by ${wallMs} ms`);
    const { clock } = this.#machine(name);
    clock.jumpedMs += monotonicMs;
    clock.wallJumpedMs += wallMs;
  }

  // ---- links ----

  /** Cuts every link between different groups. Links inside a group are mended; machines in no group keep theirs. */
  partition(...groups: readonly (readonly string[])[]): void {
    this.log.note(this.clock.nowMs, `partition ${groups.map((group) => group.join(" ")).join(" | ")}`);
    for (const group of groups) {
      for (const other of groups) {
        for (const a of group) {
          for (const b of other) {
            if (group === other) this.links.mend(a, b);
            else this.links.cut(a, b, this.clock.nowMs);
          }
        }
      }
    }
    this.network.linksChanged();
  }

  /** Cuts one link, or one direction of it. */
  cut(from: string, to: string, directions: "both" | "one-way" = "both"): void {
    this.log.note(this.clock.nowMs, `cut ${from} ${directions === "both" ? "<->" : "->"} ${to}`);
    this.links.cut(from, to, this.clock.nowMs);
    if (directions === "both") this.links.cut(to, from, this.clock.nowMs);
    this.network.linksChanged();
  }

  mend(a: string, b: string): void {
    this.log.note(this.clock.nowMs, `mend ${a} <-> ${b}`);
    this.links.mend(a, b);
    this.links.mend(b, a);
    this.network.linksChanged();
  }

  /** Resets every connection between two machines; nothing else is wrong with them. */
  breakConnections(a: string, b: string): void {
    this.log.note(this.clock.nowMs, `break connections ${a} <-> ${b}`);
    this.network.breakConnections(a, b);
  }

  /** Mends all links. */
  heal(): void {
    this.log.note(this.clock.nowMs, "heal");
    this.links.mendAll();
    this.network.linksChanged();
  }

  // ---- time ----

  get nowMs(): number {
    return this.clock.nowMs;
  }

  /** Lets exactly `ms` pass. */
  advance(ms: number): Promise<void> {
    return this.clock.advance(ms);
  }

  /** Only what is due right now, and all promise work. */
  settle(): Promise<void> {
    return this.clock.advance(0);
  }

  /** Runs until `predicate` holds; returns the virtual ms it took. Fails with the end of the trace after `limitMs`. */
  async runUntil(predicate: () => boolean, limitMs: number, what = "the awaited state"): Promise<number> {
    const tookMs = await this.clock.runUntil(predicate, limitMs);
    if (tookMs !== null) return tookMs;
    throw new InvariantError(
      `${what} comes within ${limitMs} ms (seed ${this.seed}); the last lines:\n${this.log.trace(40)}`,
    );
  }

  /** Lets time run until the promise settles; its value, or its rejection. */
  async run<T>(promise: Promise<T>, limitMs = 60_000): Promise<T> {
    let settled = false;
    const watched = promise.finally(() => {
      settled = true;
    });
    watched.catch(() => {}); // it is awaited below, after time has run
    await this.runUntil(() => settled, limitMs, "the promise's end");
    return watched;
  }

  // ---- inside ----

  #machine(name: string): Machine {
    const machine = this.#machines.get(name);
    assert(machine !== undefined, `there is a machine "${name}"`);
    return machine;
  }

  #end(machine: Machine, { disk = "power-loss", sockets = "close" }: CrashOptions): void {
    const ended = machine.process;
    ended.crash();
    this.network.processEnd(ended, sockets === "silent");
    this.#datagrams.processEnd(ended);
    if (disk === "power-loss") machine.disk.powerLoss();
    machine.disk.processEnd(ended);
  }

  #build(virtualProcess: VirtualProcess, disk: FakeDisk, jumps: Machine["clock"], options: EnvOptions): Env {
    const { name, incarnation } = virtualProcess;
    const random = createRandom(mix(this.seed, `${name} #${incarnation}`));
    const entropy = random.fork();
    const log = this.log.forProcess(virtualProcess, this.#options.logLevel ?? "debug");
    const rate = options.clockRate ?? 1;
    const clock = this.clock;
    const timer = (delayMs: number, callback: () => void): Timer => {
      if (virtualProcess.crashed) return { cancel: () => {} };
      const event = virtualProcess.schedule(delayMs, () => {
        virtualProcess.timers.delete(token);
        callback();
      });
      const token = {};
      virtualProcess.timers.add(token);
      return {
        cancel: () => {
          virtualProcess.timers.delete(token);
          event.cancel();
        },
      };
    };
    return {
      clock: {
        nowMs: () => clock.nowMs * rate + jumps.jumpedMs,
        wallMs: () => Math.floor(WALL_START_MS + clock.nowMs) + (options.wallOffsetMs ?? 0) + jumps.wallJumpedMs,
        setTimer: (delayMs, callback) => timer(delayMs > 0 ? Math.max(TIMER_LEAST_MS, delayMs) / rate : 0, callback),
        nextTurn: (callback) => timer(0, callback),
      },
      random: random.fork(),
      entropy: (byteCount) => Uint8Array.from({ length: byteCount }, () => entropy.below(256)),
      network: this.network.forProcess(virtualProcess, random.fork(), log),
      datagrams: this.#datagrams.forProcess(virtualProcess),
      disk: disk.forProcess(virtualProcess),
      log,
    };
  }
}
