/** Whether a BackendPool may be stored; see `object-checks`. */
import { type AddressFamily, familyOf } from "../../../core/address.js";
import type { IpAddress } from "../../../core/brands.js";
import { type BackendPoolSpec, type PoolMember, objectKey } from "../objects.js";
import { isPool } from "../vip-map.js";
import { type CheckedObject, type ObjectRequest, displayName, isInteger } from "./object-request.js";
import { leavingCount } from "./drains.js";
import { checkGroupNames } from "./tenant-checks.js";

/** Contract of `BackendPoolSpec`: the Maglev table has at least 100 slots per member, and at most 65,537. */
const MAX_MEMBERS = 655;
const WEIGHT_MAX = 1000;
const DRAIN_TIMEOUT_SECONDS_MAX = 3_600;

export function checkPool(request: ObjectRequest, object: CheckedObject, spec: BackendPoolSpec): void {
  const { before } = object;
  if (!isInteger(spec.maxMembers, 1, MAX_MEMBERS)) {
    request.add(
      object,
      "INVALID_ARGUMENT",
      "spec.maxMembers",
      `maxMembers is 1 to ${MAX_MEMBERS}, not ${spec.maxMembers}`,
    );
  } else if (before !== null && isPool(before) && before.spec.maxMembers !== spec.maxMembers) {
    const what = `maxMembers is fixed at creation (${before.spec.maxMembers}): another value would move most flows to other DIPs`;
    request.add(object, "FAILED_PRECONDITION", "spec.maxMembers", what);
  }
  if (spec.members.length > spec.maxMembers) {
    request.add(
      object,
      "INVALID_ARGUMENT",
      "spec.members",
      `${spec.members.length} members exceed maxMembers ${spec.maxMembers}`,
    );
  }
  if (!isInteger(spec.drainTimeoutSeconds, 0, DRAIN_TIMEOUT_SECONDS_MAX)) {
    const what = `a drain timeout is 0 to ${DRAIN_TIMEOUT_SECONDS_MAX} seconds, not ${spec.drainTimeoutSeconds}`;
    request.add(object, "INVALID_ARGUMENT", "spec.drainTimeoutSeconds", what);
  }
  const leaving = before !== null && isPool(before) ? leavingCount(request.state, before, spec) : 0;
  if (leaving > MAX_MEMBERS) {
    const what = `${leaving} former members would drain at a time, more than ${MAX_MEMBERS}; wait until some are done, or lower drainTimeoutSeconds`;
    request.add(object, "FAILED_PRECONDITION", "spec.members", what);
  }
  if (!isInteger(spec.failoverPercent, 0, 100))
    request.add(object, "INVALID_ARGUMENT", "spec.failoverPercent", `a share is 0 to 100, not ${spec.failoverPercent}`);
  checkGroupNames(request, object, spec.securityGroups);
  const seen = new Map<IpAddress, number>();
  spec.members.forEach((member, at) => checkMember(request, object, member, at, seen));
  const family = oneFamily(spec);
  const vips = before !== null && isPool(before) ? request.state.objects.usersOf(before.poolId) : [];
  for (const vip of vips) {
    // A VIP that the request changes too is checked from its own side.
    if (
      family === null ||
      family === familyOf(vip.spec.address) ||
      request.requested.get(objectKey(vip.ref))?.isChanged === true
    )
      continue;
    request.add(
      object,
      "INVALID_ARGUMENT",
      "spec.members",
      `${displayName(vip.ref)} uses it, and VIP and DIPs are of one address family`,
    );
  }
}

function checkMember(
  request: ObjectRequest,
  object: CheckedObject,
  member: PoolMember,
  at: number,
  seen: Map<IpAddress, number>,
): void {
  const path = `spec.members[${at}]`;
  const twin = seen.get(member.dip);
  if (twin !== undefined)
    request.add(
      object,
      "INVALID_ARGUMENT",
      `${path}.dip`,
      `DIP ${member.dip} is listed twice, as members ${twin} and ${at}`,
    );
  seen.set(member.dip, at);
  if (!isInteger(member.port, 0, 65_535))
    request.add(object, "INVALID_ARGUMENT", `${path}.port`, `a port is 0 to 65535, not ${member.port}`);
  if (!isInteger(member.weight, 0, WEIGHT_MAX)) {
    request.add(object, "INVALID_ARGUMENT", `${path}.weight`, `a weight is 0 to ${WEIGHT_MAX}, not ${member.weight}`);
  }
  const vip = request.state.objects.vipAt(member.dip)?.ref ?? request.addresses.get(member.dip)?.request.ref;
  if (vip !== undefined)
    request.add(object, "FAILED_PRECONDITION", `${path}.dip`, `${member.dip} is the address of ${displayName(vip)}`);
}

/** The family of the members, of the first when they differ; null without members. */
const oneFamily = (spec: BackendPoolSpec): AddressFamily | null => {
  const first = spec.members[0];
  return first === undefined ? null : familyOf(first.dip);
};

const firstOfFamily = new WeakMap<BackendPoolSpec, ReadonlyMap<AddressFamily, IpAddress>>();

/** The first member that is not of the family; null: all are. Every rule that names the pool asks: found out once. */
export function memberOfOtherFamily(spec: BackendPoolSpec, family: AddressFamily): IpAddress | null {
  let first = firstOfFamily.get(spec);
  if (first === undefined) {
    first = new Map([...spec.members].reverse().map(({ dip }) => [familyOf(dip), dip]));
    firstOfFamily.set(spec, first);
  }
  for (const [other, dip] of first) if (other !== family) return dip;
  return null;
}
