/**
 * The objects of a site as a reader of the documentation would keep them: a Map by name, everything else found by looking
 * through it. What may be stored is said here a second time, rule by rule, without any index.
 */
import { isDeepStrictEqual } from "node:util";
import { parsePrefix, prefixContains } from "../../../../core/prefix.js";
import type { IpAddress } from "../../../../core/brands.js";
import type { ApplyObject } from "../../../../manager/state/commands/commands.js";
import type {
  BackendPoolSpec,
  ObjectRef,
  SecurityGroupSpec,
  TenantSpec,
  VipSpec,
} from "../../../../manager/state/objects.js";

export type AnySpec = TenantSpec | SecurityGroupSpec | BackendPoolSpec | VipSpec;

export interface NaiveObject {
  readonly ref: ObjectRef;
  /** Of a pool or a VIP: given in order of creation. */
  readonly id: number;
  labels: Readonly<Record<string, string>>;
  spec: AnySpec;
  active: AnySpec | null;
  generation: number;
  updatedIndex: number;
  deleting: boolean;
}

export interface NaiveVip extends NaiveObject {
  spec: VipSpec;
  active: VipSpec | null;
}

export interface NaivePool extends NaiveObject {
  spec: BackendPoolSpec;
  active: BackendPoolSpec | null;
}

/** What the rules for objects ask about the rest of the site. */
export interface Surroundings {
  /** Rules that the smallest live MUX holds; Infinity without one. */
  readonly ruleCapacity: number;
  addressIsTaken(address: IpAddress): boolean;
}

export const keyOf = ({ kind, tenant, name }: ObjectRef): string => `${kind}/${tenant}/${name}`;
export const versions = <Spec>({ spec, active }: { spec: Spec; active: Spec | null }): readonly Spec[] =>
  active === null ? [spec] : [spec, active];
const numbers = { tcp: [6], udp: [17], tcp_udp: [6, 17], all: [0] } as const;

export function portsOf(text: string): readonly number[] {
  const [first = 0, last = first] = text.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

/** Every port that the VIP takes for itself, as "6/80". */
export function takenPorts({ rules, inboundNat }: VipSpec): readonly string[] {
  return [
    ...rules.flatMap(({ protocol, port }) => numbers[protocol].map((number) => `${number}/${port}`)),
    ...inboundNat.flatMap(({ protocol, ports }) => portsOf(ports).map((port) => `${numbers[protocol][0]}/${port}`)),
  ];
}

/** Ranges of 8 ports, of one protocol. */
export function takenRanges(spec: VipSpec, protocol: number): ReadonlySet<number> {
  const taken = takenPorts(spec).map((text) => text.split("/").map(Number));
  return new Set(taken.flatMap(([number, port = 0]) => (number === protocol ? [Math.floor(port / 8)] : [])));
}

const poolNames = ({ rules, inboundNat, outbound }: VipSpec): readonly string[] => [
  ...rules.map(({ pool }) => pool),
  ...inboundNat.map(({ pool }) => pool),
  ...(outbound?.pools ?? []),
];

export class NaiveObjects {
  readonly all = new Map<string, NaiveObject>();
  private nextPool = 1;
  private nextVip = 1;

  vips(): readonly NaiveVip[] {
    return [...this.all.values()].filter(({ ref }) => ref.kind === "Vip") as NaiveVip[];
  }

  /** VIPs by which a DIP may leave: of its tenant, with a pool that it is a member of. */
  waysOut(tenant: string, dip: IpAddress): readonly NaiveVip[] {
    const pools = this.pools()
      .filter(
        ({ ref, spec, deleting }) =>
          !deleting && ref.tenant === tenant && spec.members.some((member) => member.dip === dip),
      )
      .map(({ ref }) => ref.name);
    return this.vips().filter(
      ({ ref, spec, deleting }) =>
        !deleting && ref.tenant === tenant && spec.outbound?.pools.some((name) => pools.includes(name)) === true,
    );
  }

  tenantWeight(tenant: string): number {
    return (this.all.get(`Tenant/${tenant}/${tenant}`)?.spec as TenantSpec | undefined)?.weight ?? 1;
  }

  pools(): readonly NaivePool[] {
    return [...this.all.values()].filter(({ ref }) => ref.kind === "BackendPool") as NaivePool[];
  }

  pool(tenant: string, name: string): NaivePool | null {
    return this.pools().find(({ ref }) => ref.tenant === tenant && ref.name === name) ?? null;
  }

  vipAt(address: IpAddress): NaiveVip | null {
    return this.vips().find(({ spec }) => spec.address === address) ?? null;
  }

  /** VIPs that name the pool in either version. */
  usersOf(pool: NaiveObject): readonly NaiveVip[] {
    return this.vips().filter(
      (vip) =>
        vip.ref.tenant === pool.ref.tenant && versions(vip).some((spec) => poolNames(spec).includes(pool.ref.name)),
    );
  }

  isPending(object: NaiveObject): boolean {
    return object.deleting || !isDeepStrictEqual(object.spec, object.active);
  }

  /** Whether either version of the VIP at the address takes a port of the range. */
  ruleHolds(vip: IpAddress, protocol: number, range: number): boolean {
    const object = this.vipAt(vip);
    return object !== null && versions(object).some((spec) => takenRanges(spec, protocol).has(range));
  }

  private rows(spec: VipSpec | null): number {
    return spec === null ? 0 : takenPorts(spec).length;
  }

  ruleCount(): number {
    return this.vips().reduce(
      (sum, { spec, active, deleting }) => sum + Math.max(deleting ? 0 : this.rows(spec), this.rows(active)),
      0,
    );
  }

  /** Codes of all that is wrong with the request; none: it is stored. */
  problems(objects: readonly ApplyObject[], site: Surroundings): ReadonlySet<string> {
    const codes = new Set<string>();
    const wanted = new Map<string, ApplyObject>();
    for (const object of objects) {
      if (wanted.has(keyOf(object.ref))) codes.add("INVALID_ARGUMENT");
      else wanted.set(keyOf(object.ref), object);
    }
    const changed = (object: ApplyObject): boolean => {
      const before = this.all.get(keyOf(object.ref));
      return (
        before === undefined ||
        !isDeepStrictEqual(before.spec, object.object.spec) ||
        !isDeepStrictEqual({ ...before.labels }, { ...object.labels })
      );
    };
    const poolAfter = (tenant: string, name: string): BackendPoolSpec | null =>
      (wanted.get(`BackendPool/${tenant}/${name}`)?.object.spec as BackendPoolSpec | undefined) ??
      this.pool(tenant, name)?.spec ??
      null;
    const tenantAfter = (tenant: string): TenantSpec | undefined =>
      (wanted.get(`Tenant/${tenant}/${tenant}`)?.object.spec ?? this.all.get(`Tenant/${tenant}/${tenant}`)?.spec) as
        TenantSpec | undefined;
    const groupStays = (tenant: string, name: string): boolean =>
      wanted.has(`SecurityGroup/${tenant}/${name}`) ||
      this.all.get(`SecurityGroup/${tenant}/${name}`)?.deleting === false;
    const isOutside = (tenant: TenantSpec | undefined, dip: IpAddress): boolean =>
      tenant !== undefined &&
      tenant.addressSpaces.length > 0 &&
      !tenant.addressSpaces.some((space) => prefixContains(parsePrefix(space)!, dip)); // the generator's are prefixes

    for (const object of objects) {
      const { ref, object: given, expectedGeneration } = object;
      const before = this.all.get(keyOf(ref));
      if (expectedGeneration !== null && expectedGeneration !== (before?.generation ?? 0))
        codes.add("GENERATION_CONFLICT");
      if (before?.deleting === true) codes.add("FAILED_PRECONDITION");
      if (!changed(object)) continue;
      if (given.kind === "Tenant") {
        const strangers = this.pools().filter(
          (pool) =>
            pool.ref.tenant === ref.name &&
            !pool.deleting &&
            !wanted.has(keyOf(pool.ref)) &&
            pool.spec.members.some(({ dip }) => isOutside(given.spec, dip)),
        );
        if (strangers.length > 0) codes.add("FAILED_PRECONDITION");
      } else if (given.kind === "SecurityGroup") {
        const peers = given.spec.rules.map(({ peer }) => peer).filter((peer) => peer.startsWith("sg:"));
        if (!peers.every((peer) => groupStays(ref.tenant, peer.slice(3)))) codes.add("INVALID_ARGUMENT");
      } else if (given.kind === "BackendPool") this.poolProblems(object, given.spec, [...wanted.values()], codes);
      else this.vipProblems(object, given.spec, wanted, site, codes);
      if (given.kind === "Vip" || given.kind === "BackendPool")
        if (!given.spec.securityGroups.every((name) => groupStays(ref.tenant, name))) codes.add("INVALID_ARGUMENT");
    }

    // Together: the MUXes' tables, the tenants' limits, a port of inbound NAT for every member.
    let rules = this.ruleCount();
    let grows = false;
    const created = new Map<string, number>();
    for (const object of wanted.values()) {
      const { ref, object: given } = object;
      const before = this.all.get(keyOf(ref));
      if (given.kind === "BackendPool") {
        if (given.spec.members.some(({ dip }) => isOutside(tenantAfter(ref.tenant), dip)))
          codes.add("INVALID_ARGUMENT");
        for (const vip of before === undefined || !changed(object) ? [] : this.usersOf(before)) {
          const vipWanted = wanted.get(keyOf(vip.ref));
          if (vip.deleting || (vipWanted !== undefined && changed(vipWanted))) continue;
          if (this.natIsShort(vip.spec, (name) => poolAfter(ref.tenant, name))) codes.add("FAILED_PRECONDITION");
        }
      }
      if (given.kind !== "Vip") continue;
      if (changed(object)) {
        const stored = before as NaiveVip | undefined;
        const held = stored === undefined ? 0 : Math.max(...versions(stored).map((spec) => this.rows(spec)));
        const after = Math.max(this.rows(given.spec), this.rows(stored?.active ?? null));
        rules += after - held;
        if (after > held) grows = true;
        if (this.natIsShort(given.spec, (name) => poolAfter(ref.tenant, name))) codes.add("FAILED_PRECONDITION");
      }
      const maxVips = tenantAfter(ref.tenant)?.maxVips ?? 0;
      if (before !== undefined || maxVips === 0) continue;
      created.set(ref.tenant, (created.get(ref.tenant) ?? 0) + 1);
      const stored = this.vips().filter((vip) => vip.ref.tenant === ref.tenant).length;
      if (stored + (created.get(ref.tenant) ?? 0) > maxVips) codes.add("FAILED_PRECONDITION");
    }
    if (grows && rules > site.ruleCapacity) codes.add("FAILED_PRECONDITION");
    return codes;
  }

  private natIsShort(vip: VipSpec, pool: (name: string) => BackendPoolSpec | null): boolean {
    return vip.inboundNat.some((nat) => (pool(nat.pool)?.members.length ?? 0) > portsOf(nat.ports).length);
  }

  private poolProblems(
    { ref }: ApplyObject,
    spec: BackendPoolSpec,
    wanted: readonly ApplyObject[],
    codes: Set<string>,
  ): void {
    const before = this.pool(ref.tenant, ref.name);
    if (before !== null && before.spec.maxMembers !== spec.maxMembers) codes.add("FAILED_PRECONDITION");
    if (new Set(spec.members.map(({ dip }) => dip)).size < spec.members.length) codes.add("INVALID_ARGUMENT");
    const becomesVip = (dip: IpAddress): boolean =>
      wanted.some(({ object }) => object.kind === "Vip" && object.spec.address === dip);
    if (spec.members.some(({ dip }) => this.vipAt(dip) !== null || becomesVip(dip))) codes.add("FAILED_PRECONDITION");
  }

  private vipProblems(
    { ref }: ApplyObject,
    spec: VipSpec,
    wanted: ReadonlyMap<string, ApplyObject>,
    site: Surroundings,
    codes: Set<string>,
  ): void {
    const before = this.all.get(keyOf(ref)) as NaiveVip | undefined;
    const { address } = spec;
    if (before !== undefined && before.spec.address !== address) codes.add("FAILED_PRECONDITION");
    else {
      const stored = this.vipAt(address);
      const first = [...wanted.values()].find(({ object }) => object.kind === "Vip" && object.spec.address === address);
      if (stored !== null && keyOf(stored.ref) !== keyOf(ref)) codes.add("ALREADY_EXISTS");
      else if (first !== undefined && keyOf(first.ref) !== keyOf(ref)) codes.add("ALREADY_EXISTS");
      if (site.addressIsTaken(address)) codes.add("FAILED_PRECONDITION");
    }
    const ports = takenPorts(spec);
    if (new Set(ports).size < ports.length) codes.add("INVALID_ARGUMENT");
    for (const name of poolNames(spec)) {
      const stored = this.pool(ref.tenant, name);
      if (stored === null && !wanted.has(`BackendPool/${ref.tenant}/${name}`)) codes.add("INVALID_ARGUMENT");
      if (stored?.deleting === true) codes.add("FAILED_PRECONDITION");
    }
  }

  /** After `problems` found none. Gives the changed pools, in the order in which they were stored. */
  store(objects: readonly ApplyObject[], index: number): readonly NaivePool[] {
    const stored: NaivePool[] = [];
    for (const kind of ["Tenant", "SecurityGroup", "BackendPool", "Vip"]) {
      for (const { ref, labels, object } of objects) {
        if (ref.kind !== kind) continue;
        const before = this.all.get(keyOf(ref));
        const sameSpec = before !== undefined && isDeepStrictEqual(before.spec, object.spec);
        if (sameSpec && isDeepStrictEqual({ ...before.labels }, { ...labels })) continue;
        if (before === undefined) {
          const id = kind === "BackendPool" ? this.nextPool++ : kind === "Vip" ? this.nextVip++ : 0;
          const fresh = { ref, id, labels, spec: object.spec, active: null, generation: 1, updatedIndex: index };
          this.all.set(keyOf(ref), { ...fresh, deleting: false });
        } else {
          before.spec = object.spec;
          before.labels = labels;
          before.generation += 1;
          if (!sameSpec) before.updatedIndex = index;
        }
        if (kind === "BackendPool") stored.push(this.all.get(keyOf(ref)) as NaivePool);
      }
    }
    return stored;
  }

  deletionProblems(
    objects: readonly { readonly ref: ObjectRef; readonly expectedGeneration: number | null }[],
  ): ReadonlySet<string> {
    const codes = new Set<string>();
    const requested = new Set(objects.map(({ ref }) => keyOf(ref)));
    for (const { ref, expectedGeneration } of objects) {
      const object = this.all.get(keyOf(ref));
      if (object === undefined) {
        codes.add("NOT_FOUND");
        continue;
      }
      if (expectedGeneration !== null && expectedGeneration !== object.generation) codes.add("GENERATION_CONFLICT");
      const users = [...this.all.values()].filter(
        (other) =>
          other !== object && !other.deleting && !requested.has(keyOf(other.ref)) && this.names(other, object.ref),
      );
      if (users.length > 0) codes.add("FAILED_PRECONDITION");
    }
    return codes;
  }

  /** By its spec. */
  private names(user: NaiveObject, { kind, tenant, name }: ObjectRef): boolean {
    if (user.ref.tenant !== tenant) return false;
    const { spec } = user;
    if (kind === "Tenant") return true;
    if (kind === "BackendPool") return user.ref.kind === "Vip" && poolNames(spec as VipSpec).includes(name);
    if (kind !== "SecurityGroup") return false;
    if ("securityGroups" in spec) return spec.securityGroups.includes(name);
    return user.ref.kind === "SecurityGroup" && (spec as SecurityGroupSpec).rules.some((r) => r.peer === `sg:${name}`);
  }

  markDeleted(refs: readonly ObjectRef[], index: number): void {
    for (const ref of refs) {
      const object = this.all.get(keyOf(ref));
      if (object === undefined || object.deleting) continue;
      object.deleting = true;
      object.updatedIndex = index;
    }
  }

  /** Gives the pools and VIPs that are gone, and the pools that took their spec. */
  activate(upToIndex: number): { readonly gone: readonly NaiveObject[]; readonly activated: readonly NaivePool[] } {
    const prepared = [...this.all.values()].filter(
      (object) => this.isPending(object) && object.updatedIndex <= upToIndex,
    );
    const gone: NaiveObject[] = [];
    const remove = (object: NaiveObject): void => {
      this.all.delete(keyOf(object.ref));
      gone.push(object);
    };
    const activated = prepared.filter((object) => !object.deleting && object.ref.kind !== "Vip");
    for (const object of activated) object.active = object.spec;
    const vips = prepared.filter(({ ref }) => ref.kind === "Vip") as NaiveVip[];
    for (const vip of vips) {
      if (vip.deleting) continue;
      const pools = versions(vip).flatMap(poolNames);
      if (pools.every((name) => this.pool(vip.ref.tenant, name)?.active !== null)) vip.active = vip.spec;
    }
    for (const vip of vips) if (vip.deleting) remove(vip);
    for (const object of prepared) {
      if (!object.deleting || object.ref.kind === "Vip") continue;
      if (object.ref.kind === "BackendPool" && this.usersOf(object).length > 0) continue;
      remove(object);
    }
    return { gone, activated: activated.filter(({ ref }) => ref.kind === "BackendPool") as NaivePool[] };
  }
}
