/** Objects inside a command batch; see `command-codec`. References are arrays, specs have names (`spec-readers`). */
import { count, label, malformed, text, tuple } from "./command-fields.js";
import type { ApplyObject } from "./commands.js";
import type { ObjectRef } from "../objects.js";
import { readKind, readSpec } from "../spec-readers.js";

export const encodeRef = ({ kind, tenant, name }: ObjectRef): readonly unknown[] => [kind, tenant, name];

export function decodeRef(value: unknown): ObjectRef {
  const [kind, tenant, name] = tuple(value, 3, "a reference");
  return { kind: readKind(kind, "kind"), tenant: label(tenant, "tenant"), name: label(name, "name") };
}

export function encodeApplyObject({ ref, labels, object, expectedGeneration }: ApplyObject): readonly unknown[] {
  const { spec } = readSpec(object.kind, object.spec); // fields in the order of the reader, whoever built it
  return [encodeRef(ref), labels, object.kind, spec, expectedGeneration];
}

export function decodeApplyObject(value: unknown): ApplyObject {
  const [ref, labels, kind, spec, generation] = tuple(value, 5, "an object");
  const expectedGeneration = generation === null ? null : count(generation, "expectedGeneration");
  const object = readSpec(readKind(kind, "kind"), spec);
  return { ref: decodeRef(ref), labels: decodeLabels(labels), object, expectedGeneration };
}

function decodeLabels(value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) malformed("labels are not an object");
  return Object.fromEntries(Object.entries(value).map(([name, content]) => [name, text(content, "a label")]));
}
