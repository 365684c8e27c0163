/** Operators' objects: stored whole, all or none. What is stored here is prepared; `activate` puts it to use. */
import type { LogIndex, PoolId, VipId } from "../../../core/brands.js";
import type { ApplyObject, ApplyObjectsCommand, DeleteObjectsCommand } from "../commands/commands.js";
import { storeObject } from "../configuration.js";
import { isEqual } from "../equal.js";
import { type AnyStoredObject, OBJECT_KINDS, objectKey } from "../objects.js";
import { byText } from "../order.js";
import type { CommandResult, ObjectOutcome } from "../commands/results.js";
import type { State } from "../state.js";
import { isGroup, isPool, isTenant, isVip } from "../vip-map.js";
import { checkObjects } from "./object-checks.js";
import { type CheckedObject, displayName } from "./object-request.js";
import { type ApplyContext, type Refusal, succeed } from "./outcome.js";
import { Problems } from "./problems.js";
import { usersThatStay } from "./users.js";

/** Why the command would be refused now, or null. */
export function checkObjectCommand(
  context: ApplyContext,
  command: ApplyObjectsCommand | DeleteObjectsCommand,
): Refusal | null {
  const problems = new Problems();
  if (command.kind === "apply-objects") checkObjects(context.state, command.objects, problems);
  else checkDeletion(context.state, command, problems);
  return problems.any ? problems.refusal(context) : null;
}

export function applyObjects(context: ApplyContext, command: ApplyObjectsCommand): CommandResult {
  const problems = new Problems();
  const checked = checkObjects(context.state, command.objects, problems);
  if (problems.any) return problems.refusal(context);
  // What is named first: a VIP may name a pool that comes after it in the request.
  for (const kind of OBJECT_KINDS)
    for (const object of checked) if (object.request.ref.kind === kind) store(context, object);
  const objects = checked.map(({ request, before, isChanged }): ObjectOutcome => {
    const generation = context.state.objects.get(request.ref)?.generation ?? 0;
    return {
      ref: request.ref,
      change: !isChanged ? "unchanged" : before === null ? "created" : "configured",
      generation,
    };
  });
  return succeed(context, { kind: "objects-applied", objects });
}

function store(context: ApplyContext, { request, before, isChanged }: CheckedObject): void {
  if (!isChanged) return;
  storeObject(context.state, before === null ? created(context, request) : configured(before, request, context.index));
}

function created(context: ApplyContext, { ref, labels, object }: ApplyObject): AnyStoredObject {
  const { objects } = context.state;
  const common = {
    labels: sortedLabels(labels),
    active: null,
    generation: 1,
    createdIndex: context.index,
    updatedIndex: context.index,
    activeIndex: 0 as LogIndex,
    deleting: false,
  };
  if (object.kind === "Tenant") return { ...common, ref: { ...ref, kind: object.kind }, spec: object.spec };
  if (object.kind === "SecurityGroup") return { ...common, ref: { ...ref, kind: object.kind }, spec: object.spec };
  if (object.kind === "BackendPool") {
    return { ...common, ref: { ...ref, kind: object.kind }, spec: object.spec, poolId: objects.nextPoolId++ as PoolId };
  }
  return {
    ...common,
    ref: { ...ref, kind: object.kind },
    spec: object.spec,
    vipId: objects.nextVipId++ as VipId,
    natPorts: [],
  };
}

/** New labels alone prepare nothing: `updatedIndex` stays. */
function configured(before: AnyStoredObject, { labels, object }: ApplyObject, index: LogIndex): AnyStoredObject {
  const sameSpec = isEqual(before.spec, object.spec);
  const change = {
    labels: sortedLabels(labels),
    generation: before.generation + 1,
    updatedIndex: sameSpec ? before.updatedIndex : index,
  };
  if (isTenant(before) && object.kind === "Tenant")
    return { ...before, ...change, spec: sameSpec ? before.spec : object.spec };
  if (isGroup(before) && object.kind === "SecurityGroup")
    return { ...before, ...change, spec: sameSpec ? before.spec : object.spec };
  if (isPool(before) && object.kind === "BackendPool")
    return { ...before, ...change, spec: sameSpec ? before.spec : object.spec };
  if (isVip(before) && object.kind === "Vip")
    return { ...before, ...change, spec: sameSpec ? before.spec : object.spec };
  return before;
}

const sortedLabels = (labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(labels).sort(([a], [b]) => byText(a, b)));

/** Marks objects as being deleted; `activate` removes them. An object whose deletion is under way already is fine. */
export function deleteObjects(context: ApplyContext, command: DeleteObjectsCommand): CommandResult {
  const { state, index } = context;
  const problems = new Problems();
  const going = checkDeletion(state, command, problems);
  if (problems.any) return problems.refusal(context);
  for (const object of going.values()) {
    if (!object.deleting) storeObject(state, { ...object, deleting: true, updatedIndex: index });
  }
  const objects = command.objects.map(({ ref }): ObjectOutcome => {
    return { ref, change: "deleted", generation: going.get(objectKey(ref))?.generation ?? 0 };
  });
  return succeed(context, { kind: "objects-deleted", objects });
}

/** The objects to be deleted, by key. */
function checkDeletion(
  state: State,
  command: DeleteObjectsCommand,
  problems: Problems,
): ReadonlyMap<string, AnyStoredObject> {
  const going = new Map<string, AnyStoredObject>();
  const requested = new Set(command.objects.map(({ ref }) => objectKey(ref)));
  command.objects.forEach(({ ref, expectedGeneration }, at) => {
    const object = state.objects.get(ref);
    if (object === null) {
      problems.add({
        object: at,
        path: "metadata.name",
        code: "NOT_FOUND",
        message: `${displayName(ref)} does not exist`,
      });
      return;
    }
    if (expectedGeneration !== null && expectedGeneration !== object.generation) {
      const message = `${displayName(ref)}: it is at generation ${object.generation}; generation ${expectedGeneration} was expected`;
      problems.add({ object: at, path: "metadata.generation", code: "GENERATION_CONFLICT", message });
    }
    const users = usersThatStay(state, object, requested);
    if (users.length > 0) {
      const message = `${displayName(ref)} is in use by ${users.map(displayName).join(", ")}`;
      problems.add({ object: at, path: "metadata.name", code: "FAILED_PRECONDITION", message });
    }
    going.set(objectKey(ref), object);
  });
  return going;
}
