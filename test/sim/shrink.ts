/**
 * Makes the script of a world that breaks an invariant shorter (delta debugging, Zeller and Hildebrandt 2002): halves,
 * quarters ... of the faults are left out for as long as the same invariant breaks. Leaving one fault out changes no other,
 * since each carries its own seed.
 */
import type { Fault } from "./fault-script.js";
import { runWorld } from "./run-world.js";
import type { WorldPlan } from "./world-plan.js";

/** Worlds tried at most: a second or so each. */
const TRIES_MAX = 120;

export async function shrink(
  plan: WorldPlan,
  invariant: string,
  tell: (text: string) => void,
  run: typeof runWorld = runWorld,
): Promise<WorldPlan> {
  let faults: readonly Fault[] = plan.faults;
  let tries = 0;
  const stillBreaks = async (fewer: readonly Fault[]): Promise<boolean> => {
    tries++;
    const { violation } = await run({ ...plan, faults: fewer });
    return violation?.invariant === invariant;
  };
  for (let parts = 2; faults.length > 0 && tries < TRIES_MAX;) {
    const size = Math.ceil(faults.length / parts);
    let shorter: readonly Fault[] | null = null;
    for (let from = 0; from < faults.length && shorter === null && tries < TRIES_MAX; from += size) {
      const rest = [...faults.slice(0, from), ...faults.slice(from + size)];
      if (await stillBreaks(rest)) shorter = rest;
    }
    if (shorter !== null) {
      faults = shorter;
      parts = Math.max(2, parts - 1);
      tell(`${faults.length} faults left after ${tries} worlds`);
    } else if (size === 1) break;
    else parts = Math.min(faults.length, parts * 2);
  }
  return { ...plan, faults };
}
