/**
 * Whether objects may be stored: each by itself, against what is stored, and against each other, so that objects of one
 * request may refer to each other in any order. Nothing is changed here.
 *
 * Referential integrity, after every command: (R1) a pool that a VIP's spec names exists in its tenant and is not being
 * deleted. (R2) An address is that of one VIP, and then of no DIP. (R3) No rule's port lies in a range that is owned or
 * rests. (R4) The rules fit the tables of the smallest live MUX.
 */
import { type AddressFamily, familyOf } from "../../../core/address.js";
import type { IpAddress } from "../../../core/brands.js";
import type { ErrorCode } from "../../../core/errors.js";
import type { ApplyObject } from "../commands.js";
import type { DipRecord } from "../dip-table.js";
import { isEqual } from "../equal.js";
import {
  type AnyStoredObject,
  type BackendPoolSpec,
  type ObjectRef,
  type PoolMember,
  type VipSpec,
  objectKey,
} from "../objects.js";
import { PORTS_PER_RANGE, RANGES_PER_SPACE, formatBlock, rangeOfPort } from "../port-ranges.js";
import { RANGE_OWNED, RANGE_QUARANTINED } from "../port-space.js";
import type { State } from "../state.js";
import { isPool, isVip, poolNames, protocolNumber, versionsOf } from "../vip-map.js";
import { type Problems } from "./problems.js";

/** Names offered to someone who misspelt one. */
const NAMES_OFFERED_MAX = 10;
/** Contract of `BackendPoolSpec`: the Maglev table has at least 100 slots per member, and at most 65,537. */
const MAX_MEMBERS = 655;
const WEIGHT_MAX = 1000;

export interface CheckedObject {
  /** Position in the request. */
  readonly at: number;
  readonly request: ApplyObject;
  /** What is stored under its name now. */
  readonly before: AnyStoredObject | null;
  /** False when spec and labels are what is stored already. */
  readonly isChanged: boolean;
}

/** Finds all problems of a request; where there are none, the result says what is to be stored. */
export function checkObjects(
  state: State,
  objects: readonly ApplyObject[],
  problems: Problems,
): readonly CheckedObject[] {
  const request = new RequestCheck(state, objects, problems);
  return request.run();
}

/** "VIP default/web" */
export const displayName = ({ kind, tenant, name }: ObjectRef): string =>
  `${kind === "Vip" ? "VIP" : "BackendPool"} ${tenant}/${name}`;

class RequestCheck {
  private readonly state: State;
  private readonly problems: Problems;
  private readonly checked: readonly CheckedObject[];
  private readonly requested = new Map<string, CheckedObject>();
  /** VIPs of the request by address. */
  private readonly addresses = new Map<IpAddress, CheckedObject>();

  constructor(state: State, objects: readonly ApplyObject[], problems: Problems) {
    this.state = state;
    this.problems = problems;
    this.checked = objects.map((request, at) => {
      const before = state.objects.get(request.ref);
      const isChanged =
        before === null || !isEqual(before.spec, request.object.spec) || !isEqual(before.labels, request.labels);
      return { at, request, before, isChanged };
    });
  }

  run(): readonly CheckedObject[] {
    for (const object of this.checked) this.checkName(object);
    for (const object of this.checked) {
      this.checkStored(object);
      const { request } = object;
      if (!object.isChanged || request.object.kind !== request.ref.kind) continue;
      if (request.object.kind === "BackendPool") this.checkPool(object, request.object.spec);
      else this.checkVip(object, request.object.spec);
    }
    this.checkCapacity();
    return this.checked;
  }

  private add(object: CheckedObject, code: ErrorCode, path: string, what: string): void {
    this.problems.add({ object: object.at, path, code, message: `${displayName(object.request.ref)}: ${what}` });
  }

  private checkName(object: CheckedObject): void {
    const { ref, object: wanted } = object.request;
    if (wanted.kind !== ref.kind) this.add(object, "INVALID_ARGUMENT", "kind", `the spec is that of a ${wanted.kind}`);
    const key = objectKey(ref);
    const twin = this.requested.get(key);
    if (twin !== undefined) {
      this.add(
        object,
        "INVALID_ARGUMENT",
        "metadata.name",
        `named twice in one request, as objects ${twin.at} and ${object.at}`,
      );
      return;
    }
    this.requested.set(key, object);
    if (wanted.kind === "Vip" && !this.addresses.has(wanted.spec.address))
      this.addresses.set(wanted.spec.address, object);
  }

  private checkStored(object: CheckedObject): void {
    const { before, request } = object;
    const generation = before?.generation ?? 0;
    const expected = request.expectedGeneration;
    if (expected !== null && expected !== generation) {
      const what = before === null ? "it does not exist" : `it is at generation ${generation}`;
      const wanted = expected === 0 ? "it must not exist" : `generation ${expected} was expected`;
      this.add(object, "GENERATION_CONFLICT", "metadata.generation", `${what}; ${wanted}`);
    }
    if (before?.deleting === true)
      this.add(
        object,
        "FAILED_PRECONDITION",
        "metadata.name",
        "its deletion is under way; apply it again when it is gone",
      );
  }

  private checkPool(object: CheckedObject, spec: BackendPoolSpec): void {
    const { before } = object;
    if (!isInteger(spec.maxMembers, 1, MAX_MEMBERS)) {
      this.add(
        object,
        "INVALID_ARGUMENT",
        "spec.maxMembers",
        `maxMembers is 1 to ${MAX_MEMBERS}, not ${spec.maxMembers}`,
      );
    } else if (before !== null && isPool(before) && before.spec.maxMembers !== spec.maxMembers) {
      const what = `maxMembers is fixed at creation (${before.spec.maxMembers}): another value would move most flows to other DIPs`;
      this.add(object, "FAILED_PRECONDITION", "spec.maxMembers", what);
    }
    if (spec.members.length > spec.maxMembers) {
      this.add(
        object,
        "INVALID_ARGUMENT",
        "spec.members",
        `${spec.members.length} members exceed maxMembers ${spec.maxMembers}`,
      );
    }
    const seen = new Map<IpAddress, number>();
    spec.members.forEach((member, at) => this.checkMember(object, member, at, seen));
    const family = oneFamily(spec);
    const vips = before !== null && isPool(before) ? this.state.objects.usersOf(before.poolId) : [];
    for (const vip of vips) {
      // A VIP that the request changes too is checked from its own side.
      if (
        family === null ||
        family === familyOf(vip.spec.address) ||
        this.requested.get(objectKey(vip.ref))?.isChanged === true
      )
        continue;
      this.add(
        object,
        "INVALID_ARGUMENT",
        "spec.members",
        `${displayName(vip.ref)} uses it, and VIP and DIPs are of one address family`,
      );
    }
  }

  private checkMember(object: CheckedObject, member: PoolMember, at: number, seen: Map<IpAddress, number>): void {
    const path = `spec.members[${at}]`;
    const twin = seen.get(member.dip);
    if (twin !== undefined)
      this.add(
        object,
        "INVALID_ARGUMENT",
        `${path}.dip`,
        `DIP ${member.dip} is listed twice, as members ${twin} and ${at}`,
      );
    seen.set(member.dip, at);
    if (!isInteger(member.port, 0, 65_535))
      this.add(object, "INVALID_ARGUMENT", `${path}.port`, `a port is 0 to 65535, not ${member.port}`);
    if (!isInteger(member.weight, 0, WEIGHT_MAX)) {
      this.add(object, "INVALID_ARGUMENT", `${path}.weight`, `a weight is 0 to ${WEIGHT_MAX}, not ${member.weight}`);
    }
    const vip = this.state.objects.vipAt(member.dip)?.ref ?? this.addresses.get(member.dip)?.request.ref;
    if (vip !== undefined)
      this.add(object, "FAILED_PRECONDITION", `${path}.dip`, `${member.dip} is the address of ${displayName(vip)}`);
  }

  private checkVip(object: CheckedObject, spec: VipSpec): void {
    this.checkAddress(object, spec);
    const ports = new Map<string, string>();
    const names = new Set<string>();
    spec.rules.forEach((rule, at) => {
      const path = `spec.rules[${at}]`;
      if (names.has(rule.name))
        this.add(object, "INVALID_ARGUMENT", `${path}.name`, `two rules are named "${rule.name}"`);
      names.add(rule.name);
      const key = `${rule.protocol}/${rule.port}`;
      const twin = ports.get(key);
      if (twin !== undefined) {
        this.add(
          object,
          "INVALID_ARGUMENT",
          `${path}.port`,
          `rules "${twin}" and "${rule.name}" both take ${rule.protocol} port ${rule.port}`,
        );
      }
      ports.set(key, rule.name);
      for (const field of ["port", "backendPort"] as const) {
        if (isInteger(rule[field], 1, 65_535)) continue;
        this.add(
          object,
          "INVALID_ARGUMENT",
          `${path}.${field}`,
          `a port is 1 to 65535, not ${rule[field]}, in rule "${rule.name}"`,
        );
      }
      this.checkPoolName(object, `${path}.pool`, `rule "${rule.name}"`, rule.pool, spec);
      this.checkRuleRange(object, `${path}.port`, spec, at);
    });
    this.checkOutbound(object, spec);
  }

  private checkAddress(object: CheckedObject, spec: VipSpec): void {
    const path = "spec.address";
    const { before } = object;
    if (before !== null && isVip(before) && before.spec.address !== spec.address) {
      const what = `the address is fixed at creation (${before.spec.address}); delete the VIP and create another`;
      this.add(object, "FAILED_PRECONDITION", path, what);
      return;
    }
    const stored = this.state.objects.vipAt(spec.address);
    const requested = this.addresses.get(spec.address);
    if (stored !== null && objectKey(stored.ref) !== objectKey(object.request.ref)) {
      const what = `${spec.address} is the address of ${displayName(stored.ref)}${stored.deleting ? ", whose deletion is under way" : ""}`;
      this.add(object, "ALREADY_EXISTS", path, what);
    } else if (requested !== undefined && requested !== object) {
      this.add(
        object,
        "ALREADY_EXISTS",
        path,
        `${spec.address} is the address of ${displayName(requested.request.ref)} too`,
      );
    }
    const dip =
      this.state.dips.withAddress(spec.address).find((candidate) => this.isInUse(candidate)) ??
      this.state.dips.atLocator(spec.address);
    if (dip !== null)
      this.add(object, "FAILED_PRECONDITION", path, `${spec.address} belongs to DIP ${dip.tenant}/${dip.address}`);
    const mux = this.state.muxes.liveAt(spec.address);
    if (mux !== null)
      this.add(object, "FAILED_PRECONDITION", path, `${spec.address} is the outer address of MUX ${mux.name}`);
  }

  private isInUse(dip: DipRecord): boolean {
    return dip.hostId !== null || dip.pools.size > 0 || this.state.snat.ownsRanges(dip.dipId);
  }

  private checkOutbound(object: CheckedObject, { outbound, ...rest }: VipSpec): void {
    if (outbound === null) return;
    if (outbound.pools.length === 0)
      this.add(object, "INVALID_ARGUMENT", "spec.outbound.pools", "outbound names no pool");
    outbound.pools.forEach((pool, at) => {
      const path = `spec.outbound.pools[${at}]`;
      if (outbound.pools.indexOf(pool) !== at)
        this.add(object, "INVALID_ARGUMENT", path, `outbound names pool "${pool}" twice`);
      this.checkPoolName(object, path, "outbound", pool, { ...rest, outbound });
    });
    const { maxPorts } = outbound;
    if (isInteger(maxPorts, PORTS_PER_RANGE, RANGES_PER_SPACE * PORTS_PER_RANGE) && maxPorts % PORTS_PER_RANGE === 0)
      return;
    const what = `maxPorts is a multiple of ${PORTS_PER_RANGE} in ${PORTS_PER_RANGE}..${RANGES_PER_SPACE * PORTS_PER_RANGE}, not ${maxPorts}`;
    this.add(object, "INVALID_ARGUMENT", "spec.outbound.maxPorts", what);
  }

  /** (R1), and one address family for a VIP and its DIPs (DATAPATH §5). */
  private checkPoolName(object: CheckedObject, path: string, where: string, name: string, spec: VipSpec): void {
    const { tenant } = object.request.ref;
    const ref: ObjectRef = { kind: "BackendPool", tenant, name };
    const stored = this.state.objects.pool(tenant, name);
    const requested = this.requested.get(objectKey(ref))?.request.object;
    if (stored === null && requested === undefined) {
      this.add(
        object,
        "INVALID_ARGUMENT",
        path,
        `${where} names pool "${name}", which does not exist; ${this.offerNames(tenant)}`,
      );
      return;
    }
    if (stored?.deleting === true) {
      this.add(object, "FAILED_PRECONDITION", path, `${where} names pool "${name}", whose deletion is under way`);
      return;
    }
    const wanted = requested?.kind === "BackendPool" ? [requested.spec] : stored === null ? [] : versionsOf(stored);
    const stranger = wanted
      .flatMap((pool) => pool.members)
      .find((member) => familyOf(member.dip) !== familyOf(spec.address));
    if (stranger === undefined) return;
    const what = `${where} names pool "${name}" with member ${stranger.dip}; VIP and DIPs are of one address family`;
    this.add(object, "INVALID_ARGUMENT", path, what);
  }

  private offerNames(tenant: string): string {
    const usable = this.state.objects.list("BackendPool", tenant).filter((pool) => !pool.deleting);
    const stored = usable.map((pool) => pool.ref.name);
    const requested = this.checked
      .map(({ request }) => request.ref)
      .filter((ref) => ref.kind === "BackendPool" && ref.tenant === tenant);
    const names = [...new Set([...stored, ...requested.map((ref) => ref.name)])].sort();
    if (names.length === 0) return `tenant ${tenant} has no BackendPool`;
    const more = names.length > NAMES_OFFERED_MAX ? ` and ${names.length - NAMES_OFFERED_MAX} more` : "";
    return `tenant ${tenant} has ${names.slice(0, NAMES_OFFERED_MAX).join(", ")}${more}`;
  }

  /** (R3) */
  private checkRuleRange(object: CheckedObject, path: string, spec: VipSpec, at: number): void {
    const rule = spec.rules[at];
    if (rule === undefined) return;
    const protocol = protocolNumber(rule.protocol);
    const range = rangeOfPort(rule.port);
    const space = this.state.snat.space(spec.address, protocol);
    const rangeState = space?.stateOf(range);
    if (space === null || (rangeState !== RANGE_OWNED && rangeState !== RANGE_QUARANTINED)) return;
    const dip = this.state.dips.must(space.ownerOf(range));
    const host = dip.hostId === null ? "" : ` of host ${this.state.hosts.must(dip.hostId).name}`;
    const block = formatBlock({ vip: spec.address, protocol, range, count: 1 });
    const holds = rangeState === RANGE_OWNED ? "owns" : "had until a moment ago, and that rest now,";
    const what = `rule "${rule.name}" takes port ${rule.port}, but DIP ${dip.tenant}/${dip.address}${host} ${holds} the SNAT ports ${block}`;
    this.add(object, "FAILED_PRECONDITION", path, what);
  }

  /** (R4) Only a request that adds rules is refused for their number. */
  private checkCapacity(): void {
    const capacity = this.state.muxes.smallestCapacity.rules;
    let rules = this.state.objects.ruleCount;
    let last: CheckedObject | null = null;
    for (const object of this.requested.values()) {
      const { before, request } = object;
      if (request.object.kind !== "Vip" || !object.isChanged) continue;
      const stored = before !== null && isVip(before) ? before : null;
      const heldBefore = stored === null ? 0 : Math.max(...versionsOf(stored).map((spec) => spec.rules.length));
      const heldAfter = Math.max(request.object.spec.rules.length, stored?.active?.rules.length ?? 0);
      rules += heldAfter - heldBefore;
      if (heldAfter > heldBefore) last = object;
    }
    if (last === null || rules <= capacity) return;
    this.add(
      last,
      "FAILED_PRECONDITION",
      "spec.rules",
      `there would be ${rules} rules, and the smallest live MUX holds ${capacity}`,
    );
  }
}

const isInteger = (value: number, min: number, max: number): boolean =>
  Number.isInteger(value) && value >= min && value <= max;

/** The family of the members, of the first when they differ; null without members. */
const oneFamily = (spec: BackendPoolSpec): AddressFamily | null => {
  const first = spec.members[0];
  return first === undefined ? null : familyOf(first.dip);
};

export const namesPool = (spec: VipSpec, pool: string): boolean => poolNames(spec).includes(pool);
