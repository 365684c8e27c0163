/** Objects of one request, indexed, as the checks look at them: by name, by address, beside what is stored. */
import type { IpAddress } from "../../../core/brands.js";
import type { ErrorCode } from "../../../core/errors.js";
import type { ApplyObject } from "../commands/commands.js";
import { isEqual } from "../equal.js";
import { type AnyStoredObject, type ObjectRef, objectKey } from "../objects.js";
import type { State } from "../state.js";
import type { Problems } from "./problems.js";

export interface CheckedObject {
  /** Position in the request. */
  readonly at: number;
  readonly request: ApplyObject;
  /** What is stored under its name now. */
  readonly before: AnyStoredObject | null;
  /** False when spec and labels are what is stored already. */
  readonly isChanged: boolean;
}

/** "VIP default/web" */
export const displayName = ({ kind, tenant, name }: ObjectRef): string =>
  kind === "Tenant" ? `Tenant ${name}` : `${kind === "Vip" ? "VIP" : kind} ${tenant}/${name}`;

export const isInteger = (value: number, min: number, max: number): boolean =>
  Number.isInteger(value) && value >= min && value <= max;

export class ObjectRequest {
  readonly state: State;
  private readonly problems: Problems;
  readonly checked: readonly CheckedObject[];
  readonly requested = new Map<string, CheckedObject>();
  /** VIPs of the request by address. */
  readonly addresses = new Map<IpAddress, CheckedObject>();

  constructor(state: State, objects: readonly ApplyObject[], problems: Problems) {
    this.state = state;
    this.problems = problems;
    this.checked = objects.map((request, at) => {
      const before = state.objects.get(request.ref);
      const isChanged =
        before === null || !isEqual(before.spec, request.object.spec) || !isEqual(before.labels, request.labels);
      return { at, request, before, isChanged };
    });
    for (const object of this.checked) this.indexObject(object);
  }

  add(object: CheckedObject, code: ErrorCode, path: string, what: string): void {
    this.problems.add({ object: object.at, path, code, message: `${displayName(object.request.ref)}: ${what}` });
  }

  private indexObject(object: CheckedObject): void {
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
}
