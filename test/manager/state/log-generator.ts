/**
 * Random logs for property tests: commands as a busy site would send them, with enough mistakes, retries and reorderings
 * that every refusal is met too. The generator looks at the state only to make commands that have a chance to succeed.
 */
import type { DipId, HostId, LogIndex, MuxId, PoolId, Port } from "../../../core/brands.js";
import type { Random } from "../../../core/random.js";
import type {
  ApplyObject,
  Command,
  CommandBatch,
  HeldRange,
  RangeBlock,
  SubmittedCommand,
} from "../../../manager/state/commands/commands.js";
import { beginEpoch, COMMAND_FORMAT_VERSION } from "../../../manager/state/commands/commands.js";
import type { ObjectRef, PoolMember, VipRule } from "../../../manager/state/objects.js";
import type { StateMachine } from "../../../manager/state/state-machine.js";
import { HASH_KEY, ip, poolRef, vipRef } from "./fixture.js";
import { memberSpec, outboundSpec, poolSpec, probeSpec, ruleSpec, vipSpec } from "./specs.js";

const TENANTS = ["default", "blue"];
const POOLS = ["a", "b", "c", "d"];
const VIPS = ["v1", "v2", "v3"];
const HOSTS = ["h1", "h2", "h3"];
const MUXES = ["m1", "m2", "m3"];
const DIPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
const ADDRESSES = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "10.0.0.6"];
/** Few, and in ranges that SNAT might own. */
const RULE_PORTS = [53, 80, 1024, 1030, 1040, 1100, 1200, 8080];
/** Clients that are at work at any time. */
const CLIENTS = 4;

const sessionName = (count: number): string => count.toString(16).padStart(32, "0");

export class LogGenerator {
  private readonly random: Random;
  private readonly machine: StateMachine;
  private clusterTimeMs = 0;
  private muxSafeIndex = 0;
  private readonly sequences = new Map<string, number>();
  private readonly sessions = Array.from({ length: CLIENTS }, (_, client) => sessionName(client));
  private sessionsMade = CLIENTS;
  private readonly sent: SubmittedCommand[] = [];
  private readonly story: (() => Command)[] = [];
  private storyIndex = 0;
  private stories = 0;

  /** `machine` is where the log is applied; read only. */
  constructor(random: Random, machine: StateMachine) {
    this.random = random;
    this.machine = machine;
  }

  /** The next entry. */
  batch(): CommandBatch {
    // Mostly milliseconds, sometimes minutes, seldom more than a session lives; now and then a clock that lags.
    const elapsed = this.pick([1, 5, 50, 1000, 30_000, 61_000, 130_000, this.chance(0.2) ? 700_000 : 10]);
    this.clusterTimeMs += elapsed;
    if (this.chance(0.7)) this.muxSafeIndex = this.machine.appliedIndex;
    const commands: SubmittedCommand[] = [];
    for (let left = this.random.below(4) + 1; left > 0; left--) commands.push(this.submitted());
    return {
      formatVersion: COMMAND_FORMAT_VERSION,
      clusterTimeMs: this.chance(0.05) ? 0 : this.clusterTimeMs,
      wallMs: 0,
      muxSafeIndex: this.muxSafeIndex as LogIndex,
      commands,
    };
  }

  private submitted(): SubmittedCommand {
    const old = this.pick(this.sent);
    if (old !== undefined && this.chance(0.1)) return old;
    const command = this.command();
    if (this.chance(0.4)) return { origin: null, command };
    const session = this.session();
    const next = (this.sequences.get(session) ?? 0) + 1 + (this.chance(0.1) ? this.random.below(70) : 0);
    this.sequences.set(session, next);
    const sequence = this.chance(0.1) ? Math.max(1, next - this.random.below(80)) : next;
    const submitted = { origin: { session, sequence }, command };
    if (this.chance(0.3)) this.sent.push(submitted);
    return submitted;
  }

  /** A client whose session has expired mostly notices it, and begins another. */
  private session(): string {
    const client = this.random.below(CLIENTS);
    const session = this.sessions[client] ?? sessionName(client);
    if (!this.sequences.has(session) || this.machine.hasSession(session) || this.chance(0.2)) return session;
    const next = sessionName(this.sessionsMade++);
    this.sessions[client] = next;
    return next;
  }

  /**
   * A new pool and a VIP that names it, then the pool once more, then what was prepared up to the VIP is activated: the VIP has to
   * wait for its pool. Then machines that a new process of their host gives up, with their ports, and takes on again without.
   */
  private beginStory(): void {
    const name = `s${this.stories++}`;
    const address = ip(`198.51.100.${100 + (this.stories % 100)}`);
    const common = { labels: {}, expectedGeneration: null };
    const members = DIPS.slice(0, 2).map((dip) => memberSpec({ dip: ip(dip), port: 0 as Port, weight: 100 }));
    const aPool = (count: number): ApplyObject => ({
      ...{ ref: poolRef(name), ...common },
      object: { kind: "BackendPool", spec: poolSpec({ members: members.slice(0, count), maxMembers: 10 }) },
    });
    const outbound = outboundSpec({ pools: [name], maxPorts: 64 });
    const aVip: ApplyObject = {
      ...{ ref: vipRef(name), ...common },
      object: { kind: "Vip", spec: vipSpec({ address, rules: [], outbound }) },
    };
    let prepared = 0;
    const start = (bootId: string, addresses: readonly string[], keeps: boolean): Command => {
      const dips = addresses.map((text) => ({ tenant: "default", address: ip(text), locator: ip(text) }));
      const owned = keeps ? this.machine.snatBlocks({}).filter(({ state }) => state === "owned") : [];
      const heldRanges = owned.map(({ vip, protocol, range, count, dip }) => {
        return { vip, protocol, range, count, dip: dip.address, tenant: dip.tenant };
      });
      return { kind: "register-host", name: "h1", bootId, dips, heldRanges };
    };
    const asking = (dip: string): Command => {
      const dipId = this.machine.dipAt("default", ip(dip))?.dipId ?? (1 as DipId);
      return { kind: "allocate-snat", ...this.requester(dipId), protocol: 6, ports: 40 };
    };
    const own = DIPS.slice(0, 2);
    this.story.push(
      () => ({ kind: "apply-objects", objects: [aPool(1), aVip] }),
      () => {
        prepared = this.machine.appliedIndex;
        return { kind: "apply-objects", objects: [aPool(2)] };
      },
      () => ({ kind: "activate", upToIndex: prepared as LogIndex }),
      () => ({ kind: "activate", upToIndex: this.machine.appliedIndex }),
      () => start(`${name}-1`, own, true),
      () => asking(own[0]!), // a DIP of the list
      () => start(`${name}-2`, own.slice(1), true),
      () => start(`${name}-2`, own, false),
    );
  }

  private command(): Command {
    const next = this.story[0];
    if (next !== undefined && this.storyIndex < this.machine.appliedIndex) {
      this.storyIndex = this.machine.appliedIndex; // one step in an entry
      this.story.shift();
      return next();
    }
    if (this.stories < 2 && this.story.length === 0 && this.chance(0.03)) this.beginStory();
    const roll = this.random.below(100);
    if (roll < 2) return { kind: "bootstrap", clusterId: "random", clusterEpoch: 1, hashKey: HASH_KEY };
    if (roll < 4) return { kind: "start-replica", nodeId: (this.random.below(3) + 1) as never, bootId: this.bootId() };
    if (roll < 20) return { kind: "apply-objects", objects: this.list(3, () => this.object()) };
    if (roll < 24) {
      const objects = this.list(3, () => ({ ref: this.ref(), expectedGeneration: this.generation() }));
      return { kind: "delete-objects", objects };
    }
    if (roll < 34) {
      const upTo = Math.max(0, this.machine.appliedIndex - (this.chance(0.5) ? 0 : this.random.below(6)));
      return { kind: "activate", upToIndex: upTo as LogIndex };
    }
    if (roll < 35 && this.chance(0.2)) return beginEpoch((this.machine.clusterEpoch || 1) + this.random.below(2));
    if (roll < 36) return { kind: "fence-host", name: this.pick([...HOSTS, "none"]), reason: "random" };
    if (roll < 42) return this.registration();
    if (roll < 47) return this.join();
    if (roll < 48 && this.chance(0.5)) {
      const name = this.pick([...MUXES, "none"]) ?? "";
      return this.chance(0.5)
        ? { kind: "undrain-mux", name }
        : { kind: "drain-mux", name, reason: "random", force: this.chance(0.3) };
    }
    if (roll < 50) {
      const muxId = (this.random.below(3) + 1) as MuxId;
      const incarnation = this.machine.muxes()[muxId - 1]?.incarnation ?? 1;
      return { kind: this.chance(0.5) ? "leave-mux" : "lose-mux", muxId, incarnation: this.slightlyOff(incarnation) };
    }
    if (roll < 54) return this.health();
    if (roll < 56) return this.leases();
    if (roll < 58) {
      const { tenant, name } = vipRef(this.pick(VIPS), this.tenant());
      if (this.chance(0.3)) return { kind: "restore-vip", tenant, name };
      const forSeconds = this.pick([0, 30, 600]);
      return { kind: "withdraw-vip", tenant, name, reason: "flood", forSeconds, isOverload: this.chance(0.5) };
    }
    if (roll < 80) return this.allocation();
    if (roll < 96) return this.release();
    return { kind: "tick" };
  }

  private ref(): ObjectRef {
    const tenant = this.tenant();
    if (this.chance(0.08)) return { kind: "Tenant", tenant, name: tenant };
    if (this.chance(0.1)) return { kind: "SecurityGroup", tenant, name: "g1" };
    return this.chance(0.5) ? poolRef(this.pick(POOLS) ?? "", tenant) : vipRef(this.pick(VIPS) ?? "", tenant);
  }

  private object(): ApplyObject {
    const ref = this.ref();
    const common = {
      ref,
      labels: this.chance(0.2) ? { team: this.bootId() } : {},
      expectedGeneration: this.generation(),
    };
    if (ref.kind === "BackendPool") {
      const members = this.list(4, (): PoolMember => {
        const port = (this.chance(0.3) ? 9000 : 0) as Port;
        const weight = this.pick([0, 50, 100]) ?? 1;
        const role = this.chance(0.8) ? "primary" : "backup";
        const adminState = this.pick(["none", "none", "up", "down"] as const);
        return { dip: ip(this.pick(DIPS) ?? ""), port, weight, role, adminState };
      });
      const spec = poolSpec({
        members,
        maxMembers: this.chance(0.95) ? 10 : 20,
        failoverPercent: this.pick([0, 0, 50]),
        allDown: this.pick(["drop", "failOpen"] as const),
        tcpOnDown: this.pick(["persist", "reset"] as const),
        drainTimeoutSeconds: this.pick([0, 1, 60, 3_600]),
        probe: this.chance(0.5)
          ? null
          : probeSpec({ protocol: this.pick(["tcp", "http", "udp"] as const), port: 0 as Port }),
        securityGroups: this.groups(),
      });
      return { ...common, object: { kind: "BackendPool", spec } };
    }
    if (ref.kind === "SecurityGroup") {
      const rules = this.list(2, () => {
        const peer = this.pick(["0.0.0.0/0", "probe", "sg:g1"]);
        return { direction: "in", protocol: "tcp", ports: [], peer, action: "allow", priority: 100 } as const;
      });
      return { ...common, object: { kind: "SecurityGroup", spec: { rules } } };
    }
    if (ref.kind === "Tenant") {
      const addressSpaces = this.pick([[], ["10.0.0.0/8"], ["192.168.0.0/16"]]);
      const spec = { weight: this.pick([1, 5]), addressSpaces, maxVips: this.pick([0, 0, 1]), maxRulesPerVip: 1_500 };
      return { ...common, object: { kind: "Tenant", spec } };
    }
    const rules = this.list(3, (): VipRule => {
      const port = (this.pick(RULE_PORTS) ?? 80) as Port;
      const protocol = this.chance(0.7) ? "tcp" : "udp";
      const backendPort = (this.chance(0.5) ? port : 8000) as Port;
      const pool = this.poolName(ref.tenant);
      const distribution = this.pick(["fiveTuple", "clientIp"] as const);
      return ruleSpec({ name: `${protocol}-${port}`, protocol, port, pool, backendPort, distribution });
    });
    const inboundNat = this.chance(0.8)
      ? []
      : [
          {
            name: "nat",
            protocol: "tcp" as const,
            ports: this.pick(["2000-2001", "2000-2009", "2005-2012"]),
            pool: this.poolName(ref.tenant),
            backendPort: 22 as Port,
          },
        ];
    const pools = [...new Set(this.list(2, () => this.poolName(ref.tenant)))];
    const outbound =
      pools.length === 0
        ? null
        : outboundSpec({
            pools,
            maxPorts: this.pick([64, 1024, 64_512]) ?? 64,
            minPorts: this.pick([0, 64]),
            selection: this.pick(["spread", "paired"] as const),
          });
    // Mostly the VIP's own address, so that changes of one VIP succeed.
    const own = ADDRESSES[VIPS.indexOf(ref.name) + (ref.tenant === "blue" ? 1 : 0)];
    const address = ip((this.chance(0.9) ? own : this.pick(ADDRESSES)) ?? "198.51.100.4");
    return {
      ...common,
      object: {
        kind: "Vip",
        spec: vipSpec({
          address,
          rules,
          outbound,
          inboundNat,
          scope: this.pick(["public", "internal"] as const),
          adminState: this.chance(0.9) ? "up" : "down",
          securityGroups: this.groups(),
        }),
      },
    };
  }

  private groups(): readonly string[] {
    return this.chance(0.8) ? [] : ["g1"];
  }

  /** Mostly one that exists. */
  private poolName(tenant: string): string {
    const names = this.machine.objects("BackendPool", tenant).map((pool) => pool.ref.name);
    return (this.chance(0.97) ? this.pick(names) : undefined) ?? this.pick([...POOLS, "none"]);
  }

  private registration(): Command {
    const name = this.pick(HOSTS) ?? "";
    const at = HOSTS.indexOf(name) * 2;
    // Mostly the host's own DIPs; sometimes fewer, sometimes a neighbour's.
    const own = DIPS.slice(at, at + 2).filter(() => this.chance(0.8));
    const addresses = this.chance(0.1) ? [...new Set([...own, this.pick(DIPS) ?? ""])] : own;
    const dips = addresses.map((address) => {
      const last = this.random.below(4) + 100;
      const elsewhere = ip(this.chance(0.2) ? `2001:db8:1::${last}` : `192.0.2.${last}`);
      const locator = this.chance(0.1) ? elsewhere : ip(address);
      return { tenant: this.chance(0.95) ? "default" : "blue", address: ip(address), locator };
    });
    const heldRanges = this.machine
      .snatBlocks({})
      .filter((owned) => this.chance(owned.state === "owned" ? 0.6 : 0.1))
      .map((owned): HeldRange => ({ ...this.part(owned), dip: owned.dip.address, tenant: owned.dip.tenant }));
    // Often the same process once more, with DIPs that it did not have before.
    const running = this.machine.hostByName(name)?.bootId;
    const bootId = running !== undefined && this.chance(0.4) ? running : this.bootId();
    return { kind: "register-host", name, bootId, dips, heldRanges };
  }

  private health(): Command {
    const host = this.pick(this.machine.hosts());
    if (host === undefined) return { kind: "tick" };
    const transitions = this.list(3, () => ({
      poolId: (this.random.below(5) + 1) as PoolId,
      dipId: this.pick(host.dips) ?? (1 as DipId),
      healthy: this.chance(0.4),
      reason: "connection refused",
    }));
    return { kind: "report-health", hostId: host.hostId, incarnation: this.slightlyOff(host.incarnation), transitions };
  }

  private leases(): Command {
    const hosts = this.machine.hosts().flatMap(({ hostId, incarnation }) => {
      return this.chance(0.5) ? [{ hostId, incarnation: this.slightlyOff(incarnation) }] : [];
    });
    return { kind: this.chance(0.6) ? "expire-hosts" : "renew-hosts", hosts };
  }

  private join(): Command {
    const name = this.pick(MUXES) ?? "";
    const address = ip(`192.0.2.${this.chance(0.9) ? MUXES.indexOf(name) + 1 : 2}`);
    const capacity = { rules: this.pick([3, 6, 1000]) ?? 1000, snatRanges: this.pick([40, 400, 100_000]) ?? 100_000 };
    const join = { kind: "join-mux", name, bootId: this.bootId(), address, capacity } as const;
    return this.chance(0.3) ? join : { ...join, addressIpv6: ip(`2001:db8:255::${address.split(".")[3] ?? ""}`) };
  }

  private allocation(): Command {
    const hosted = this.machine.hosts().flatMap(({ dips }) => dips);
    const any = (this.random.below(DIPS.length) + 1) as DipId;
    const dipId = hosted.length > 0 && this.chance(0.8) ? this.pick(hosted) : any;
    // Seldom so much that a VIP is used up: the checks after every entry walk over every range.
    const much = this.chance(0.03) ? this.random.below(64_512) + 1 : 512;
    // 40 and 800 round up to blocks of exactly what VIPs allow a DIP.
    const ports = this.pick([1, 8, 9, 40, 40, 64, 100, 300, 800, much]);
    return { kind: "allocate-snat", ...this.requester(dipId), protocol: this.chance(0.7) ? 6 : 17, ports };
  }

  private release(): Command {
    const blocks = this.machine.snatBlocks({});
    const first = this.pick(blocks);
    if (first === undefined) return { kind: "tick" };
    const same = blocks.filter((other) => other.dip.dipId === first.dip.dipId && this.chance(0.3));
    const chosen = this.chance(0.9) ? same : [...same, first];
    const named = chosen.map((owned) => this.part(owned));
    const stranger = (this.random.below(DIPS.length) + 1) as DipId;
    return {
      kind: "release-snat",
      ...this.requester(this.chance(0.95) ? first.dip.dipId : stranger),
      blocks: named,
    };
  }

  private part({ vip, protocol, range, count }: RangeBlock): RangeBlock {
    if (this.chance(0.6)) return { vip, protocol, range, count };
    const skip = this.random.below(count);
    return { vip, protocol, range: range + skip, count: this.random.below(count - skip) + 1 };
  }

  private requester(dipId: DipId): { hostId: HostId; incarnation: number; dipId: DipId } {
    const host = this.machine.hosts().find((candidate) => candidate.dips.includes(dipId)) ?? this.machine.hosts()[0];
    return { hostId: host?.hostId ?? (1 as HostId), incarnation: this.slightlyOff(host?.incarnation ?? 1), dipId };
  }

  private slightlyOff(incarnation: number): number {
    return this.chance(0.95) ? incarnation : incarnation + 1;
  }

  private generation(): number | null {
    return this.chance(0.9) ? null : this.random.below(3);
  }

  private tenant(): string {
    return this.chance(0.85) ? "default" : (this.pick(TENANTS) ?? "default");
  }

  private bootId(): string {
    return `boot-${this.random.below(3)}`;
  }

  private list<Item>(max: number, make: () => Item): readonly Item[] {
    return Array.from({ length: this.random.below(max) + (this.chance(0.9) ? 1 : 0) }, make);
  }

  private pick<Item>(items: readonly Item[]): Item {
    return items[this.random.below(items.length)] as Item;
  }

  private chance(probability: number): boolean {
    return this.random.nextFloat() < probability;
  }
}
