/**
 * A site as plain Maps, for comparison with the state machine: who owns which range, what rests since when, hosts, MUXes,
 * sessions, fences, withdrawals, the clock. Every question is answered by looking through everything.
 *
 * A command is answered with what the state machine must answer. Where it has a choice (which ranges it grants), the model
 * checks that the choice was allowed and follows it.
 */
import { expect } from "vitest";
import type { DipId, HostId, IpAddress } from "../../../../core/brands.js";
import type {
  AllocateSnatCommand,
  Command,
  CommandBatch,
  ExpireHostsCommand,
  RegisterHostCommand,
  ReleaseSnatCommand,
  ReportHealthCommand,
  SubmittedCommand,
  WithdrawVipCommand,
} from "../../../../manager/state/commands/commands.js";
import type { AppliedBatch, CommandResult, CommandValue } from "../../../../manager/state/commands/results.js";
import { NaiveDrains } from "./naive-drains.js";
import { NaiveObjects, type NaivePool, type NaiveVip, versions } from "./naive-objects.js";
import type { NaiveDip, NaiveHost } from "./naive-machines.js";
import { isIpv6, NaiveMuxes, former } from "./naive-muxes.js";
import { type NaiveClaimants, NaivePorts, rangesIn } from "./naive-ports.js";
import { NaiveSessions } from "./naive-sessions.js";
import { lackAt, naiveTableRoom, reservesTooMuch, tableLimits, tenantsOf } from "./naive-tenants.js";
import { NaiveVerdicts } from "./naive-verdicts.js";
import { NaiveWithdrawals } from "./naive-withdrawals.js";

const REST_MS = 120_000;

/** Codes that a refusal may have; a value: the command succeeds, and this is what it answers (null: see the handler). */
type Expected = ReadonlySet<string> | { readonly value: CommandValue | null };

const none: Expected = { value: { kind: "none" } };
const refusedWith = (...codes: readonly string[]): Expected => new Set(codes);
const answered = (value: CommandValue | string): Expected =>
  typeof value === "string" ? refusedWith(value) : { value };

export class NaiveSite {
  nowMs = 0;
  epoch = 0;
  hashKey: string | null = null;
  readonly objects = new NaiveObjects();
  /** In order of id. */
  readonly dips: NaiveDip[] = [];
  readonly hosts = new Map<string, NaiveHost>();
  readonly muxes = new NaiveMuxes();
  readonly replicas = new Map<number, { bootId: string; incarnation: number }>();
  readonly ports = new NaivePorts();
  readonly withdrawals = new NaiveWithdrawals();
  readonly drains = new NaiveDrains();
  readonly verdicts = new NaiveVerdicts(this.drains);
  readonly sessions = new NaiveSessions();
  unsettled: { atMs: number; readonly missing: Set<string> } | null = null;

  /** Follows one entry that the state machine has applied. */
  follow(batch: CommandBatch, applied: AppliedBatch): void {
    this.nowMs = Math.max(this.nowMs, batch.clusterTimeMs);
    this.sessions.advance(this.nowMs);
    if (this.unsettled?.missing.size === 0 && this.nowMs >= this.unsettled.atMs + REST_MS) this.unsettled = null;
    this.ports.endRests(this.nowMs, this.muxes.all.size === 0 ? Infinity : batch.muxSafeIndex);
    for (const at of [...this.ports.claims.keys()]) {
      const [address = "", protocol] = at.split("/");
      const vip = this.objects.vipAt(address as IpAddress);
      if (vip !== null) this.ports.lapse(at, this.claimants(vip, Number(protocol)));
    }
    this.withdrawals.advance(this.nowMs);
    this.drains.advance(this.nowMs);
    for (const pool of this.objects.pools()) this.poolStored(pool); // verdicts on those whose drain is forgotten
    batch.commands.forEach((submitted, at) => this.submitted(submitted, applied.results[at]!, applied.index)); // one each
  }

  private submitted({ origin, command }: SubmittedCommand, result: CommandResult, index: number): void {
    const verdict = origin === null ? "new" : this.sessions.admit(origin, this.nowMs);
    if (verdict === "expired") this.compare(refusedWith("SESSION_EXPIRED"), command, result);
    else if (verdict !== "new") expect(result, "a retry gets the answer of the first").toEqual(verdict);
    else {
      this.compare(this.execute(command, result, index), command, result);
      if (origin !== null) this.sessions.remember(origin, result);
    }
  }

  private compare(expected: Expected, command: Command, result: CommandResult): void {
    const about = `${JSON.stringify(command)} -> ${JSON.stringify(result)}`;
    if (!("value" in expected)) {
      expect(result.ok, `to be refused with ${[...expected].join()}: ${about}`).toBe(false);
      if (!result.ok) expect(expected.has(result.code), `refused with ${[...expected].join()}: ${about}`).toBe(true);
      return;
    }
    expect(result.ok, about).toBe(true);
    if (result.ok && expected.value !== null) expect(result.value, about).toEqual(expected.value);
  }

  private execute(command: Command, result: CommandResult, index: number): Expected {
    switch (command.kind) {
      case "bootstrap": {
        this.epoch ||= command.clusterEpoch;
        this.hashKey ??= command.hashKey;
        return none;
      }
      case "begin-epoch":
        return this.beginEpoch(command.clusterEpoch);
      case "start-replica": {
        const before = this.replicas.get(command.nodeId);
        const incarnation = (before?.incarnation ?? 0) + (before?.bootId === command.bootId ? 0 : 1);
        this.replicas.set(command.nodeId, { bootId: command.bootId, incarnation });
        return { value: { kind: "replica-started", incarnation } };
      }
      case "apply-objects": {
        const problems = this.objects.problems(command.objects, {
          ruleCapacity: Math.min(...this.muxes.live().map(({ rules }) => rules)),
          addressIsTaken: (address) => this.addressIsTaken(address),
        });
        const codes = reservesTooMuch(this, command.objects, this.muxes.smallestTable())
          ? [...problems, "FAILED_PRECONDITION"]
          : [...problems];
        if (codes.length > 0) return refusedWith(...codes);
        for (const pool of this.objects.store(command.objects, index)) this.poolStored(pool);
        this.ports.dropClaims((address) => this.objects.vipAt(address));
        return { value: null };
      }
      case "delete-objects": {
        const problems = this.objects.deletionProblems(command.objects);
        if (problems.size > 0) return problems;
        const refs = command.objects.map(({ ref }) => ref);
        this.objects.markDeleted(refs, index);
        this.ports.dropClaims((address) => this.objects.vipAt(address));
        return { value: null };
      }
      case "activate": {
        const before = new Map(this.objects.pools().map(({ id, active }) => [id, active]));
        const { gone, activated } = this.objects.activate(command.upToIndex);
        for (const { id, active } of activated) this.drains.changed(id, before.get(id) ?? null, active, this.nowMs);
        for (const pool of activated) {
          this.verdicts.left(pool.id, before.get(pool.id)?.members ?? [], (dip) => this.mention(pool.ref.tenant, dip));
          this.poolStored(pool);
        }
        for (const { ref, id } of gone) {
          if (ref.kind === "Vip") this.withdrawals.forget(id);
          if (ref.kind === "BackendPool") this.drains.changed(id, null, null, this.nowMs);
          this.ports.dropClaims((address) => this.objects.vipAt(address));
          if (ref.kind === "BackendPool")
            for (const key of this.verdicts.down) if (key.startsWith(`${id}/`)) this.verdicts.down.delete(key);
        }
        return none;
      }
      case "withdraw-vip":
        return this.withdraw(command);
      case "restore-vip": {
        const vip = this.vipNamed(command);
        if (vip === null) return refusedWith("NOT_FOUND");
        return this.withdrawals.restore(vip.id, this.nowMs) ? none : refusedWith("FAILED_PRECONDITION");
      }
      case "register-host":
        return this.register(command, index);
      case "fence-host":
        return this.fence(command.name, index);
      case "report-health":
        return this.reportHealth(command);
      case "expire-hosts":
        return this.expireHosts(command);
      case "renew-hosts": {
        for (const host of this.present(command.hosts)) host.isExpired = false;
        return none;
      }
      case "join-mux": {
        const reserved = tenantsOf(this).reduce((sum, tenant) => sum + tenant.reserved, 0);
        const inUse = { rules: this.objects.ruleCount(), ranges: this.ports.owners.size + reserved };
        const locators = this.dips.flatMap(({ locator }) => (locator === null ? [] : [locator]));
        const isUsed = (at: IpAddress): boolean => this.objects.vipAt(at) !== null || locators.includes(at);
        return answered(this.muxes.join(command, { ...inUse, isUsed, isIpv6: locators.some(isIpv6) }));
      }
      case "leave-mux":
      case "lose-mux":
        return answered(this.muxes.end(command));
      case "drain-mux":
      case "undrain-mux":
        return answered(this.muxes.drain(command, this.nowMs));
      case "allocate-snat":
        return this.allocate(command, result);
      case "release-snat":
        return this.release(command, index);
      case "tick":
        return none;
    }
  }

  // --- configuration -------------------------------------------------------------------------------------------------

  private mention(tenant: string, address: IpAddress): NaiveDip {
    const known = this.dips.find((dip) => dip.tenant === tenant && dip.address === address);
    if (known !== undefined) return known;
    const dip = { id: this.dips.length + 1, tenant, address, host: null, locator: null };
    this.dips.push(dip);
    return dip;
  }

  /** A DIP has its id from the first pool or host that names it. */
  private poolStored(pool: NaivePool): void {
    const specs = versions(pool);
    const members = specs.flatMap((spec) => spec.members.map(({ dip }) => this.mention(pool.ref.tenant, dip).id));
    this.verdicts.settle(pool.id, new Set(members), specs, this.dips);
  }

  poolsWith(dip: NaiveDip): readonly NaivePool[] {
    return this.objects
      .pools()
      .filter(
        (pool) =>
          pool.ref.tenant === dip.tenant &&
          versions(pool).some((spec) => spec.members.some((member) => member.dip === dip.address)),
      );
  }

  private addressIsTaken(address: IpAddress): boolean {
    const owns = (dip: NaiveDip): boolean => [...this.ports.owners.values()].includes(dip.id);
    const isDip = this.dips.some(
      (dip) =>
        dip.locator === address ||
        (dip.address === address && (dip.host !== null || this.poolsWith(dip).length > 0 || owns(dip))),
    );
    return isDip || this.muxes.isAt(address);
  }

  private vipNamed({ tenant, name }: { readonly tenant: string; readonly name: string }): NaiveVip | null {
    const vip = this.objects.vips().find(({ ref }) => ref.tenant === tenant && ref.name === name);
    return vip === undefined || vip.deleting ? null : vip;
  }

  private withdraw(command: WithdrawVipCommand): Expected {
    const vip = this.vipNamed(command);
    if (vip === null) return refusedWith("NOT_FOUND");
    if (command.isOverload && this.withdrawals.untilMs.has(vip.id)) return refusedWith("FAILED_PRECONDITION");
    this.withdrawals.withdraw(vip.id, command, vip.spec.overload.restoreAfterSeconds, this.nowMs);
    return none;
  }

  // --- hosts ---------------------------------------------------------------------------------------------------------

  dipsOf(host: string): readonly NaiveDip[] {
    return this.dips.filter((dip) => dip.host === host);
  }

  private beginEpoch(epoch: number): Expected {
    if (this.hashKey === null) return refusedWith("FAILED_PRECONDITION");
    if (epoch === this.epoch) return none;
    if (epoch < this.epoch) return refusedWith("WRONG_CLUSTER");
    this.epoch = epoch;
    this.sessions.endAll(this.nowMs);
    const hosts = [...this.hosts.values()].filter(({ isFenced }) => !isFenced).map(({ name }) => name);
    this.unsettled = { atMs: this.nowMs, missing: new Set(hosts) };
    return { value: { kind: "epoch-begun", clusterEpoch: epoch, hosts: hosts.length } };
  }

  private registrationProblem(command: RegisterHostCommand): string | null {
    const before = this.hosts.get(command.name);
    if (before?.isFenced === true && before.bootId === command.bootId) return "STALE_INCARNATION";
    if (before?.formerBoots.includes(command.bootId) === true) return "STALE_INCARNATION";
    for (const [at, { tenant, address, locator }] of command.dips.entries()) {
      const earlier = command.dips.slice(0, at);
      if (earlier.some((dip) => dip.tenant === tenant && dip.address === address)) return "INVALID_ARGUMENT";
      if (earlier.some((dip) => dip.locator === locator)) return "INVALID_ARGUMENT";
      const known = this.dips.find((dip) => dip.tenant === tenant && dip.address === address);
      if (known !== undefined && known.host !== null && known.host !== command.name) return "FAILED_PRECONDITION";
      const reached = this.dips.find((dip) => dip.locator === locator);
      if (reached !== undefined) {
        const isListed = command.dips.some((dip) => dip.tenant === reached.tenant && dip.address === reached.address);
        const givesUp = reached.host === command.name && (isListed || before?.bootId !== command.bootId);
        if (!givesUp) return "FAILED_PRECONDITION";
      }
      if (this.objects.vipAt(address) !== null || this.objects.vipAt(locator) !== null) return "FAILED_PRECONDITION";
      if (this.muxes.isAt(locator) || !this.muxes.reach(locator)) return "FAILED_PRECONDITION";
    }
    return null;
  }

  private register(command: RegisterHostCommand, index: number): Expected {
    const problem = this.registrationProblem(command);
    if (problem !== null) return refusedWith(problem);
    const { name, bootId } = command;
    const before = this.hosts.get(name);
    const isSameProcess = before?.bootId === bootId;
    const speaksFirst = this.unsettled !== null && (before === undefined || this.unsettled.missing.has(name));
    const had = this.dipsOf(name);
    const listed = command.dips.map(({ tenant, address }) => this.mention(tenant, address));
    const speaksFor = new Set([...had, ...listed]);
    const held = new Set<string>();
    for (const { tenant, dip, vip, protocol, range, count } of command.heldRanges)
      for (let at = range; at < range + count; at++) held.add(`${tenant}/${dip} ${vip}/${protocol}/${at}`);

    for (const dip of speaksFor) {
      if (isSameProcess && !speaksFirst && had.includes(dip)) continue;
      for (const range of this.ports.rangesOf(dip.id))
        if (!held.has(`${dip.tenant}/${dip.address} ${range}`)) this.ports.rest(range, this.nowMs, index);
    }
    const places = new Map(listed.map((dip, at) => [dip, command.dips[at]!.locator])); // one each
    for (const dip of had)
      if (!isSameProcess && !places.has(dip)) {
        dip.host = null;
        dip.locator = null;
      }
    for (const [dip, locator] of places) {
      if (dip.host === name && dip.locator === locator) continue;
      dip.host = name;
      dip.locator = locator;
      for (const pool of this.objects.pools())
        if (this.poolsWith(dip).includes(pool) || this.verdicts.drains(pool.id, dip))
          this.verdicts.down.delete(`${pool.id}/${dip.id}`);
    }
    this.hosts.set(name, {
      id: before?.id ?? this.hosts.size + 1,
      name,
      incarnation: (before?.incarnation ?? 0) + (isSameProcess ? 0 : 1),
      bootId,
      formerBoots: isSameProcess || before === undefined ? (before?.formerBoots ?? []) : former(before),
      isExpired: false,
      isFenced: false,
    });
    if (speaksFirst) this.takeOver(command, speaksFor);
    this.unsettled?.missing.delete(name);

    const host = this.hosts.get(name)!; // just stored
    const dips = this.dipsOf(name).map(({ tenant, address, id }) => ({ tenant, address, dipId: id as DipId }));
    const refusedRanges = this.ports.notOwned(command.heldRanges, ({ tenant, dip }) => {
      return [...speaksFor].find((known) => known.tenant === tenant && known.address === dip)?.id ?? null;
    });
    const { id, incarnation } = host;
    return { value: { kind: "host-registered", hostId: id as HostId, incarnation, dips, refusedRanges } };
  }

  private takeOver(command: RegisterHostCommand, speaksFor: ReadonlySet<NaiveDip>): void {
    for (const { tenant, dip: address, vip, protocol, range, count } of command.heldRanges) {
      const dip = [...speaksFor].find((known) => known.tenant === tenant && known.address === address);
      if (dip === undefined) continue;
      if (!this.ports.isInUse(vip, protocol) && this.objects.vipAt(vip) === null) continue;
      for (let at = range; at < range + count; at++) {
        const name = `${vip}/${protocol}/${at}`;
        if (this.objects.ruleHolds(vip, protocol, at)) continue;
        const owner = this.dips[(this.ports.owners.get(name) ?? 0) - 1];
        // A host that has spoken, or has no say any more, keeps what it owns; one that has not loses to this one.
        const hasSpoken = owner !== undefined && owner.host !== null && !this.unsettled!.missing.has(owner.host);
        if (hasSpoken && owner !== dip) continue;
        this.ports.resting.delete(name);
        this.ports.ended(name);
        this.ports.owners.set(name, dip.id);
      }
    }
  }

  private fence(name: string, index: number): Expected {
    const host = this.hosts.get(name);
    if (host === undefined) return refusedWith("NOT_FOUND");
    const hostId = host.id as HostId;
    if (host.isFenced) return { value: { kind: "host-fenced", hostId, ranges: 0 } };
    let ranges = 0;
    for (const dip of this.dipsOf(name)) {
      for (const range of this.ports.rangesOf(dip.id)) {
        this.ports.rest(range, this.nowMs, index);
        ranges++;
      }
      dip.host = null;
      dip.locator = null;
    }
    host.incarnation += 1;
    host.formerBoots = former(host);
    host.isFenced = true;
    this.unsettled?.missing.delete(name);
    return { value: { kind: "host-fenced", hostId, ranges } };
  }

  /** Of a host's present start, or why it is not. */
  private speaking(hostId: number, incarnation: number): NaiveHost | string {
    const host = [...this.hosts.values()].find(({ id }) => id === hostId);
    if (host === undefined) return "NOT_FOUND";
    return host.incarnation === incarnation ? host : "STALE_INCARNATION";
  }

  private reportHealth(command: ReportHealthCommand): Expected {
    const host = this.speaking(command.hostId, command.incarnation);
    if (typeof host === "string") return refusedWith(host);
    for (const { poolId, dipId, healthy } of command.transitions) {
      const dip = this.dips[dipId - 1];
      if (dip?.host !== host.name) continue;
      const pool = this.poolsWith(dip).find(({ id }) => id === poolId);
      if (pool === undefined || versions(pool).every(({ probe }) => probe === null)) continue;
      if (healthy) this.verdicts.down.delete(`${poolId}/${dipId}`);
      else this.verdicts.down.add(`${poolId}/${dipId}`);
    }
    return none;
  }

  private present(hosts: ExpireHostsCommand["hosts"]): readonly NaiveHost[] {
    return hosts.flatMap(({ hostId, incarnation }) => {
      const host = this.speaking(hostId, incarnation);
      return typeof host === "string" ? [] : [host];
    });
  }

  private expireHosts({ hosts }: ExpireHostsCommand): Expected {
    const silent = this.present(hosts);
    const serving = [...this.hosts.values()].filter(({ name }) => this.dipsOf(name).length > 0);
    const out = serving.filter((host) => host.isExpired || silent.includes(host)).length;
    if (out > 1 && out > serving.length * 0.3) return refusedWith("FAILED_PRECONDITION");
    for (const host of silent) host.isExpired = true;
    return none;
  }

  // --- SNAT ----------------------------------------------------------------------------------------------------------

  private requester(command: { hostId: number; incarnation: number; dipId: number }): NaiveDip | string {
    const host = this.speaking(command.hostId, command.incarnation);
    if (typeof host === "string") return host;
    const dip = this.dips[command.dipId - 1];
    return dip?.host === host.name ? dip : "PERMISSION_DENIED";
  }

  private release(command: ReleaseSnatCommand, index: number): Expected {
    const dip = this.requester(command);
    if (typeof dip === "string") return refusedWith(dip);
    const ranges = command.blocks.flatMap(rangesIn);
    const isOwn = ranges.every((range) => this.ports.owners.get(range) === dip.id);
    if (!isOwn || new Set(ranges).size < ranges.length) return refusedWith("INVALID_ARGUMENT");
    for (const range of ranges) this.ports.rest(range, this.nowMs, index);
    return { value: { kind: "snat-released", ranges: ranges.length } };
  }

  /** VIPs whose outbound names a pool that the DIP is a member of, by what operators wrote last. */
  private allocate(command: AllocateSnatCommand, result: CommandResult): Expected {
    const dip = this.requester(command);
    if (typeof dip === "string") return refusedWith(dip);
    const vips = this.objects.waysOut(dip.tenant, dip.address);
    if (vips.length === 0) return refusedWith("SNAT_NOT_CONFIGURED");
    let active = vips.filter((vip) => vip.active !== null);
    if (active.length === 0) return refusedWith("FAILED_PRECONDITION");
    if (this.unsettled !== null) return refusedWith("UNAVAILABLE");
    if (this.muxes.live().length === 0) return refusedWith("NO_LIVE_MUX");
    const room = this.muxes.smallestTable() - this.ports.owners.size;
    if (room < 1) return refusedWith("SNAT_PORTS_EXHAUSTED");
    const forTenant = naiveTableRoom(tenantsOf(this), dip.tenant, this.muxes.smallestTable());
    if (active.length > 1 && active.some((vip) => vip.spec.outbound?.selection === "paired"))
      active = [this.homeOf(dip, active)];

    const { protocol } = command;
    const stocks = active.map((vip) => ({ vip, ...this.ports.stock(vip, protocol, dip.id, this.membersOf(vip)) }));
    const inTable = ({ vip }: { readonly vip: NaiveVip }): number =>
      Math.min(room, forTenant + lackAt(this, vip, protocol, dip));
    if (stocks.some((stock) => inTable(stock) < stock.most)) tableLimits.count += 1;
    const usable = stocks.filter((stock) => Math.min(stock.most, inTable(stock)) > 0);
    const need = Math.ceil(command.ports / 8);
    if (usable.length === 0 && stocks.some(({ most }) => most > 0)) return refusedWith("SNAT_PORTS_EXHAUSTED");
    if (usable.length === 0) {
      for (const { vip, owned } of stocks) {
        const limit = (vip.spec.outbound?.maxPorts ?? 0) / 8;
        if (owned >= limit) continue;
        const at = `${vip.spec.address}/${protocol}/`;
        if (this.ports.claim(at, dip.id, Math.min(need, limit - owned), this.claimants(vip, protocol))) break;
      }
      const isFull = stocks.every(({ vip, owned }) => owned >= (vip.spec.outbound?.maxPorts ?? 0) / 8);
      return refusedWith(isFull ? "SNAT_LIMIT_REACHED" : "SNAT_PORTS_EXHAUSTED");
    }
    const best = usable.reduce((a, b) => (b.free.length > a.free.length ? b : a));
    if (!result.ok || result.value.kind !== "snat-allocated") return { value: null };
    const at = `${best.vip.spec.address}/${protocol}/`;
    const most = Math.min(inTable(best), best.most);
    this.ports.grant(at, dip.id, result.value.blocks, { free: best.free, need, most });
    const granted = result.value.blocks.reduce((sum, { count }) => sum + count, 0);
    this.ports.claim(at, dip.id, -granted, this.claimants(best.vip, protocol));
    return { value: null };
  }

  private claimants(vip: NaiveVip, protocol: number): NaiveClaimants {
    return {
      nowMs: this.nowMs,
      members: this.membersOf(vip),
      minRanges: (vip.spec.outbound?.minPorts ?? 0) / 8,
      free: this.ports.stock(vip, protocol, 0, new Set()).free.length,
      canGive: (id) => this.dips[id - 1]?.host !== null,
    };
  }

  /** Ids of the DIPs that may leave as the VIP. */
  private membersOf({ ref, spec }: NaiveVip): ReadonlySet<number> {
    const pools = (spec.outbound?.pools ?? []).map((name) => this.objects.pool(ref.tenant, name));
    const dips = pools.flatMap((pool) => (pool === null || pool.deleting ? [] : pool.spec.members));
    return new Set(dips.map(({ dip }) => this.mention(ref.tenant, dip).id));
  }

  private homeOf(dip: NaiveDip, vips: readonly NaiveVip[]): NaiveVip {
    const owned = ({ spec }: NaiveVip): number =>
      this.ports.ownedAt(spec.address, 6, dip.id) + this.ports.ownedAt(spec.address, 17, dip.id);
    const home = vips.reduce((best, vip) => (owned(vip) > owned(best) ? vip : best));
    return owned(home) > 0 ? home : vips[dip.id % vips.length]!; // in range
  }
}
