/** Whether a VIP may be stored; see `object-checks`. */
import { familyOf } from "../../../core/address.js";
import type { DipRecord } from "../dip-table.js";
import { type ObjectRef, type VipSpec, objectKey } from "../objects.js";
import { PORTS_PER_RANGE, RANGES_PER_SPACE } from "../snat/port-ranges.js";
import { parsePorts } from "../snat/port-text.js";
import { isVip, protocolNumber, protocolsOf, versionsOf } from "../vip-map.js";
import { type CheckedObject, type ObjectRequest, displayName, isInteger } from "./object-request.js";
import { memberOfOtherFamily } from "./pool-checks.js";
import { checkGroupNames } from "./tenant-checks.js";

/** Names offered to someone who misspelt one. */
const NAMES_OFFERED_MAX = 10;

export function checkVip(request: ObjectRequest, object: CheckedObject, spec: VipSpec): void {
  checkAddress(request, object, spec);
  checkFamily(request, object, spec);
  checkGroupNames(request, object, spec.securityGroups);
  const ports = new Map<string, string>();
  const names = new Set<string>();
  spec.rules.forEach((rule, at) => {
    const path = `spec.rules[${at}]`;
    if (names.has(rule.name))
      request.add(object, "INVALID_ARGUMENT", `${path}.name`, `two rules are named "${rule.name}"`);
    names.add(rule.name);
    for (const protocol of protocolsOf(rule.protocol)) {
      const key = `${protocol}/${rule.port}`;
      const twin = ports.get(key);
      if (twin !== undefined) {
        const what = `rules "${twin}" and "${rule.name}" both take ${rule.protocol} port ${rule.port}`;
        request.add(object, "INVALID_ARGUMENT", `${path}.port`, what);
      }
      ports.set(key, rule.name);
    }
    for (const field of ["port", "backendPort"] as const) {
      if (rule.protocol === "all" ? rule[field] === 0 : isInteger(rule[field], 1, 65_535)) continue;
      request.add(
        object,
        "INVALID_ARGUMENT",
        `${path}.${field}`,
        `a port is 1 to 65535, not ${rule[field]}, in rule "${rule.name}"`,
      );
    }
    checkPoolName(request, object, `${path}.pool`, `rule "${rule.name}"`, rule.pool, spec);
  });
  checkInboundNat(request, object, spec, names, ports);
  checkOutbound(request, object, spec);
}

/** A MUX that can't forward the family would never have the VIP in force, and hold up everything after it. */
function checkFamily(request: ObjectRequest, object: CheckedObject, spec: VipSpec): void {
  if (familyOf(spec.address) === "ipv4") return;
  const old = request.state.muxes.all().find((mux) => mux.state === "live" && mux.capacity.ipv6 !== true);
  if (old === undefined) return;
  const what = `${spec.address} is an IPv6 address, and the live MUX ${old.name} forwards IPv4 only`;
  request.add(object, "FAILED_PRECONDITION", "spec.address", what);
}

function checkInboundNat(
  request: ObjectRequest,
  object: CheckedObject,
  spec: VipSpec,
  names: Set<string>,
  ports: Map<string, string>,
): void {
  spec.inboundNat.forEach((nat, at) => {
    const path = `spec.inboundNat[${at}]`;
    if (names.has(nat.name))
      request.add(object, "INVALID_ARGUMENT", `${path}.name`, `two rules are named "${nat.name}"`);
    names.add(nat.name);
    const span = parsePorts(nat.ports);
    if (span === null) {
      const what = `"${nat.ports}" is not a range of ports; write 50000-50099`;
      request.add(object, "INVALID_ARGUMENT", `${path}.ports`, what);
      return;
    }
    for (let port = span.first; port <= span.last; port++) {
      const key = `${protocolNumber(nat.protocol)}/${port}`;
      const twin = ports.get(key);
      if (twin !== undefined) {
        const what = `"${twin}" and "${nat.name}" both take ${nat.protocol} port ${port}`;
        request.add(object, "INVALID_ARGUMENT", `${path}.ports`, what);
        break;
      }
      ports.set(key, nat.name);
    }
    checkPoolName(request, object, `${path}.pool`, `inbound NAT "${nat.name}"`, nat.pool, spec);
  });
}

function checkAddress(request: ObjectRequest, object: CheckedObject, spec: VipSpec): void {
  const path = "spec.address";
  const { before } = object;
  if (before !== null && isVip(before) && before.spec.address !== spec.address) {
    const what = `the address is fixed at creation (${before.spec.address}); delete the VIP and create another`;
    request.add(object, "FAILED_PRECONDITION", path, what);
    return;
  }
  const stored = request.state.objects.vipAt(spec.address);
  const requested = request.addresses.get(spec.address);
  if (stored !== null && objectKey(stored.ref) !== objectKey(object.request.ref)) {
    const what = `${spec.address} is the address of ${displayName(stored.ref)}${stored.deleting ? ", whose deletion is under way" : ""}`;
    request.add(object, "ALREADY_EXISTS", path, what);
  } else if (requested !== undefined && requested !== object) {
    request.add(
      object,
      "ALREADY_EXISTS",
      path,
      `${spec.address} is the address of ${displayName(requested.request.ref)} too`,
    );
  }
  const dip =
    request.state.dips.withAddress(spec.address).find((candidate) => isInUse(request, candidate)) ??
    request.state.dips.atLocator(spec.address);
  if (dip !== null)
    request.add(object, "FAILED_PRECONDITION", path, `${spec.address} belongs to DIP ${dip.tenant}/${dip.address}`);
  const mux = request.state.muxes.liveAt(spec.address);
  if (mux !== null)
    request.add(object, "FAILED_PRECONDITION", path, `${spec.address} is the outer address of MUX ${mux.name}`);
}

function isInUse(request: ObjectRequest, dip: DipRecord): boolean {
  return dip.hostId !== null || dip.pools.size > 0 || request.state.snat.ownsRanges(dip.dipId);
}

function checkOutbound(request: ObjectRequest, object: CheckedObject, { outbound, ...rest }: VipSpec): void {
  if (outbound === null) return;
  if (outbound.pools.length === 0)
    request.add(object, "INVALID_ARGUMENT", "spec.outbound.pools", "outbound names no pool");
  outbound.pools.forEach((pool, at) => {
    const path = `spec.outbound.pools[${at}]`;
    if (outbound.pools.indexOf(pool) !== at)
      request.add(object, "INVALID_ARGUMENT", path, `outbound names pool "${pool}" twice`);
    checkPoolName(request, object, path, "outbound", pool, { ...rest, outbound });
  });
  if (rest.rules.some((rule) => rule.protocol === "all")) {
    const what =
      "an all-port rule and outbound may not share a VIP: replies to SNAT come to its ports; use a second VIP";
    request.add(object, "INVALID_ARGUMENT", "spec.outbound", what);
  }
  const { maxPorts, minPorts } = outbound;
  if (minPorts > maxPorts || minPorts % PORTS_PER_RANGE !== 0) {
    const what = `minPorts is a multiple of ${PORTS_PER_RANGE} up to maxPorts ${maxPorts}, not ${minPorts}`;
    request.add(object, "INVALID_ARGUMENT", "spec.outbound.minPorts", what);
  }
  if (isInteger(maxPorts, PORTS_PER_RANGE, RANGES_PER_SPACE * PORTS_PER_RANGE) && maxPorts % PORTS_PER_RANGE === 0)
    return;
  const what = `maxPorts is a multiple of ${PORTS_PER_RANGE} in ${PORTS_PER_RANGE}..${RANGES_PER_SPACE * PORTS_PER_RANGE}, not ${maxPorts}`;
  request.add(object, "INVALID_ARGUMENT", "spec.outbound.maxPorts", what);
}

/** (R1), and one address family for a VIP and its DIPs. */
function checkPoolName(
  request: ObjectRequest,
  object: CheckedObject,
  path: string,
  where: string,
  name: string,
  spec: VipSpec,
): void {
  const { tenant } = object.request.ref;
  const ref: ObjectRef = { kind: "BackendPool", tenant, name };
  const stored = request.state.objects.pool(tenant, name);
  const requested = request.requested.get(objectKey(ref))?.request.object;
  if (stored === null && requested === undefined) {
    request.add(
      object,
      "INVALID_ARGUMENT",
      path,
      `${where} names pool "${name}", which does not exist; ${offerNames(request, tenant)}`,
    );
    return;
  }
  if (stored?.deleting === true) {
    request.add(object, "FAILED_PRECONDITION", path, `${where} names pool "${name}", whose deletion is under way`);
    return;
  }
  const wanted = requested?.kind === "BackendPool" ? [requested.spec] : stored === null ? [] : versionsOf(stored);
  const own = familyOf(spec.address);
  const stranger = wanted.map((pool) => memberOfOtherFamily(pool, own)).find((dip) => dip !== null) ?? null;
  if (stranger === null) return;
  const what = `${where} names pool "${name}" with member ${stranger}; VIP and DIPs are of one address family`;
  request.add(object, "INVALID_ARGUMENT", path, what);
}

function offerNames(request: ObjectRequest, tenant: string): string {
  const usable = request.state.objects.list("BackendPool", tenant).filter((pool) => !pool.deleting);
  const stored = usable.map((pool) => pool.ref.name);
  const requested = request.checked
    .map(({ request }) => request.ref)
    .filter((ref) => ref.kind === "BackendPool" && ref.tenant === tenant);
  const names = [...new Set([...stored, ...requested.map((ref) => ref.name)])].sort();
  if (names.length === 0) return `tenant ${tenant} has no BackendPool`;
  const more = names.length > NAMES_OFFERED_MAX ? ` and ${names.length - NAMES_OFFERED_MAX} more` : "";
  return `tenant ${tenant} has ${names.slice(0, NAMES_OFFERED_MAX).join(", ")}${more}`;
}
