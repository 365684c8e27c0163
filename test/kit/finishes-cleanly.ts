/** After a component was stopped nothing of it may be left: no timer, server, channel, stream, socket, store or file. */
import { InvariantError } from "../../core/assert.js";
import type { VirtualWorld } from "./virtual-world.js";

/** What is still open in each process that runs, as text; empty when all is closed. */
export function leftovers(world: VirtualWorld, names: readonly string[] = world.names): readonly string[] {
  const left: string[] = [];
  for (const name of names) {
    const process = world.process(name);
    if (process.crashed) continue;
    for (const { kind, label } of process.resources) left.push(`${name}: ${kind} ${label}`);
    if (process.timers.size > 0) left.push(`${name}: ${process.timers.size} timer(s)`);
  }
  return left;
}

/** Lets closing messages arrive (`graceMs`), then fails when anything is left. */
export async function finishesCleanly(world: VirtualWorld, names?: readonly string[], graceMs = 10): Promise<void> {
  await world.advance(graceMs);
  const left = leftovers(world, names);
  if (left.length > 0) throw new InvariantError(`everything is closed; left: ${left.join(", ")}`);
}
