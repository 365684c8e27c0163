/**
 * Values that schema.ts builds documents from, each with what is said when it is wrong: what was found, and what
 * would be right.
 */
import { z } from "zod";
import { formatIpv6, parseIpv4, parseIpv6, unusableIpv6 } from "../../../core/address.js";
import { formatPrefix, parsePrefix } from "../../../core/prefix.js";
import { nearest } from "../../../core/nearest.js";
import { parsePorts } from "../../state/snat/port-text.js";
import { show } from "./schema-messages.js";

const LABELS_MAX = 64;

type Say = (input: unknown) => string;
/** zod's error option from a sentence about the input. A field that is not there at all is always "missing". */
export const error = (say: Say, missing: string) => ({
  error: ({ input }: { readonly input?: unknown }) =>
    input === undefined || input === null ? `missing; ${missing}` : say(input),
});

// ---- single values ----

export function integer(what: string, right: string, min: number, max: number) {
  const say: Say = (input) => {
    if (typeof input !== "string") return `${show(input)} is not ${what}; ${right}`;
    const value = /^[0-9]+$/.test(input) ? Number(input) : Number.NaN;
    const isMeant = value >= min && value <= max;
    return isMeant
      ? `${show(input)} is text; write ${value} without quotes`
      : `${show(input)} is not ${what}; ${right}`;
  };
  const option = error(say, right);
  return z.int(option).min(min, option).max(max, option);
}

export const port = () => integer("a port", "use 1 to 65535", 1, 65_535);

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const NAME_RIGHT = 'use 1 to 63 of a-z, 0-9 and "-", with a letter or digit at both ends';

export function name(missing: string) {
  const say: Say = (input) => {
    if (typeof input === "number" && NAME.test(String(input)))
      return `${input} is a number; write "${input}" in quotes`;
    return `${show(input)} is not a name; ${NAME_RIGHT}`;
  };
  const option = error(say, missing);
  return z.string(option).regex(NAME, option);
}

/** An IPv4 or IPv6 address that packets can be sent to, in canonical text. */
export function ipAddress(example: string) {
  const right = `write it as in ${example} or 2001:db8::10`;
  const say: Say = (input) => {
    if (typeof input === "string") {
      const why = unusableAddress(input);
      if (why !== null) return `${input} is ${why}; use a unicast address, as in ${example}`;
      const groups = input.includes(":") ? parseIpv6(input) : null;
      if (groups !== null && formatIpv6(groups) !== input)
        return `${show(input)} is not in canonical form; write ${formatIpv6(groups)}`;
    }
    return `${show(input)} is not an IP address; ${right}`;
  };
  const option = error(say, right);
  return z.string(option).refine((text) => isCanonical(text) && unusableAddress(text) === null, option);
}

const isCanonical = (text: string): boolean => {
  if (parseIpv4(text) !== null) return true;
  const groups = text.includes(":") ? parseIpv6(text) : null;
  return groups !== null && formatIpv6(groups) === text;
};

function unusableAddress(text: string): string | null {
  const v4 = parseIpv4(text);
  if (v4 !== null) return unusable(v4);
  const groups = text.includes(":") ? parseIpv6(text) : null;
  return groups === null ? null : unusableIpv6(groups);
}

/** CIDR, without bits below its length. */
export function prefix(example: string) {
  const right = `write it as in ${example}`;
  const say: Say = (input) => {
    const parsed = typeof input === "string" ? parsePrefix(input) : null;
    if (parsed !== null) return `${show(input)} has bits below its length; write ${formatPrefix(parsed)}`;
    return `${show(input)} is not a prefix; ${right}`;
  };
  const option = error(say, right);
  return z.string(option).refine(isPrefix, option);
}

export function isPrefix(text: string): boolean {
  const parsed = parsePrefix(text);
  return parsed !== null && formatPrefix(parsed) === text;
}

/** "8080" or "9000-9010". A number is taken too: YAML reads 8080 as one. */
export function ports() {
  const right = 'use 1 to 65535, or a range as in "50000-50099"';
  const say: Say = (input) => `${show(input)} is not a port or a range of ports; ${right}`;
  const option = error(say, right);
  return z
    .union([z.string(), z.number()], option)
    .transform(String)
    .refine((text) => parsePorts(text) !== null, option);
}

/** One of some words. */
export function choice<const Words extends readonly [string, ...string[]]>(words: Words, what: string) {
  const right = `use ${words.length === 1 ? words[0] : `${words.slice(0, -1).join(", ")} or ${words.at(-1) ?? ""}`}`;
  const say: Say = (input) => {
    const meant = typeof input === "string" ? nearest(input, words) : null;
    return `${show(input)} is not ${what}; ${meant === null ? right : `did you mean ${meant}?`}`;
  };
  return z.enum(words, error(say, right));
}

export function flag(what: string) {
  return z.boolean(error((input) => `${show(input)} is not true or false; ${what}`, "use true or false"));
}

/** Text of at most `max` characters; `pattern` and `right` say what is allowed. */
export function shortText(what: string, max: number, pattern: RegExp, right: string) {
  const option = error((input) => `${show(input)} is not ${what}; ${right}`, right);
  return z.string(option).max(max, option).regex(pattern, option);
}

/** RFC 6890: addresses that no packet can be sent to from another machine. */
function unusable(address: number): string | null {
  const first = address >>> 24;
  if (first === 0) return `in 0.0.0.0/8 ("this network")`;
  if (first === 127) return "a loopback address";
  if (address >>> 16 === 0xa9fe) return "a link-local address";
  if (first >= 240) return "in the reserved 240.0.0.0/4";
  return first >= 224 ? "a multicast address" : null;
}

const LABEL_KEY = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/;

const labelText = error((input) => {
  if (typeof input === "number" || typeof input === "boolean")
    return `${String(input)} is a ${typeof input}, and labels are text; write "${String(input)}" in quotes`;
  return `${show(input)} is not a label value; use at most 63 of A-Z, a-z, 0-9, "-", "_", "."`;
}, 'write "" for an empty label');

export const labels = z
  .record(z.string(), z.string(labelText).regex(LABEL_VALUE, labelText), mapping("a mapping of text to text"))
  .superRefine((value, context) => {
    const keys = value !== null && typeof value === "object" ? Object.keys(value) : [];
    if (keys.length > LABELS_MAX)
      context.addIssue({ code: "custom", message: `${keys.length} labels; use at most ${LABELS_MAX}` });
    for (const key of keys.filter((candidate) => !LABEL_KEY.test(candidate))) {
      const message = `${show(key)} is not a label key; use at most 63 of A-Z, a-z, 0-9, "-", "_", ".", as in app or example.com/app`;
      context.addIssue({ code: "custom", path: [key], message });
    }
  }, always());

// ---- groups ----

/** Refinements run also where a part of the value is wrong already (S2); they must expect anything inside. */
export function always() {
  return { when: () => true };
}

export function mapping(what: string) {
  return error((input) => `${show(input)} is not ${what}`, `use ${what}`);
}

export function list(what: string) {
  return error(
    (input) => `${show(input)} is not a list of ${what}; write each below the other, with "- " before it`,
    `list the ${what}`,
  );
}

export const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
export const isNamed = (value: unknown): value is string | number =>
  (typeof value === "string" && value !== "") || typeof value === "number";

/** Calls `found` for each item whose identity was there before. `identify` gives null for what has none (yet). */
export function findTwins(
  items: unknown,
  identify: (item: unknown) => string | number | null,
  found: (twin: { readonly at: number; readonly first: number; readonly identity: string | number }) => void,
): void {
  if (!Array.isArray(items)) return;
  const seen = new Map<string | number, number>();
  items.forEach((item: unknown, at) => {
    const identity = identify(item);
    if (identity === null) return;
    const first = seen.get(identity);
    if (first === undefined) seen.set(identity, at);
    else found({ at, first, identity });
  });
}

export const fieldOf = (item: unknown, field: string): string | number | null => {
  const value = isMapping(item) ? item[field] : undefined;
  return isNamed(value) ? value : null;
};
