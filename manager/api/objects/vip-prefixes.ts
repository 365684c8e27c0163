/**
 * Which addresses VIPs may have, by the Managers' setting `vipPrefixes`: a VIP is announced to routers, and one with a wrong address takes
 * somebody else's traffic. Checked where requests come in, and told like every other problem of a request.
 */
import { AnantaError } from "../../../core/errors.js";
import { parsePrefix, prefixContains } from "../../../core/prefix.js";
import type { ApplyObject } from "../../state/commands/commands.js";
import type { StateMachine } from "../../state/state-machine.js";
import { isVip } from "../../state/vip-map.js";

/** Throws INVALID_ARGUMENT. A VIP that is stored under its address already may stay. Without prefixes every address may be. */
export function checkVipPrefixes(
  objects: readonly ApplyObject[],
  allowed: readonly string[],
  state: Pick<StateMachine, "object">,
): void {
  if (allowed.length === 0) return;
  const prefixes = allowed.flatMap((text) => parsePrefix(text) ?? []);
  const problems = objects.flatMap(({ ref, object }, at) => {
    if (object.kind !== "Vip") return [];
    const { address } = object.spec;
    if (prefixes.some((prefix) => prefixContains(prefix, address))) return [];
    const stored = state.object(ref);
    if (stored !== null && isVip(stored) && stored.spec.address === address) return [];
    const message = `${address} is in none of the prefixes that this site announces, ${allowed.join(", ")}; use an address of these, or add one to vipPrefixes of the Managers`;
    return [{ object: at, path: "spec.address", message, code: "INVALID_ARGUMENT" }];
  });
  if (problems.length === 0) return;
  const sentences = problems.map(({ object, path, message }) => `objects[${object}] ${path}: ${message}`);
  throw new AnantaError("INVALID_ARGUMENT", sentences.slice(0, PROBLEMS_LISTED_MAX).join("; "), {
    problems: JSON.stringify(problems.slice(0, PROBLEMS_LISTED_MAX)),
    problemCount: problems.length,
  });
}

/** They travel in trailers, which are small. */
const PROBLEMS_LISTED_MAX = 20;
