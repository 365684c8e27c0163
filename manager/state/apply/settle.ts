/** After whatever left marks: what the state remembers of them is noted first, then the views follow, which only read. */
import { servingSets } from "../views/table-items.js";
import type { State } from "../state.js";

/** In steps: an entry may have left marks at thousands of DIPs. */
export function* settling(state: State): Generator<void, void> {
  for (const id of state.projection.markedPools()) {
    const pool = state.objects.poolById(id);
    if (pool === null) state.tables.remove(id);
    else state.tables.note(id, servingSets(state, pool));
    yield;
  }
  yield* state.projection.flushing();
}
