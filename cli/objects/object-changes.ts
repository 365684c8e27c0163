/**
 * What applying an object would change: field by field, and which DIPs it means. Pure.
 *
 * Items of lists are known by what names them (a member by its DIP, a rule by its name, a word by itself), so that one
 * taken out in the middle is one change, not a shift of all behind it.
 */
import type { ApplyObject } from "../../manager/state/commands/commands.js";
import { isEqual } from "../../manager/state/equal.js";
import type { PoolMember } from "../../manager/state/objects.js";
import { isRecord } from "./manifests.js";

export interface FieldChange {
  /** "spec.members[10.1.0.4].weight" */
  readonly path: string;
  /** Undefined: it was not there, or will not be. */
  readonly before: unknown;
  readonly after: unknown;
}

export interface MemberChanges {
  readonly enter: readonly string[];
  /** Members that were served and will get no new flows; those they have go on. */
  readonly drain: readonly string[];
  readonly serveAgain: readonly string[];
  readonly leave: readonly string[];
}

export interface ObjectChange {
  readonly wanted: ApplyObject;
  readonly change: "created" | "configured" | "unchanged";
  /** Empty for an object that is created: all of it is new. */
  readonly fields: readonly FieldChange[];
  readonly members: MemberChanges | null;
}

export function objectChange(before: ApplyObject | null, wanted: ApplyObject): ObjectChange {
  const members = memberChanges(before, wanted);
  if (before === null) return { wanted, change: "created", fields: [], members };
  const fields = [
    ...differences("metadata.labels", before.labels, wanted.labels),
    ...differences("spec", before.object.spec, wanted.object.spec),
  ];
  return { wanted, change: fields.length === 0 ? "unchanged" : "configured", fields, members };
}

function differences(path: string, before: unknown, after: unknown): readonly FieldChange[] {
  if (isEqual(before, after)) return [];
  if (isRecord(before) && isRecord(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
    return names.flatMap((name) => differences(below(path, name), before[name], after[name]));
  }
  if (Array.isArray(before) && Array.isArray(after)) return listDifferences(path, before, after);
  return [{ path, before: before ?? undefined, after: after ?? undefined }];
}

/** Labels may have dots in their names. */
const below = (path: string, name: string): string =>
  /^[A-Za-z][A-Za-z0-9]*$/.test(name) ? `${path}.${name}` : `${path}[${JSON.stringify(name)}]`;

function listDifferences(path: string, before: readonly unknown[], after: readonly unknown[]): readonly FieldChange[] {
  const old = named(before);
  const now = named(after);
  const names = [...new Set([...old.keys(), ...now.keys()])];
  const found = names.flatMap((name) => differences(`${path}[${name}]`, old.get(name), now.get(name)));
  if (found.length > 0) return found;
  return [{ path, before: [...old.keys()], after: [...now.keys()] }]; // the same in another order
}

function named(items: readonly unknown[]): ReadonlyMap<string, unknown> {
  return new Map(items.map((item, at) => [nameOf(item) ?? String(at), item]));
}

function nameOf(item: unknown): string | null {
  if (typeof item === "string") return item;
  if (!isRecord(item)) return null;
  const { dip, name, direction, priority } = item;
  if (typeof dip === "string") return dip;
  if (typeof name === "string") return name;
  return typeof direction === "string" && typeof priority === "number" ? `${direction} ${priority}` : null;
}

const getsNewFlows = ({ weight, adminState }: PoolMember): boolean => weight > 0 && adminState !== "down";

function memberChanges(before: ApplyObject | null, { object }: ApplyObject): MemberChanges | null {
  if (object.kind !== "BackendPool") return null;
  const old = new Map(
    before?.object.kind === "BackendPool" ? before.object.spec.members.map((member) => [member.dip, member]) : [],
  );
  const { members } = object.spec;
  const now = new Set(members.map(({ dip }) => dip));
  const turned = (toServe: boolean): readonly string[] =>
    members.flatMap((member) => {
      const was = old.get(member.dip);
      return was !== undefined && getsNewFlows(was) !== toServe && getsNewFlows(member) === toServe ? [member.dip] : [];
    });
  return {
    enter: members.flatMap(({ dip }) => (old.has(dip) ? [] : [dip])),
    drain: turned(false),
    serveAgain: turned(true),
    leave: [...old.keys()].filter((dip) => !now.has(dip)),
  };
}
