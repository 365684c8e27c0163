/** What `get`, `describe` and `delete` can be asked for, under the names people type. */
import { nearest } from "../../core/nearest.js";
import type { ObjectKind } from "../../manager/state/objects.js";
import { UsageError } from "../terminal/exit-codes.js";

export interface ResourceType {
  /** As in `-o name`: "vip/web". */
  readonly name: string;
  readonly kind: ObjectKind | "Mux" | "Host" | "Replica";
  readonly aliases: readonly string[];
  /** Stored objects, which are written, deleted and watched; the others are facts about processes. */
  readonly isObject: boolean;
}

export const RESOURCE_TYPES: readonly ResourceType[] = [
  { name: "vip", kind: "Vip", aliases: ["vips"], isObject: true },
  { name: "backendpool", kind: "BackendPool", aliases: ["backendpools", "pool", "pools"], isObject: true },
  { name: "tenant", kind: "Tenant", aliases: ["tenants"], isObject: true },
  { name: "securitygroup", kind: "SecurityGroup", aliases: ["securitygroups", "sg", "sgs"], isObject: true },
  { name: "mux", kind: "Mux", aliases: ["muxes"], isObject: false },
  { name: "host", kind: "Host", aliases: ["hosts"], isObject: false },
  { name: "replica", kind: "Replica", aliases: ["replicas"], isObject: false },
];

export const TYPE_WORDS = "vips, backendpools (pools), tenants, securitygroups (sg), muxes, hosts, replicas";

export type ObjectType = ResourceType & { readonly kind: ObjectKind };

export function resourceType(word: string): ResourceType {
  const lower = word.toLowerCase();
  const found = RESOURCE_TYPES.find(({ name, aliases }) => name === lower || aliases.includes(lower));
  if (found !== undefined) return found;
  const meant = nearest(
    word,
    RESOURCE_TYPES.flatMap(({ name, aliases }) => [name, ...aliases]),
  );
  throw new UsageError(
    `"${word}" is not a type; ${meant === null ? `use one of ${TYPE_WORDS}` : `did you mean "${meant}"?`}`,
  );
}

export function objectType(type: ResourceType, verb: string): ObjectType {
  if (type.isObject) return type as ObjectType;
  throw new UsageError(`a ${type.name} cannot be ${verb}; only vips, backendpools, tenants and securitygroups can`);
}

export interface Target {
  readonly type: ResourceType;
  /** Null: all of the type. */
  readonly name: string | null;
}

/** "vips", "vips,pools", "vip web api", "vip/web pool/web". */
export function parseTargets(words: readonly string[]): readonly Target[] {
  const [first, ...rest] = words;
  if (first === undefined) throw new UsageError(`name a type: one of ${TYPE_WORDS}`);
  if (!words.some((word) => word.includes("/"))) {
    const [type, ...types] = first.split(",").map(resourceType);
    if (type === undefined || types.length > 0) {
      if (rest.length > 0) throw new UsageError(`names belong to one type; write for example vip/${rest[0] ?? ""}`);
      return [...(type === undefined ? [] : [type]), ...types].map((each) => ({ type: each, name: null }));
    }
    return rest.length === 0 ? [{ type, name: null }] : rest.map((name) => ({ type, name }));
  }
  return words.map((word) => {
    const [type = "", name = "", ...more] = word.split("/");
    if (type === "" || name === "" || more.length > 0)
      throw new UsageError(`"${word}" is not TYPE/NAME; write for example vip/web`);
    return { type: resourceType(type), name };
  });
}
