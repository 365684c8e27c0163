/** Who needs an object: what is in use can't be deleted. */
import { type AnyStoredObject, type ObjectRef, objectKey } from "../objects.js";
import type { State } from "../state.js";
import { isGroup, isPool, isTenant, poolNames } from "../vip-map.js";

/** Objects whose spec names the object and that are neither being deleted nor deleted by this request. */
export function usersThatStay(
  state: State,
  object: AnyStoredObject,
  requested: ReadonlySet<string>,
): readonly ObjectRef[] {
  return users(state, object)
    .filter((user) => !user.deleting && !requested.has(objectKey(user.ref)))
    .map((user) => user.ref);
}

function users(state: State, object: AnyStoredObject): readonly AnyStoredObject[] {
  const { objects } = state;
  const { tenant, name } = object.ref;
  if (isPool(object)) return objects.usersOf(object.poolId).filter((vip) => poolNames(vip.spec).includes(name));
  if (isTenant(object)) {
    const kinds = ["Vip", "BackendPool", "SecurityGroup"] as const;
    return kinds.flatMap((kind) => objects.list(kind, tenant));
  }
  if (!isGroup(object)) return [];
  const guarded = [...objects.list("Vip", tenant), ...objects.list("BackendPool", tenant)];
  return [
    ...guarded.filter((user) => "securityGroups" in user.spec && user.spec.securityGroups.includes(name)),
    ...objects.list("SecurityGroup", tenant).filter((group) => group !== object && namesGroup(group, name)),
  ];
}

const namesGroup = (group: AnyStoredObject, name: string): boolean =>
  isGroup(group) && group.spec.rules.some(({ peer }) => peer === `sg:${name}`);
