/**
 * Lets the faults of a script strike. Whom one strikes is drawn from its own seed among those that can be struck at that
 * moment; what a fault cannot do (nobody left to crash, the budget is spent) it leaves, and then it is not counted.
 */
import { assertNever } from "../../core/assert.js";
import { createRandom, type Random } from "../../core/random.js";
import type { FakeDisk } from "../kit/fake-disk.js";
import type { LinkOptions } from "../kit/links.js";
import type { CrashOptions } from "../kit/virtual-world.js";
import type { SnatRequesters } from "./clients.js";
import type { Fault, FaultKind } from "./fault-script.js";
import { ClusterChanges } from "./cluster-changes.js";
import { WIPED, type ManagerProcess, type Process, type SimSite } from "./site.js";

const POWER_LOSS: CrashOptions = { disk: "power-loss" };
const KILL: CrashOptions = { disk: "process" };
/** Bytes free on a disk that is "full": not enough for a batch. */
const FULL_BYTES = 0;
const OVERLOAD_MAX = 200;
const CLOCK_JUMP_MAX_MS = 200_000;

export class Injector {
  readonly counts = new Map<FaultKind, number>();
  readonly changes: ClusterChanges;
  private readonly site: SimSite;
  private readonly requesters: SnatRequesters;
  private stopped = false;
  private endsAtMs = 0;

  constructor(site: SimSite, requesters: SnatRequesters) {
    this.site = site;
    this.requesters = requesters;
    this.changes = new ClusterChanges(site);
  }

  /** Puts the whole script on the world's clock, from now on. */
  start(): void {
    this.endsAtMs = this.site.world.nowMs + this.site.plan.faultMs;
    if (this.site.plan.clockRates.size > 0) this.count("clock drift");
    for (const fault of this.site.plan.faults) {
      this.site.world.clock.schedule(fault.atMs, () => {
        if (this.stopped) return;
        this.note(`fault: ${fault.kind}`);
        if (this.strike(fault, createRandom(fault.seed))) this.count(fault.kind);
        else this.note(`fault: ${fault.kind} could strike nobody`);
      });
    }
  }

  /** Ends every fault; what is down is started again by its supervisor. */
  stop(): void {
    this.stopped = true;
    const { world } = this.site;
    world.links.setDefault({ ...NO_FAULT, ...this.site.plan.link });
    world.links.clearSpecial();
    world.heal();
    for (const name of world.names) {
      world.disk(name).mend();
      if (world.process(name).state === "paused") world.resume(name);
    }
    for (const one of this.everybody())
      if (one.unit === null && !("damaged" in one && (one.damaged ?? null) !== null)) this.site.restartLater(one, 0);
  }

  private strike(fault: Fault, random: Random): boolean {
    const { kind } = fault;
    switch (kind) {
      case "loss":
        return this.weather(fault, { loss: 0.3 * fault.strength, streamLoss: 0.3 * fault.strength });
      case "duplication":
        return this.weather(fault, { duplicate: 0.5 * fault.strength });
      case "reordering":
        return this.weather(fault, { reorder: 0.5, detourMs: 50 * fault.strength });
      case "delay":
        return this.weather(fault, { delayMs: [1, 10 + 90 * fault.strength] });
      case "clogged link":
        return this.clog(fault, random);
      case "partition, symmetric":
      case "partition, one-way":
      case "partition, bridge":
      case "partition, grey":
        return this.partition(fault, random);
      case "crash":
        return this.crashOne(this.anyManager(random), KILL, random);
      case "silent crash":
        return this.crashOne(this.anyManager(random), { disk: "power-loss", sockets: "silent" }, random);
      case "unsynced writes lost":
        return this.crashOne(this.anyManager(random), POWER_LOSS, random);
      case "power loss of all":
        return this.all(random, POWER_LOSS, 0);
      case "restart of all, one by one":
        return this.all(random, KILL, 400);
      case "crash before a write":
      case "crash inside a write":
      case "crash after a write":
        return this.crashAtWrite(this.anyManager(random), kind, random);
      case "torn batch":
        return this.crashAtWrite(this.anyManager(random), "crash inside a write", random);
      case "leader kills in a burst":
        return this.killLeaders(2 + random.below(3), random);
      case "pause":
        return this.pause(this.anyManager(random), fault);
      case "MUX pause":
        return this.pause(this.pick(this.site.muxes.filter(runs), random), fault);
      case "clock jump":
        return this.jump(fault, random);
      case "clock drift":
        return false; // drawn with the plan
      case "MUX crash":
        return this.crashOne(
          this.pick(this.site.muxes.filter(runs), random),
          random.below(2) === 0 ? KILL : { sockets: "silent" },
          random,
        );
      case "agent crash":
        return this.crashOne(
          this.pick(this.site.agents.filter(runs), random),
          random.below(2) === 0 ? KILL : POWER_LOSS,
          random,
        );
      case "agent crash inside a write":
        return this.crashAtWrite(this.pick(this.site.agents.filter(runs), random), "crash inside a write", random);
      case "bit flip in the log":
      case "bit flip in the hard state":
      case "bit flip in a snapshot":
        return this.flip(kind, random);
      case "read error":
        return this.diskFault(random, (disk, one) => {
          this.site.crash(one, KILL, this.back(random));
          disk.failNextRead(1 + random.below(3));
        });
      case "fsync error":
        return this.diskFault(random, (disk) => disk.failNextSync(1));
      case "full disk":
        return this.diskFault(random, (disk) => {
          disk.setFreeBytes(FULL_BYTES);
          this.later(fault.forMs, () => disk.mend());
        });
      case "disk stall":
        return this.diskFault(random, (disk) => {
          // A sync that began in the stall ends with it, and all faults end together: liveness is asked for from then on.
          const leftMs = this.endsAtMs - this.site.world.nowMs - fault.forMs;
          disk.slowSync(Math.max(5, Math.min(5 + fault.strength * fault.strength * 5_000, leftMs)));
          this.later(fault.forMs, () => disk.slowSync(0));
        });
      case "wipe":
        return this.wipe(random);
      case "re-addition":
        return this.changes.replaceDamaged();
      case "membership change":
        return this.changes.change(random);
      case "transfer storm":
        return this.changes.transferStorm(2 + random.below(8), random);
      case "overload":
        this.requesters.overload(20 + Math.floor(fault.strength * OVERLOAD_MAX));
        return true;
      default:
        return assertNever(kind);
    }
  }

  // ---- wires ----

  private weather(fault: Fault, options: Partial<LinkOptions>): boolean {
    const { links } = this.site.world;
    links.setDefault(options);
    this.later(fault.forMs, () => links.setDefault({ ...NO_FAULT, ...this.site.plan.link }));
    return true;
  }

  private clog(fault: Fault, random: Random): boolean {
    const names = this.everybody().map(({ name }) => name);
    const { links } = this.site.world;
    for (let n = 1 + random.below(4); n > 0; n--) {
      const [from, to] = [this.pick(names, random), this.pick(names, random)];
      if (from === null || to === null || from === to) continue;
      const delayMs = 20 + 1_000 * fault.strength;
      links.setOneWay(from, to, { delayMs: [delayMs, delayMs] });
      this.later(fault.forMs * random.nextFloat(), () => links.setOneWay(from, to, null));
    }
    return true;
  }

  private partition(fault: Fault, random: Random): boolean {
    const { world } = this.site;
    const managers = this.site.managers.filter(({ retired }) => !retired).map(({ name }) => name);
    const others = [...this.site.muxes, ...this.site.agents].map(({ name }) => name);
    const sides = (names: readonly string[]): readonly [string[], string[]] => {
      const split: [string[], string[]] = [[], []];
      for (const name of names) split[random.below(2) as 0 | 1].push(name);
      return split;
    };
    if (fault.kind === "partition, symmetric") {
      const [a, b] = sides([...managers, ...others]);
      world.partition(a, b);
    } else if (fault.kind === "partition, one-way") {
      const [a, b] = sides([...managers, ...others]);
      for (const from of a) for (const to of b) world.cut(from, to, "one-way");
    } else if (fault.kind === "partition, bridge") {
      const bridge = this.pick(managers, random);
      const [a, b] = sides(managers.filter((name) => name !== bridge));
      for (const one of a) for (const other of b) world.cut(one, other);
    } else {
      const [a, b] = sides([...managers, ...others]);
      const grey = { streamLoss: 0.05 + 0.35 * fault.strength, loss: 0.05 + 0.35 * fault.strength, retransmitMs: 200 };
      for (const from of a) for (const to of b) world.links.setOneWay(from, to, grey);
    }
    this.later(fault.forMs, () => {
      world.links.clearSpecial();
      world.heal();
    });
    return true;
  }

  // ---- processes ----

  private crashOne(one: Process<unknown> | null, options: CrashOptions, random: Random): boolean {
    if (one === null) return false;
    this.site.crash(one, options, this.back(random));
    return true;
  }

  private crashAtWrite(one: Process<unknown> | null, kind: FaultKind, random: Random): boolean {
    if (one === null) return false;
    const disk = this.site.world.disk(one.name);
    let left = 1 + random.below(12);
    const backMs = this.back(random);
    const inside = 0.3 * random.nextFloat();
    const start = one.starts;
    const end = (): void => {
      if (one.starts === start) this.site.crash(one, POWER_LOSS, backMs);
    };
    disk.onWrite = (moment) => {
      if (moment !== (kind === "crash after a write" ? "completed" : "issued") || --left > 0) return;
      disk.onWrite = null;
      if (kind === "crash inside a write") this.later(inside, end);
      else end();
    };
    return true;
  }

  private all(random: Random, options: CrashOptions, everyMs: number): boolean {
    const all = this.site.managers.filter(({ retired }) => !retired);
    all.forEach((one, at) => {
      const backMs = this.back(random);
      if (everyMs === 0) this.site.crash(one, options, one.damaged === null ? backMs : null);
      else this.later(everyMs * at, () => (runs(one) ? this.site.crash(one, options, 100) : undefined));
    });
    return all.length > 0;
  }

  private killLeaders(times: number, random: Random): boolean {
    const leader = this.site.leader();
    if (leader === null) return false;
    this.site.crash(leader, KILL, this.back(random));
    if (times > 1) this.later(100 + random.below(300), () => this.killLeaders(times - 1, random));
    return true;
  }

  private pause(one: Process<unknown> | null, fault: Fault): boolean {
    const { world } = this.site;
    if (one === null || world.process(one.name).state !== "running") return false;
    const { incarnation } = world.process(one.name);
    world.pause(one.name);
    this.later(fault.forMs * 2, () => {
      const now = world.process(one.name);
      if (now.incarnation === incarnation && now.state === "paused") world.resume(one.name);
    });
    return true;
  }

  private jump(fault: Fault, random: Random): boolean {
    const one = random.below(2) === 0 ? this.site.leader() : this.pick(this.everybody().filter(runs), random);
    if (one === null) return false;
    const wallMs = (random.below(2) === 0 ? 1 : -1) * 3_600_000 * fault.strength;
    this.site.world.jumpClock(one.name, {
      wallMs,
      monotonicMs: random.below(2) === 0 ? fault.strength * CLOCK_JUMP_MAX_MS : 0,
    });
    return true;
  }

  // ---- disks ----

  private diskFault(random: Random, work: (disk: FakeDisk, one: ManagerProcess) => void): boolean {
    const one = this.anyManager(random);
    if (one === null) return false;
    work(this.site.world.disk(one.name), one);
    return true;
  }

  /** A bit of the medium changes while the replica is down; it is noticed at the next start, or never needed. */
  private flip(kind: FaultKind, random: Random): boolean {
    const one = this.damageable(random);
    if (one === null) return false;
    const disk = this.site.world.disk(one.name);
    const flipped = (bytes: Uint8Array): Uint8Array => {
      const copy = bytes.slice();
      const bit = random.below(copy.length * 8);
      copy[bit >> 3]! ^= 1 << (bit & 7); // below length
      return copy;
    };
    if (kind === "bit flip in the hard state") {
      const path = this.pick(disk.filePaths, random);
      if (path === null || disk.fileContent(path).length === 0) return false;
      this.site.crash(one, KILL, this.back(random));
      disk.tamperFile(path, flipped);
    } else {
      const tag = (kind === "bit flip in the log" ? "B" : "C").charCodeAt(0);
      const found = disk.storeFolders.flatMap((folder) =>
        disk
          .storeEntries(folder)
          .filter(({ key, value }) => key[0] === tag && value.length > 0)
          .map((entry) => ({ folder, entry })),
      );
      const chosen = this.pick(found, random);
      if (chosen === null) return false;
      this.site.crash(one, KILL, this.back(random));
      disk.tamperStore(chosen.folder, [{ key: chosen.entry.key, value: flipped(chosen.entry.value) }]);
    }
    one.damaged ??= kind;
    return true;
  }

  private wipe(random: Random): boolean {
    const one = this.damageable(random);
    if (one === null) return false;
    this.site.crash(one, POWER_LOSS, this.back(random));
    this.site.world.disk(one.name).wipe();
    one.damaged = WIPED;
    return true;
  }

  // ---- whom ----

  /** A replica whose durable state may be lost: within the budget, a minority of the voters at a time. */
  private damageable(random: Random): ManagerProcess | null {
    const members = this.site.managers.filter(({ retired }) => !retired);
    const damaged = members.filter(({ damaged: why }) => why !== null);
    const most = this.site.plan.budget === "within" ? this.changes.damageAllowed() : members.length;
    if (damaged.length >= most) return null;
    return this.pick(
      members.filter((one) => runs(one) && one.damaged === null && !one.joined),
      random,
    );
  }

  private anyManager(random: Random): ManagerProcess | null {
    const running = this.site.managers.filter(runs);
    const leader = this.site.leader();
    return leader !== null && random.below(3) === 0 ? leader : this.pick(running, random);
  }

  private everybody(): readonly Process<unknown>[] {
    return [...this.site.managers.filter(({ retired }) => !retired), ...this.site.muxes, ...this.site.agents];
  }

  private pick<T>(items: readonly T[], random: Random): T | null {
    return items.length === 0 ? null : items[random.below(items.length)]!; // below length
  }

  private back(random: Random): number {
    return this.site.drawRestartMs(random.nextFloat());
  }

  private later(delayMs: number, work: () => void): void {
    this.site.world.clock.schedule(delayMs, () => {
      if (!this.stopped) work();
    });
  }

  private count(kind: FaultKind): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }

  private note(text: string): void {
    this.site.world.log.note(this.site.world.nowMs, text);
  }
}

const runs = (one: Process<unknown>): boolean => one.unit !== null;

const NO_FAULT: Partial<LinkOptions> = {
  delayMs: [0.1, 0.4],
  loss: 0,
  duplicate: 0,
  reorder: 0,
  detourMs: 2,
  streamLoss: 0,
  retransmitMs: 60,
};
