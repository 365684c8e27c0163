/** Whether tenants and security groups may be stored, and whether others keep to what their tenant allows; see `object-checks`. */
import { parsePrefix, prefixContains } from "../../../core/prefix.js";
import { type SecurityGroupSpec, type TenantSpec, objectKey } from "../objects.js";
import { isPool, isVip, ruleRows } from "../vip-map.js";
import { type CheckedObject, type ObjectRequest, isInteger } from "./object-request.js";

export function checkTenant(request: ObjectRequest, object: CheckedObject, spec: TenantSpec): void {
  if (object.request.ref.tenant !== object.request.ref.name)
    request.add(object, "INVALID_ARGUMENT", "metadata.tenant", "a Tenant belongs to itself; leave metadata.tenant out");
  if (!isInteger(spec.weight, 1, 1_000))
    request.add(object, "INVALID_ARGUMENT", "spec.weight", `a weight is 1 to 1000, not ${spec.weight}`);
  if (!isInteger(spec.maxRulesPerVip, 1, 1_500)) {
    const what = `a VIP has at most 1 to 1500 rules, not ${spec.maxRulesPerVip}`;
    request.add(object, "INVALID_ARGUMENT", "spec.maxRulesPerVip", what);
  }
  spec.addressSpaces.forEach((space, at) => {
    if (parsePrefix(space) === null)
      request.add(object, "INVALID_ARGUMENT", `spec.addressSpaces[${at}]`, `"${space}" is not a prefix`);
  });
  // What is there already must keep to it; what the request brings is checked from its own side.
  const { objects } = request.state;
  const tenant = object.request.ref.name;
  const vips = objects.list("Vip", tenant).filter(isVip);
  for (const vip of vips) {
    if (vip.deleting || request.requested.has(objectKey(vip.ref)) || ruleRows(vip.spec) <= spec.maxRulesPerVip)
      continue;
    const what = `VIP ${tenant}/${vip.ref.name} has ${ruleRows(vip.spec)} rules, more than ${spec.maxRulesPerVip}`;
    request.add(object, "FAILED_PRECONDITION", "spec.maxRulesPerVip", what);
  }
  for (const pool of objects.list("BackendPool", tenant).filter(isPool)) {
    if (pool.deleting || request.requested.has(objectKey(pool.ref))) continue;
    const stranger = pool.spec.members.find(({ dip }) => !isInside(spec, dip));
    if (stranger === undefined) continue;
    const what = `DIP ${stranger.dip} of BackendPool ${tenant}/${pool.ref.name} lies in none of ${spec.addressSpaces.join(", ")}`;
    request.add(object, "FAILED_PRECONDITION", "spec.addressSpaces", what);
  }
}

type Address = Parameters<typeof prefixContains>[1];

function isInside(tenant: TenantSpec, dip: Address): boolean {
  if (tenant.addressSpaces.length === 0) return true;
  return tenant.addressSpaces.some((space) => {
    const prefix = parsePrefix(space);
    return prefix !== null && prefixContains(prefix, dip);
  });
}

/** The tenant as it will be after the request. */
function tenantOf(request: ObjectRequest, name: string): TenantSpec {
  const wanted = request.requested.get(objectKey({ kind: "Tenant", tenant: name, name }))?.request.object;
  return wanted?.kind === "Tenant" ? wanted.spec : request.state.objects.tenantSpec(name);
}

/** After all objects of a request were looked at one by one. */
export function checkTenantLimits(request: ObjectRequest): void {
  const created = new Map<string, number>();
  for (const object of request.requested.values()) {
    const { ref, object: wanted } = object.request;
    if (wanted.kind === "BackendPool") {
      const tenant = tenantOf(request, ref.tenant);
      wanted.spec.members.forEach(({ dip }, at) => {
        if (isInside(tenant, dip)) return;
        const what = `${dip} lies in none of the address spaces of tenant ${ref.tenant}: ${tenant.addressSpaces.join(", ")}`;
        request.add(object, "INVALID_ARGUMENT", `spec.members[${at}].dip`, what);
      });
    }
    if (wanted.kind !== "Vip") continue;
    const tenant = tenantOf(request, ref.tenant);
    const rows = ruleRows(wanted.spec);
    if (object.isChanged && rows > tenant.maxRulesPerVip) {
      const what = `${rows} rules and inbound NAT ports; tenant ${ref.tenant} has a limit of ${tenant.maxRulesPerVip} per VIP`;
      request.add(object, "FAILED_PRECONDITION", "spec.rules", what);
    }
    if (object.before !== null || tenant.maxVips === 0) continue;
    const fresh = (created.get(ref.tenant) ?? 0) + 1;
    created.set(ref.tenant, fresh);
    const stored = request.state.objects.list("Vip", ref.tenant).length;
    if (stored + fresh <= tenant.maxVips) continue;
    const what = `tenant ${ref.tenant} has a limit of ${tenant.maxVips} VIPs and has ${stored}`;
    request.add(object, "FAILED_PRECONDITION", "metadata.name", what);
  }
}

export function checkGroup(request: ObjectRequest, object: CheckedObject, spec: SecurityGroupSpec): void {
  spec.rules.forEach((rule, at) => {
    if (!rule.peer.startsWith("sg:")) return;
    const name = rule.peer.slice("sg:".length);
    if (groupExists(request, object.request.ref.tenant, name)) return;
    const what = `it names SecurityGroup "${name}", which does not exist in tenant ${object.request.ref.tenant}`;
    request.add(object, "INVALID_ARGUMENT", `spec.rules[${at}].peer`, what);
  });
}

/** Of a VIP or a pool. */
export function checkGroupNames(request: ObjectRequest, object: CheckedObject, names: readonly string[]): void {
  const { tenant } = object.request.ref;
  names.forEach((name, at) => {
    const path = `spec.securityGroups[${at}]`;
    if (names.indexOf(name) !== at) request.add(object, "INVALID_ARGUMENT", path, `it names group "${name}" twice`);
    else if (!groupExists(request, tenant, name)) {
      const what = `it names SecurityGroup "${name}", which does not exist in tenant ${tenant}`;
      request.add(object, "INVALID_ARGUMENT", path, what);
    }
  });
}

function groupExists(request: ObjectRequest, tenant: string, name: string): boolean {
  if (request.requested.has(objectKey({ kind: "SecurityGroup", tenant, name }))) return true;
  const stored = request.state.objects.group(tenant, name);
  return stored !== null && !stored.deleting;
}
