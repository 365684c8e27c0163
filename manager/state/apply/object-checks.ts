/**
 * Whether objects may be stored: each by itself, against what is stored, and against each other, so that objects of one
 * request may refer to each other in any order. Nothing is changed here.
 *
 * Referential integrity, after every command: (R1) a pool that a VIP's spec names exists in its tenant and is not being
 * deleted. (R2) An address is that of one VIP, and then of no DIP. (R3) No rule's port lies in a range that can be granted: one that is
 * owned is recalled, and its rule waits. (R4) The rules fit the tables of the smallest live MUX. (R5) What a VIP promises the members of its pools can be
 * kept: minimum ports, a port of inbound NAT. (R6) Security groups that are named exist. (R7) A tenant keeps to its limits.
 */
import { assertNever } from "../../../core/assert.js";
import type { ApplyObject } from "../commands/commands.js";
import type { ObjectSpec } from "../objects.js";
import type { State } from "../state.js";
import { isVip, ruleRows, versionsOf } from "../vip-map.js";
import { type CheckedObject, ObjectRequest } from "./object-request.js";
import { checkLimits } from "./limits.js";
import { checkPromises, checkReserved } from "./outbound-checks.js";
import { checkPool } from "./pool-checks.js";
import type { Problems } from "./problems.js";
import { checkGroup, checkTenant, checkTenantLimits } from "./tenant-checks.js";
import { checkVip } from "./vip-checks.js";

/** Finds all problems of a request; where there are none, the result says what is to be stored. */
export function checkObjects(
  state: State,
  objects: readonly ApplyObject[],
  problems: Problems,
): readonly CheckedObject[] {
  const request = new ObjectRequest(state, objects, problems);
  for (const object of request.checked) {
    checkStored(request, object);
    const { ref, object: wanted } = object.request;
    if (!object.isChanged || wanted.kind !== ref.kind) continue;
    checkSpec(request, object, wanted);
  }
  checkCapacity(request);
  checkLimits(request);
  checkTenantLimits(request);
  checkPromises(request);
  checkReserved(request);
  return request.checked;
}

function checkSpec(request: ObjectRequest, object: CheckedObject, wanted: ObjectSpec): void {
  switch (wanted.kind) {
    case "Tenant": {
      checkTenant(request, object, wanted.spec);
      return;
    }
    case "SecurityGroup": {
      checkGroup(request, object, wanted.spec);
      return;
    }
    case "BackendPool": {
      checkPool(request, object, wanted.spec);
      return;
    }
    case "Vip": {
      checkVip(request, object, wanted.spec);
      return;
    }
    default:
      assertNever(wanted);
  }
}

function checkStored(request: ObjectRequest, object: CheckedObject): void {
  const { before } = object;
  const generation = before?.generation ?? 0;
  const expected = object.request.expectedGeneration;
  if (expected !== null && expected !== generation) {
    const what = before === null ? "it does not exist" : `it is at generation ${generation}`;
    const wanted = expected === 0 ? "it must not exist" : `generation ${expected} was expected`;
    request.add(object, "GENERATION_CONFLICT", "metadata.generation", `${what}; ${wanted}`);
  }
  if (before?.deleting === true)
    request.add(
      object,
      "FAILED_PRECONDITION",
      "metadata.name",
      "its deletion is under way; apply it again when it is gone",
    );
}

/** (R4) Only a request that adds rules is refused for their number. */
function checkCapacity(request: ObjectRequest): void {
  const capacity = request.state.muxes.smallestCapacity.rules;
  let rules = request.state.objects.ruleCount;
  let last: CheckedObject | null = null;
  for (const object of request.requested.values()) {
    const { before, request: wanted } = object;
    if (wanted.object.kind !== "Vip" || !object.isChanged) continue;
    const stored = before !== null && isVip(before) ? before : null;
    const heldBefore = stored === null ? 0 : Math.max(...versionsOf(stored).map(ruleRows));
    const heldAfter = Math.max(
      ruleRows(wanted.object.spec),
      stored === null || stored.active === null ? 0 : ruleRows(stored.active),
    );
    rules += heldAfter - heldBefore;
    if (heldAfter > heldBefore) last = object;
  }
  if (last === null || rules <= capacity) return;
  request.add(
    last,
    "FAILED_PRECONDITION",
    "spec.rules",
    `there would be ${rules} rules, and the smallest live MUX holds ${capacity}`,
  );
}
