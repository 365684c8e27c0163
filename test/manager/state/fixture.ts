/**
 * A state machine with the clock and the log in the test's hand, and short ways to say what operators, agents and MUXes
 * say. Every command goes through its bytes, as in the real log.
 */
import { expect, vi } from "vitest";
import { parseIpAddress } from "../../../core/address.js";
import type { DipId, HostId, IpAddress, LogIndex, MuxId, Port } from "../../../core/brands.js";
import { type HostItem, hostItemKey } from "../../../dataplane/host-items.js";
import { type MuxItem, muxItemKey } from "../../../dataplane/mux-items.js";
import {
  type ApplyObject,
  COMMAND_FORMAT_VERSION,
  type Command,
  type HeldRange,
  type MuxCapacity,
  type Origin,
  type RangeBlock,
} from "../../../manager/state/commands/commands.js";
import {
  type InspectableStateMachine,
  createStateMachine,
  decodeBatch,
  encodeBatch,
} from "../../../manager/state/index.js";
import { assertInvariants } from "../../../manager/state/invariants.js";
import type { BackendPoolSpec, ObjectRef, PoolMember, VipRule, VipSpec } from "../../../manager/state/objects.js";
import type { AppliedBatch, CommandResult, CommandValue } from "../../../manager/state/commands/results.js";
import { memberSpec, outboundSpec, poolSpec, ruleSpec, vipSpec } from "./specs.js";

// Every step checks the whole state, which takes a moment when all ports of a VIP are owned.
vi.setConfig({ testTimeout: 60_000 });

export const HASH_KEY = "0123456789abcdef";

export function ip(text: string): IpAddress {
  const address = parseIpAddress(text);
  if (address === null) throw new Error(`not an address: ${text}`);
  return address;
}

export const poolRef = (name: string, tenant = "default"): ObjectRef => ({ kind: "BackendPool", tenant, name });
export const vipRef = (name: string, tenant = "default"): ObjectRef => ({ kind: "Vip", tenant, name });

/** "10.0.0.1", "10.0.0.2:8080" or "10.0.0.3*50" (weight). */
export function member(text: string): PoolMember {
  const [, dip = "", port = "0", weight = "100"] = /^([^:*]+|[0-9a-f:]+)(?::(\d+))?(?:\*(\d+))?$/.exec(text) ?? [];
  return memberSpec({ dip: ip(dip), port: Number(port) as Port, weight: Number(weight) });
}

export interface PoolOptions {
  readonly spec?: Partial<BackendPoolSpec>;
  readonly maxMembers?: number;
  readonly tenant?: string;
  readonly expectedGeneration?: number | null;
  readonly labels?: Readonly<Record<string, string>>;
}

export function pool(name: string, members: readonly string[], options: PoolOptions = {}): ApplyObject {
  const { maxMembers = 20, tenant, expectedGeneration = null, labels = {} } = options;
  return {
    ref: poolRef(name, tenant),
    labels,
    object: { kind: "BackendPool", spec: poolSpec({ members: members.map(member), maxMembers, ...options.spec }) },
    expectedGeneration,
  };
}

export interface VipOptions {
  readonly spec?: Partial<VipSpec>;
  /** "tcp/80 -> web" or "tcp/80 -> web:8080" */
  readonly rules?: readonly string[];
  readonly outbound?: readonly string[];
  readonly maxPorts?: number;
  readonly tenant?: string;
  readonly expectedGeneration?: number | null;
  readonly labels?: Readonly<Record<string, string>>;
}

export function rule(text: string): VipRule {
  const [, protocol, port, target = "", backendPort] = /^(tcp|udp)\/(\d+) -> ([a-z0-9-]+)(?::(\d+))?$/.exec(text) ?? [];
  if (protocol === undefined) throw new Error(`not a rule: ${text}`);
  return ruleSpec({
    name: `${protocol}-${port ?? ""}`,
    protocol: protocol === "tcp" ? "tcp" : "udp",
    port: Number(port) as Port,
    pool: target,
    backendPort: Number(backendPort ?? port) as Port,
  });
}

export function vip(name: string, address: string, options: VipOptions = {}): ApplyObject {
  const { rules = [], outbound = [], maxPorts = 64_512, tenant, expectedGeneration = null, labels = {} } = options;
  const spec = vipSpec({
    address: ip(address),
    rules: rules.map(rule),
    outbound: outbound.length === 0 ? null : outboundSpec({ pools: outbound, maxPorts }),
    ...options.spec,
  });
  return { ref: vipRef(name, tenant), labels, object: { kind: "Vip", spec }, expectedGeneration };
}

/** "198.51.100.1/6:1024-1087": ports, both ends included. */
export function block(text: string): RangeBlock {
  const [, address = "", protocol, first, last] = /^(.+)\/(6|17):(\d+)-(\d+)$/.exec(text) ?? [];
  const range = Number(first) >> 3;
  return { vip: ip(address), protocol: protocol === "6" ? 6 : 17, range, count: ((Number(last) + 1) >> 3) - range };
}

export const blockText = ({ vip: address, protocol, range, count }: RangeBlock): string =>
  `${address}/${protocol}:${range * 8}-${(range + count) * 8 - 1}`;

export const LARGE: MuxCapacity = { rules: 10_000, snatRanges: 200_000, ipv6: true };

/** What a receiver of a view holds, kept by changes alone. */
export type Held<Item> = Map<string, Item>;

export class Site {
  readonly machine: InspectableStateMachine = createStateMachine();
  readonly muxView: Held<MuxItem> = new Map();
  readonly hostViews = new Map<HostId, Held<HostItem>>();
  index = 0;
  nowMs = 0;
  muxSafeIndex = 0;
  last: AppliedBatch | null = null;

  /** One entry with these commands; checks invariants and that the changes lead from the old views to the new ones. */
  applyAll(commands: readonly Command[], origins: readonly (Origin | null)[] = []): AppliedBatch {
    this.index += 1;
    const bytes = encodeBatch({
      formatVersion: COMMAND_FORMAT_VERSION,
      clusterTimeMs: this.nowMs,
      wallMs: 0,
      muxSafeIndex: this.muxSafeIndex as LogIndex,
      commands: commands.map((command, at) => ({ origin: origins[at] ?? null, command })),
    });
    const applied = this.machine.apply(decodeBatch(bytes), this.index as LogIndex);
    this.last = applied;
    assertInvariants(this.machine.inspect());
    this.follow(applied);
    return applied;
  }

  apply(command: Command, origin: Origin | null = null): CommandResult {
    const [result] = this.applyAll([command], [origin]).results;
    if (result === undefined) throw new Error("one answer per command");
    return result;
  }

  /** Applies what must succeed and gives its value. */
  ok<Kind extends CommandValue["kind"]>(kind: Kind, command: Command): Extract<CommandValue, { kind: Kind }> {
    const result = this.apply(command);
    if (!result.ok) throw new Error(`${result.code}: ${result.message}`);
    expect(result.value.kind).toBe(kind);
    return result.value as Extract<CommandValue, { kind: Kind }>;
  }

  /** Applies what must be refused; nothing but time may change. */
  refused(command: Command, origin: Origin | null = null): CommandResult & { readonly ok: false } {
    const items = JSON.stringify([...this.machine.muxItems()]);
    const result = this.apply(command, origin);
    if (result.ok) throw new Error("it was not refused");
    expect(this.last?.muxChanges).toEqual([]);
    expect([...(this.last?.hostChanges ?? [])]).toEqual([]);
    expect(JSON.stringify([...this.machine.muxItems()])).toBe(items);
    return result;
  }

  bootstrap(): void {
    this.ok("none", { kind: "bootstrap", clusterId: "test", clusterEpoch: 1, hashKey: HASH_KEY });
  }

  applyObjects(...objects: readonly ApplyObject[]): CommandResult {
    return this.apply({ kind: "apply-objects", objects });
  }

  /** Prepares and activates. */
  configure(...objects: readonly ApplyObject[]): void {
    this.ok("objects-applied", { kind: "apply-objects", objects });
    this.activate();
  }

  delete(...refs: readonly ObjectRef[]): CommandResult {
    return this.apply({ kind: "delete-objects", objects: refs.map((ref) => ({ ref, expectedGeneration: null })) });
  }

  activate(upToIndex = this.index): void {
    this.ok("none", { kind: "activate", upToIndex: upToIndex as LogIndex });
  }

  join(name: string, address: string, capacity: MuxCapacity = LARGE, bootId = `${name}-boot`): MuxId {
    return this.ok("mux-joined", { kind: "join-mux", name, bootId, address: ip(address), capacity }).muxId;
  }

  /** Another start of a MUX, which encapsulates in IPv6, too. */
  joinWithIpv6(name: string, address: string, addressIpv6: string): MuxId {
    const command = { kind: "join-mux", name, bootId: `${name}-ipv6`, address: ip(address), capacity: LARGE } as const;
    return this.ok("mux-joined", { ...command, addressIpv6: ip(addressIpv6) }).muxId;
  }

  register(
    name: string,
    dips: readonly string[],
    heldRanges: readonly HeldRange[] = [],
    bootId = `${name}-1`,
  ): Extract<CommandValue, { kind: "host-registered" }> {
    return this.ok("host-registered", registerHost(name, dips, heldRanges, bootId));
  }

  dipId(address: string, tenant = "default"): DipId {
    const dip = this.machine.inspect().dips.find(tenant, ip(address));
    if (dip === null) throw new Error(`DIP ${address} was never mentioned`);
    return dip.dipId;
  }

  allocation(dip: string, ports: number, protocol: 6 | 17 = 6): Command {
    const { dipId, hostId } = this.machine.inspect().dips.must(this.dipId(dip));
    const host = hostId === null ? null : this.machine.host(hostId);
    return {
      kind: "allocate-snat",
      hostId: hostId ?? (1 as HostId),
      incarnation: host?.incarnation ?? 1,
      dipId,
      protocol,
      ports,
    };
  }

  /** Texts of the granted blocks. */
  allocate(dip: string, ports: number, protocol: 6 | 17 = 6): readonly string[] {
    return this.ok("snat-allocated", this.allocation(dip, ports, protocol)).blocks.map(blockText);
  }

  releasing(dip: string, ...blocks: readonly string[]): Command {
    const { dipId, hostId } = this.machine.inspect().dips.must(this.dipId(dip));
    const host = hostId === null ? null : this.machine.host(hostId);
    return {
      kind: "release-snat",
      hostId: hostId ?? (1 as HostId),
      incarnation: host?.incarnation ?? 1,
      dipId,
      blocks: blocks.map(block),
    };
  }

  release(dip: string, ...blocks: readonly string[]): number {
    return this.ok("snat-released", this.releasing(dip, ...blocks)).ranges;
  }

  /** Time passes by one tick. */
  elapse(ms: number): void {
    this.nowMs += ms;
    this.ok("none", { kind: "tick" });
  }

  /** Keys of the MUX view, those of one kind. */
  muxKeys(kind: MuxItem["kind"]): readonly string[] {
    return [...this.muxView.entries()].filter(([, item]) => item.kind === kind).map(([key]) => key);
  }

  hostKeys(host: string, kind: HostItem["kind"]): readonly string[] {
    const id = this.machine.hostByName(host)?.hostId;
    const view = id === undefined ? undefined : this.hostViews.get(id);
    return [...(view ?? [])].filter(([, item]) => item.kind === kind).map(([key]) => key);
  }

  private follow(applied: AppliedBatch): void {
    for (const change of applied.muxChanges) {
      if (change.op === "upsert") this.muxView.set(muxItemKey(change.item), change.item);
      else expect(this.muxView.delete(change.key), `${change.key} was in the MUX view`).toBe(true);
    }
    for (const [host, changes] of applied.hostChanges) {
      const view = this.hostViews.get(host) ?? new Map<string, HostItem>();
      this.hostViews.set(host, view);
      for (const change of changes) {
        if (change.op === "upsert") view.set(hostItemKey(change.item), change.item);
        else expect(view.delete(change.key), `${change.key} was in the view of host ${host}`).toBe(true);
      }
    }
  }
}

/** "10.0.0.1", or "10.0.0.1@192.0.2.1" with a locator of its own. */
export function registerHost(
  name: string,
  dips: readonly string[],
  heldRanges: readonly HeldRange[] = [],
  bootId = `${name}-1`,
): Command {
  const parsed = dips.map((text) => {
    const [address = "", locator] = text.split("@");
    return { tenant: "default", address: ip(address), locator: ip(locator ?? address) };
  });
  return { kind: "register-host", name, bootId, dips: parsed, heldRanges };
}

export const held = (dip: string, text: string): HeldRange => ({ ...block(text), dip: ip(dip), tenant: "default" });

/** One MUX, one host with two DIPs, one pool, one VIP with a rule and outbound. */
export function smallSite(): Site {
  const site = new Site();
  site.bootstrap();
  site.join("mux-1", "192.0.2.1");
  site.register("host-1", ["10.0.0.1", "10.0.0.2"]);
  site.configure(
    vip("web", "198.51.100.1", { rules: ["tcp/80 -> web"], outbound: ["web"] }),
    pool("web", ["10.0.0.1", "10.0.0.2"]),
  );
  return site;
}
