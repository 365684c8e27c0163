/** After whatever left marks: what the state remembers of them is noted first, then the views follow, which only read. */
import { servingSets } from "../table-items.js";
import type { State } from "../state.js";

export function settle(state: State): void {
  for (const id of state.projection.markedPools()) {
    const pool = state.objects.poolById(id);
    if (pool === null) state.tables.remove(id);
    else state.tables.note(id, servingSets(state, pool));
  }
  state.projection.flush();
}
