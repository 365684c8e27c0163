/**
 * Reads untrusted JSON values one field at a time: each function gives a value of its type or throws INVALID_ARGUMENT
 * that names the field. Cheap enough for every entry of the log; what depends on the state is checked by `apply`.
 */
import { parseIpAddress } from "../../../core/address.js";
import type { IpAddress } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";

export function malformed(what: string): never {
  throw new AnantaError("INVALID_ARGUMENT", `malformed command batch: ${what}`);
}

/** An array of exactly `length` values. */
export function tuple(value: unknown, length: number, name: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length !== length) malformed(`${name} is not an array of ${length}`);
  return value as readonly unknown[];
}

export function list<Item>(value: unknown, name: string, read: (item: unknown) => Item): readonly Item[] {
  if (!Array.isArray(value)) malformed(`${name} is not an array`);
  return (value as readonly unknown[]).map(read);
}

export function text(value: unknown, name: string): string {
  return typeof value === "string" ? value : malformed(`${name} is not a text`);
}

/** An integer in min..max; the caller brands it. */
export function integer(value: unknown, min: number, max: number, name: string): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
    malformed(`${name} is not an integer in ${min}..${max}`);
  return value;
}

/** Ids and counters: 0..2^53 - 1. */
export const count = (value: unknown, name: string): number => integer(value, 0, Number.MAX_SAFE_INTEGER, name);

export function address(value: unknown, name: string): IpAddress {
  const canonical = typeof value === "string" ? parseIpAddress(value) : null;
  return canonical !== null && canonical === value
    ? canonical
    : malformed(`${name} is not an address in canonical form`);
}

export function protocol(value: unknown, name: string): 6 | 17 {
  return value === 6 || value === 17 ? value : malformed(`${name} is not 6 or 17`);
}

/** "" is no label. RFC 1123: 1..63 of a-z, 0-9 and "-", not at either end. */
export function label(value: unknown, name: string): string {
  const read = text(value, name);
  return /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(read)
    ? read
    : malformed(`${name} is not a label of a-z, 0-9 and "-"`);
}
